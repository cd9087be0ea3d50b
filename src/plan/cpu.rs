//! The CPU executor: the same plan, natively, in f32 or (for tests) f64.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::store::{CpuStore, Params};
use super::{Place, Plan, Segment};
use crate::gpu::lock;
use crate::tape::{Arg, CpuCall, DType, Data, Io, Node, Real, Role, Tape, Type, ValueId};
use crate::{Error, Result};

fn zeros<T: Real>(ty: &Type) -> Data<T> {
    let n = ty.shape.numel();
    match ty.dtype {
        DType::F32 => Data::Real(vec![T::zero(); n]),
        DType::U32 => Data::U32(vec![0; n]),
        DType::U8 => Data::U8(vec![0; n]),
    }
}

fn borrow<T>(data: &Data<T>) -> Arg<'_, T> {
    match data {
        Data::Real(x) => Arg::Real(x),
        Data::U32(x) => Arg::U32(x),
        Data::U8(x) => Arg::U8(x),
    }
}

/// Runs one op on borrowed inputs; `updates` are the inputs it changes in place.
fn call<T: Real>(tape: &Tape, node: &Node, inputs: Vec<Arg<'_, T>>, updates: Vec<&mut [T]>) -> Vec<Data<T>> {
    let types = |ids: &[ValueId]| ids.iter().map(|&v| tape.ty(v)).collect::<Vec<_>>();
    let io = Io::whole(&types(&node.inputs), &types(&node.outputs));
    let outputs = node.outputs.iter().map(|&v| zeros(tape.ty(v))).collect();
    let mut call = CpuCall { io: &io, inputs, updates, outputs };
    T::run(node.op.as_ref(), &mut call);
    call.outputs
}

fn reals<T: Real>(data: Vec<f32>) -> Data<T> {
    Data::Real(data.into_iter().map(|x| T::of(x.into())).collect())
}

/// Computes a constant of a plan from its parameters.
pub(super) fn constant<T: Real>(plan: &Plan, v: ValueId, params: &dyn Params) -> Result<Data<T>> {
    let value = &plan.tape.values[v.0];
    match value.role {
        Role::Fill(number) => Ok(reals(vec![number; value.ty.shape.numel()])),
        Role::Param => {
            let data = params.packed(&value.name)?;
            if data.len() != value.ty.shape.numel() {
                return Err(Error::Shape(format!("{} is not of shape {}", value.name, value.ty)));
            }
            Ok(reals(data))
        }
        _ => {
            let producer = plan.tape.nodes.iter().find(|n| n.outputs.contains(&v));
            let node = producer.ok_or_else(|| Error::Shape(format!("%{} is no constant", v.0)))?;
            let inputs =
                node.inputs.iter().map(|&i| constant(plan, i, params)).collect::<Result<Vec<Data<T>>>>()?;
            let outputs = call(&plan.tape, node, inputs.iter().map(borrow).collect(), Vec::new());
            let index = node.outputs.iter().position(|&o| o == v).unwrap_or(0);
            outputs.into_iter().nth(index).ok_or_else(|| Error::Shape("an op without outputs".into()))
        }
    }
}

/// A plan ready to run on the CPU.
pub struct CpuProgram<T> {
    plan: Plan,
    store: Arc<CpuStore<T>>,
    constants: Vec<Arc<Data<T>>>,
    /// Step after which each slot value is dropped.
    last_use: BTreeMap<ValueId, usize>,
}

