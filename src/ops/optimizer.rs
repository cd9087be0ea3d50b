//! Parameter updates over flat pages: one dispatch updates every parameter of a page.
//!
//! A page is cut into blocks of [`BLOCK`] elements; `blocks[b]` is the group of block b, and
//! `rates[group]` is `[learning rate, weight decay, bias correction 1, bias correction 2]` of this step
//! (the corrections are AdamW's `1 - beta1^t` and `sqrt(1 - beta2^t)`). No segment shares a block.

use bytemuck::{Pod, Zeroable};

use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Launch, Op, Operand, Real, Type, Variant};

/// Elements of a block: parameters begin at multiples of it (256 bytes, the largest offset alignment
/// that WebGPU allows a device to demand).
pub const BLOCK: usize = 64;

/// SGD as PyTorch has it: `g += decay p; m = momentum m + g; p -= rate (nesterov ? g + momentum m : m)`.
/// Inputs: parameters and momentum (both updated), gradients, blocks, rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the last step that goes on.
    pub momentum: f32,
    /// Look ahead along the momentum.
    pub nesterov: bool,
}

/// AdamW (Loshchilov and Hutter 2019), as PyTorch has it. Inputs: parameters, first and second moment
/// (all updated), gradients, blocks, rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// `Params` of `shaders/optimizer/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
    a: f32,
    b: f32,
    c: f32,
}

fn check(inputs: &[&Type], updates: usize) -> Result<Vec<Type>> {
    let page = inputs[0].shape.numel();
    let whole = inputs[..=updates].iter().all(|t| t.shape.numel() == page) && page.is_multiple_of(BLOCK);
    require(whole, || format!("pages must have the same whole number of blocks of {BLOCK} elements"))?;
    require(inputs[updates + 1].shape.numel() == page / BLOCK, || "one group a block".into())?;
    Ok(Vec::new())
}

/// The group's `[rate, decay, correction 1, correction 2]` of each element's block.
fn rates<'a, T: Real>(call: &CpuCall<'a, T>, updates: usize) -> impl Fn(usize) -> &'a [T] + use<'a, T> {
    let (blocks, rates) = (call.words(updates + 1), call.real(updates + 2));
    move |i| &rates[blocks[i / BLOCK] as usize * 4..][..4]
}

fn variant(io: &Io<'_>, caps: &Caps, kernel: Kernel, numbers: [f32; 3], updates: usize) -> Vec<Variant> {
    let quads = io.input(0).numel() / 4;
    let [a, b, c] = numbers;
    let mut launch = Launch::new(kernel, &Params { quads: quads as u32, a, b, c }, groups(quads, caps))
        .inputs(updates..updates + 3);
    for i in 0..updates {
        launch = launch.write(Operand::Input(i, 0));
    }
    vec![Variant::single("flat", launch)]
}

impl Sgd {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (rates, grads) = (rates(call, 2), call.real(2));
        let momentum = T::of(self.momentum.into());
        let [params, velocity] = &mut call.updates[..] else { return };
        for (i, ((p, m), &grad)) in params.iter_mut().zip(velocity.iter_mut()).zip(grads).enumerate() {
            let rate = rates(i);
            let grad = grad + rate[1] * *p;
            *m = momentum * *m + grad;
            *p -= rate[0] * if self.nesterov { grad + momentum * *m } else { *m };
        }
    }
}

impl Op for Sgd {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "optimizer.sgd"
    }

    fn attributes(&self) -> String {
        format!("momentum {}{}", self.momentum, if self.nesterov { " nesterov" } else { "" })
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 2)
    }

    fn updates(&self) -> usize {
        2
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel =
            Kernel::new(shader!("optimizer/sgd.wgsl"), "update").with(&[("NESTEROV", self.nesterov.into())]);
        variant(io, caps, kernel, [self.momentum, 0.0, 0.0], 2)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: 5.0 * page, bytes: 5.0 * 4.0 * page }
    }
}

impl AdamW {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (rates, grads) = (rates(call, 3), call.real(3));
        let [b1, b2, epsilon] = [self.beta1, self.beta2, self.epsilon].map(|x| T::of(x.into()));
        let [params, first, second] = &mut call.updates[..] else { return };
        let elements = params.iter_mut().zip(first.iter_mut()).zip(second.iter_mut()).zip(grads);
        for (i, (((p, m), v), &grad)) in elements.enumerate() {
            let rate = rates(i);
            *p -= rate[0] * rate[1] * *p;
            *m = b1 * *m + (T::one() - b1) * grad;
            *v = b2 * *v + (T::one() - b2) * grad * grad;
            *p -= rate[0] / rate[2] * *m / (v.sqrt() / rate[3] + epsilon);
        }
    }
}

impl Op for AdamW {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "optimizer.adamw"
    }

    fn attributes(&self) -> String {
        format!("beta {} {}", self.beta1, self.beta2)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 3)
    }

    fn updates(&self) -> usize {
        3
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("optimizer/adamw.wgsl"), "update");
        variant(io, caps, kernel, [self.beta1, self.beta2, self.epsilon], 3)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: 14.0 * page, bytes: 7.0 * 4.0 * page }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let page = |op: Case, updates: usize| {
        let mut case = op
            .with(Type::u32(&[5]), Fill::Below(3))
            .with(Type::f32(&[3, 4]), Fill::Range(0.05, 1.0))
            .grads(&[]);
        // The second moment is never negative.
        if updates == 3 {
            case = case.fill(2, Fill::Range(0.0, 1.0));
        }
        case
    };
    let flat: &[usize] = &[5 * BLOCK];
    vec![
        page(Case::new(Sgd { momentum: 0.9, nesterov: false }, &[flat; 3]), 2),
        page(Case::new(Sgd { momentum: 0.8, nesterov: true }, &[flat; 3]), 2),
        page(Case::new(AdamW::default(), &[flat; 4]), 3),
    ]
}
