//! Ops on flat pages of gradients and parameters besides the update itself: sums over micro-batches, clipping by the
//! norm of all gradients, moving averages of the weights.

use bytemuck::{Pod, Zeroable};

use super::cpu::pieces;
use super::matmul::reduce;
use super::optimizer::BLOCK;
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Launch, Op, Operand, Real, Type, Variant};

/// `a = keep a + gain b`, with `[keep, gain]` as an input of each step. Inputs: a (updated), b, factors `[2]`.
///
/// Gradients add up over micro-batches with `[0, 1]` at the first and `[1, 1]` at later ones; weights are averaged
/// with `[d, 1 - d]` (Polyak and Juditsky 1992).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Blend;

/// The sum of the squares of a page, `[1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SquaredSum;

/// `g *= min(1, max / (sqrt(sum) + 1e-6))`, PyTorch's `clip_grad_norm_` (Pascanu et al. 2013). Inputs: gradients
/// (updated), and the sum of the squares of all of them `[1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipNorm {
    /// The greatest norm.
    pub max: f32,
}

/// `Params` of `shaders/gradients/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
    threads: u32,
    max: f32,
}

/// Threads that each sum a part of a page.
const PARTIALS: usize = 1024;
/// PyTorch's epsilon, against division by a norm of 0.
const EPSILON: f64 = 1e-6;

fn check(inputs: &[&Type], pages: usize, factors: usize) -> Result<Vec<Type>> {
    let page = inputs[0].shape.numel();
    let equal = inputs[..pages].iter().all(|t| t.shape.numel() == page);
    require(equal && page.is_multiple_of(BLOCK), || {
        format!("pages must have the same whole number of blocks of {BLOCK} elements")
    })?;
    require(inputs[pages..].iter().all(|t| **t == Type::f32(&[factors])), || {
        format!("the numbers given must be [{factors}]")
    })?;
    Ok(Vec::new())
}

fn launch(kernel: Kernel, io: &Io<'_>, caps: &Caps, max: f32, threads: usize) -> Launch {
    let params = Params { quads: (io.input(0).numel() / 4) as u32, threads: threads as u32, max };
    Launch::new(kernel, &params, groups(threads, caps))
}

impl Blend {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (b, factors) = (call.real(1), call.real(2));
        let (keep, gain) = (factors[0], factors[1]);
        pieces(
            &mut *call.updates[0],
            super::cpu::PIECE,
            #[inline(always)]
            |at, a| {
                for (a, &b) in a.iter_mut().zip(&b[at..]) {
                    *a = keep * *a + gain * b;
                }
            },
        );
    }
}

impl Op for Blend {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "gradients.blend"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 2, 2)
    }

    fn updates(&self) -> usize {
        1
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let launch = launch(
            Kernel::new(shader!("gradients/blend.wgsl"), "blend"),
            io,
            caps,
            0.0,
            io.input(0).numel() / 4,
        );
        vec![Variant::single("flat", launch.inputs([1, 2]).write(Operand::Input(0, 0)))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: 3.0 * page, bytes: 3.0 * 4.0 * page }
    }
}

impl SquaredSum {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let page = call.real(0);
        let chunk = page.len().div_ceil(PARTIALS).max(1);
        let partials = call.scratch(page.len().div_ceil(chunk));
        pieces(
            partials,
            1,
            #[inline(always)]
            |at, partial| {
                let own = &page[at * chunk..((at + 1) * chunk).min(page.len())];
                // Parallel lanes, so that the sum is not one long dependency chain.
                let mut lanes = [T::zero(); 16];
                for (i, &x) in own.iter().enumerate() {
                    lanes[i % 16] += x * x;
                }
                partial[0] = lanes.into_iter().fold(T::zero(), |a, b| a + b);
            },
        );
        let sum = partials.iter().fold(T::zero(), |a, &b| a + b);
        call.set(0, [sum]);
    }
}

impl Op for SquaredSum {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "gradients.squared_sum"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 1, 1)?;
        Ok(vec![Type::f32(&[1])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let threads = PARTIALS.min(io.input(0).numel() / 4);
        let first =
            launch(Kernel::new(shader!("gradients/squared_sum.wgsl"), "squared_sum"), io, caps, 0.0, threads)
                .inputs([0])
                .write(Operand::Scratch(0));
        let launches = vec![first, reduce(1, threads, Operand::Output(0, 0), caps)];
        vec![Variant { name: "flat", launches, scratch: vec![threads as u64 * 4] }]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.input(0).numel() as f64)
    }
}

impl ClipNorm {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let norm = call.real(1)[0].sqrt();
        let factor = T::of(self.max.into()) / (norm + T::of(EPSILON));
        // `min` would hide a norm that is NaN.
        let factor = if factor > T::one() { T::one() } else { factor };
        pieces(
            &mut *call.updates[0],
            super::cpu::PIECE,
            #[inline(always)]
            |_, page| page.iter_mut().for_each(|g| *g *= factor),
        );
    }
}

impl Op for ClipNorm {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "gradients.clip_norm"
    }

    fn attributes(&self) -> String {
        format!("max {}", self.max)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 1, 1)
    }

    fn updates(&self) -> usize {
        1
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let launch = launch(
            Kernel::new(shader!("gradients/clip_norm.wgsl"), "clip_norm"),
            io,
            caps,
            self.max,
            io.input(0).numel() / 4,
        );
        vec![Variant::single("flat", launch.inputs([1]).write(Operand::Input(0, 0)))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: page, bytes: 2.0 * 4.0 * page }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let (flat, long): (&[usize], &[usize]) = (&[5 * BLOCK], &[70 * BLOCK]);
    let factors = |case: Case, n: usize| case.with(Type::f32(&[n]), Fill::Range(0.1, 0.9)).grads(&[]);
    vec![
        factors(Case::new(Blend, &[flat; 2]), 2),
        factors(Case::new(Blend, &[long; 2]), 2),
        Case::new(SquaredSum, &[flat]).grads(&[]),
        Case::new(SquaredSum, &[long]).grads(&[]),
        // Clipped, and unchanged.
        factors(Case::new(ClipNorm { max: 0.1 }, &[long]), 1),
        factors(Case::new(ClipNorm { max: 10.0 }, &[flat]), 1),
    ]
}
