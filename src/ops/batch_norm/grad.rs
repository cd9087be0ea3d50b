//! The gradients of a batch norm: weight and bias by a reduction over rows, x elementwise.

use bytemuck::{Pod, Zeroable};

use super::norm::{Norm, Params, Statistics};
use super::rows::{add_lanes, blocks, repeated, scaled, stretches};
use super::{ROWS, Reduction, arity, channels, per_channel, stored};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::{Activation, Epilogue, elem, lanes, require, word};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Launch, Op, Operand, Real, Type, Variant};

/// Inputs x, grad_y, mean, var, weight, bias -> grad_weight = sum(g * x^), grad_bias = sum(g) over rows, and for
/// [`GradX`] both as means, `[2, channels]`: grad_bias / rows, grad_weight / sqrt(var + eps) / rows. Here x^ = (x -
/// mean) / sqrt(var + eps), and g = grad_y * activation'(v), where v is the norm's output and the input of the
/// activation after it. v is recomputed from x, which is cheaper than to save and read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradReduce {
    pub(super) eps: f32,
    pub(super) statistics: Statistics,
    pub(super) activation: Activation,
}

/// Inputs x, grad_y, mean, var, weight, bias and the means of [`GradReduce`] -> grad_x over batch statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradX {
    pub(super) eps: f32,
    pub(super) activation: Activation,
}

/// Inputs grad_y, var, weight, and x, mean, bias where there is an activation -> grad_x over running
/// statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradXRunning {
    pub(super) eps: f32,
    pub(super) activation: Activation,
}

/// `Params` of `shaders/batch_norm/grad_partial.wgsl` and `grad_merge.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ReduceParams {
    rows: u32,
    channels: u32,
    chunks: u32,
    chunk_rows: u32,
    eps: f32,
}

fn describe(eps: f32, activation: Activation) -> String {
    format!("eps {eps}{}", Epilogue { activation, ..Epilogue::default() }.describe())
}

/// Floating-point operations an element: of the gradient, and of an activation's derivative.
fn flops(own: f64, activation: Activation) -> f64 {
    if activation == Activation::Identity { own } else { own + 5.0 }
}

fn inverse<T: Real>(var: T, eps: f32) -> T {
    T::one() / (var + T::of(eps.into())).sqrt()
}

impl GradReduce {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [x, grad_y, mean, var, weight, bias] = [0, 1, 2, 3, 4, 5].map(|i| call.real(i));
        let norm = Norm::of(self.statistics, self.eps, [mean, var, weight, bias]);
        let channels = mean.len();
        let mean = repeated(mean);
        let all = blocks(
            x.len(),
            channels,
            #[inline(always)]
            |elements, sums, products| {
                let (x, grad_y) = (&x[elements.clone()], &grad_y[elements]);
                let [mut buffer, mut s, mut p] = [0; 3].map(|_| vec![T::zero(); mean.len()]);
                for (x, grad_y) in x.chunks(mean.len()).zip(grad_y.chunks(mean.len())) {
                    let g = &mut buffer[..x.len()];
                    norm.through(self.activation, x, grad_y, g);
                    for ((((s, p), &x), &g), &mean) in s.iter_mut().zip(&mut p).zip(x).zip(&*g).zip(&mean) {
                        *s += g;
                        *p += g * (x - mean);
                    }
                }
                add_lanes(sums, &s);
                add_lanes(products, &p);
            },
        );
        let mut sums = vec![0.0; 2 * channels];
        all.chunks_exact(sums.len()).for_each(|block| add_lanes(&mut sums, block));
        let (grad_bias, products) = sums.split_at(channels);
        let rows = (x.len() / channels) as f64;
        let inverse = |c: usize| inverse(var[c], self.eps);
        let slope = products.iter().enumerate().map(|(c, &p)| T::of(p / rows) * inverse(c) * inverse(c));
        call.set(0, products.iter().enumerate().map(|(c, &p)| T::of(p) * inverse(c)));
        call.set(1, grad_bias.iter().map(|&sum| T::of(sum)));
        call.set(2, grad_bias.iter().map(|&sum| T::of(sum / rows)).chain(slope));
    }
}

impl Op for GradReduce {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_reduce"
    }

    fn attributes(&self) -> String {
        format!("{} {}", self.statistics.name(), describe(self.eps, self.activation))
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 6)?;
        let c = operands(inputs)?;
        Ok(vec![Type::f32(&[c]), Type::f32(&[c]), Type::f32(&[2, c])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let [(grad_weight, store_weight), (grad_bias, store_bias), (means, store_means)] =
            [0, 1, 2].map(|i| stored(io, i));
        let x = io.input(0);
        let variant = |by: Reduction| {
            let first = Kernel::new(shader!("batch_norm/grad_partial.wgsl"), "partial_sums")
                .knob("Elem", by.knob())
                .knob("Word", word(by.lanes))
                .with(&[
                    ("RUNNING", (self.statistics == Statistics::Running).into()),
                    ("ACTIVATION", self.activation.id()),
                ]);
            let second = Kernel::new(shader!("batch_norm/grad_merge.wgsl"), by.entry())
                .knob("Elem", by.knob())
                .with(&[
                    ("STORE_WEIGHT", store_weight),
                    ("STORE_BIAS", store_bias),
                    ("STORE_MEANS", store_means),
                ]);
            let params = ReduceParams {
                rows: by.rows as u32,
                channels: by.groups as u32,
                chunks: by.chunks as u32,
                chunk_rows: by.chunk_rows as u32,
                eps: self.eps,
            };
            Variant {
                name: by.name(),
                launches: vec![
                    Launch::new(first, &params, by.first(caps)).inputs(0..6).write(Operand::Scratch(0)),
                    Launch::new(second, &params, by.second(caps))
                        .inputs([3])
                        .read(Operand::Scratch(0))
                        .write(grad_weight)
                        .write(grad_bias)
                        .write(means),
                ],
                scratch: vec![by.scratch()],
            }
        };
        Reduction::all(x.rows(), x.channels(), caps).into_iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(4.0, self.activation) * io.input(0).numel() as f64)
    }
}

