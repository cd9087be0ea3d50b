//! Split points of a recording: the frozen part before the split point is computed once for each example, and its
//! output is cached and given to the training steps as an input.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Node, Phase, Role, Tape, ValueId};

/// Identifies a value at a split point by where it was recorded: the same in every recording of a network, for any
/// batch size, for training and for evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tap {
    /// The layer.
    pub layer: String,
    /// Name of the op.
    pub op: String,
    /// Number of the node among the layer's nodes with this op, from 0.
    pub occurrence: usize,
    /// Number of the output.
    pub output: usize,
}

/// A split point of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    /// The values at the split point, which are computed once; empty where there is no split point.
    pub taps: Vec<Tap>,
    /// Small inputs that are read on both sides of the split point: they are inputs of the part before it, and again
    /// of the part after it.
    pub inputs: Vec<String>,
}

/// Greatest number of bytes an example of a small input: a length, a size, a few flags.
const SMALL: u64 = 64;

/// The name of the input that replaces value number `i` of the split point.
pub fn cached_input(i: usize) -> String {
    format!("cached{i}")
}

impl Tape {
    /// Marks of all outputs of forward nodes.
    fn taps(&self) -> BTreeMap<Tap, ValueId> {
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        let mut taps = BTreeMap::new();
        for node in self.nodes.iter().filter(|n| n.phase == Phase::Forward) {
            let op = node.op.name().to_string();
            let count = seen.entry((node.layer.clone(), op.clone())).or_insert(0);
            for (output, &v) in node.outputs.iter().enumerate() {
                let mark = Tap { layer: node.layer.clone(), op: op.clone(), occurrence: *count, output };
                taps.insert(mark, v);
            }
            *count += 1;
        }
        taps
    }

    /// The mark of an output of a forward node.
    pub fn mark(&self, v: ValueId) -> Option<Tap> {
        self.taps().into_iter().find(|(_, value)| *value == v).map(|(tap, _)| tap)
    }

    /// Finds the split point of the recording: values that depend only on the inputs `steady` and on frozen
    /// parameters, and that are read by nodes that depend on others, too. Inputs have one example a row. Small inputs
    /// (up to 64 bytes a row) may be read by such nodes directly; where a larger input is, there is no split point.
    pub fn frontier(&self, steady: &[&str]) -> Frontier {
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
        let passed: Vec<ValueId> = read.iter().copied().filter(|&v| is_steady_input(v)).collect();
        let is_small = |v: &ValueId| {
            let ty = self.ty(*v);
            ty.bytes() <= SMALL * ty.shape.first().copied().unwrap_or(1) as u64
        };
        if !passed.iter().all(is_small) {
            return Frontier::default();
        }
        let taps: Vec<Tap> =
            self.taps().into_iter().filter(|(_, v)| read.contains(v)).map(|(tap, _)| tap).collect();
        if taps.is_empty() {
            return Frontier::default();
        }
        Frontier { taps, inputs: passed.iter().map(|v| self.values[v.0].name.clone()).collect() }
    }

    /// The values at these taps; none where one is missing.
    pub fn tapped(&self, taps: &[Tap]) -> Option<Vec<ValueId>> {
        let known = self.taps();
        taps.iter().map(|mark| known.get(mark).copied()).collect()
    }

    /// Resumes the recording from the values at these taps, which become inputs ([`cached_input`]); nodes that only
    /// computed them are removed. None where a mark is missing.
    pub fn resumed_from(mut self, taps: &[Tap]) -> Option<Tape> {
        let values = self.tapped(taps)?;
        for (i, v) in values.iter().enumerate() {
            let value = &mut self.values[v.0];
            (value.name, value.role) = (cached_input(i), Role::Input);
        }
        let given = |node: &Node| node.outputs.iter().any(|v| values.contains(v));
        self.nodes.retain(|node| !given(node));
        Some(self)
    }
}
