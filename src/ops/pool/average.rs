//! Average pooling and its gradient.

use super::{Planes, PoolWindow, floats};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::require;
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Op, Real, Shape, Tape, Type, ValueId, Variant};

/// `y = mean` over each window of `x [n, h, w, c]`, with PyTorch's divisor: taps inside the image, or with
/// `count_include_pad` also taps in the padding, but none beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AvgPool {
    /// The window; its dilation must be 1.
    pub window: PoolWindow,
    /// Whether zeros of the padding count in the divisor.
    pub count_include_pad: bool,
}

/// Input: grad_y. `input` is the shape of x.
#[derive(Debug, Clone)]
struct AvgPoolGrad {
    pool: AvgPool,
    input: Shape,
}

impl AvgPool {
    /// Number of taps in the divisor of window `o` along `axis`.
    fn divisor(&self, axis: usize, o: usize, extent: usize) -> usize {
        let window = &self.window;
        if self.count_include_pad {
            window.kernel[axis].min(extent + 2 * window.padding[axis] - o * window.stride[axis])
        } else {
            window.taps(axis, o, extent).len()
        }
    }

    /// The pixels under window `o` of an axis, and the divisor.
    fn under(&self, axis: usize, o: usize, extent: usize) -> (impl Iterator<Item = usize> + use<>, usize) {
        (self.window.pixels(axis, o, extent), self.divisor(axis, o, extent))
    }

    fn describe(&self) -> String {
        let counting = if self.count_include_pad { "" } else { " without padding" };
        format!("{}{counting}", self.window.describe())
    }

    fn kernel(&self, kernel: Kernel) -> Kernel {
        kernel.with(&self.window.constants()).with(&[("COUNT_PADDING", self.count_include_pad.into())])
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.input(0), call.io.output(0));
        planes.mean(call, false, |axis, o| self.under(axis, o, planes.input[axis]));
    }
}

impl Op for AvgPool {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.average"
    }

    fn attributes(&self) -> String {
        self.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(self.window.dilation == [1, 1], || "average pooling knows no dilation".into())?;
        Ok(vec![Type::f32(&self.window.infer(inputs[0])?)])
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
        let op = AvgPoolGrad { pool: *self, input: tape.shape(inputs[0]).clone() };
        Ok(vec![Some(tape.apply(op, &[grad_y])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = self.kernel(Kernel::new(shader!("pool/average.wgsl"), "forward"));
        Planes::of(io.input(0), io.output(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, (io.output(0).numel() * self.window.kernel.iter().product::<usize>()) as f64)
    }
}

impl AvgPoolGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.output(0), call.io.input(0));
        planes.mean(call, true, |axis, o| self.pool.under(axis, o, planes.input[axis]));
    }
}

impl Op for AvgPoolGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.average_grad"
    }

    fn attributes(&self) -> String {
        format!("{} of {}", self.pool.describe(), self.input)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        floats(inputs[0])?;
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = self.pool.kernel(Kernel::new(shader!("pool/average_grad.wgsl"), "grad"));
        Planes::of(io.output(0), io.input(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let taps = self.pool.window.kernel.iter().product::<usize>();
        Cost::streaming(io, (2 * io.input(0).numel() * taps) as f64)
    }
}
