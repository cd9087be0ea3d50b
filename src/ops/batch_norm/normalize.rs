//! The normalisation itself, and the rule of its gradient.

use bytemuck::{Pod, Zeroable};

use super::grad::{GradReduce, GradX, GradXRunning};
use super::{ROWS, arity, channels, per_channel};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::{Epilogue, elem, groups, lanes, mismatch, word};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// Where the mean and variance of a [`BatchNorm`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// [`super::BatchStats`] of the same x: they depend on x, and the gradient knows it.
    Batch,
    /// Constants.
    Running,
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, then the epilogue.
/// Inputs: x, mean, var, weight, bias, and the residual where the epilogue has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Where mean and variance come from.
    pub statistics: Statistics,
    /// Residual and activation; its bias and affine are never set.
    pub epilogue: Epilogue,
}

/// `Params` of `shaders/batch_norm/normalize.wgsl`, `grad_x.wgsl` and `grad_x_running.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    rows: u32,
    channels: u32,
    eps: f32,
}

impl Params {
    /// Params and workgroups of a kernel that takes ROWS rows of `lanes` channels a thread.
    pub(super) fn of(y: &[usize], lanes: usize, eps: f32, caps: &Caps) -> (Self, [u32; 3]) {
        let channels = y.last().copied().unwrap_or(1);
        let rows = y.iter().product::<usize>() / channels;
        let threads = channels / lanes * rows.div_ceil(ROWS);
        (Params { rows: rows as u32, channels: (channels / lanes) as u32, eps }, groups(threads, caps))
    }
}

impl BatchNorm {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [x, mean, var, weight, bias] = [0, 1, 2, 3, 4].map(|i| call.real(i));
        let scale: Vec<T> =
            var.iter().zip(weight).map(|(&v, &w)| w / (v + T::of(self.eps.into())).sqrt()).collect();
        let channels = scale.len();
        // The two forms of `shaders/batch_norm/normalize.wgsl`.
        let (center, shift): (Vec<T>, Vec<T>) = (0..channels)
            .map(|c| match self.statistics {
                Statistics::Batch => (mean[c], bias[c]),
                Statistics::Running => (T::zero(), (-mean[c]).mul_add(scale[c], bias[c])),
            })
            .unzip();
        let mut y = call.take(0);
        for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            for c in 0..channels {
                y[c] = (x[c] - center[c]) * scale[c] + shift[c];
            }
        }
        self.epilogue.cpu(5, call, &mut y);
        call.set(0, y);
    }
}

impl Op for BatchNorm {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.forward"
    }

    fn attributes(&self) -> String {
        let statistics = if self.statistics == Statistics::Batch { "batch" } else { "running" };
        format!("{statistics} eps {}{}", self.eps, self.epilogue.describe())
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 5 + self.epilogue.operands())?;
        let c = channels(inputs[0])?;
        let names = ["mean", "var", "weight", "bias"];
        let named: Vec<_> = names.into_iter().zip(inputs[1..5].iter().copied()).collect();
        per_channel(&named, c)?;
        if self.epilogue.bias || self.epilogue.affine {
            return Err(mismatch("a batch norm's epilogue takes a residual and an activation only"));
        }
        self.epilogue.check(5, inputs, &inputs[0].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    /// Over batch statistics, mean and var are functions of x, and the closed form of grad_x contains
    /// the path through them:
    ///   grad_x = weight / sqrt(var + eps) * (grad_y - (grad_bias + x^ * grad_weight) / rows)
    /// So the rule gives no gradient for mean and var, and `BatchStats` has none. Over running
    /// statistics they are constants: grad_x = weight / sqrt(var + eps) * grad_y.
    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        if !self.epilogue.is_plain() {
            return Ok(Vec::new());
        }
        let &[x, mean, var, weight, _] = inputs else { return Ok(Vec::new()) };
        let batch = self.statistics == Statistics::Batch;
        if !batch && (needs[1] || needs[2]) {
            return Err(mismatch("batch_norm.forward: running statistics have no gradient"));
        }
        let eps = self.eps;
        let mut rule = vec![None; 5];
        if needs[3] || needs[4] || (batch && needs[0]) {
            let sums = tape.record(GradReduce { eps }, &[x, grad_y, mean, var])?;
            (rule[3], rule[4]) = (Some(sums[0]), Some(sums[1]));
            if batch && needs[0] {
                let inputs = [x, grad_y, mean, var, weight, sums[0], sums[1]];
                rule[0] = Some(tape.apply(GradX { eps }, &inputs)?);
            }
        }
        if !batch && needs[0] {
            rule[0] = Some(tape.apply(GradXRunning { eps }, &[grad_y, var, weight])?);
        }
        Ok(rule)
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        let epilogue = self.epilogue.absorb(consumer).filter(|taken| !taken.affine)?;
        Some(Box::new(BatchNorm { epilogue, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let residual = self.epilogue.slots(5)[2].map_or(Operand::Unused, |i| Operand::Input(i, 0));
        let variant = |&lanes: &usize| {
            let (name, knob) = elem(lanes);
            let (params, groups) = Params::of(io.output(0), lanes, self.eps, caps);
            let kernel = Kernel::new(shader!("batch_norm/normalize.wgsl"), "forward")
                .knob("Elem", knob)
                .knob("Word", word(lanes))
                .with(&[
                    ("ROWS", ROWS as u32),
                    ("RUNNING", (self.statistics == Statistics::Running).into()),
                    ("HAS_RESIDUAL", self.epilogue.residual.into()),
                    ("ACTIVATION", self.epilogue.activation.id()),
                ]);
            let launch = Launch::new(kernel, &params, groups).inputs(0..5).read(residual).output(0);
            Variant::single(name, launch)
        };
        lanes(&[io.output(0).channels()]).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 4.0 * io.output(0).numel() as f64)
    }
}
