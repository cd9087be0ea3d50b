//! The CPU executor: the same plan, natively, in f32 or (for tests) f64.

use std::mem::take;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::constant::{Params, whole, zeros};
use super::store::CpuStore;
use super::{Place, Plan, Segment};
use crate::gpu::lock;
use crate::tape::{Arg, CpuCall, DType, Data, Io, IoValue, Node, Out, Real, Type, ValueId};
use crate::{Error, Result};

/// Memory that values share by lifetime: one vector for each type that lives in it.
#[derive(Debug, Default)]
struct Slot<T> {
    reals: Vec<T>,
    words: Vec<u32>,
    bytes: Vec<u8>,
}

fn grown<E: Clone + Default>(mut memory: Vec<E>, elements: usize) -> Vec<E> {
    if memory.len() < elements {
        // The old vector is freed before the new one is allocated.
        memory = Vec::new();
        memory.resize(elements, E::default());
    }
    memory
}

impl<T: Real> Slot<T> {
    fn arg(&self, ty: &Type) -> Arg<'_, T> {
        let n = ty.shape.numel();
        match ty.dtype {
            DType::F32 => Arg::Real(&self.reals[..n]),
            DType::U32 => Arg::U32(&self.words[..n]),
            DType::U8 => Arg::U8(&self.bytes[..n]),
        }
    }

    /// Takes memory out for a value of type `ty`; the caller gives it back.
    fn lend(&mut self, ty: &Type) -> Data<T> {
        let n = ty.shape.numel();
        match ty.dtype {
            DType::F32 => Data::Real(grown(take(&mut self.reals), n)),
            DType::U32 => Data::U32(grown(take(&mut self.words), n)),
            DType::U8 => Data::U8(grown(take(&mut self.bytes), n)),
        }
    }

    fn give_back(&mut self, data: Data<T>) {
        match data {
            Data::Real(data) => self.reals = data,
            Data::U32(data) => self.words = data,
            Data::U8(data) => self.bytes = data,
        }
    }
}

/// The source of the memory of an output or of an updated input.
enum Lender {
    /// A slot of the arena.
    Slot(usize),
    /// A whole buffer of the store.
    Buffer(usize),
    /// A temporary vector, copied into these segments afterwards.
    Copy(Vec<Segment>),
    /// A temporary vector that is not read.
    Nobody,
}

/// Borrowed memory for one output or updated input, and the position of the value in it.
struct Loan<T> {
    data: Data<T>,
    range: Range<usize>,
    lender: Lender,
}

/// Memory for the steps of one program, or of several that take turns: as much as the largest needs.
#[derive(Debug, Default)]
pub(super) struct Memory<T> {
    slots: Vec<Slot<T>>,
    scratch: Vec<T>,
}

/// A plan ready to run on the CPU. It runs on the threads of the current rayon pool; results do not depend on their
/// number.
pub struct CpuProgram<T> {
    plan: Plan,
    store: Arc<CpuStore<T>>,
    constants: Vec<Arc<Data<T>>>,
    memory: Arc<Mutex<Memory<T>>>,
}

impl<T: Real> CpuProgram<T> {
    /// Computes the plan's constants.
    ///
    /// # Errors
    /// From `params`.
    pub fn new(plan: Plan, store: &Arc<CpuStore<T>>, params: &dyn Params) -> Result<Self> {
        Self::sharing(plan, store, params, &Arc::default())
    }

