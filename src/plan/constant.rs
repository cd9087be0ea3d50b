//! What a plan computes once: constants from the parameters that do not change.

use super::Plan;
use crate::tape::{Arg, CpuCall, DType, Data, Io, Real, Role, ValueId};
use crate::{Error, Result};

/// Where parameters come from: a network's tensors in their device layout.
pub trait Params {
    /// The parameter at `path`, packed as the kernels read it.
    ///
    /// # Errors
    /// Where there is no such parameter.
    fn packed(&self, path: &str) -> Result<Vec<f32>>;
}

pub(super) fn zeros<T: Real>(dtype: DType, elements: usize) -> Data<T> {
    match dtype {
        DType::F32 => Data::Real(vec![T::zero(); elements]),
        DType::U32 => Data::U32(vec![0; elements]),
        DType::U8 => Data::U8(vec![0; elements]),
    }
}

pub(super) fn whole<T>(data: &Data<T>) -> Arg<'_, T> {
    data.arg(0..data.len())
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
            let types = |ids: &[ValueId]| ids.iter().map(|&v| plan.tape.ty(v)).collect::<Vec<_>>();
            let io = Io::whole(&types(&node.inputs), &types(&node.outputs));
            let mut outputs: Vec<Data<T>> =
                io.outputs.iter().map(|o| zeros(o.ty.dtype, o.ty.shape.numel())).collect();
            let mut call = CpuCall {
                io: &io,
                inputs: inputs.iter().map(whole).collect(),
                updates: Vec::new(),
                outputs: outputs.iter_mut().map(|data| data.out(0..data.len())).collect(),
                memory: Some(&mut Vec::new()),
            };
            T::run(node.op.as_ref(), &mut call);
            let index = node.outputs.iter().position(|&o| o == v).unwrap_or(0);
            outputs.into_iter().nth(index).ok_or_else(|| Error::Shape("an op without outputs".into()))
        }
    }
}
