//! Which parameters are trainable and which are frozen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::structure::{Structure, lies_in};
use super::{Kind, ParamSpec};
use crate::text::grouped;
use crate::{Error, Result};

/// The mode of a batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormMode {
    /// Uses batch statistics and updates running statistics; scale and shift are trained.
    #[default]
    Train,
    /// Uses running statistics; scale and shift are trained.
    FrozenStats,
    /// Uses running statistics; nothing is trained.
    Frozen,
}

/// The frozen parameters, by path. A frozen parameter has no gradient and no optimizer state. A batch norm whose
/// scale and shift are both frozen keeps its running statistics, too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mask {
    frozen: BTreeSet<String>,
    norm: NormMode,
}

impl Mask {
    /// Whether the parameter `path` is trainable.
    pub fn learns(&self, path: &str, kind: Kind) -> bool {
        let norm = matches!(kind, Kind::NormWeight | Kind::NormBias);
        kind.is_learnable() && !(norm && self.norm == NormMode::Frozen) && !self.frozen.contains(path)
    }

    /// The mode of the batch norm `layer`.
    pub fn norm_mode(&self, layer: &str) -> NormMode {
        let learns = |name: &str, kind| {
            let path = if layer.is_empty() { name.into() } else { format!("{layer}.{name}") };
            self.learns(&path, kind)
        };
        if learns("weight", Kind::NormWeight) || learns("bias", Kind::NormBias) {
            self.norm
        } else {
            NormMode::Frozen
        }
    }

    /// Whether training changes the tensor: by gradient, or as a running statistic.
    pub fn changes(&self, spec: &ParamSpec) -> bool {
        if spec.kind.is_learnable() {
            self.learns(&spec.path, spec.kind)
        } else {
            self.norm_mode(spec.layer_path()) == NormMode::Train
        }
    }
}

/// One thing to freeze.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    Name(String),
    Prefix(String),
    Through(String),
    Groups(Vec<usize>),
    AllButHead,
    All,
}

/// Freeze requests. They add up: `Freeze::through("layer2").and(Freeze::prefix("fc"))`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Freeze {
    requests: Vec<Request>,
    norm: NormMode,
    norms_learn: bool,
}

impl Freeze {
    fn one(request: Request) -> Self {
        Freeze { requests: vec![request], ..Self::default() }
    }

    /// Freezes nothing: all parameters are trainable.
    pub fn none() -> Self {
        Self::default()
    }

    /// Freezes everything: for predictions, where all weights are constants.
    pub fn all() -> Self {
        Self::one(Request::All)
    }

    /// Freezes everything except the last layer.
    pub fn all_but_head() -> Self {
        Self::one(Request::AllButHead)
    }

    /// Freezes one parameter by its whole name: `layer1.0.conv1.weight`.
    pub fn name(path: impl Into<String>) -> Self {
        Self::one(Request::Name(path.into()))
    }

    /// Freezes a layer and everything in it: `layer1`, which does not contain `layer10`.
    pub fn prefix(layer: impl Into<String>) -> Self {
        Self::one(Request::Prefix(layer.into()))
    }

    /// Freezes everything up to and including a layer, in the order of the forward pass.
    pub fn through(layer: impl Into<String>) -> Self {
        Self::one(Request::Through(layer.into()))
    }

    /// Freezes groups of layers by number, as the model defines them; the last group is the head.
    pub fn groups(groups: impl IntoIterator<Item = usize>) -> Self {
        Self::one(Request::Groups(groups.into_iter().collect()))
    }

    /// Combines both requests.
    #[must_use]
    pub fn and(mut self, other: Freeze) -> Self {
        self.requests.extend(other.requests);
        if other.norm != NormMode::default() {
            self.norm = other.norm;
        }
        self.norms_learn |= other.norms_learn;
        self
    }

    /// The mode of the batch norms in trainable layers.
    #[must_use]
    pub fn norm(mut self, mode: NormMode) -> Self {
        self.norm = mode;
        self
    }

    /// Keeps batch norms in frozen layers trainable. fastai does this by default; here frozen layers stay frozen
    /// unless this is set.
    #[must_use]
    pub fn norms_learn(mut self) -> Self {
        self.norms_learn = true;
        self
    }

