//! Batch norm over the last dimension: statistics, normalisation, its gradients, the running update, and the affine
//! form of a frozen norm. "Rows" are all dimensions except the last.

mod affine;
mod grad;
mod norm;
mod normalize;
mod rows;
mod stats;

pub use affine::{Affine, AffineGrad, BatchNormFold};
pub use norm::Statistics;
pub use normalize::BatchNorm;
pub(crate) use normalize::through_activation;
pub use stats::{BatchStats, RunningUpdate};

use super::{Activation, Case, Epilogue, Fill, elem, lanes, require};
use crate::Result;
use crate::gpu::Caps;
use crate::tape::{DType, Io, Operand, Type};

/// Rows of one thread of the elementwise kernels: the thread loads a channel's numbers once for all its rows.
const ROWS: usize = 4;

/// Type of an activation with channels: floats, rank at least 2. Returns its channels.
fn channels(x: &Type) -> Result<usize> {
    require(x.dtype == DType::F32 && x.shape.len() >= 2, || format!("expected [.., channels], found {x}"))?;
    require(x.shape.numel() > 0, || format!("{x} is empty"))?;
    Ok(x.shape.channels())
}

/// Checks that `inputs` are floats, one a channel each.
fn per_channel(inputs: &[(&str, &Type)], channels: usize) -> Result<()> {
    inputs.iter().try_for_each(|(name, ty)| {
        require(**ty == Type::f32(&[channels]), || format!("{name} must have shape [{channels}], found {ty}"))
    })
}

/// Checks how many operands there are.
fn arity(inputs: &[&Type], count: usize) -> Result<()> {
    require(inputs.len() == count, || format!("expected {count} operands, found {}", inputs.len()))
}

/// Output `i`, or an unused binding where it is not read, and whether it is stored.
fn stored(io: &Io<'_>, i: usize) -> (Operand, u32) {
    if io.outputs[i].used { (Operand::Output(i, 0), 1) } else { (Operand::Unused, 0) }
}

/// The partition of rows for a two-pass reduction, and the form of the second pass.
#[derive(Clone, Copy)]
struct Reduction {
    lanes: usize,
    rows: usize,
    /// Number of groups of `lanes` channels.
    groups: usize,
    chunks: usize,
    chunk_rows: usize,
    /// Whether one workgroup merges a channel group, instead of one thread.
    tree: bool,
}

impl Reduction {
    /// The ways to reduce `rows` rows of `channels`: the tree first on GPUs; on software adapters,
    /// where barriers are slow, the plain merge first.
    fn all(rows: usize, channels: usize, caps: &Caps) -> Vec<Self> {
        let mut all = Vec::new();
        for &lanes in lanes(&[channels]) {
            let groups = channels / lanes;
            // Enough threads to fill the device, chunks of 16 rows or more, and few enough partials that the second
            // pass stays small.
            let threads = if caps.software { 1 << 10 } else { 1 << 16 };
            let wanted = (threads / groups).clamp(1, 1024).min(rows.div_ceil(16));
            let chunk_rows = rows.div_ceil(wanted);
            let chunks = rows.div_ceil(chunk_rows);
            for tree in [true, false] {
                all.push(Reduction { lanes, rows, groups, chunks, chunk_rows, tree });
            }
        }
        if caps.software && all.len() == 2 {
            all.remove(0);
        } else if caps.software {
            all.swap(0, 1);
        }
        all
    }

    fn name(&self) -> &'static str {
        match (self.lanes, self.tree) {
            (4, true) => "vec4_tree",
            (4, false) => "vec4",
            (_, true) => "scalar_tree",
            (_, false) => "scalar",
        }
    }

    /// Entry point of the second pass.
    fn entry(&self) -> &'static str {
        if self.tree { "tree" } else { "plain" }
    }

    fn knob(&self) -> &'static str {
        elem(self.lanes).1
    }

    /// Workgroups of the first pass.
    fn first(&self, caps: &Caps) -> [u32; 3] {
        super::groups(self.groups * self.chunks, caps)
    }

    /// Workgroups of the second.
    fn second(&self, caps: &Caps) -> [u32; 3] {
        let threads = if self.tree { super::WORKGROUP as usize } else { 1 };
        super::groups(self.groups * threads, caps)
    }

    /// Bytes of the partial results: two numbers a channel and chunk.
    fn scratch(&self) -> u64 {
        (self.chunks * 2 * self.groups * self.lanes * 4) as u64
    }
}

pub(super) fn cases() -> Vec<Case> {
    let positive = Fill::Range(0.25, 2.0);
    let relu = Epilogue { activation: Activation::Relu, ..Epilogue::default() };
    let residual = Epilogue { residual: true, activation: Activation::Relu6, ..Epilogue::default() };
    let mut all = Vec::new();
    for shape in [&[1, 7, 5, 8][..], &[3, 5, 5, 6], &[33, 12], &[5, 3], &[1, 9, 130, 4], &[8400, 5]] {
        let c = [*shape.last().unwrap_or(&1)];
        all.push(Case::new(BatchStats, &[shape]).grads(&[]));
        // The mean is 300 deviations away: naive sums would lose the variance.
        all.push(Case::new(BatchStats, &[shape]).fill(0, Fill::Range(299.0, 301.0)).grads(&[]));
        let norm = |statistics, epilogue: Epilogue| {
            let op = BatchNorm { eps: 1e-5, statistics, epilogue };
            let mut shapes = vec![shape, &c, &c, &c, &c];
            shapes.extend(epilogue.residual.then_some(shape));
            Case::new(op, &shapes).fill(2, positive)
        };
        all.push(norm(Statistics::Batch, Epilogue::default()).grads(&[0, 3, 4]));
        all.push(norm(Statistics::Running, Epilogue::default()).grads(&[0, 3, 4]));
        all.push(norm(Statistics::Batch, relu).grads(&[0, 3, 4]));
        all.push(norm(Statistics::Running, residual).grads(&[]));
        all.push(Case::new(BatchNormFold { eps: 1e-3 }, &[&c, &c, &c, &c]).fill(3, positive).grads(&[]));
        if shape.len() == 4 {
            // Wide enough to reach both kinks of every activation.
            let followed_by = |activation| {
                let epilogue = Epilogue { activation, ..Epilogue::default() };
                [Statistics::Batch, Statistics::Running]
                    .map(|s| norm(s, epilogue).fill(3, Fill::Range(3.0, 6.0)).grads(&[0, 3, 4]))
            };
            all.extend(Activation::ALL.into_iter().flat_map(followed_by));
        }
        let affine = [2, c[0]];
        all.push(Case::new(Affine::default(), &[shape, &affine]).grads(&[0]));
        all.push(Case::new(Affine { epilogue: relu }, &[shape, &affine]).grads(&[]));
        all.push(Case::new(Affine { epilogue: residual }, &[shape, &affine, shape]).grads(&[]));
        let update = RunningUpdate { momentum: 0.1, rows: shape.iter().product::<usize>() / c[0] };
        all.push(Case::new(update, &[&c, &c, &c, &c]).fill(1, positive).fill(3, positive).grads(&[]));
    }
    all
}
