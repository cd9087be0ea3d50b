//! Activation checkpointing (Chen, Xu, Zhang and Guestrin 2016, arXiv:1604.06174). Of the values that the backward
//! pass reads, only a few are saved from the forward pass, the checkpoints. When the backward pass reaches a segment
//! between two checkpoints, the values of the segment are computed again, by the same kernels on the same numbers:
//! not one bit differs.

use std::collections::{BTreeMap, BTreeSet};

use super::passes::before;
use crate::Result;
use crate::tape::{Node, Phase, Tape, ValueId};

/// A value with this many times fewer bytes than the largest saved value is small: it is always saved.
const SMALL: u64 = 64;

/// The least share of the saved bytes that checkpointing must free.
const WORTH: f64 = 0.1;

/// A split point of the tape: all later nodes depend on the earlier ones through one value alone.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The last node before the split point.
    at: usize,
    value: ValueId,
}

/// The forward pass of a tape, as far as checkpointing needs it.
struct Forward<'a> {
    tape: &'a Tape,
    /// Number of its nodes.
    end: usize,
    /// Value -> the node that computes it.
    producers: BTreeMap<ValueId, usize>,
    /// Values of the forward pass that the backward pass reads.
    read: BTreeSet<ValueId>,
    /// Values that the forward pass changes in place.
    changed: BTreeSet<ValueId>,
    /// Values of at most so many bytes are small.
    small: u64,
}

