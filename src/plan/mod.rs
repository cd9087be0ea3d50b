//! Compiles a tape to a fixed schedule: removes dead nodes, folds constant norms, fuses epilogues, chooses kernels,
//! places every value. The schedule is separate from its execution: it can be printed, compared with a snapshot,
//! timed step by step, and run on the GPU or natively on the CPU.

pub mod certify;
mod checkpointing;
mod constant;
mod cpu;
mod display;
mod gpu;
mod inputs;
mod layout;
pub mod measure;
mod memory;
mod passes;
#[cfg(not(feature = "unstable"))]
pub(crate) mod probe;
#[cfg(feature = "unstable")]
pub mod probe;
mod program;
pub mod rates;
mod store;
pub mod tune;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

pub use constant::Params;
pub use cpu::CpuProgram;
pub use gpu::GpuProgram;
pub use layout::{BufferSpec, Layout, Segment, Trainable, parts};
pub use memory::Memory;
pub use program::{Arena, Chosen, Device, Program};
pub use store::{CpuStore, GpuStore, Store};

use crate::gpu::Caps;
pub use crate::ops::Optimizer;
use crate::ops::{Add, Blend, ClipNorm, SquaredSum};
use crate::tape::{Cost, Io, IoValue, Node, Op, Operand, Phase, Role, Tape, ValueId, Variant};
use crate::{Error, Result};

/// How a step uses its gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    /// How parameters are updated.
    pub optimizer: Optimizer,
    /// The greatest norm of all gradients together; larger gradients are scaled down to it.
    pub clip: Option<f32>,
    /// Whether gradients add up over micro-batches, in pages of their own: the input `accumulate` holds `[keep, 1]`,
    /// with keep = 0 for the first micro-batch and 1 for later ones.
    pub accumulate: bool,
    /// Whether the step updates a moving average of the parameters: the input `average` holds `[d, 1 - d]`.
    pub average: bool,
    /// Whether the parameters change in this step; else the step only accumulates gradients.
    pub apply: bool,
}

impl Update {
    /// One parameter update a step, without clipping, accumulation or averages.
    pub fn plain(optimizer: Optimizer) -> Self {
        Update { optimizer, clip: None, accumulate: false, average: false, apply: true }
    }

    /// Pages besides parameters and gradients, by the first part of their names.
    pub fn pages(&self) -> Vec<&'static str> {
        let mut pages = ["moment1", "moment2"][..self.optimizer.moments()].to_vec();
        pages.extend(self.accumulate.then_some("sum"));
        pages.extend(self.average.then_some("average"));
        pages
    }
}

/// The input of the compiler.
#[derive(Debug, Clone)]
pub struct Request {
    /// The recording.
    pub tape: Tape,
    /// Values to be read back, by name.
    pub outputs: Vec<(String, ValueId)>,
    /// Parameter -> gradient, as `backward` returns them.
    pub gradients: BTreeMap<ValueId, ValueId>,
    /// The update after the gradients, if any.
    pub update: Option<Update>,
    /// Whether few activations are saved for the backward pass, which computes the others again: less memory, more
    /// time, the same numbers.
    pub checkpointing: bool,
}

impl Request {
    /// A plan without gradients.
    pub fn inference(tape: Tape, outputs: &[(&str, ValueId)]) -> Self {
        let outputs = outputs.iter().map(|(name, v)| (name.to_string(), *v)).collect();
        Request { tape, outputs, gradients: BTreeMap::new(), update: None, checkpointing: false }
    }
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a buffer that values with disjoint lifetimes share.
    Slot(usize),
    /// In the store, in segments of its pages.
    Store(Vec<Segment>),
    /// Computed once, from frozen parameters; the number of the constant.
    Constant(usize),
    /// The memory of another value.
    View(ValueId),
}

/// A value that is computed once, on the host, from frozen parameters.
#[derive(Debug, Clone)]
pub struct Constant {
    /// The value.
    pub value: ValueId,
    /// Its expression. Constants of other plans with the same expression share its memory.
    pub key: String,
    /// Its parts, where it exceeds one binding.
    pub parts: Vec<Range<usize>>,
}

