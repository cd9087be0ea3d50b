//! Wrappers that programs put around a network before they save it: prefixes before every name, and counters.

use std::collections::BTreeSet;

use super::contents::{TensorInfo, Tensors};

/// Attributes that hold the network: of `DataParallel` and `AveragedModel`, of Lightning modules, of `torch.compile`,
/// and of modules with a head and a backbone.
const PREFIXES: &[&str] = &["module.", "model.", "_orig_mod.", "backbone."];

/// Single numbers that an average of networks stores beside its network: PyTorch's `AveragedModel` and usual
/// packages.
const COUNTERS: &[&str] = &["n_averaged", "num_updates", "updates", "decay", "ema_decay", "initted", "step"];

/// A name without the prefixes of wrappers.
fn bare(mut name: &str) -> &str {
    while let Some(inner) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = inner;
    }
    name
}

/// Whether a tensor is a wrapper's counter: one number that belongs to no layer. `wrapped`: the layers beside it have
/// a wrapper's prefix; then a counter may have any name.
pub(crate) fn is_counter(name: &str, info: &TensorInfo, wrapped: bool) -> bool {
    let name = bare(name);
    info.shape.iter().all(|&extent| extent == 1)
        && (COUNTERS.contains(&name) || wrapped && !name.contains('.'))
}

/// The prefixes of wrappers, in any order, that all names share.
pub(crate) fn prefix_of<'a>(names: impl Iterator<Item = &'a str> + Clone) -> &'a str {
    let Some(first) = names.clone().next() else { return "" };
    let mut end = 0;
    let has = |name: &str, end, prefix| name[end..].strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
    while let Some(prefix) = PREFIXES.iter().find(|prefix| names.clone().all(|name| has(name, end, **prefix)))
    {
        end += prefix.len();
    }
    &first[..end]
}

/// Removes the prefixes that all names except those of counters share, and returns them. Where two tensors would get
/// the same name, nothing changes.
pub(super) fn unwrap(tensors: &mut Tensors) -> String {
    let layers =
        tensors.iter().filter(|(name, info)| !is_counter(name, info, true)).map(|(name, _)| name.as_str());
    let prefix = prefix_of(layers).to_string();
    if prefix.is_empty() {
        return prefix;
    }
    let names: BTreeSet<&str> = tensors.keys().map(|name| unwrapped(name, &prefix)).collect();
    if names.len() < tensors.len() {
        return String::new();
    }
    let renamed = std::mem::take(tensors).into_iter();
    *tensors = renamed.map(|(name, info)| (unwrapped(&name, &prefix).to_string(), info)).collect();
    prefix
}

/// A name without the prefix. A name that lacks it is a counter, perhaps between two wrappers.
fn unwrapped<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(bare(name))
}
