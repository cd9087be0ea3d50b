//! The normalisation, and its gradient rule.

use bytemuck::{Pod, Zeroable};

use super::grad::{GradReduce, GradX, GradXRunning};
use super::rows::{repeated, stretches};
use super::{ROWS, arity, channels, per_channel};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::activation::decided;
use crate::ops::{Activation, Epilogue, elem, groups, lanes, mismatch, word};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// The source of mean and variance of a [`BatchNorm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// [`super::BatchStats`] of the same x: they depend on x, and the gradient includes this path.
    Batch,
    /// Constants.
    Running,
}

impl Statistics {
    pub(super) fn name(self) -> &'static str {
        if self == Statistics::Batch { "batch" } else { "running" }
    }
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, then the epilogue. Inputs: x, mean, var, weight, bias, and the
/// residual where the epilogue has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// The source of mean and variance.
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
    /// Params and workgroups of a kernel whose threads process ROWS rows of `lanes` channels.
    pub(super) fn of(y: &[usize], lanes: usize, eps: f32, caps: &Caps) -> (Self, [u32; 3]) {
        let channels = y.last().copied().unwrap_or(1);
        let rows = y.iter().product::<usize>() / channels;
        let threads = channels / lanes * rows.div_ceil(ROWS);
        (Params { rows: rows as u32, channels: (channels / lanes) as u32, eps }, groups(threads, caps))
    }
}

/// A batch norm as `(x - center) * scale + shift` for the CPU's lanes: `shaders/lib/norm.wgsl`.
pub(super) struct Norm<T> {
    pub(super) center: Vec<T>,
    pub(super) scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Real> Norm<T> {
    pub(super) fn of(statistics: Statistics, eps: f32, [mean, var, weight, bias]: [&[T]; 4]) -> Self {
        let scale: Vec<T> =
            var.iter().zip(weight).map(|(&v, &w)| w / (v + T::of(eps.into())).sqrt()).collect();
        let (center, shift) = match statistics {
            Statistics::Batch => (mean.to_vec(), bias.to_vec()),
            Statistics::Running => {
                let shift = |c: usize| (-mean[c]).mul_add(scale[c], bias[c]);
                (vec![T::zero(); scale.len()], (0..scale.len()).map(shift).collect())
            }
        };
        Norm { center: repeated(&center), scale: repeated(&scale), shift: repeated(&shift) }
    }

    /// The norm of one stretch.
    #[inline(always)]
    fn normalise(&self, x: &[T], y: &mut [T]) {
        let tables = self.center.iter().zip(&self.scale).zip(&self.shift);
        for ((y, &x), ((&center, &scale), &shift)) in y.iter_mut().zip(x).zip(tables) {
            *y = (x - center) * scale + shift;
        }
    }

    /// `g = grad_y * activation'(v)` of one stretch: v, the activation's input, is recomputed from x.
    #[inline(always)]
    pub(super) fn through(&self, activation: Activation, x: &[T], grad_y: &[T], g: &mut [T]) {
        if activation == Activation::Identity {
            return g.copy_from_slice(grad_y);
        }
        decided!(activation, |activation| {
            let tables = self.center.iter().zip(&self.scale).zip(&self.shift);
            for (((g, &x), &grad_y), ((&center, &scale), &shift)) in
                g.iter_mut().zip(x).zip(grad_y).zip(tables)
            {
                *g = grad_y * activation.derivative_at((x - center) * scale + shift);
            }
        });
    }
}

impl BatchNorm {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let x = call.real(0);
        let norm = Norm::of(self.statistics, self.eps, [1, 2, 3, 4].map(|i| call.real(i)));
        let fused = self.epilogue.operands_of(5, call);
        stretches(
            call.output(0),
            norm.scale.len(),
            #[inline(always)]
            |at, y| {
                norm.normalise(&x[at..][..y.len()], y);
                fused.apply(at, 0, y);
            },
        );
    }
}

impl Op for BatchNorm {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.forward"
    }

    fn attributes(&self) -> String {
        format!("{} eps {}{}", self.statistics.name(), self.eps, self.epilogue.describe())
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

    /// Over batch statistics, mean and var are functions of x, and the closed form of grad_x contains the path
    /// through them:
    ///   grad_x = weight / sqrt(var + eps) * (grad_y - (grad_bias + x^ * grad_weight) / rows)
    /// So the rule gives no gradient for mean and var, and `BatchStats` has none. Over running statistics they are
    /// constants: grad_x = weight / sqrt(var + eps) * grad_y. With an activation after the norm, grad_y is first
    /// multiplied by its derivative.
    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        // A residual would be one more operand; it has no gradient here.
        let &[x, mean, var, weight, bias] = inputs else { return Ok(Vec::new()) };
        let batch = self.statistics == Statistics::Batch;
        if !batch && (needs[1] || needs[2]) {
            return Err(mismatch("batch_norm.forward: running statistics have no gradient"));
        }
        let &BatchNorm { eps, statistics, epilogue: Epilogue { activation, .. } } = self;
        let mut rule = vec![None; 5];
        if needs[3] || needs[4] || (batch && needs[0]) {
            let mut operands = vec![x, grad_y, mean, var, weight, bias];
            let sums = tape.record(GradReduce { eps, statistics, activation }, &operands)?;
            (rule[3], rule[4]) = (Some(sums[0]), Some(sums[1]));
            if batch && needs[0] {
                operands.push(sums[2]);
                rule[0] = Some(tape.apply(GradX { eps, activation }, &operands)?);
            }
        }
        if !batch && needs[0] {
            let mut operands = vec![grad_y, var, weight];
            if activation != Activation::Identity {
                operands.extend([x, mean, bias]);
            }
            rule[0] = Some(tape.apply(GradXRunning { eps, activation }, &operands)?);
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
