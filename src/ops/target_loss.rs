//! Losses against targets that are numbers, not labels: softmax cross-entropy with soft targets (mixed images, a
//! teacher's predictions), sigmoid cross-entropy for several labels at once, squared errors for regression.
//!
//! `loss = sum over n of weight[n] * l(x[n] / T, t[n])`, with
//!
//! | kind | l of a row |
//! |---|---|
//! | softmax | `sum over c of t (log sum exp x - x)` |
//! | sigmoid | `mean over c of max(x, 0) - x t + log(1 + exp(-abs(x)))`, as PyTorch's `BCEWithLogitsLoss` |
//! | squares | `mean over c of (x - t)^2`, as `MSELoss` |
//!
//! The caller normalises the weights, as for [`super::CrossEntropy`]; T is the temperature of distillation (Hinton,
//! Vinyals, Dean 2015).

use bytemuck::{Pod, Zeroable};

use super::activation::exp;
use super::cpu::{PIECE, pieces};
use super::cross_entropy::{log_sum_exp, sum};
use super::matmul::reduce;
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// The loss of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Softmax cross-entropy: the target is a share of each class.
    Softmax,
    /// Sigmoid cross-entropy of each class: the target is 1 or 0.
    Sigmoid,
    /// Squared errors of numbers.
    Squares,
}

/// Inputs: logits `[N, C]`, targets `[N, C]`, weights `[N]`. Output: the loss `[1]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetLoss {
    /// The loss of a row.
    pub kind: LossKind,
    /// The logits are divided by it; 1 except for distillation.
    pub temperature: f32,
}

/// Inputs as for [`TargetLoss`]. Output `[1]`, a sum over rows of positive weight: for softmax, how many have their
/// largest logit where the largest target is (the first of equal ones counts); for sigmoid, the shares of correctly
/// predicted classes; for squares, the mean squared errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Agreement(pub LossKind);

/// d logits, from logits, targets, weights and the loss's gradient `[1]`.
#[derive(Debug, Clone, Copy)]
struct TargetLossGrad(TargetLoss);

/// `Params` of `shaders/target_loss/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    classes: u32,
    scale: f32,
}

impl LossKind {
    fn name(self) -> &'static str {
        match self {
            LossKind::Softmax => "softmax",
            LossKind::Sigmoid => "sigmoid",
            LossKind::Squares => "squares",
        }
    }
}

fn params(io: &Io<'_>, temperature: f32) -> Params {
    let logits = io.input(0);
    Params { rows: logits[0] as u32, classes: logits[1] as u32, scale: 1.0 / temperature }
}

fn check(inputs: &[&Type]) -> Result<()> {
    let logits = &inputs[0].shape;
    require(logits.len() == 2, || format!("logits must be [batch, classes], found {logits}"))?;
    require(inputs[1] == inputs[0] && *inputs[2] == Type::f32(&[logits[0]]), || {
        format!("targets must be {logits} and weights [{}], found {} and {}", logits[0], inputs[1], inputs[2])
    })
}

fn kernel(file: &'static crate::gpu::Source, entry: &'static str, kind: LossKind) -> Kernel {
    Kernel::new(file, entry).with(&[("KIND", kind as u32)])
}

/// A kernel with one result a row, then the sum of the rows.
fn row_sum(entry: &'static str, kind: LossKind, io: &Io<'_>, temperature: f32, caps: &Caps) -> Vec<Variant> {
    let rows = io.input(0)[0];
    let kernel = kernel(shader!("target_loss/rows.wgsl"), entry, kind);
    let first = Launch::new(kernel, &params(io, temperature), groups(rows, caps))
        .inputs(0..3)
        .write(Operand::Scratch(0));
    let launches = vec![first, reduce(1, rows, Operand::Output(0, 0), caps)];
    vec![Variant { name: "rows", launches, scratch: vec![rows as u64 * 4] }]
}

/// The loss of one logit alone.
#[inline(always)]
fn sigmoid_loss<T: Real>(x: T, t: T) -> T {
    x.max(T::zero()) - x * t + (T::one() + exp(-x.abs())).ln()
}

impl TargetLoss {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let scale = T::one() / T::of(self.temperature.into());
        let share = T::one() / T::of(classes as f64);
        let (logits, targets, weights) = (call.real(0), call.real(1), call.real(2));
        let losses = call.scratch(weights.len());
        let kind = self.kind;
        pieces(
            losses,
            PIECE.div_ceil(classes),
            #[inline(always)]
            |at, losses| {
                let mut scaled = vec![T::zero(); classes];
                for (row, loss) in (at..).zip(losses) {
                    let targets = &targets[row * classes..][..classes];
                    for (scaled, &x) in scaled.iter_mut().zip(&logits[row * classes..]) {
                        *scaled = x * scale;
                    }
                    let each = |f: fn(T, T) -> T| -> T {
                        scaled.iter().zip(targets).fold(T::zero(), |sum, (&x, &t)| sum + f(x, t))
                    };
                    *loss = weights[row]
                        * match kind {
                            LossKind::Softmax => {
                                let total = log_sum_exp(&scaled);
                                scaled
                                    .iter()
                                    .zip(targets)
                                    .fold(T::zero(), |sum, (&x, &t)| sum + t * (total - x))
                            }
                            LossKind::Sigmoid => share * each(sigmoid_loss),
                            LossKind::Squares => share * each(|x, t| (x - t) * (x - t)),
                        };
                }
            },
        );
        call.set(0, [sum(losses)]);
    }
}

