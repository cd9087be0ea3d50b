//! Multiplication by a value that may be broadcast: the scaling of squeeze-and-excitation.

use bytemuck::{Pod, Zeroable};

use super::cpu::pieces;
use super::cpu::sums::strips;
use super::{Case, elem, groups, lanes, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, DType, GradRule, Io, Launch, Op, Real, Shape, Tape, Type, ValueId, Variant,
};

/// `y = x * s`, where each extent of s is that of x or 1. Ranks up to 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mul;

/// `grad_s = sum of grad_y * x` over the axes that s is broadcast over; inputs: grad_y, x.
#[derive(Debug, Clone)]
struct MulGradReduce {
    shape: Shape,
}

/// `Params` of `shaders/mul/broadcast.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    height: u32,
    width: u32,
    channels: u32,
    stride_batch: u32,
    stride_height: u32,
    stride_width: u32,
    stride_channels: u32,
}

/// `Params` of `shaders/mul/grad_reduce.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ReduceParams {
    count: u32,
    s_height: u32,
    s_width: u32,
    s_channels: u32,
    height: u32,
    width: u32,
    channels: u32,
    repeat_batch: u32,
    repeat_height: u32,
    repeat_width: u32,
    repeat_channels: u32,
}

/// Extents of rank 4: padded with ones in front.
fn rank4(shape: &Shape) -> [usize; 4] {
    let mut extents = [1; 4];
    extents[4 - shape.len()..].copy_from_slice(shape);
    extents
}

/// Strides of `s` in elements, 0 along broadcast axes.
fn strides(s: [usize; 4]) -> [usize; 4] {
    let mut strides = [0; 4];
    let mut step = 1;
    for axis in (0..4).rev() {
        strides[axis] = if s[axis] == 1 { 0 } else { step };
        step *= s[axis];
    }
    strides
}

fn check(x: &Type, s: &Shape) -> Result<()> {
    require(x.dtype == DType::F32 && (1..=4).contains(&x.shape.len()), || format!("x is {x}"))?;
    let fits = x.shape.len() == s.len() && x.shape.iter().zip(s.iter()).all(|(x, s)| s == x || *s == 1);
    require(fits, || format!("{s} cannot be broadcast to {x}"))
}

impl Mul {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, s) = (call.real(0), call.real(1));
        let [_, height, width, channels] = rank4(call.io.input(0));
        let steps = strides(rank4(call.io.input(1)));
        if x.is_empty() {
            return;
        }
        // Every line of x, `[width, channels]`.
        pieces(
            call.output(0),
            width * channels,
            #[inline(always)]
            |at, y| {
                let line = at / (width * channels);
                let s = &s[line / height * steps[0] + line % height * steps[1]..];
                let pixels = y.chunks_exact_mut(channels).zip(x[at..].chunks_exact(channels));
                for (w, (y, x)) in pixels.enumerate() {
                    let s = &s[w * steps[2]..];
                    if steps[3] == 0 {
                        let s = s[0];
                        for (y, &x) in y.iter_mut().zip(x) {
                            *y = x * s;
                        }
                    } else {
                        for ((y, &x), &s) in y.iter_mut().zip(x).zip(s) {
                            *y = x * s;
                        }
                    }
                }
            },
        );
    }
}

impl Op for Mul {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "mul.forward"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(inputs.len() == 2, || format!("expected 2 operands, found {}", inputs.len()))?;
        require(inputs[1].dtype == DType::F32, || format!("s is {}", inputs[1]))?;
        check(inputs[0], &inputs[1].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None, None]) };
        let mut rule = vec![None, None];
        if needs[0] {
            rule[0] = Some(tape.apply(Mul, &[grad_y, inputs[1]])?);
        }
        if needs[1] {
            let op = MulGradReduce { shape: tape.shape(inputs[1]).clone() };
            rule[1] = Some(tape.apply(op, &[grad_y, inputs[0]])?);
        }
        Ok(rule)
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, s) = (rank4(io.input(0)), rank4(io.input(1)));
        let variant = |&lanes: &usize| {
            let (name, knob) = elem(lanes);
            // Where s has no channels, one number multiplies all four lanes.
            let (scale, width) = if s[3] == 1 { ("f32", 1) } else { (knob, lanes) };
            let strides = strides([s[0], s[1], s[2], s[3] / width]);
            let channels = x[3] / lanes;
            let count = x[0] * x[1] * x[2] * channels;
            let params = Params {
                count: count as u32,
                height: x[1] as u32,
                width: x[2] as u32,
                channels: channels as u32,
                stride_batch: strides[0] as u32,
                stride_height: strides[1] as u32,
                stride_width: strides[2] as u32,
                stride_channels: strides[3] as u32,
            };
            let kernel = Kernel::new(shader!("mul/broadcast.wgsl"), "forward").knob("Elem", knob);
            let launch = Launch::new(kernel.knob("Scale", scale), &params, groups(count, caps));
            Variant::single(name, launch.inputs([0, 1]).output(0))
        };
        lanes(&[x[3]]).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

