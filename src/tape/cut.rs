//! Where a recording can be cut: what no training step changes is computed once a picture, and its output given to
//! the steps as an input.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Node, Phase, Role, Tape, ValueId};

/// A value at a cut, by where it was recorded: the same in every recording of a network, of any batch, for training
/// or for evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// The layer.
    pub layer: String,
    /// Name of the op.
    pub op: String,
    /// Which of the layer's nodes with this op, from 0.
    pub occurrence: usize,
    /// Which of its outputs.
    pub output: usize,
}

/// The name of the input that stands for the cut's value number `i`.
pub fn kept_input(i: usize) -> String {
    format!("kept{i}")
}

impl Tape {
    /// Marks of all outputs of forward nodes.
    fn marks(&self) -> BTreeMap<Mark, ValueId> {
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        let mut marks = BTreeMap::new();
        for node in self.nodes.iter().filter(|n| n.phase == Phase::Forward) {
            let op = node.op.name().to_string();
            let count = seen.entry((node.layer.clone(), op.clone())).or_insert(0);
            for (output, &v) in node.outputs.iter().enumerate() {
                let mark = Mark { layer: node.layer.clone(), op: op.clone(), occurrence: *count, output };
                marks.insert(mark, v);
            }
            *count += 1;
        }
        marks
    }

    /// The mark of an output of a forward node.
    pub fn mark(&self, v: ValueId) -> Option<Mark> {
        self.marks().into_iter().find(|(_, value)| *value == v).map(|(mark, _)| mark)
    }

    /// Where the recording can be cut: values that depend on the inputs `steady` and on frozen parameters alone, and
    /// are read by what does not. None where even the inputs themselves are read there.
    pub fn frontier(&self, steady: &[&str]) -> Vec<Mark> {
        let is_steady_input = |v: ValueId| {
            self.values[v.0].role == Role::Input && steady.contains(&self.values[v.0].name.as_str())
        };
        let mut front: BTreeSet<ValueId> = BTreeSet::new();
        let mut read: BTreeSet<ValueId> = BTreeSet::new();
        for node in &self.nodes {
            let known = |v: &ValueId| {
                let value = &self.values[v.0];
                is_steady_input(*v) || front.contains(v) || !value.live
            };
            let forward = node.phase == Phase::Forward && node.op.updates() == 0;
            if forward && node.inputs.iter().all(known) {
                let live = node.outputs.iter().filter(|v| self.values[v.0].live);
                front.extend(live.copied());
            } else {
                read.extend(
                    node.inputs.iter().filter(|v| front.contains(v) || is_steady_input(**v)).copied(),
                );
            }
        }
        if read.iter().any(|&v| is_steady_input(v)) {
            return Vec::new();
        }
        self.marks().into_iter().filter(|(_, v)| read.contains(v)).map(|(mark, _)| mark).collect()
    }

    /// The values at these marks; none where one is missing.
    pub fn marked(&self, marks: &[Mark]) -> Option<Vec<ValueId>> {
        let known = self.marks();
        marks.iter().map(|mark| known.get(mark).copied()).collect()
    }

    /// The same recording with the values at these marks given as inputs ([`kept_input`]); what computed them is
    /// left out where nothing else needs it. None where a mark is missing.
    pub fn behind(mut self, marks: &[Mark]) -> Option<Tape> {
        let values = self.marked(marks)?;
        for (i, v) in values.iter().enumerate() {
            let value = &mut self.values[v.0];
            (value.name, value.role) = (kept_input(i), Role::Input);
        }
        let given = |node: &Node| node.outputs.iter().any(|v| values.contains(v));
        self.nodes.retain(|node| !given(node));
        Some(self)
    }
}