/// One step: a node with the kernels chosen for it.
#[derive(Debug, Clone)]
pub struct Step {
    /// Op, operands, layer, phase.
    pub node: Node,
    /// The kernels.
    pub variant: Variant,
    /// Slots of the variant's scratch memory.
    pub scratch: Vec<usize>,
}

/// A fixed schedule for fixed shapes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// All values (of the rewritten tape).
    pub tape: Tape,
    /// Steps in order. `tape.nodes` holds only the nodes that compute constants.
    pub steps: Vec<Step>,
    /// The place of each value that a step reads or writes.
    pub places: BTreeMap<ValueId, Place>,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// Constants.
    pub constants: Vec<Constant>,
    /// Values given at each step, by name.
    pub inputs: BTreeMap<String, ValueId>,
    /// Values read back, by name.
    pub outputs: Vec<(String, ValueId)>,
    /// The layout of the store that the plan was compiled for.
    pub layout: Arc<Layout>,
}

impl Plan {
    /// The value whose memory `v` uses.
    pub fn root(&self, v: ValueId) -> ValueId {
        match self.places.get(&v) {
            Some(Place::View(of)) => self.root(*of),
            _ => v,
        }
    }

    /// Parts of a value: one, or several ranges of rows.
    pub fn parts(&self, v: ValueId) -> Vec<Range<usize>> {
        let whole = || vec![0..self.tape.shape(v).first().copied().unwrap_or(1)];
        match self.places.get(&v) {
            Some(Place::Store(segments)) => segments.iter().map(|s| s.rows.clone()).collect(),
            Some(Place::Constant(c)) => self.constants[*c].parts.clone(),
            _ => whole(),
        }
    }

    /// Work and traffic of all steps.
    pub fn cost(&self) -> Cost {
        let costs = self.steps.iter().map(|step| step.node.op.cost(&self.io(&step.node, &BTreeSet::new())));
        costs.fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }

    /// Operands of a node as its op sees them.
    pub fn io<'a>(&'a self, node: &Node, unused: &BTreeSet<ValueId>) -> Io<'a> {
        let value =
            |&v: &ValueId| IoValue { ty: self.tape.ty(v), parts: self.parts(v), used: !unused.contains(&v) };
        Io {
            inputs: node.inputs.iter().map(value).collect(),
            outputs: node.outputs.iter().map(value).collect(),
        }
    }
}

/// Compiles a request for a device with `caps` and a store of `layout`.
///
/// # Errors
/// [`Error::Shape`] where a value fits no binding, with its layer and a remedy; where a live parameter is missing in
/// the layout; where two outputs have one name; or from the op that does not fit.
pub fn compile(request: Request, layout: &Arc<Layout>, caps: &Caps) -> Result<Plan> {
    let Request { mut tape, outputs, gradients, update, checkpointing } = request;
    let twice =
        outputs.iter().enumerate().find(|(i, (name, _))| outputs[..*i].iter().any(|(n, _)| n == name));
    if let Some((_, (name, _))) = twice {
        return Err(Error::Shape(format!("two outputs are called '{name}'")));
    }
    let mut roots: Vec<ValueId> = outputs.iter().map(|(_, v)| *v).collect();
    roots.extend(gradients.values());
    passes::prune(&mut tape, &roots);
    passes::recompute(&mut tape, &roots);
    passes::fuse(&mut tape, &roots);
    passes::fold(&mut tape)?;
    passes::winograd(&mut tape, caps)?;
    passes::deduplicate_concatenations(&mut tape)?;
    passes::prune(&mut tape, &roots);
    if checkpointing {
        checkpointing::checkpoint(&mut tape)?;
    }
    let pinned = pin_gradients(&tape, &gradients, layout)?;
    if let Some(update) = update {
        record_update(&mut tape, update, layout)?;
    }

    let (live, constant): (Vec<Node>, Vec<Node>) = std::mem::take(&mut tape.nodes)
        .into_iter()
        .partition(|node| node.op.updates() > 0 || node.inputs.iter().any(|v| tape.values[v.0].live));
    tape.nodes = constant;
    let mut plan = Plan {
        tape,
        steps: Vec::new(),
        places: BTreeMap::new(),
        slots: Vec::new(),
        constants: Vec::new(),
        inputs: BTreeMap::new(),
        outputs,
        layout: layout.clone(),
    };
    place_fixed(&mut plan, &live, &pinned, caps)?;
    let read: BTreeSet<ValueId> = live
        .iter()
        .flat_map(|n| &n.inputs)
        .chain(plan.outputs.iter().map(|(_, v)| v))
        .chain(pinned.keys())
        .copied()
        .collect();
    let unused: BTreeSet<ValueId> =
        live.iter().flat_map(|n| &n.outputs).filter(|v| !read.contains(v)).copied().collect();
    for node in live {
        let io = plan.io(&node, &unused);
        check_parts(&node, &io)?;
        let without = |name| Variant { name, launches: Vec::new(), scratch: Vec::new() };
        let variant = match choose(node.op.as_ref(), &io, caps) {
            _ if caps.native => without("native"),
            Some(variant) => variant,
            None => without("view"),
        };
        plan.steps.push(Step { node, variant, scratch: Vec::new() });
    }
    memory::place_slots(&mut plan, &unused, caps)?;
    Ok(plan)
}

