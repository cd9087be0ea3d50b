//! Softmax cross-entropy with label smoothing and sample weights, and the count of correct predictions.
//!
//! `loss = sum over n of weight[n] * (-(1 - s) log p[n, label] - s / C sum over c of log p[n, c])`.
//! The caller normalises the weights: 1 / N each gives PyTorch's mean; 0 excludes a row (padding).

use bytemuck::{Pod, Zeroable};

use super::activation::exp;
use super::cpu::{PIECE, pieces};
use super::matmul::reduce;
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// Inputs: logits `[N, C]`, labels (words) `[N]`, weights `[N]`. Output: the loss `[1]`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CrossEntropy {
    /// Share of the target that is spread over all classes, in [0, 1).
    pub smoothing: f32,
}

/// Inputs as for [`CrossEntropy`]. Output `[1]`: how many rows of positive weight have their largest logit at the
/// label (the first of equal logits counts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Accuracy;

/// d logits, from logits, labels, weights and the loss's gradient `[1]`.
#[derive(Debug, Clone, Copy)]
struct CrossEntropyGrad(CrossEntropy);

/// `Params` of `shaders/cross_entropy/rows.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
    smoothing: f32,
}

fn params(io: &Io<'_>, smoothing: f32) -> Params {
    let logits = io.input(0);
    Params { rows: logits[0] as u32, classes: logits[1] as u32, smoothing }
}

fn check(inputs: &[&Type]) -> Result<()> {
    let logits = &inputs[0].shape;
    require(logits.len() == 2, || format!("logits must be [batch, classes], found {logits}"))?;
    let n = logits[0];
    require(*inputs[1] == Type::u32(&[n]) && *inputs[2] == Type::f32(&[n]), || {
        format!("labels must be u32[{n}] and weights [{n}], found {} and {}", inputs[1], inputs[2])
    })
}

/// A kernel with one result a row, then the sum of the rows.
fn row_sum(entry: &'static str, io: &Io<'_>, smoothing: f32, caps: &Caps) -> Vec<Variant> {
    let rows = io.input(0)[0];
    let kernel = Kernel::new(shader!("cross_entropy/rows.wgsl"), entry);
    let first = Launch::new(kernel, &params(io, smoothing), groups(rows, caps))
        .inputs(0..3)
        .write(Operand::Scratch(0));
    let launches = vec![first, reduce(1, rows, Operand::Output(0, 0), caps)];
    vec![Variant { name: "rows", launches, scratch: vec![rows as u64 * 4] }]
}

/// Folds `values` by `f` in parallel lanes, then the lanes by `join`.
#[inline(always)]
fn fold<T: Real>(values: &[T], first: T, f: impl Fn(T, T) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut lanes = [first; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for i in 0..16 {
            lanes[i] = f(lanes[i], block[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, x);
    }
    lanes.into_iter().fold(first, join)
}

#[inline(always)]
pub(super) fn sum<T: Real>(values: &[T]) -> T {
    fold(values, T::zero(), |sum, x| sum + x, |a, b| a + b)
}

/// log of the sum of exponentials, shifted by the largest.
#[inline(always)]
pub(super) fn log_sum_exp<T: Real>(logits: &[T]) -> T {
    let top = fold(logits, T::neg_infinity(), T::max, T::max);
    top + fold(logits, T::zero(), |sum, x| sum + exp(x - top), |a, b| a + b).ln()
}

impl CrossEntropy {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let smoothing = T::of(self.smoothing.into());
        let (logits, labels, weights) = (call.real(0), call.words(1), call.real(2));
        let losses = call.scratch(labels.len());
        pieces(
            losses,
            PIECE.div_ceil(classes),
            #[inline(always)]
            |at, losses| {
                for (row, loss) in (at..).zip(losses) {
                    let logits = &logits[row * classes..][..classes];
                    let total = log_sum_exp(logits);
                    let mean = sum(logits) / T::of(classes as f64);
                    let hard = total - logits[labels[row] as usize];
                    *loss = weights[row] * ((T::one() - smoothing) * hard + smoothing * (total - mean));
                }
            },
        );
        call.set(0, [sum(losses)]);
    }
}

impl Op for CrossEntropy {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "cross_entropy.forward"
    }

    fn attributes(&self) -> String {
        if self.smoothing == 0.0 { String::new() } else { format!("smoothing {}", self.smoothing) }
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs)?;
        Ok(vec![Type::f32(&[1])])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_loss) = upstream[0] else { return Ok(vec![None; 3]) };
        let operands = [inputs[0], inputs[1], inputs[2], grad_loss];
        Ok(vec![Some(tape.apply(CrossEntropyGrad(*self), &operands)?), None, None])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        row_sum("losses", io, self.smoothing, caps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 4.0 * io.input(0).numel() as f64)
    }
}

impl Accuracy {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let rows = call.real(0).chunks_exact(classes).zip(call.words(1)).zip(call.real(2));
        let hit = |((logits, &label), &weight): ((&[T], &u32), &T)| {
            let own = logits[label as usize];
            let beaten = logits.iter().enumerate().any(|(c, &x)| x > own || (x == own && c < label as usize));
            weight > T::zero() && !beaten
        };
        let hits = rows.filter(|&row| hit(row)).count();
        call.set(0, [T::of(hits as f64)]);
    }
}

impl Op for Accuracy {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "cross_entropy.accuracy"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs)?;
        Ok(vec![Type::f32(&[1])])
    }

    fn grad(
        &self,
        _tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        _upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        Ok(vec![None; inputs.len()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        row_sum("hits", io, 0.0, caps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.input(0).numel() as f64)
    }
}

impl CrossEntropyGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let smoothing = T::of(self.0.smoothing.into());
        let spread = smoothing / T::of(classes as f64);
        let upstream = call.real(3)[0];
        let (logits, labels, weights) = (call.real(0), call.words(1), call.real(2));
        pieces(
            call.output(0),
            PIECE.next_multiple_of(classes),
            #[inline(always)]
            |at, grad| {
                for (row, grad) in (at / classes..).zip(grad.chunks_exact_mut(classes)) {
                    let logits = &logits[row * classes..][..classes];
                    let (total, label) = (log_sum_exp(logits), labels[row] as usize);
                    let weight = upstream * weights[row];
                    for (grad, &x) in grad.iter_mut().zip(logits) {
                        *grad = weight * (exp(x - total) - spread);
                    }
                    grad[label] -= weight * (T::one() - smoothing);
                }
            },
        );
    }
}

impl Op for CrossEntropyGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "cross_entropy.grad"
    }

    fn attributes(&self) -> String {
        self.0.attributes()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("cross_entropy/grad.wgsl"), "grad");
        let launch = Launch::new(kernel, &params(io, self.0.smoothing), groups(io.input(0)[0], caps));
        vec![Variant::single("rows", launch.inputs(0..4).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 4.0 * io.input(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |smoothing, n: usize, classes: usize| {
        Case::new(CrossEntropy { smoothing }, &[&[n, classes]])
            .fill(0, Fill::Range(-6.0, 6.0))
            .with(Type::u32(&[n]), Fill::Below(classes as u32))
            .with(Type::f32(&[n]), Fill::Range(0.0, 1.0))
            .grads(&[0])
    };
    let hits = |n: usize, classes: usize| Case {
        op: std::sync::Arc::new(Accuracy),
        ..case(0.0, n, classes).grads(&[])
    };
    vec![case(0.0, 1, 5), case(0.1, 3, 10), case(0.25, 70, 2), case(0.1, 240, 70), hits(3, 2), hits(67, 3)]
}
