//! A network's skeleton: its parameters and layers by their paths.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ParamSpec;
use crate::{Error, Result, did_you_mean};

/// A layer in the order of the forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerMark {
    /// Its path.
    pub path: String,
    /// How many parameters and buffers had been declared when it was done.
    pub params: usize,
}

/// A network's skeleton: what names in a request are resolved against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Parameters and buffers in the order of the forward pass.
    pub specs: Vec<ParamSpec>,
    /// Layers in the order of the forward pass.
    pub layers: Vec<LayerMark>,
    /// The first layer of each group, in order; the last group is the head.
    pub groups: Vec<String>,
    /// The path of the last layer, the one that is replaced for a new task.
    pub head: String,
}

/// Whether `path` is `module` or lies in it: `layer1` holds `layer1.0`, but not `layer10`.
pub(crate) fn lies_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Structure {
    /// The specs of each group.
    pub fn group_ranges(&self) -> Vec<Range<usize>> {
        let start = |group: &String| {
            let first = self.layers.iter().position(|l| lies_in(&l.path, group)).unwrap_or(self.layers.len());
            first.checked_sub(1).map_or(0, |before| self.layers[before].params)
        };
        let mut starts: Vec<usize> = self.groups.iter().map(start).collect();
        if let Some(first) = starts.first_mut() {
            *first = 0;
        }
        let ends = starts.iter().skip(1).copied().chain([self.specs.len()]);
        starts.iter().zip(ends).map(|(&start, end)| start..end.max(start)).collect()
    }

    /// The group of a parameter: what learning rates differ by.
    pub fn group_of(&self, spec: usize) -> usize {
        self.group_ranges().iter().position(|range| range.contains(&spec)).unwrap_or(0)
    }

    /// The specs of the parameter or layer `name`.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is none.
    pub fn find(&self, name: &str) -> Result<Vec<usize>> {
        let found: Vec<usize> =
            (0..self.specs.len()).filter(|&i| lies_in(&self.specs[i].path, name)).collect();
        if found.is_empty() && !self.layers.iter().any(|l| lies_in(&l.path, name)) {
            return Err(self.unknown(name));
        }
        Ok(found)
    }

    /// How many specs come up to and including `name`, in the order of the forward pass.
    pub(super) fn through(&self, name: &str) -> Result<usize> {
        let layer = self.layers.iter().rfind(|l| lies_in(&l.path, name)).map(|l| l.params);
        let param = self.specs.iter().position(|s| s.path == name).map(|i| i + 1);
        layer.or(param).ok_or_else(|| self.unknown(name))
    }

    /// The error about a layer or parameter that is not there, with the nearest name.
    pub(crate) fn unknown(&self, name: &str) -> Error {
        let mut names = BTreeSet::new();
        for path in self.layers.iter().map(|l| &l.path).chain(self.specs.iter().map(|s| &s.path)) {
            names.extend(path.match_indices('.').map(|(end, _)| &path[..end]));
            names.insert(path);
        }
        let hint = did_you_mean(name, names.iter().copied());
        let mut top: Vec<&str> = Vec::new();
        for spec in &self.specs {
            let first = spec.path.split('.').next().unwrap_or_default();
            if !top.contains(&first) {
                top.push(first);
            }
        }
        Error::Usage(format!("no layer or parameter '{name}'{hint}; the network has {}", top.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_module_boundaries() {
        assert!(lies_in("layer1.0.conv1", "layer1") && lies_in("layer1", "layer1"));
        assert!(!lies_in("layer10.0", "layer1") && !lies_in("layer1", "layer1.0"));
    }
}
