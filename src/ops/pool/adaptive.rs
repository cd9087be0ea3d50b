//! Average pooling to a given size, global average pooling among them, and its gradient.

use std::ops::Range;

use super::{Planes, floats};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::require;
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Op, Real, Shape, Tape, Type, ValueId, Variant};

/// `y [n, output, c] = mean` of `x [n, h, w, c]` over rows floor(o h / output) to
/// ceil((o + 1) h / output), and columns alike: PyTorch's rule. `[1, 1]` is the global average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdaptiveAvgPool {
    /// Height and width of y; they may exceed those of x.
    pub output: [usize; 2],
}

/// Input: grad_y. `input` is the shape of x.
#[derive(Debug, Clone)]
struct AdaptiveAvgPoolGrad {
    input: Shape,
}

impl Planes {
    fn adaptive(&self, axis: usize, o: usize) -> (Range<usize>, usize) {
        let (input, output) = (self.input[axis], self.output[axis]);
        let pixels = o * input / output..((o + 1) * input).div_ceil(output);
        (pixels.clone(), pixels.len())
    }
}

impl AdaptiveAvgPool {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.input(0), call.io.output(0));
        planes.mean(call, false, |axis, o| planes.adaptive(axis, o));
    }
}

impl Op for AdaptiveAvgPool {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.adaptive"
    }

    fn attributes(&self) -> String {
        format!("to {}x{}", self.output[0], self.output[1])
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [batch, _, _, channels] = floats(inputs[0])?;
        require(!self.output.contains(&0), || "the output would be empty".into())?;
        Ok(vec![Type::f32(&[batch, self.output[0], self.output[1], channels])])
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
        let op = AdaptiveAvgPoolGrad { input: tape.shape(inputs[0]).clone() };
        Ok(vec![Some(tape.apply(op, &[grad_y])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("pool/adaptive.wgsl"), "forward");
        Planes::of(io.input(0), io.output(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.input(0).numel() as f64)
    }
}

impl AdaptiveAvgPoolGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.output(0), call.io.input(0));
        planes.mean(call, true, |axis, o| planes.adaptive(axis, o));
    }
}

impl Op for AdaptiveAvgPoolGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.adaptive_grad"
    }

    fn attributes(&self) -> String {
        format!("of {}", self.input)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        floats(inputs[0])?;
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("pool/adaptive_grad.wgsl"), "grad");
        Planes::of(io.output(0), io.input(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}
