//! The gradients of a batch norm: weight and bias by a reduction over rows, x elementwise.

use bytemuck::{Pod, Zeroable};

use super::normalize::Params;
use super::stats::ReduceParams;
use super::{ROWS, Reduction, arity, channels, per_channel, stored};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::{elem, lanes, require};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Launch, Op, Operand, Real, Type, Variant};

/// Inputs x, grad_y, mean, var -> grad_weight = sum(grad_y * x^), grad_bias = sum(grad_y) over rows,
/// where x^ = (x - mean) / sqrt(var + eps).
#[derive(Debug, Clone, Copy)]
pub(super) struct GradReduce {
    pub(super) eps: f32,
}

/// Inputs x, grad_y, mean, var, weight, grad_weight, grad_bias -> grad_x over batch statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradX {
    pub(super) eps: f32,
}

/// Inputs grad_y, var, weight -> grad_x over running statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradXRunning {
    pub(super) eps: f32,
}

/// `Params` of `shaders/batch_norm/grad_merge.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct MergeParams {
    channels: u32,
    chunks: u32,
    eps: f32,
}

fn inverse<T: Real>(var: T, eps: f32) -> T {
    T::one() / (var + T::of(eps.into())).sqrt()
}

impl GradReduce {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [x, grad_y, mean, var] = [0, 1, 2, 3].map(|i| call.real(i));
        let channels = mean.len();
        let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
        for (x, grad_y) in x.chunks_exact(channels).zip(grad_y.chunks_exact(channels)) {
            for c in 0..channels {
                sums[c] += grad_y[c].f64();
                products[c] += (grad_y[c] * (x[c] - mean[c])).f64();
            }
        }
        call.set(0, (0..channels).map(|c| T::of(products[c]) * inverse(var[c], self.eps)).collect());
        call.set(1, sums.into_iter().map(T::of).collect());
    }
}

impl Op for GradReduce {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_reduce"
    }

    fn attributes(&self) -> String {
        format!("eps {}", self.eps)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 4)?;
        let c = channels(inputs[0])?;
        require(inputs[1] == inputs[0], || format!("grad_y is {}", inputs[1]))?;
        per_channel(&[("mean", inputs[2]), ("var", inputs[3])], c)?;
        Ok(vec![Type::f32(&[c]); 2])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let [(grad_weight, store_weight), (grad_bias, store_bias)] = [0, 1].map(|i| stored(io, i));
        let x = io.input(0);
        let variant = |by: Reduction| {
            let first = Kernel::new(shader!("batch_norm/grad_partial.wgsl"), "partial_sums");
            let second = Kernel::new(shader!("batch_norm/grad_merge.wgsl"), by.entry())
                .with(&[("STORE_WEIGHT", store_weight), ("STORE_BIAS", store_bias)]);
            let merge = MergeParams { channels: by.groups as u32, chunks: by.chunks as u32, eps: self.eps };
            Variant {
                name: by.name(),
                launches: vec![
                    Launch::new(first.knob("Elem", by.knob()), &ReduceParams::of(&by), by.first(caps))
                        .inputs([0, 1, 2])
                        .write(Operand::Scratch(0)),
                    Launch::new(second.knob("Elem", by.knob()), &merge, by.second(caps))
                        .inputs([3])
                        .read(Operand::Scratch(0))
                        .write(grad_weight)
                        .write(grad_bias),
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

/// The variants of an elementwise kernel over all `inputs`.
fn elementwise(io: &Io<'_>, caps: &Caps, kernel: &Kernel, inputs: usize, eps: f32) -> Vec<Variant> {
    let variant = |&lanes: &usize| {
        let (name, knob) = elem(lanes);
        let (params, groups) = Params::of(io.output(0), lanes, eps, caps);
        let kernel = kernel.clone().knob("Elem", knob).with(&[("ROWS", ROWS as u32)]);
        Variant::single(name, Launch::new(kernel, &params, groups).inputs(0..inputs).output(0))
    };
    lanes(&[io.output(0).channels()]).iter().map(variant).collect()
}

impl GradX {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [x, grad_y, mean, var, weight, grad_weight, grad_bias] =
            [0, 1, 2, 3, 4, 5, 6].map(|i| call.real(i));
        let channels = mean.len();
        let rows = T::of((x.len() / channels) as f64);
        let mut grad_x = call.take(0);
        for (at, out) in grad_x.iter_mut().enumerate() {
            let c = at % channels;
            let inverse = inverse(var[c], self.eps);
            let normal = (x[at] - mean[c]) * inverse;
            *out = weight[c] * inverse * (grad_y[at] - (grad_bias[c] + normal * grad_weight[c]) / rows);
        }
        call.set(0, grad_x);
    }
}

impl Op for GradX {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_x"
    }

    fn attributes(&self) -> String {
        format!("eps {}", self.eps)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 7)?;
        let c = channels(inputs[0])?;
        require(inputs[1] == inputs[0], || format!("grad_y is {}", inputs[1]))?;
        let names = ["mean", "var", "weight", "grad_weight", "grad_bias"];
        let named: Vec<_> = names.into_iter().zip(inputs[2..].iter().copied()).collect();
        per_channel(&named, c)?;
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("batch_norm/grad_x.wgsl"), "grad");
        elementwise(io, caps, &kernel, 7, self.eps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 5.0 * io.output(0).numel() as f64)
    }
}

impl GradXRunning {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [grad_y, var, weight] = [0, 1, 2].map(|i| call.real(i));
        let scale: Vec<T> = var.iter().zip(weight).map(|(&v, &w)| w * inverse(v, self.eps)).collect();
        let grad_x = grad_y.iter().zip(scale.iter().cycle()).map(|(&g, &s)| g * s).collect();
        call.set(0, grad_x);
    }
}

impl Op for GradXRunning {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_x_running"
    }

    fn attributes(&self) -> String {
        format!("eps {}", self.eps)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 3)?;
        per_channel(&[("var", inputs[1]), ("weight", inputs[2])], channels(inputs[0])?)?;
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("batch_norm/grad_x_running.wgsl"), "grad");
        elementwise(io, caps, &kernel, 3, self.eps)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}