impl<'a> Forward<'a> {
    fn new(tape: &'a Tape) -> Self {
        let end = tape.nodes.iter().position(|node| node.phase != Phase::Forward).unwrap_or(tape.nodes.len());
        let outputs = |(n, node): (usize, &'a Node)| node.outputs.iter().map(move |&v| (v, n));
        let producers: BTreeMap<_, _> = tape.nodes[..end].iter().enumerate().flat_map(outputs).collect();
        let inputs = tape.nodes[end..].iter().flat_map(|node| &node.inputs);
        let read: BTreeSet<ValueId> =
            inputs.filter(|v| producers.contains_key(v) && tape.values[v.0].live).copied().collect();
        let largest = read.iter().map(|&v| tape.ty(v).bytes()).max().unwrap_or(0);
        let changed =
            tape.nodes[..end].iter().flat_map(|node| &node.inputs[..node.op.updates()]).copied().collect();
        Forward { tape, end, producers, read, changed, small: largest / SMALL }
    }

    /// The value whose memory `v` uses.
    fn root(&self, v: ValueId) -> ValueId {
        match self.producers.get(&v).map(|&n| &self.tape.nodes[n]) {
            Some(node) if node.op.is_view() => self.root(node.inputs[0]),
            _ => v,
        }
    }

    /// Whether `v` is computed anew at each step and large, so that it pays not to save it.
    fn is_large(&self, v: ValueId) -> bool {
        let value = &self.tape.values[v.0];
        self.producers.contains_key(&v) && value.live && value.ty.bytes() > self.small
    }

    /// Large values that the backward pass reads, by the node that computes them, and their bytes.
    fn saved(&self) -> BTreeMap<ValueId, (usize, u64)> {
        let roots = self.read.iter().map(|&v| self.root(v)).filter(|&v| self.is_large(v));
        roots.map(|v| (v, (self.producers[&v], self.tape.ty(v).bytes()))).collect()
    }

    fn cuts(&self) -> Vec<Cut> {
        let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (n, node) in self.tape.nodes[..self.end].iter().enumerate() {
            for &v in &node.inputs {
                last.insert(self.root(v), n);
            }
        }
        let (mut open, mut cuts): (BTreeSet<ValueId>, Vec<Cut>) = Default::default();
        for (at, node) in self.tape.nodes[..self.end].iter().enumerate() {
            open.extend(node.outputs.iter().map(|&v| self.root(v)).filter(|&v| self.is_large(v)));
            open.retain(|v| last.get(v).is_some_and(|&last| last > at));
            if let [value] = open.iter().copied().collect::<Vec<_>>()[..]
                && cuts.last().is_none_or(|cut| cut.value != value)
            {
                cuts.push(Cut { at, value });
            }
        }
        cuts
    }

    /// The split points whose values are saved: those that need the least memory together with the largest segment
    /// between two of them. None where that is not less than all saved values.
    fn checkpoints(&self) -> Vec<Cut> {
        let saved = self.saved();
        let between = |from: Option<Cut>, to: Option<Cut>| -> u64 {
            let inside = |n: usize| from.is_none_or(|cut| n > cut.at) && to.is_none_or(|cut| n <= cut.at);
            let bytes = |(&v, &(n, bytes)): (&ValueId, &(usize, u64))| {
                if inside(n) && to.is_none_or(|cut| cut.value != v) { bytes } else { 0 }
            };
            saved.iter().map(bytes).sum()
        };
        let total: u64 = saved.values().map(|(_, bytes)| bytes).sum();
        let cuts = self.cuts();
        // Before the first checkpoint, only the checkpoint itself is saved: the frozen backbone is never computed
        // again.
        let first = cuts.iter().rposition(|&cut| between(None, Some(cut)) == 0);
        let Some(first) = first else { return Vec::new() };
        let chosen = |budget: u64| {
            let mut chosen = vec![cuts[first]];
            for &cut in &cuts[first + 1..] {
                if between(chosen.last().copied(), Some(cut)) >= budget {
                    chosen.push(cut);
                }
            }
            chosen
        };
        let need = |chosen: &[Cut]| {
            let kept: u64 = chosen.iter().map(|cut| self.tape.ty(cut.value).bytes()).sum();
            let ends = chosen[1..].iter().map(|&cut| Some(cut)).chain([None]);
            let parts = chosen.iter().zip(ends).map(|(&from, to)| between(Some(from), to));
            kept + parts.max().unwrap_or(0)
        };
        let budgets = (0..24).map(|i| (total as f64 * 0.8_f64.powi(i)) as u64);
        let best = budgets.map(chosen).min_by_key(|chosen| need(chosen));
        best.filter(|chosen| (need(chosen) as f64) < (1.0 - WORTH) * total as f64).unwrap_or_default()
    }

    /// The nodes between two checkpoints that compute the values that the backward pass reads there, in order; none
    /// where one of them reads a value that the forward pass changes in place.
    fn again(&self, [from, to]: [Cut; 2], kept: &BTreeSet<ValueId>) -> Vec<usize> {
        let fixed = |v: ValueId| {
            let root = self.root(v);
            !self.is_large(root) || kept.contains(&root) || self.producers[&root] <= from.at
        };
        let mut open: Vec<ValueId> = self.read.iter().copied().filter(|&v| !fixed(v)).collect();
        open.retain(|v| self.producers[v] <= to.at);
        let mut nodes = BTreeSet::new();
        while let Some(v) = open.pop() {
            let n = self.producers[&v];
            if nodes.insert(n) {
                open.extend(self.tape.nodes[n].inputs.iter().copied().filter(|&v| !fixed(v)));
            }
        }
        let stale = |&n: &usize| self.tape.nodes[n].inputs.iter().any(|v| self.changed.contains(v));
        if nodes.iter().any(stale) { Vec::new() } else { nodes.into_iter().collect() }
    }
}

/// Makes the backward pass compute the segments between checkpoints again. The segment after the last checkpoint is
/// still in memory when the backward pass begins.
///
/// # Errors
/// As for [`Tape::record`]; only where an op's shapes are inconsistent.
pub(super) fn checkpoint(tape: &mut Tape) -> Result<()> {
    let forward = Forward::new(tape);
    let chosen = forward.checkpoints();
    let kept: BTreeSet<ValueId> = chosen.iter().map(|cut| cut.value).collect();
    let parts: Vec<Vec<usize>> =
        chosen.windows(2).map(|ends| forward.again([ends[0], ends[1]], &kept)).collect();
    for part in parts {
        let made: BTreeSet<ValueId> = part.iter().flat_map(|&n| tape.nodes[n].outputs.clone()).collect();
        let reads =
            |node: &Node| node.phase == Phase::Backward && node.inputs.iter().any(|v| made.contains(v));
        let Some(first) = tape.nodes.iter().position(reads) else { continue };
        let (copies, at) = before(tape, first, |tape| {
            let mut copies: BTreeMap<ValueId, ValueId> = BTreeMap::new();
            for n in part {
                let node = tape.nodes[n].clone();
                tape.set_layer(node.layer);
                let inputs: Vec<ValueId> = node.inputs.iter().map(|v| *copies.get(v).unwrap_or(v)).collect();
                let outputs = tape.record_arc(node.op, &inputs)?;
                copies.extend(node.outputs.into_iter().zip(outputs));
            }
            Ok(copies)
        })?;
        for node in tape.nodes[at..].iter_mut().filter(|node| node.phase == Phase::Backward) {
            for input in &mut node.inputs {
                *input = *copies.get(input).unwrap_or(input);
            }
        }
    }
    Ok(())
}