/// The key of a kernel choice: op, attributes, types of the operands.
pub fn choice_key(op: &dyn Op, io: &Io<'_>) -> String {
    let types: Vec<String> = io.inputs.iter().map(|v| v.ty.to_string()).collect();
    format!("{} {}", describe(op), types.join(" "))
}

/// The kernel that `defrost tune` chose, else the default for this kind of device.
fn choose(op: &dyn Op, io: &Io<'_>, caps: &Caps) -> Option<Variant> {
    let mut all = op.kernels(io, caps);
    if all.len() < 2 {
        return all.pop();
    }
    let chosen = caps.choices.get(&choice_key(op, io));
    let at = chosen.and_then(|name| all.iter().position(|variant| variant.name == name)).unwrap_or(0);
    Some(all.swap_remove(at))
}

/// The position of each gradient in the gradient pages.
fn pin_gradients(
    tape: &Tape,
    gradients: &BTreeMap<ValueId, ValueId>,
    layout: &Layout,
) -> Result<BTreeMap<ValueId, Vec<Segment>>> {
    let mut pinned = BTreeMap::new();
    for (param, grad) in gradients {
        let path = tape.values[param.0].name.clone();
        let segments = layout.segments.get(&format!("grad:{path}")).cloned().ok_or_else(|| {
            Error::Shape(format!("{path} is trainable, but the store's layout has no gradient for it"))
        })?;
        let produced = tape.nodes.iter().any(|n| n.outputs.contains(grad) && !n.op.is_view());
        if !produced || pinned.contains_key(grad) {
            return Err(Error::Shape(format!("the gradient of {path} is no value of its own")));
        }
        pinned.insert(*grad, segments);
    }
    Ok(pinned)
}

fn record_update(tape: &mut Tape, update: Update, layout: &Layout) -> Result<()> {
    let two = crate::tape::Type::f32(&[2]);
    let page = |tape: &mut Tape, kind: &str, page: usize| {
        let name = format!("{kind}#{page}");
        let buffer = layout.segments[&name][0].buffer;
        tape.state(&name, layout.buffers[buffer].ty.clone())
    };
    let mut gradients: Vec<ValueId> = (0..layout.pages).map(|p| page(tape, "grads", p)).collect();
    if update.accumulate {
        let factors = tape.input("accumulate", two.clone());
        for (p, gradients) in gradients.iter_mut().enumerate() {
            let sum = page(tape, "sum", p);
            tape.record_update(Blend, &[sum, *gradients, factors])?;
            *gradients = sum;
        }
    }
    if !update.apply {
        return Ok(());
    }
    if let Some(max) = update.clip {
        let mut total: Option<ValueId> = None;
        for &gradients in &gradients {
            let sum = tape.record_update(SquaredSum, &[gradients])?[0];
            total = Some(match total {
                Some(total) => tape.record_update(Add::default(), &[total, sum])?[0],
                None => sum,
            });
        }
        for (&gradients, total) in gradients.iter().zip(total.into_iter().cycle()) {
            tape.record_update(ClipNorm { max }, &[gradients, total])?;
        }
    }
    let rates = tape.input("rates", crate::tape::Type::f32(&[layout.groups.max(1), 4]));
    let factors = update.average.then(|| tape.input("average", two));
    for (p, &gradients) in gradients.iter().enumerate() {
        let params = page(tape, "params", p);
        let mut operands = vec![params];
        operands.extend((1..=update.optimizer.moments()).map(|m| page(tape, &format!("moment{m}"), p)));
        operands.extend([gradients, page(tape, "blocks", p), rates]);
        update.optimizer.record(tape, &operands)?;
        if let Some(factors) = factors {
            let average = page(tape, "average", p);
            tape.record_update(Blend, &[average, params, factors])?;
        }
    }
    Ok(())
}

