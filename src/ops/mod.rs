//! One op, one file: geometry, shape rule, gradient rule, kernels, cost, the CPU implementation and
//! the cases that tests and benches run. [`REGISTRY`] has one line an op.

mod activation;
mod add;
mod augment;
mod batch_norm;
mod block;
mod case;
mod concat;
mod conv;
mod cpu;
mod cross_entropy;
mod depthwise;
mod dropout;
mod epilogue;
mod gradients;
mod image;
mod layers;
mod matmul;
mod mul;
mod optimizer;
mod pool;
mod reshape;
mod target_loss;
mod winograd;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytemuck::Pod;

pub(crate) use activation::ActivateGrad;
pub use activation::{Activate, Activation};
pub use add::Add;
pub(crate) use augment::GREY;
pub use augment::{AugmentInput, Draws};
pub(crate) use batch_norm::through_activation;
pub use batch_norm::{Affine, AffineGrad, BatchNorm, BatchNormFold, BatchStats, RunningUpdate, Statistics};
pub use case::{Case, Family, Fill};
pub use concat::{Concat, Slice};
pub(crate) use conv::winograd_instead;
pub use conv::{Conv, Padding, Window};
pub(crate) use cpu::{MULTIPLY_ADDS, multiply_adds};
pub use cross_entropy::{Accuracy, CrossEntropy};
pub use depthwise::Depthwise;
pub use dropout::Dropout;
pub use epilogue::Epilogue;
pub use gradients::{Blend, ClipNorm, SquaredSum};
pub use image::ImageInput;
pub use layers::layers;
pub use matmul::Matmul;
pub use mul::Mul;
pub use optimizer::{AdamW, BLOCK, Optimizer, Sgd};
pub use pool::{AdaptiveAvgPool, AvgPool, MaxPool, PoolWindow};
pub use reshape::Reshape;
pub use target_loss::{Agreement, LossKind, TargetLoss};
pub use winograd::{Winograd, WinogradWeight};

use crate::gpu::{Caps, Kernel};
use crate::tape::{Launch, Op, Tape, ValueId};
use crate::{Error, Result};

/// All op families.
pub static REGISTRY: &[Family] = &[
    Family { name: "activation", cases: activation::cases },
    Family { name: "add", cases: add::cases },
    Family { name: "augment", cases: augment::cases },
    Family { name: "batch_norm", cases: batch_norm::cases },
    Family { name: "concat", cases: concat::cases },
    Family { name: "conv", cases: conv::cases },
    Family { name: "cross_entropy", cases: cross_entropy::cases },
    Family { name: "depthwise", cases: depthwise::cases },
    Family { name: "dropout", cases: dropout::cases },
    Family { name: "gradients", cases: gradients::cases },
    Family { name: "image", cases: image::cases },
    Family { name: "matmul", cases: matmul::cases },
    Family { name: "mul", cases: mul::cases },
    Family { name: "optimizer", cases: optimizer::cases },
    Family { name: "pool", cases: pool::cases },
    Family { name: "reshape", cases: reshape::cases },
    Family { name: "target_loss", cases: target_loss::cases },
    Family { name: "winograd", cases: winograd::cases },
];

/// Records the gradient of the scalar `loss` with respect to every trainable parameter it depends on.
///
/// # Errors
/// As for [`Tape::backward`].
pub fn backward(tape: &mut Tape, loss: ValueId) -> Result<BTreeMap<ValueId, ValueId>> {
    let one = tape.fill(&[1], 1.0);
    backward_from(tape, &[(loss, one)])
}

/// The same from given upstream gradients.
///
/// # Errors
/// As for [`Tape::backward`].
pub fn backward_from(tape: &mut Tape, seeds: &[(ValueId, ValueId)]) -> Result<BTreeMap<ValueId, ValueId>> {
    let add: Arc<dyn Op> = Arc::new(Add::default());
    tape.backward(seeds, &add)
}

/// Workgroup size of every kernel, as `lib/index.wgsl` has it.
pub(crate) const WORKGROUP: u32 = 64;

/// Workgroups of 64 for `threads` threads, folded into two dimensions; see `lib/index.wgsl`, which custom shaders may
/// import, too.
pub fn groups(threads: usize, caps: &Caps) -> [u32; 3] {
    groups_of(WORKGROUP, threads, caps)
}

/// A dispatch of many small threads.
pub(crate) fn launch_threads<P: Pod>(kernel: Kernel, params: &P, threads: usize, caps: &Caps) -> Launch {
    Launch::new(kernel, params, groups(threads, caps))
}

/// A dispatch with few threads that do much work each. Software adapters run a workgroup on one core, so there a
/// workgroup is as small as their vectors, and all cores get some.
pub(crate) fn launch_tiles<P: Pod>(kernel: Kernel, params: &P, threads: usize, caps: &Caps) -> Launch {
    let size = if caps.software { 8 } else { WORKGROUP };
    Launch::new(kernel.with(&[("WORKGROUP", size)]), params, groups_of(size, threads, caps))
}

fn groups_of(workgroup: u32, threads: usize, caps: &Caps) -> [u32; 3] {
    let count = threads.div_ceil(workgroup as usize).max(1);
    let limit = caps.groups_per_dimension as usize;
    let y = count.div_ceil(limit);
    [count.div_ceil(y) as u32, y as u32, 1]
}

/// A shape error that names what was expected.
pub(crate) fn mismatch(message: impl Into<String>) -> Error {
    Error::Shape(message.into())
}

/// Fails unless `condition`.
pub(crate) fn require(condition: bool, message: impl FnOnce() -> String) -> Result<()> {
    if condition { Ok(()) } else { Err(mismatch(message())) }
}

/// Elements that a thread may process at once, the preferred first: four neighbouring channels where every one of
/// `extents` is a multiple of four, and one.
pub(crate) fn lanes(extents: &[usize]) -> &'static [usize] {
    if extents.iter().all(|n| n.is_multiple_of(4)) { &[4, 1] } else { &[1] }
}

/// `Word` knob of the variant that processes `lanes` elements a thread.
pub(crate) fn word(lanes: usize) -> &'static str {
    if lanes == 4 { "vec4<u32>" } else { "u32" }
}

/// Name and `Elem` knob of the variant that processes `lanes` elements a thread.
pub(crate) fn elem(lanes: usize) -> (&'static str, &'static str) {
    if lanes == 4 { ("vec4", "vec4<f32>") } else { ("scalar", "f32") }
}
