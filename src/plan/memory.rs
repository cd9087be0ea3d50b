//! Lifetimes and slots: which values share a buffer, and how much memory a plan needs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Plan};
use crate::gpu::Caps;
use crate::tape::{Role, ValueId};
use crate::{Error, Result};

/// Memory of a plan on the device, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Activations, gradients of activations, scratch memory: values with disjoint lifetimes share it.
    pub activations: u64,
    /// The part of the activations that is saved from the forward to the backward pass (counted without sharing).
    pub saved: u64,
    /// Frozen weights in the layout of the kernels.
    pub frozen: u64,
    /// Trainable parameters.
    pub params: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's moments and tables, sums over micro-batches, averages of weights.
    pub optimizer: u64,
    /// Running statistics that change.
    pub statistics: u64,
    /// Uniforms, readback, staging.
    pub overhead: u64,
}

impl Memory {
    /// The sum of all parts.
    pub fn total(&self) -> u64 {
        self.activations
            + self.frozen
            + self.params
            + self.gradients
            + self.optimizer
            + self.statistics
            + self.overhead
    }
}

/// A value or a scratch buffer that needs a slot.
struct Claim {
    bytes: u64,
    first: usize,
    last: usize,
    owner: Owner,
}

enum Owner {
    Value(ValueId),
    Scratch { step: usize, number: usize },
}

/// Places every value that has no place yet in a slot. Greedy by size (Pisarchyk and Lee 2020): the largest first,
/// each into the first slot whose values have lifetimes disjoint from its own.
pub(super) fn place_slots(plan: &mut Plan, unused: &BTreeSet<ValueId>, caps: &Caps) -> Result<()> {
    let end = plan.steps.len();
    let mut spans: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
    let mut touch = |v: ValueId, at: usize| {
        let span = spans.entry(v).or_insert((at, at));
        span.1 = span.1.max(at);
    };
    for &v in plan.inputs.values() {
        touch(v, 0);
    }
    for (s, step) in plan.steps.iter().enumerate() {
        let written = step.node.outputs.iter().enumerate();
        let outputs = written.filter(|(i, v)| !unused.contains(v) || step.writes(*i)).map(|(_, &v)| v);
        for v in step.node.inputs.iter().copied().chain(outputs) {
            touch(plan.root(v), s);
        }
    }
    for (_, v) in &plan.outputs {
        touch(plan.root(*v), end);
    }
    let mut claims: Vec<Claim> = Vec::new();
    for (&v, &(first, last)) in spans.iter().filter(|(v, _)| !plan.places.contains_key(v)) {
        let ty = plan.tape.ty(v);
        let limit = caps.max_binding.min(caps.max_buffer);
        if ty.bytes() > limit {
            return Err(too_large(plan, v, limit));
        }
        claims.push(Claim { bytes: ty.bytes().next_multiple_of(16), first, last, owner: Owner::Value(v) });
    }
    for (step, s) in plan.steps.iter().enumerate() {
        for (number, &bytes) in s.variant.scratch.iter().enumerate() {
            let owner = Owner::Scratch { step, number };
            claims.push(Claim { bytes: bytes.next_multiple_of(16), first: step, last: step, owner });
        }
    }
    claims.sort_by_key(|c| (std::cmp::Reverse(c.bytes), c.first, c.last));
    let mut tenants: Vec<Vec<(usize, usize)>> = Vec::new();
    for step in &mut plan.steps {
        step.scratch = vec![0; step.variant.scratch.len()];
    }
    for claim in claims {
        let free =
            |spans: &Vec<(usize, usize)>| spans.iter().all(|&(f, l)| claim.last < f || l < claim.first);
        let slot = tenants.iter().position(free).unwrap_or_else(|| {
            tenants.push(Vec::new());
            plan.slots.push(claim.bytes);
            tenants.len() - 1
        });
        tenants[slot].push((claim.first, claim.last));
        match claim.owner {
            Owner::Value(v) => {
                plan.places.insert(v, Place::Slot(slot));
            }
            Owner::Scratch { step, number } => plan.steps[step].scratch[number] = slot,
        }
    }
    Ok(())
}

fn too_large(plan: &Plan, v: ValueId, limit: u64) -> Error {
    let step = plan.steps.iter().find(|s| s.node.outputs.contains(&v));
    let layer = step.map_or("the input", |s| s.node.layer.as_str());
    let ty = plan.tape.ty(v);
    let batch = ty.shape.first().copied().unwrap_or(1).max(1) as u64;
    let fits = batch * limit / ty.bytes();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Error::Shape(format!(
        "layer {layer}: {ty} needs {:.1} MiB, and this device binds at most {:.1} MiB at once; \
         choose `batch` {} or smaller",
        mib(ty.bytes()),
        mib(limit),
        fits.max(1)
    ))
}

impl Plan {
    /// The memory that the plan needs on a device.
    pub fn memory(&self) -> Memory {
        let parts_bytes = |v: ValueId| self.tape.ty(v).bytes().next_multiple_of(16);
        let outputs: u64 = self.outputs.iter().map(|(_, v)| parts_bytes(*v)).sum();
        let inputs: u64 = self.inputs.values().map(|v| parts_bytes(*v)).sum();
        let uniforms: u64 = self.steps.iter().map(|s| 256 * s.variant.launches.len() as u64).sum();
        Memory {
            activations: self.slots.iter().sum(),
            saved: self.saved().iter().map(|&v| self.tape.ty(v).bytes()).sum(),
            frozen: self.constants.iter().map(|c| parts_bytes(c.value)).sum(),
            params: self.layout.bytes("params"),
            gradients: self.layout.bytes("grads"),
            optimizer: ["moment", "sum#", "average#", "blocks"].iter().map(|k| self.layout.bytes(k)).sum(),
            statistics: self.layout.bytes("state"),
            overhead: uniforms + outputs * super::gpu::IN_FLIGHT as u64 + inputs,
        }
    }

    /// Values computed in the forward pass that the backward pass reads.
    pub fn saved(&self) -> BTreeSet<ValueId> {
        let forward: BTreeSet<ValueId> = self
            .steps
            .iter()
            .filter(|s| !s.is_training())
            .flat_map(|s| &s.node.outputs)
            .map(|&v| self.root(v))
            .filter(|v| matches!(self.tape.values[v.0].role, Role::Computed))
            .collect();
        let read = self.steps.iter().filter(|s| s.node.phase == crate::tape::Phase::Backward);
        read.flat_map(|s| &s.node.inputs).map(|&v| self.root(v)).filter(|v| forward.contains(v)).collect()
    }
}