/// Places parameters, states, constants, gradients and views; all other values go to slots.
fn place_fixed(
    plan: &mut Plan,
    live: &[Node],
    pinned: &BTreeMap<ValueId, Vec<Segment>>,
    caps: &Caps,
) -> Result<()> {
    let limit = caps.max_binding.min(caps.max_buffer);
    let mut touched: BTreeSet<ValueId> =
        live.iter().flat_map(|n| n.inputs.iter().chain(&n.outputs)).copied().collect();
    touched.extend(plan.outputs.iter().map(|(_, v)| *v));
    for v in touched {
        let value = &plan.tape.values[v.0];
        let place = if let Some(segments) = pinned.get(&v) {
            Place::Store(segments.clone())
        } else if !value.live {
            plan.constants.push(Constant {
                value: v,
                key: key(&plan.tape, v),
                parts: parts(&value.ty, limit),
            });
            Place::Constant(plan.constants.len() - 1)
        } else if matches!(value.role, Role::Param | Role::State) {
            let segments = plan.layout.segments.get(&value.name).ok_or_else(|| {
                Error::Shape(format!(
                    "{} changes while training, but the store has no place for it",
                    value.name
                ))
            })?;
            Place::Store(segments.clone())
        } else {
            if value.role == Role::Input {
                plan.inputs.insert(value.name.clone(), v);
            }
            continue;
        };
        plan.places.insert(v, place);
    }
    for node in live.iter().filter(|n| n.op.is_view()) {
        plan.places.insert(node.outputs[0], Place::View(node.inputs[0]));
    }
    Ok(())
}

/// The expression of a constant, by which plans share it.
fn key(tape: &Tape, v: ValueId) -> String {
    let value = &tape.values[v.0];
    match value.role {
        Role::Fill(number) => format!("{number}:{}", value.ty),
        Role::Computed => {
            let producer = tape.nodes.iter().find(|n| n.outputs.contains(&v));
            producer.map_or(String::new(), |n| {
                let operands: Vec<String> = n.inputs.iter().map(|&i| key(tape, i)).collect();
                let output = n.outputs.iter().position(|&o| o == v).unwrap_or(0);
                format!("{}[{}]({}).{output}", n.op.name(), n.op.attributes(), operands.join(","))
            })
        }
        _ => value.name.clone(),
    }
}

fn check_parts(node: &Node, io: &Io<'_>) -> Result<()> {
    for (operand, value) in io.inputs.iter().chain(&io.outputs).enumerate() {
        if value.parts.len() > 1 && !node.op.splittable(operand) {
            return Err(Error::Shape(format!(
                "layer {}: operand {operand} of {} ({}) is larger than one binding of this device",
                node.layer,
                node.op.name(),
                value.ty
            )));
        }
    }
    Ok(())
}

impl Step {
    /// Whether the step computes a gradient or an update.
    pub fn is_training(&self) -> bool {
        self.node.phase != Phase::Forward || self.node.op.updates() > 0
    }

    /// Whether a launch binds output `i`.
    pub fn writes(&self, i: usize) -> bool {
        let mut bindings = self.variant.launches.iter().flat_map(|l| &l.bindings);
        bindings.any(|b| matches!(b.operand, Operand::Output(o, _) if o == i))
    }
}

/// The op of a step, for people: `conv.forward[3x3 s2 p1 +bias +relu6]`.
pub fn describe(op: &dyn Op) -> String {
    match op.attributes() {
        text if text.is_empty() => op.name().to_string(),
        text => format!("{}[{text}]", op.name()),
    }
}