    /// Resolves these requests on a network to a mask.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name or group that the network does not have.
    pub fn resolve(&self, net: &Structure) -> Result<Mask> {
        let mut frozen: BTreeSet<usize> = BTreeSet::new();
        for request in &self.requests {
            match request {
                Request::Name(name) => {
                    let at = net.specs.iter().position(|s| s.path == *name);
                    frozen.insert(at.ok_or_else(|| net.unknown(name))?);
                }
                Request::Prefix(name) => frozen.extend(net.find(name)?),
                Request::Through(name) => frozen.extend(0..net.through(name)?),
                Request::All => frozen.extend(0..net.specs.len()),
                Request::AllButHead => {
                    frozen.extend((0..net.specs.len()).filter(|&i| !lies_in(&net.specs[i].path, &net.head)));
                }
                Request::Groups(groups) => {
                    let ranges = net.group_ranges();
                    for &group in groups {
                        frozen.extend(ranges.get(group).cloned().ok_or_else(|| {
                            Error::Usage(format!(
                                "no layer group {group}: the network has {} (0 to {}), starting at {}",
                                ranges.len(),
                                ranges.len().saturating_sub(1),
                                net.groups.join(", ")
                            ))
                        })?);
                    }
                }
            }
        }
        let is_norm = |s: &ParamSpec| matches!(s.kind, Kind::NormWeight | Kind::NormBias);
        let frozen = frozen.into_iter().map(|i| &net.specs[i]).filter(|s| s.kind.is_learnable());
        let frozen = frozen.filter(|s| !(self.norms_learn && is_norm(s))).map(|s| s.path.clone()).collect();
        Ok(Mask { frozen, norm: self.norm })
    }
}

/// The trainable part of one layer, or of the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Learning {
    /// Trainable tensors.
    pub tensors: usize,
    /// Trainable parameters.
    pub parameters: usize,
    /// All parameters, frozen or not.
    pub of: usize,
}

/// The trainable parameters under a mask. Prints as a short table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FreezeSummary {
    /// The whole network.
    pub total: Learning,
    /// By outermost layer, in the order of the forward pass.
    pub layers: Vec<(String, Learning)>,
    /// The mode of trainable batch norms.
    pub norm: NormMode,
}

impl FreezeSummary {
    /// Counts the trainable parameters of `net` under `mask`.
    pub fn new(net: &Structure, mask: &Mask) -> Self {
        let first = |path: &str| path.split('.').next().unwrap_or_default().to_string();
        // Where all layers lie in two or three modules, as in MobileNet, the members of these modules are listed.
        let top: BTreeSet<String> = net.specs.iter().map(|s| first(&s.path)).collect();
        let depth = if top.len() > 3 { 1 } else { 2 };
        let mut summary = FreezeSummary { norm: mask.norm, ..Self::default() };
        let mut rows: BTreeMap<String, usize> = BTreeMap::new();
        for spec in net.specs.iter().filter(|s| s.kind.is_learnable()) {
            let parts: Vec<&str> = spec.layer_path().split('.').take(depth).collect();
            let name = parts.join(".");
            let row = *rows.entry(name.clone()).or_insert_with(|| {
                summary.layers.push((name, Learning::default()));
                summary.layers.len() - 1
            });
            for count in [&mut summary.total, &mut summary.layers[row].1] {
                count.of += spec.numel();
                if mask.learns(&spec.path, spec.kind) {
                    count.tensors += 1;
                    count.parameters += spec.numel();
                }
            }
        }
        summary
    }
}

impl fmt::Display for FreezeSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Learning { tensors, parameters, of } = self.total;
        if tensors == 0 {
            return write!(f, "nothing learns: all {} parameters are frozen", grouped(of));
        }
        write!(f, "{} of {} parameters are trained, in {tensors} tensors", grouped(parameters), grouped(of))?;
        let width = self.layers.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let learning = |l: &Learning| l.tensors > 0;
        let frozen: Vec<&str> =
            self.layers.iter().filter(|(_, l)| !learning(l)).map(|(name, _)| name.as_str()).collect();
        match frozen[..] {
            [] => {}
            [only] => write!(f, "\n  frozen: {only}")?,
            [first, .., last] => write!(f, "\n  frozen: {first} to {last} ({} layers)", frozen.len())?,
        }
        for (name, l) in self.layers.iter().filter(|(_, l)| learning(l)) {
            write!(f, "\n  {name:width$}  {:>3} tensors  {:>11}", l.tensors, grouped(l.parameters))?;
            if l.parameters < l.of {
                write!(f, " of {}", grouped(l.of))?;
            }
        }
        if self.norm == NormMode::FrozenStats {
            write!(f, "\n  batch norms keep their running statistics")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([7, 999, 1000, 25_557_032].map(grouped), ["7", "999", "1,000", "25,557,032"]);
    }
}
