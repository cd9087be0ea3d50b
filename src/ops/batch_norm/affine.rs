//! A frozen batch norm as scale and shift of each channel: folding, application, gradient.

use bytemuck::{Pod, Zeroable};

use super::rows::{repeated, scaled, stretches};
use super::{ROWS, arity, channels, per_channel};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::{Activation, Epilogue, elem, groups, lanes, mismatch, require};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// Folds a batch norm over constants: weight, bias, running_mean, running_var -> affine `[2, channels]`, scale =
/// weight / sqrt(var + eps), then shift = bias - mean * scale. It has no gradient: layers with trainable scale and
/// shift keep their [`super::BatchNorm`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNormFold {
    /// Added to the variance.
    pub eps: f32,
}

/// `y = x * scale + shift` of each channel, then the epilogue. Inputs: x, affine `[2, channels]`, and the residual
/// where the epilogue has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Affine {
    /// Residual and activation; its bias and affine are never set.
    pub epilogue: Epilogue,
}

impl Epilogue {
    /// The epilogue with `consumer` taken in, where the order allows it.
    pub fn absorb(&self, consumer: &dyn Op) -> Option<Self> {
        let Some(&Affine { epilogue: taken }) = consumer.as_any().downcast_ref() else {
            return self.absorb_but_affine(consumer);
        };
        let ends = self.affine || self.residual || self.activation != Activation::Identity;
        (!ends && !taken.bias && !taken.affine).then_some(Epilogue { affine: true, bias: self.bias, ..taken })
    }
}

/// `grad_x = grad_y * scale` of each channel, the gradient of [`Affine`]; inputs: grad_y, affine. Plans
/// also scale the columns of a weight with it, when they fold a norm into the layer before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AffineGrad;

/// `Params` of `shaders/batch_norm/fold.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct FoldParams {
    channels: u32,
    eps: f32,
}

/// `Params` of `shaders/batch_norm/affine.wgsl` and `affine_grad.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct AffineParams {
    rows: u32,
    channels: u32,
}

impl BatchNormFold {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [weight, bias, mean, var] = [0, 1, 2, 3].map(|i| call.real(i));
        let channels = weight.len();
        let affine = call.output(0);
        for c in 0..channels {
            let scale = weight[c] / (var[c] + T::of(self.eps.into())).sqrt();
            affine[c] = scale;
            affine[channels + c] = (-mean[c]).mul_add(scale, bias[c]);
        }
    }
}

impl Op for BatchNormFold {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.fold"
    }

    fn attributes(&self) -> String {
        format!("eps {}", self.eps)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 4)?;
        let c = inputs[0].shape.channels();
        let names = ["weight", "bias", "running_mean", "running_var"];
        per_channel(&names.into_iter().zip(inputs.iter().copied()).collect::<Vec<_>>(), c)?;
        Ok(vec![Type::f32(&[2, c])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let channels = io.input(0).numel();
        let params = FoldParams { channels: channels as u32, eps: self.eps };
        let kernel = Kernel::new(shader!("batch_norm/fold.wgsl"), "fold");
        let launch = Launch::new(kernel, &params, groups(channels, caps)).inputs(0..4).output(0);
        vec![Variant::single("scalar", launch)]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 5.0 * io.input(0).numel() as f64)
    }
}

/// One variant for each number of channels that a thread may take.
fn variants(io: &Io<'_>, caps: &Caps, kernel: &Kernel, bind: impl Fn(Launch) -> Launch) -> Vec<Variant> {
    let (rows, channels) = (io.output(0).rows(), io.output(0).channels());
    let variant = |&lanes: &usize| {
        let (name, knob) = elem(lanes);
        let params = AffineParams { rows: rows as u32, channels: (channels / lanes) as u32 };
        let kernel = kernel.clone().knob("Elem", knob).with(&[("ROWS", ROWS as u32)]);
        let threads = channels / lanes * rows.div_ceil(ROWS);
        Variant::single(name, bind(Launch::new(kernel, &params, groups(threads, caps))).output(0))
    };
    lanes(&[channels]).iter().map(variant).collect()
}

fn infer(inputs: &[&Type]) -> Result<Vec<Type>> {
    let c = channels(inputs[0])?;
    require(*inputs[1] == Type::f32(&[2, c]), || format!("affine must be [2, {c}], found {}", inputs[1]))?;
    Ok(vec![inputs[0].clone()])
}

impl Affine {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, affine) = (call.real(0), call.real(1));
        let (scale, shift) = affine.split_at(affine.len() / 2);
        let (scale, shift) = (repeated(scale), repeated(shift));
        let fused = self.epilogue.operands_of(2, call);
        stretches(
            call.output(0),
            scale.len(),
            #[inline(always)]
            |at, y| {
                let x = &x[at..][..y.len()];
                for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(&scale).zip(&shift) {
                    *y = x * scale + shift;
                }
                fused.apply(at, 0, y);
            },
        );
    }
}

impl Op for Affine {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.affine"
    }

    fn attributes(&self) -> String {
        self.epilogue.describe().trim().into()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 2 + self.epilogue.operands())?;
        if self.epilogue.bias || self.epilogue.affine {
            return Err(mismatch("an affine's epilogue takes a residual and an activation only"));
        }
        self.epilogue.check(2, inputs, &inputs[0].shape)?;
        infer(inputs)
    }

    /// Gradient for x only: scale and shift are folded from constants.
    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        if !self.epilogue.is_plain() || needs[1] {
            return Ok(Vec::new());
        }
        Ok(vec![Some(tape.apply(AffineGrad, &[grad_y, inputs[1]])?), None])
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        let epilogue = self.epilogue.absorb_but_affine(consumer)?;
        Some(Box::new(Affine { epilogue }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let residual = self.epilogue.slots(2)[2].map_or(Operand::Unused, |i| Operand::Input(i, 0));
        let kernel = Kernel::new(shader!("batch_norm/affine.wgsl"), "forward").with(&[
            ("HAS_RESIDUAL", self.epilogue.residual.into()),
            ("ACTIVATION", self.epilogue.activation.id()),
        ]);
        variants(io, caps, &kernel, |launch| launch.inputs([0, 1]).read(residual))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}

impl AffineGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grad_y, affine) = (call.real(0), call.real(1));
        scaled(call.output(0), grad_y, &repeated(&affine[..affine.len() / 2]));
    }
}

impl Op for AffineGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.affine_grad"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 2)?;
        infer(inputs)
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("batch_norm/affine_grad.wgsl"), "grad");
        variants(io, caps, &kernel, |launch| launch.inputs([0, 1]))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}