impl<T: Real> CpuProgram<T> {
    /// Computes the plan's constants.
    ///
    /// # Errors
    /// From `params`.
    pub fn new(plan: Plan, store: &Arc<CpuStore<T>>, params: &dyn Params) -> Result<Self> {
        let constants =
            plan.constants.iter().map(|c| store.constant(&plan, c, params)).collect::<Result<_>>()?;
        let mut last_use = BTreeMap::new();
        for (s, step) in plan.steps.iter().enumerate() {
            last_use.extend(step.node.inputs.iter().map(|&v| (plan.root(v), s)));
        }
        last_use.extend(plan.outputs.iter().map(|(_, v)| (plan.root(*v), plan.steps.len())));
        Ok(CpuProgram { plan, store: store.clone(), constants, last_use })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Runs one step on the given inputs and returns the outputs in the plan's order.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is missing or of another size.
    pub fn run(&self, inputs: &[(&str, Data<T>)]) -> Result<Vec<Vec<T>>> {
        let plan = &self.plan;
        let mut slots: HashMap<ValueId, Data<T>> = HashMap::new();
        for (name, &v) in &plan.inputs {
            let given = inputs.iter().find(|(given, _)| given == name);
            let (_, data) = given.ok_or_else(|| Error::Shape(format!("the input '{name}' is missing")))?;
            slots.insert(v, data.clone());
        }
        let mut buffers = lock(&self.store.buffers);
        for (s, step) in plan.steps.iter().enumerate() {
            let node = &step.node;
            if node.op.is_view() {
                continue;
            }
            let count = node.op.updates();
            // Memory that is changed in place is taken out of the store for the call.
            let mut changed: Vec<Vec<T>> =
                node.inputs[..count].iter().map(|&v| take(plan, &mut buffers, v)).collect();
            let gathered: Vec<Option<Data<T>>> =
                node.inputs[count..].iter().map(|&v| gather(plan, &buffers, plan.root(v))).collect();
            let empty: Arg<'_, T> = Arg::Real(&[]);
            let mut args: Vec<Arg<'_, T>> = vec![empty; count];
            for (&v, gathered) in node.inputs[count..].iter().zip(&gathered) {
                let root = plan.root(v);
                args.push(match (plan.places.get(&root), gathered) {
                    (_, Some(data)) => borrow(data),
                    (Some(Place::Store(segments)), None) => whole(&buffers, &segments[0]),
                    (Some(Place::Constant(c)), None) => borrow(&self.constants[*c]),
                    _ => borrow(slots.get(&root).ok_or_else(|| {
                        Error::Shape(format!("{}: an operand was never computed", node.layer))
                    })?),
                });
            }
            let outputs = call(&plan.tape, node, args, changed.iter_mut().map(Vec::as_mut_slice).collect());
            for (&v, data) in node.inputs[..count].iter().zip(changed) {
                give(plan, &mut buffers, v, data);
            }
            for (&v, data) in node.outputs.iter().zip(outputs) {
                match (plan.places.get(&v), data) {
                    (Some(Place::Store(_)), Data::Real(data)) => give(plan, &mut buffers, v, data),
                    (Some(_), data) => {
                        slots.insert(v, data);
                    }
                    (None, _) => {}
                }
            }
            slots.retain(|v, _| self.last_use.get(v).is_some_and(|&last| last > s));
        }
        let read = |(name, v): &(String, ValueId)| match slots.get(&plan.root(*v)) {
            Some(Data::Real(data)) => Ok(data.clone()),
            _ => Err(Error::Shape(format!("the output '{name}' is no float value of this step"))),
        };
        plan.outputs.iter().map(read).collect()
    }
}

/// One segment of a store buffer.
fn whole<'a, T>(buffers: &'a [Data<T>], s: &Segment) -> Arg<'a, T> {
    let range = s.offset..s.offset + s.elements;
    match &buffers[s.buffer] {
        Data::Real(x) => Arg::Real(&x[range]),
        Data::U32(x) => Arg::U32(&x[range]),
        Data::U8(x) => Arg::U8(&x[range]),
    }
}

/// A store value in several segments, joined.
fn gather<T: Real>(plan: &Plan, buffers: &[Data<T>], v: ValueId) -> Option<Data<T>> {
    let Some(Place::Store(segments)) = plan.places.get(&v) else { return None };
    (segments.len() > 1).then(|| Data::Real(join(buffers, segments)))
}

fn join<T: Real>(buffers: &[Data<T>], segments: &[Segment]) -> Vec<T> {
    let piece = |s: &Segment| match whole(buffers, s) {
        Arg::Real(x) => x.to_vec(),
        _ => Vec::new(),
    };
    segments.iter().flat_map(piece).collect()
}

fn take<T: Real>(plan: &Plan, buffers: &mut [Data<T>], v: ValueId) -> Vec<T> {
    let Some(Place::Store(segments)) = plan.places.get(&v) else { return Vec::new() };
    if let [only] = &segments[..]
        && let Data::Real(buffer) = &mut buffers[only.buffer]
        && only.elements == buffer.len()
    {
        return std::mem::take(buffer);
    }
    join(buffers, segments)
}

fn give<T: Real>(plan: &Plan, buffers: &mut [Data<T>], v: ValueId, data: Vec<T>) {
    let Some(Place::Store(segments)) = plan.places.get(&v) else { return };
    let mut at = 0;
    for s in segments {
        let Data::Real(buffer) = &mut buffers[s.buffer] else { continue };
        if buffer.is_empty() {
            *buffer = data;
            return;
        }
        buffer[s.offset..][..s.elements].copy_from_slice(&data[at..at + s.elements]);
        at += s.elements;
    }
}
