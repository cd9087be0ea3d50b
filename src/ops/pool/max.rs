//! Max pooling and its gradient.

use super::{Planes, PoolWindow, floats};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::require;
use crate::shader;
use crate::tape::{
    Cost, CpuCall, Data, GradRule, Io, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// `y = max` over each window of `x [n, h, w, c]`, padding ignored. Second output, u32: where the
/// maximum was, as `row * width + column`; the first of equal ones, and a NaN before all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// The window.
    pub window: PoolWindow,
}

/// Inputs: grad_y, argmax. `input` is the shape of x.
#[derive(Debug, Clone)]
struct MaxPoolGrad {
    window: PoolWindow,
    input: Shape,
}

fn dilation(window: &PoolWindow) -> [(&'static str, u32); 2] {
    [("DILATION_HEIGHT", window.dilation[0] as u32), ("DILATION_WIDTH", window.dilation[1] as u32)]
}

impl MaxPool {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.input(0), call.io.output(0));
        let x = call.real(0);
        let mut y = call.take(0);
        let mut argmax = vec![0; y.len()];
        let picture = planes.input[0] * planes.input[1];
        planes.each_window(
            |axis, o| self.window.taps(axis, o, planes.input[axis]),
            |axis, o, tap| self.window.pixel(axis, o, tap),
            |o, under, _| {
                for c in 0..planes.channels {
                    let mut best = under[0];
                    for &at in &under[1..] {
                        if x[at + c] > x[best + c] || x[at + c].is_nan() {
                            best = at;
                        }
                    }
                    y[o + c] = x[best + c];
                    argmax[o + c] = (best / planes.channels % picture) as u32;
                }
            },
        );
        call.set(0, y);
        call.outputs[1] = Data::U32(argmax);
    }
}

impl Op for MaxPool {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.max"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let y = self.window.infer(inputs[0])?;
        Ok(vec![Type::f32(&y), Type::u32(&y)])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        let op = MaxPoolGrad { window: self.window, input: tape.shape(inputs[0]).clone() };
        Ok(vec![Some(tape.apply(op, &[grad_y, outputs[1]])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let used = io.outputs[1].used;
        let kernel = Kernel::new(shader!("pool/max.wgsl"), "forward")
            .with(&self.window.constants())
            .with(&dilation(&self.window))
            .with(&[("STORE_ARGMAX", used.into())]);
        let argmax = if used { Operand::Output(1, 0) } else { Operand::Unused };
        Planes::of(io.input(0), io.output(0)).variants(io.output(0).numel(), caps, &kernel, |launch| {
            launch.inputs([0]).output(0).write(argmax)
        })
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, (io.output(0).numel() * self.window.kernel.iter().product::<usize>()) as f64)
    }
}

impl MaxPoolGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let planes = Planes::of(call.io.output(0), call.io.input(0));
        let (grad_y, argmax) = (call.real(0), call.words(1));
        let mut grad_x = call.take(0);
        let picture = planes.input[0] * planes.input[1];
        let windows = planes.output[0] * planes.output[1] * planes.channels;
        for (o, (&g, &place)) in grad_y.iter().zip(argmax).enumerate() {
            let pixel = o / windows * picture + place as usize;
            grad_x[pixel * planes.channels + o % planes.channels] += g;
        }
        call.set(0, grad_x);
    }
}

impl Op for MaxPoolGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "pool.max_grad"
    }

    fn attributes(&self) -> String {
        format!("{} of {}", self.window.describe(), self.input)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        floats(inputs[0])?;
        require(inputs[1].shape == inputs[0].shape, || format!("argmax is {}", inputs[1]))?;
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("pool/max_grad.wgsl"), "grad")
            .with(&self.window.constants())
            .with(&dilation(&self.window));
        Planes::of(io.output(0), io.input(0))
            .variants(io.output(0).numel(), caps, &kernel, |launch| launch.inputs([0, 1]).output(0))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.input(0).numel() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::probe::reference;

    #[test]
    fn nan_is_largest_and_the_first_of_equals_wins() {
        let op = MaxPool { window: PoolWindow { kernel: [1, 3], stride: [1, 3], ..Default::default() } };
        let row =
            [1.0, 1.0, 0.5, 2.0, f64::NAN, 3.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
        let ty = Type::f32(&[1, 1, 9, 1]);
        let (outputs, _) = reference::<f64>(&op, &[Data::Real(row.to_vec())], &[&ty]).expect("it runs");
        assert!(matches!(&outputs[0], Data::Real(y) if y[0] == 1.0 && y[1].is_nan() && y[2] < -1e300));
        assert_eq!(outputs[1], Data::U32(vec![0, 4, 6]));
    }
}