impl Op for TargetLoss {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "target_loss.forward"
    }

    fn attributes(&self) -> String {
        let temperature = self.temperature;
        match temperature == 1.0 {
            true => self.kind.name().into(),
            false => format!("{} temperature {temperature}", self.kind.name()),
        }
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
        Ok(vec![Some(tape.apply(TargetLossGrad(*self), &operands)?), None, None])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        row_sum("losses", self.kind, io, self.temperature, caps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 6.0 * io.input(0).numel() as f64)
    }
}

impl Agreement {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let half = T::of(0.5);
        // The first of equal ones: only a greater one replaces it.
        let largest =
            |row: &[T]| row.iter().enumerate().fold(0, |best, (c, x)| if *x > row[best] { c } else { best });
        let agreed = |logits: &[T], targets: &[T]| -> T {
            let pairs = logits.iter().zip(targets);
            let mean = |sum: T| sum / T::of(classes as f64);
            match self.0 {
                LossKind::Softmax => T::of(f64::from(u8::from(largest(logits) == largest(targets)))),
                LossKind::Sigmoid => {
                    mean(T::of(pairs.filter(|&(&x, &t)| (x > T::zero()) == (t > half)).count() as f64))
                }
                LossKind::Squares => mean(pairs.fold(T::zero(), |sum, (&x, &t)| sum + (x - t) * (x - t))),
            }
        };
        let rows = call.real(0).chunks_exact(classes).zip(call.real(1).chunks_exact(classes));
        let counted = rows.zip(call.real(2)).filter(|(_, weight)| **weight > T::zero());
        let total = counted.fold(T::zero(), |sum, ((logits, targets), _)| sum + agreed(logits, targets));
        call.set(0, [total]);
    }
}

impl Op for Agreement {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "target_loss.agreement"
    }

    fn attributes(&self) -> String {
        self.0.name().into()
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
        row_sum("agreements", self.0, io, 1.0, caps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.input(0).numel() as f64)
    }
}

impl TargetLossGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let classes = call.io.input(0)[1];
        let TargetLoss { kind, temperature } = self.0;
        let scale = T::one() / T::of(temperature.into());
        let share = T::one() / T::of(classes as f64);
        let upstream = call.real(3)[0];
        let (logits, targets, weights) = (call.real(0), call.real(1), call.real(2));
        pieces(
            call.output(0),
            PIECE.next_multiple_of(classes),
            #[inline(always)]
            |at, grad| {
                for (row, grad) in (at / classes..).zip(grad.chunks_exact_mut(classes)) {
                    let targets = &targets[row * classes..][..classes];
                    let factor = upstream * weights[row] * scale;
                    for (grad, &x) in grad.iter_mut().zip(&logits[row * classes..]) {
                        *grad = x * scale;
                    }
                    let (total, whole) = match kind {
                        LossKind::Softmax => (log_sum_exp(grad), sum(targets)),
                        _ => (T::zero(), T::zero()),
                    };
                    for (grad, &t) in grad.iter_mut().zip(targets) {
                        let x = *grad;
                        *grad = factor
                            * match kind {
                                LossKind::Softmax => whole * exp(x - total) - t,
                                LossKind::Sigmoid => share * (T::one() / (T::one() + exp(-x)) - t),
                                LossKind::Squares => T::of(2.0) * share * (x - t),
                            };
                    }
                }
            },
        );
    }
}

impl Op for TargetLossGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "target_loss.grad"
    }

    fn attributes(&self) -> String {
        self.0.attributes()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = kernel(shader!("target_loss/grad.wgsl"), "grad", self.0.kind);
        let launch = Launch::new(kernel, &params(io, self.0.temperature), groups(io.input(0)[0], caps));
        vec![Variant::single("rows", launch.inputs(0..4).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 6.0 * io.input(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let shaped = |case: Case, n: usize| {
        let weighted = case.with(Type::f32(&[n]), Fill::Range(0.0, 1.0));
        weighted.fill(0, Fill::Range(-6.0, 6.0)).fill(1, Fill::Range(0.0, 1.0))
    };
    let loss = |kind, temperature, n: usize, classes: usize| {
        shaped(Case::new(TargetLoss { kind, temperature }, &[&[n, classes] as &[usize]; 2]), n).grads(&[0])
    };
    let hits = |kind, n: usize, classes: usize| {
        shaped(Case::new(Agreement(kind), &[&[n, classes] as &[usize]; 2]), n).grads(&[])
    };
    let kinds = [LossKind::Softmax, LossKind::Sigmoid, LossKind::Squares];
    let mut cases: Vec<Case> = kinds.iter().map(|&kind| loss(kind, 1.0, 3, 5)).collect();
    cases.extend(kinds.iter().map(|&kind| hits(kind, 67, 3)));
    cases.extend([loss(LossKind::Softmax, 4.0, 70, 10), loss(LossKind::Sigmoid, 1.0, 240, 17)]);
    cases
}
