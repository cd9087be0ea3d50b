//! Parameter updates over flat pages: one dispatch updates every parameter of a page.
//!
//! A page is divided into blocks of [`BLOCK`] elements; `blocks[b]` is the group of block b, and
//! `rates[group]` is `[learning rate, weight decay, bias correction 1, bias correction 2]` of this step
//! (the corrections are AdamW's `1 - beta1^t` and `sqrt(1 - beta2^t)`). No two segments share a block.

mod adamw;
mod sgd;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

pub use adamw::AdamW;
pub use sgd::Sgd;

use super::cpu::{PIECE, simd};
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::tape::{CpuCall, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// Elements of a block: parameters begin at multiples of it (256 bytes, the largest offset alignment that WebGPU
/// allows a device to require).
pub const BLOCK: usize = 64;

/// An op that updates parameters.
trait UpdateRule: Op {
    /// Number of moments of each parameter.
    const MOMENTS: usize;

    /// Decay of the first and the second moment; the rates have their bias corrections.
    fn decays(&self) -> [f64; 2] {
        [0.0; 2]
    }
}

macro_rules! optimizers {
    ($($(#[$about:meta])* $name:ident;)*) => {
        /// The optimizer of the parameters.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum Optimizer {
            $($(#[$about])* $name($name),)*
        }

        impl Optimizer {
            /// Number of moments of each parameter.
            pub fn moments(&self) -> usize {
                match self {
                    $(Optimizer::$name(_) => $name::MOMENTS,)*
                }
            }

            /// Decay of the first and the second moment, whose bias the rates correct; 0 where there is none.
            pub fn decays(&self) -> [f64; 2] {
                match self {
                    $(Optimizer::$name(op) => op.decays(),)*
                }
            }

            /// A row of the rates table: learning rate, weight decay and corrections of the moments' bias at update number
            /// `step`, from 1.
            pub fn row(&self, lr: f64, weight_decay: f64, step: u64) -> [f32; 4] {
                let [beta1, beta2] = self.decays();
                let step = step as f64;
                [lr, weight_decay, 1.0 - beta1.powf(step), (1.0 - beta2.powf(step)).sqrt()].map(|x| x as f32)
            }

            /// Records the update of a page.
            pub(crate) fn record(self, tape: &mut Tape, operands: &[ValueId]) -> Result<()> {
                match self {
                    $(Optimizer::$name(op) => tape.record_update(op, operands).map(drop),)*
                }
            }
        }

        $(impl From<$name> for Optimizer {
            fn from(op: $name) -> Self {
                Optimizer::$name(op)
            }
        })*
    };
}

optimizers! {
    /// SGD with momentum.
    Sgd;
    /// Adam with decoupled weight decay.
    AdamW;
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

/// Calls `f` for each run of blocks of one group, on all threads: with the group's
/// `[learning rate, decay, correction 1, correction 2]`, the run's elements of the updated pages, and its gradients.
/// Write `#[inline(always)]` before the closure.
fn each_run<T: Real, const UPDATES: usize>(
    call: &mut CpuCall<'_, T>,
    f: impl Fn([T; 4], [&mut [T]; UPDATES], &[T]) + Sync,
) {
    let (grads, blocks, rates) = (call.real(UPDATES), call.words(UPDATES + 1), call.real(UPDATES + 2));
    let mut pages: Vec<_> = call.updates.iter_mut().map(|page| page.chunks_mut(PIECE)).collect();
    let piece = |_| std::array::from_fn(|i| pages[i].next().unwrap_or_default());
    let pieces: Vec<[&mut [T]; UPDATES]> = (0..grads.len().div_ceil(PIECE)).map(piece).collect();
    pieces.into_par_iter().enumerate().for_each(|(p, mut pages)| {
        simd(
            #[inline(always)]
            |_| {
                let mut at = 0;
                let own = pages[0].len();
                for run in blocks[p * PIECE / BLOCK..][..own / BLOCK].chunk_by(|a, b| a == b) {
                    let (group, len) = (run[0] as usize * 4, run.len() * BLOCK);
                    let pages = pages.each_mut().map(|page| &mut page[at..][..len]);
                    let rates = std::array::from_fn(|i| rates[group + i]);
                    f(rates, pages, &grads[p * PIECE + at..][..len]);
                    at += len;
                }
            },
        );
    });
}

fn variant(io: &Io<'_>, caps: &Caps, kernel: Kernel, numbers: [f32; 3], updates: usize) -> Vec<Variant> {
    let quads = io.input(0).numel() / 4;
    let [a, b, c] = numbers;
    // Loads are the main cost on a software adapter: a thread processes a whole block there and loads its rates once.
    // On a GPU, neighbouring threads should process neighbouring elements.
    let each = if caps.software { BLOCK / 4 } else { 1 };
    let kernel = kernel.with(&[("QUADS", each as u32)]);
    let params = Params { quads: quads as u32, a, b, c };
    let mut launch = Launch::new(kernel, &params, groups(quads / each, caps)).inputs(updates..updates + 3);
    for i in 0..updates {
        launch = launch.write(Operand::Input(i, 0));
    }
    vec![Variant::single("flat", launch)]
}

pub(super) fn cases() -> Vec<Case> {
    let page = |op: Case, updates: usize| {
        let blocks = op.inputs[0].0.shape.numel() / BLOCK;
        let mut case = op
            .with(Type::u32(&[blocks]), Fill::Below(3))
            .with(Type::f32(&[3, 4]), Fill::Range(0.05, 1.0))
            .grads(&[]);
        // The second moment is never negative.
        if updates == 3 {
            case = case.fill(2, Fill::Range(0.0, 1.0));
        }
        case
    };
    let (flat, long): (&[usize], &[usize]) = (&[5 * BLOCK], &[PIECE + 3 * BLOCK]);
    vec![
        page(Case::new(Sgd { momentum: 0.9, nesterov: false }, &[flat; 3]), 2),
        page(Case::new(Sgd { momentum: 0.8, nesterov: true }, &[flat; 3]), 2),
        page(Case::new(AdamW::default(), &[flat; 4]), 3),
        page(Case::new(AdamW::default(), &[long; 4]), 3),
    ]
}
