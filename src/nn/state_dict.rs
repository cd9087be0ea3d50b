//! Finds the network's dictionary in a checkpoint, among other saved values.

use super::contents::shortened;
use super::pickle::{Machine, Value};

/// Keys under which checkpoints store their state dict. An average of networks is used where there is no plain one.
const KEYS: &[&str] = &[
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "network",
    "net",
    "net_state_dict",
    "params",
    "weights",
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "ema",
    "params_ema",
];

/// Whether a checkpoint holds a network under this key.
pub(super) fn is_usual(key: &str) -> bool {
    KEYS.contains(&key)
}

/// Depth of the search for state dicts: `{"model": {"state_dict": ...}}`.
const DEPTH: usize = 4;

/// The dictionary of the network, and the other tensors.
pub(super) struct Found {
    /// Its number.
    pub(super) dict: usize,
    /// The path of keys to it, `model.state_dict`; empty where it is the file's whole content.
    pub(super) under: String,
    /// Other values that hold tensors: their place, and how many.
    pub(super) others: Vec<(String, usize)>,
}

impl Found {
    /// Finds the network's dictionary.
    ///
    /// # Errors
    /// A sentence saying what was found instead.
    pub(super) fn of(machine: &Machine<'_>, top: Value<'_>) -> Result<Self, String> {
        let Value::Dict(top) = top else {
            return Err("it holds no dictionary of tensors: save model.state_dict()".into());
        };
        let mut search = Search { machine, seen: vec![false; machine.dicts.len()], path: Vec::new() };
        if let Some(dict) = search.known(top).or_else(|| search.only(top)) {
            let path = search.path;
            let under: Vec<String> = path.iter().map(|(_, key)| shortened(key)).collect();
            return Ok(Found { dict, under: under.join("."), others: others(machine, dict, &path) });
        }
        let keys = machine.dicts[top].iter().filter_map(|(key, _)| text(*key)).take(8).map(shortened);
        let keys: Vec<String> = keys.collect();
        Err(format!(
            "no tensors of a single network were found in it; its keys are {}. Save model.state_dict(), or a dictionary \
             with it under 'state_dict'",
            keys.join(", ")
        ))
    }
}

struct Search<'m, 'a> {
    machine: &'m Machine<'a>,
    seen: Vec<bool>,
    /// Dictionaries, and the keys that lead from them to the next.
    path: Vec<(usize, &'a str)>,
}

impl<'a> Search<'_, 'a> {
    /// The dictionary under one of the usual keys of a dictionary; the dictionary itself, where there is none and it
    /// holds tensors of layers.
    fn known(&mut self, dict: usize) -> Option<usize> {
        if std::mem::replace(&mut self.seen[dict], true) || self.path.len() == DEPTH {
            return None;
        }
        let mut inner = [None; KEYS.len()];
        for &(key, value) in &self.machine.dicts[dict] {
            if let (Value::Text(key), Value::Dict(value)) = (key, value)
                && let Some(at) = KEYS.iter().position(|known| *known == key)
            {
                inner[at] = Some((key, value));
            }
        }
        for (key, value) in inner.into_iter().flatten() {
            self.path.push((dict, key));
            if let Some(found) = self.known(value) {
                return Some(found);
            }
            self.path.pop();
        }
        let plain = if self.path.is_empty() { self.layers(dict) } else { self.tensors(dict) };
        plain.then_some(dict)
    }

    /// The only one of a dictionary's dictionaries that holds tensors of layers; the dictionary itself, where there
    /// is none and it holds tensors.
    fn only(&mut self, dict: usize) -> Option<usize> {
        let inner = self.machine.dicts[dict].iter().filter_map(|&(key, value)| match value {
            Value::Dict(inner) => Some((text(key)?, inner)).filter(|_| self.layers(inner)),
            _ => None,
        });
        let inner: Vec<(&str, usize)> = inner.take(2).collect();
        match inner[..] {
            [(key, inner)] => {
                self.path.push((dict, key));
                Some(inner)
            }
            [] if self.tensors(dict) => Some(dict),
            _ => None,
        }
    }

    fn tensors(&self, dict: usize) -> bool {
        self.machine.dicts[dict]
            .iter()
            .any(|&(key, value)| text(key).is_some() && matches!(value, Value::Tensor(_)))
    }

    /// Whether a dictionary has a tensor of a layer with a shape: `fc.weight`. Losses and accuracies have none.
    fn layers(&self, dict: usize) -> bool {
        self.machine.dicts[dict].iter().any(|&(key, value)| match value {
            Value::Tensor(tensor) => {
                text(key).is_some_and(|key| key.contains('.'))
                    && self.machine.tensors[tensor].as_ref().is_ok_and(|tensor| !tensor.shape.is_empty())
            }
            _ => false,
        })
    }
}

fn text<'a>(key: Value<'a>) -> Option<&'a str> {
    if let Value::Text(text) = key { Some(text) } else { None }
}

/// Tensors in the dictionaries on the way to `dict`, and in `dict`, that are not part of the network.
fn others<'a>(machine: &Machine<'a>, dict: usize, path: &[(usize, &str)]) -> Vec<(String, usize)> {
    let mut seen = [vec![false; machine.lists.len()], vec![false; machine.dicts.len()]];
    for &on_the_way in path.iter().map(|(on_the_way, _)| on_the_way).chain([&dict]) {
        seen[1][on_the_way] = true;
    }
    let mut count = |value: Value<'a>| {
        let (mut open, mut count) = (vec![value], 0);
        while let Some(value) = open.pop() {
            match value {
                Value::Tensor(_) => count += 1,
                Value::List(list) if !std::mem::replace(&mut seen[0][list], true) => {
                    open.extend(&machine.lists[list]);
                }
                Value::Dict(dict) if !std::mem::replace(&mut seen[1][dict], true) => {
                    open.extend(machine.dicts[dict].iter().map(|(_, value)| value));
                }
                _ => {}
            }
        }
        count
    };
    let mut found = Vec::new();
    let mut tell = |(key, value): (Value<'a>, Value<'a>)| {
        let count = count(value);
        if count > 0 {
            found.push((text(key).map_or("a key that is not text".into(), shortened), count));
        }
    };
    path.iter().flat_map(|(on_the_way, _)| &machine.dicts[*on_the_way]).copied().for_each(&mut tell);
    let taken =
        |&(key, value): &(Value<'a>, Value<'a>)| text(key).is_some() && matches!(value, Value::Tensor(_));
    machine.dicts[dict].iter().copied().filter(|entry| !taken(entry)).for_each(&mut tell);
    found
}