impl MulGradReduce {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grad_y, x) = (call.real(0), call.real(1));
        let [batch, height, width, channels] = rank4(call.io.input(1));
        let s = rank4(&self.shape);
        let step = strides(s)[3];
        if self.shape.numel() == 0 {
            return;
        }
        // The positions under position `i` of s along an axis on which x has `extent` positions.
        let under = |axis: usize, i: usize, extent| if s[axis] == 1 { 0..extent } else { i..i + 1 };
        // For every line of s: sums of a strip of channels along a line of x, then over the lines.
        pieces(
            call.output(0),
            s[2] * s[3],
            #[inline(always)]
            |at, sums| {
                sums.fill(T::zero());
                let line = at / (s[2] * s[3]);
                for n in under(0, line / s[1], batch) {
                    for h in under(1, line % s[1], height) {
                        let from = (n * height + h) * width * channels;
                        let (grad_y, x) = (&grad_y[from..], &x[from..]);
                        for (w, sums) in sums.chunks_exact_mut(s[3]).enumerate() {
                            strips!([32, 16, 8, 1], channels, |c, N| {
                                let mut sum = [T::zero(); N];
                                for pixel in under(2, w, width) {
                                    let dy = &grad_y[pixel * channels + c..][..N];
                                    let x = &x[pixel * channels + c..][..N];
                                    for i in 0..N {
                                        sum[i] += dy[i] * x[i];
                                    }
                                }
                                for i in 0..N {
                                    sums[(c + i) * step] += sum[i];
                                }
                            });
                        }
                    }
                }
            },
        );
    }
}

impl Op for MulGradReduce {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "mul.grad_reduce"
    }

    fn attributes(&self) -> String {
        format!("to {}", self.shape)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(inputs.len() == 2 && inputs[0] == inputs[1], || "grad_y and x differ in shape".into())?;
        check(inputs[1], &self.shape)?;
        Ok(vec![Type::f32(&self.shape)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, s) = (rank4(io.input(1)), rank4(&self.shape));
        let variant = |&lanes: &usize| {
            let (name, knob) = elem(lanes);
            let repeat = |axis: usize| if s[axis] == 1 { x[axis] as u32 } else { 1 };
            let s_channels = s[3] / lanes;
            let count = s[0] * s[1] * s[2] * s_channels;
            let params = ReduceParams {
                count: count as u32,
                s_height: s[1] as u32,
                s_width: s[2] as u32,
                s_channels: s_channels as u32,
                height: x[1] as u32,
                width: x[2] as u32,
                channels: (x[3] / lanes) as u32,
                repeat_batch: repeat(0),
                repeat_height: repeat(1),
                repeat_width: repeat(2),
                repeat_channels: repeat(3),
            };
            let kernel = Kernel::new(shader!("mul/grad_reduce.wgsl"), "grad").knob("Elem", knob);
            Variant::single(name, Launch::new(kernel, &params, groups(count, caps)).inputs([0, 1]).output(0))
        };
        // Four channels a thread only where s has them all.
        lanes(&[s[3]]).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.input(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 10] = [
        (&[3, 5, 4, 8], &[3, 1, 1, 8]),
        (&[1, 3, 7, 5], &[1, 1, 1, 5]),
        (&[3, 4, 3, 8], &[3, 4, 3, 1]),
        (&[2, 3, 5, 6], &[2, 3, 5, 6]),
        (&[2, 3, 5, 4], &[1, 3, 1, 4]),
        (&[2, 3, 5, 3], &[2, 1, 5, 1]),
        (&[3, 12], &[3, 1]),
        (&[3, 5, 7], &[1, 1, 1]),
        (&[2, 2, 3, 57], &[2, 1, 1, 57]),
        (&[2, 2, 3, 57], &[1, 2, 3, 1]),
    ];
    shapes.iter().map(|(x, s)| Case::new(Mul, &[x, s])).collect()
}
