//! The same memory under another shape. Costs nothing: plans place the output on its input.

use super::{Case, require};
use crate::Result;
use crate::gpu::Caps;
use crate::tape::{Cost, CpuCall, GradRule, Io, Op, Real, Shape, Tape, Type, ValueId, Variant};

/// Gives `x` another shape with as many elements, in the same (row-major, NHWC) order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reshape {
    /// The new shape.
    pub shape: Vec<usize>,
}

impl Reshape {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        call.set(0, call.real(0).iter().copied());
    }
}

impl Op for Reshape {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let shape = Shape(self.shape.clone());
        require(shape.numel() == inputs[0].shape.numel(), || {
            format!("{} does not reshape to {shape}", inputs[0].shape)
        })?;
        Ok(vec![Type { shape, dtype: inputs[0].dtype }])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        let shape = tape.shape(inputs[0]).0.clone();
        Ok(vec![Some(tape.apply(Reshape { shape }, &[grad_y])?)])
    }

    fn is_view(&self) -> bool {
        true
    }

    fn kernels(&self, _io: &Io<'_>, _caps: &Caps) -> Vec<Variant> {
        Vec::new()
    }

    fn cost(&self, _io: &Io<'_>) -> Cost {
        Cost::default()
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(Reshape { shape: vec![3, 20] }, &[&[3, 2, 2, 5]])]
}