/// Checks x, grad_y, mean, var, weight and bias; returns the channels.
fn operands(inputs: &[&Type]) -> Result<usize> {
    let c = channels(inputs[0])?;
    require(inputs[1] == inputs[0], || format!("grad_y is {}", inputs[1]))?;
    let names = ["mean", "var", "weight", "bias"];
    per_channel(&names.into_iter().zip(inputs[2..6].iter().copied()).collect::<Vec<_>>(), c)?;
    Ok(c)
}

/// The variants of an elementwise kernel.
fn elementwise(io: &Io<'_>, caps: &Caps, kernel: &Kernel, eps: f32, operands: &[Operand]) -> Vec<Variant> {
    let variant = |&lanes: &usize| {
        let (name, knob) = elem(lanes);
        let (params, groups) = Params::of(io.output(0), lanes, eps, caps);
        let kernel = kernel.clone().knob("Elem", knob).knob("Word", word(lanes));
        let launch = Launch::new(kernel.with(&[("ROWS", ROWS as u32)]), &params, groups);
        Variant::single(name, operands.iter().fold(launch, |launch, &o| launch.read(o)).output(0))
    };
    lanes(&[io.output(0).channels()]).iter().map(variant).collect()
}

impl GradX {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [x, grad_y, mean, var, weight, bias, means] = [0, 1, 2, 3, 4, 5, 6].map(|i| call.real(i));
        let norm = Norm::of(Statistics::Batch, self.eps, [mean, var, weight, bias]);
        let (offset, slope) = means.split_at(mean.len());
        let (offset, slope) = (repeated(offset), repeated(slope));
        stretches(
            call.output(0),
            norm.scale.len(),
            #[inline(always)]
            |at, out| {
                let x = &x[at..][..out.len()];
                norm.through(self.activation, x, &grad_y[at..][..out.len()], out);
                let tables = norm.scale.iter().zip(&offset).zip(&slope).zip(&norm.center);
                for ((g, &x), (((&scale, &offset), &slope), &center)) in out.iter_mut().zip(x).zip(tables) {
                    *g = scale * (*g - offset - (x - center) * slope);
                }
            },
        );
    }
}

impl Op for GradX {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_x"
    }

    fn attributes(&self) -> String {
        describe(self.eps, self.activation)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 7)?;
        let c = operands(inputs)?;
        require(*inputs[6] == Type::f32(&[2, c]), || format!("means must be [2, {c}], found {}", inputs[6]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("batch_norm/grad_x.wgsl"), "grad")
            .with(&[("ACTIVATION", self.activation.id())]);
        elementwise(io, caps, &kernel, self.eps, &[0, 1, 2, 3, 4, 5, 6].map(|i| Operand::Input(i, 0)))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(5.0, self.activation) * io.output(0).numel() as f64)
    }
}

impl GradXRunning {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [grad_y, var, weight] = [0, 1, 2].map(|i| call.real(i));
        let scale: Vec<T> = var.iter().zip(weight).map(|(&v, &w)| w * inverse(v, self.eps)).collect();
        let scale = repeated(&scale);
        if self.activation == Activation::Identity {
            return scaled(call.output(0), grad_y, &scale);
        }
        let [x, mean, bias] = [3, 4, 5].map(|i| call.real(i));
        let norm = Norm::of(Statistics::Running, self.eps, [mean, var, weight, bias]);
        stretches(
            call.output(0),
            scale.len(),
            #[inline(always)]
            |at, out| {
                norm.through(self.activation, &x[at..][..out.len()], &grad_y[at..][..out.len()], out);
                out.iter_mut().zip(&scale).for_each(|(g, &scale)| *g *= scale);
            },
        );
    }
}

impl Op for GradXRunning {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.grad_x_running"
    }

    fn attributes(&self) -> String {
        describe(self.eps, self.activation)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let behind = self.activation != Activation::Identity;
        arity(inputs, if behind { 6 } else { 3 })?;
        let names = ["var", "weight", "x", "mean", "bias"].into_iter().zip(inputs[1..].iter().copied());
        let tables: Vec<_> = names.filter(|(name, _)| *name != "x").collect();
        per_channel(&tables, channels(inputs[0])?)?;
        require(!behind || inputs[3] == inputs[0], || format!("x is {}", inputs[3]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("batch_norm/grad_x_running.wgsl"), "grad")
            .with(&[("ACTIVATION", self.activation.id()), ("RUNNING", 1)]);
        let operand = |i| if i < io.inputs.len() { Operand::Input(i, 0) } else { Operand::Unused };
        elementwise(io, caps, &kernel, self.eps, &[0, 1, 2, 3, 4, 5].map(operand))
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(1.0, self.activation) * io.output(0).numel() as f64)
    }
}