    /// As [`CpuProgram::new`], in memory that it shares with other programs, which run in turn.
    pub(super) fn sharing(
        plan: Plan,
        store: &Arc<CpuStore<T>>,
        params: &dyn Params,
        memory: &Arc<Mutex<Memory<T>>>,
    ) -> Result<Self> {
        let constants =
            plan.constants.iter().map(|c| store.constant(&plan, c, params)).collect::<Result<_>>()?;
        let slots = lock(memory).slots.len().max(plan.slots.len());
        lock(memory).slots.resize_with(slots, Slot::default);
        Ok(CpuProgram { plan, store: store.clone(), constants, memory: memory.clone() })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs one step on the given inputs and returns the outputs in the plan's order.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is missing, unknown, read by no step, given twice or of another size.
    pub fn run(&self, inputs: &[(&str, Arg<'_, T>)]) -> Result<Vec<Vec<T>>> {
        self.run_timed(inputs, |_, _| {})
    }

    /// As [`CpuProgram::run`], and calls `visit` with each step's number and seconds.
    ///
    /// # Errors
    /// As for [`CpuProgram::run`].
    pub fn run_timed(
        &self,
        inputs: &[(&str, Arg<'_, T>)],
        mut visit: impl FnMut(usize, f64),
    ) -> Result<Vec<Vec<T>>> {
        let plan = &self.plan;
        let mut memory = lock(&self.memory);
        for (name, v, given) in plan.given(inputs)? {
            // An input that no step reads has no memory.
            if let Some(&Place::Slot(slot)) = plan.places.get(&v) {
                let ty = plan.tape.ty(v);
                let mut data = memory.slots[slot].lend(ty);
                let fits = copy(given, data.out(0..ty.shape.numel()));
                memory.slots[slot].give_back(data);
                if !fits {
                    return Err(Error::Shape(format!("the input '{name}' is no {ty}")));
                }
            }
        }
        let mut buffers = lock(&self.store.buffers);
        for (s, step) in plan.steps.iter().enumerate() {
            if step.node.op.is_view() {
                continue;
            }
            let began = Instant::now();
            self.step(&step.node, &mut memory, &mut buffers)?;
            visit(s, began.elapsed().as_secs_f64());
        }
        let read = |(name, v): &(String, ValueId)| match self.operand(plan.root(*v), &memory, &buffers) {
            Some(Arg::Real(data)) => Ok(data.to_vec()),
            _ => Err(Error::Shape(format!("the output '{name}' is no float value of this step"))),
        };
        plan.outputs.iter().map(read).collect()
    }

    fn step(&self, node: &Node, memory: &mut Memory<T>, buffers: &mut [Data<T>]) -> Result<()> {
        let plan = &self.plan;
        let count = node.op.updates();
        let (updated, read) = node.inputs.split_at(count);
        let mut changed: Vec<Loan<T>> = updated.iter().map(|&v| self.lend_update(v, read, buffers)).collect();
        let mut written: Vec<Loan<T>> =
            node.outputs.iter().map(|&v| self.lend_output(v, read, memory, buffers)).collect();
        let mut scratch = take(&mut memory.scratch);
        // A store value in several segments is joined for the call.
        let joined: Vec<Option<Vec<T>>> = read.iter().map(|&v| self.join(v, buffers)).collect();
        let value = |v: ValueId, used| IoValue {
            ty: plan.tape.ty(v),
            parts: vec![0..plan.tape.shape(v).first().copied().unwrap_or(1)],
            used,
        };
        let used = |loan: &Loan<T>| !matches!(loan.lender, Lender::Nobody);
        let io = Io {
            inputs: node.inputs.iter().map(|&v| value(v, true)).collect(),
            outputs: node.outputs.iter().zip(&written).map(|(&v, loan)| value(v, used(loan))).collect(),
        };
        let mut inputs = vec![Arg::Real(&[][..]); count];
        for (&v, joined) in read.iter().zip(&joined) {
            let found = match joined {
                Some(data) => Some(Arg::Real(data)),
                None => self.operand(plan.root(v), memory, buffers),
            };
            inputs.push(
                found
                    .ok_or_else(|| Error::Shape(format!("{}: an operand was never computed", node.layer)))?,
            );
        }
        let updates = changed
            .iter_mut()
            .map(|loan| match loan.data.out(loan.range.clone()) {
                Out::Real(data) => data,
                _ => &mut [],
            })
            .collect();
        let outputs = written.iter_mut().map(|loan| loan.data.out(loan.range.clone())).collect();
        let mut call = CpuCall { io: &io, inputs, updates, outputs, memory: Some(&mut scratch) };
        T::run(node.op.as_ref(), &mut call);
        memory.scratch = scratch;
        for loan in written.into_iter().chain(changed) {
            match loan.lender {
                Lender::Slot(slot) => memory.slots[slot].give_back(loan.data),
                Lender::Buffer(buffer) => buffers[buffer] = loan.data,
                Lender::Copy(segments) => scatter(&loan.data, &segments, buffers),
                Lender::Nobody => {}
            }
        }
        Ok(())
    }

    fn segments(&self, v: ValueId) -> &[Segment] {
        match self.plan.places.get(&v) {
            Some(Place::Store(segments)) => segments,
            _ => &[],
        }
    }

    /// Whether one of `operands` lies in this buffer of the store.
    fn reads(&self, operands: &[ValueId], buffer: usize) -> bool {
        operands.iter().any(|&v| self.segments(self.plan.root(v)).iter().any(|s| s.buffer == buffer))
    }

    fn lend_update(&self, v: ValueId, read: &[ValueId], buffers: &mut [Data<T>]) -> Loan<T> {
        let segments = self.segments(v);
        if let [only] = segments
            && !buffers[only.buffer].is_empty()
            && !self.reads(read, only.buffer)
            && only.elements == buffers[only.buffer].len()
        {
            let data = std::mem::replace(&mut buffers[only.buffer], Data::Real(Vec::new()));
            return Loan { data, range: 0..only.elements, lender: Lender::Buffer(only.buffer) };
        }
        let data = gather(segments, buffers);
        Loan { range: 0..data.len(), data: Data::Real(data), lender: Lender::Copy(segments.to_vec()) }
    }

    fn lend_output(
        &self,
        v: ValueId,
        read: &[ValueId],
        memory: &mut Memory<T>,
        buffers: &mut [Data<T>],
    ) -> Loan<T> {
        let ty = self.plan.tape.ty(v);
        let elements = ty.shape.numel();
        match self.plan.places.get(&v) {
            Some(&Place::Slot(slot)) => {
                let data = memory.slots[slot].lend(ty);
                Loan { data, range: 0..elements, lender: Lender::Slot(slot) }
            }
            Some(Place::Store(segments)) => {
                if let [only] = &segments[..]
                    && !buffers[only.buffer].is_empty()
                    && !self.reads(read, only.buffer)
                {
                    let data = std::mem::replace(&mut buffers[only.buffer], Data::Real(Vec::new()));
                    let range = only.offset..only.offset + only.elements;
                    return Loan { data, range, lender: Lender::Buffer(only.buffer) };
                }
                let lender = Lender::Copy(segments.clone());
                Loan { data: zeros(ty.dtype, elements), range: 0..elements, lender }
            }
            _ => Loan { data: Data::Real(Vec::new()), range: 0..0, lender: Lender::Nobody },
        }
    }

    fn join(&self, v: ValueId, buffers: &[Data<T>]) -> Option<Vec<T>> {
        let segments = self.segments(self.plan.root(v));
        (segments.len() > 1).then(|| gather(segments, buffers))
    }

    /// A value in one contiguous piece.
    fn operand<'a>(
        &'a self,
        root: ValueId,
        memory: &'a Memory<T>,
        buffers: &'a [Data<T>],
    ) -> Option<Arg<'a, T>> {
        Some(match self.plan.places.get(&root)? {
            Place::Slot(slot) => memory.slots[*slot].arg(self.plan.tape.ty(root)),
            Place::Store(segments) => {
                let s = segments.first()?;
                buffers[s.buffer].arg(s.offset..s.offset + s.elements)
            }
            Place::Constant(c) => whole(&self.constants[*c]),
            Place::View(_) => return None,
        })
    }
}

/// Copies `from` to `to`, if it has the same type and size; returns whether it has.
fn copy<T: Copy>(from: Arg<'_, T>, to: Out<'_, T>) -> bool {
    match (from, to) {
        (Arg::Real(from), Out::Real(to)) if from.len() == to.len() => to.copy_from_slice(from),
        (Arg::U32(from), Out::U32(to)) if from.len() == to.len() => to.copy_from_slice(from),
        (Arg::U8(from), Out::U8(to)) if from.len() == to.len() => to.copy_from_slice(from),
        _ => return false,
    }
    true
}

/// A store value, joined into one vector.
fn gather<T: Real>(segments: &[Segment], buffers: &[Data<T>]) -> Vec<T> {
    let mut data = Vec::with_capacity(segments.iter().map(|s| s.elements).sum());
    for s in segments {
        if let Arg::Real(piece) = buffers[s.buffer].arg(s.offset..s.offset + s.elements) {
            data.extend_from_slice(piece);
        }
    }
    data
}

/// The inverse of [`gather`].
fn scatter<T: Real>(data: &Data<T>, segments: &[Segment], buffers: &mut [Data<T>]) {
    let mut at = 0;
    for s in segments {
        copy(data.arg(at..at + s.elements), buffers[s.buffer].out(s.offset..s.offset + s.elements));
        at += s.elements;
    }
}
