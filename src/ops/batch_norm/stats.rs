//! Mean and variance of a batch, and the running statistics that follow them.

use bytemuck::{Pod, Zeroable};

use super::rows::{blocks, join_moments, moments};
use super::{Reduction, arity, channels, per_channel, stored};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::groups;
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// `x [.., channels]` -> mean and variance of each channel; the variance is biased (divided by rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchStats;

/// Updates the running statistics: `running = (1 - momentum) running + momentum batch`, the batch's variance made
/// unbiased by rows / (rows - 1), as in PyTorch. A single row has no unbiased variance: its variance stays as it is,
/// and the trainer refuses such batches. Inputs: running_mean and running_var, changed in place, then mean and var of
/// the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunningUpdate {
    /// Weight of the new batch.
    pub momentum: f32,
    /// Rows of the batch.
    pub rows: usize,
}

/// `Params` of `shaders/batch_norm/stats_*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ReduceParams {
    rows: u32,
    channels: u32,
    chunks: u32,
    chunk_rows: u32,
}

impl ReduceParams {
    fn of(by: &Reduction) -> Self {
        ReduceParams {
            rows: by.rows as u32,
            channels: by.groups as u32,
            chunks: by.chunks as u32,
            chunk_rows: by.chunk_rows as u32,
        }
    }
}

/// `Params` of `shaders/batch_norm/running.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct RunningParams {
    channels: u32,
    momentum: f32,
    unbias: f32,
}

impl BatchStats {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let channels = call.io.input(0).channels();
        let x = call.real(0);
        let all = blocks(
            x.len(),
            channels,
            #[inline(always)]
            |elements, mean, squares| moments(&x[elements], mean, squares),
        );
        let (mean, var) = join_moments(&all, x.len(), channels);
        call.set(0, mean.into_iter().map(T::of));
        call.set(1, var.into_iter().map(T::of));
    }
}

impl Op for BatchStats {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.stats"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 1)?;
        let ty = Type::f32(&[channels(inputs[0])?]);
        Ok(vec![ty.clone(), ty])
    }

    /// No gradient: the gradient of [`super::BatchNorm`] over batch statistics contains this path.
    fn grad(
        &self,
        _tape: &mut Tape,
        _inputs: &[ValueId],
        _outputs: &[ValueId],
        _upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        Ok(vec![None])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let [(mean, store_mean), (var, store_var)] = [0, 1].map(|i| stored(io, i));
        let x = io.input(0);
        let variant = |by: Reduction| {
            let params = ReduceParams::of(&by);
            let first = Kernel::new(shader!("batch_norm/stats_partial.wgsl"), "partial_moments");
            let second = Kernel::new(shader!("batch_norm/stats_merge.wgsl"), by.entry())
                .with(&[("STORE_MEAN", store_mean), ("STORE_VAR", store_var)]);
            Variant {
                name: by.name(),
                launches: vec![
                    Launch::new(first.knob("Elem", by.knob()), &params, by.first(caps))
                        .inputs([0])
                        .write(Operand::Scratch(0)),
                    Launch::new(second.knob("Elem", by.knob()), &params, by.second(caps))
                        .read(Operand::Scratch(0))
                        .write(mean)
                        .write(var),
                ],
                scratch: vec![by.scratch()],
            }
        };
        Reduction::all(x.rows(), x.channels(), caps).into_iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 4.0 * io.input(0).numel() as f64)
    }
}

impl RunningUpdate {
    fn unbias(&self) -> f64 {
        if self.rows > 1 { self.rows as f64 / (self.rows - 1) as f64 } else { 1.0 }
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let momentum = T::of(self.momentum.into());
        for (i, scale) in [1.0, self.unbias()].into_iter().enumerate() {
            let batch = call.real(2 + i);
            for (running, &new) in call.updates[i].iter_mut().zip(batch) {
                *running = (T::one() - momentum) * *running + momentum * (new * T::of(scale));
            }
        }
    }
}

impl Op for RunningUpdate {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.running_update"
    }

    fn attributes(&self) -> String {
        format!("momentum {} rows {}", self.momentum, self.rows)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 4)?;
        let names = ["running_mean", "running_var", "mean", "var"];
        let named: Vec<_> = names.into_iter().zip(inputs.iter().copied()).collect();
        per_channel(&named, inputs[0].shape.channels())?;
        Ok(Vec::new())
    }

    fn updates(&self) -> usize {
        2
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let channels = io.input(0).numel();
        let params = RunningParams {
            channels: channels as u32,
            momentum: self.momentum,
            unbias: self.unbias() as f32,
        };
        let kernel = Kernel::new(shader!("batch_norm/running.wgsl"), "update");
        let launch = Launch::new(kernel, &params, groups(channels, caps))
            .inputs([2, 3])
            .write(Operand::Input(0, 0))
            .write(Operand::Input(1, 0));
        vec![Variant::single("scalar", launch)]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 7.0 * io.input(0).numel() as f64)
    }
}
