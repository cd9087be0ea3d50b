//! Matrix product with the last dimension of an activation: linear layers and 1x1 convolutions.
//!
//! `y[.., n] = sum_k x[.., k] w[k, n]`, then the epilogue. Its gradients are two further products:
//! `dx = dy w^T` and `dw = x^T dy`; the bias's is the sum of dy over rows.
//! The weight may be split by rows over several bindings: forward then adds part by part.

use bytemuck::{Pod, Zeroable};

use super::block::Tiles;
use super::cpu::sums::{banded, strips};
use super::cpu::{Grid, Job, Weights, correlate, weigh, weigh_scratch};
use super::{Case, Epilogue, Fill, groups, launch_threads, launch_tiles, require};
use crate::Result;
use crate::gpu::{Caps, Kernel, Source};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// `y = epilogue(x w)`; inputs x `[.., K]`, w `[K, N]`, then the epilogue's. Output `[.., N]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Matmul {
    /// Bias, folded norm, residual and activation.
    pub epilogue: Epilogue,
}

/// dx from dy, w.
#[derive(Debug, Clone, Copy)]
struct MatmulGradInput;

/// dw from x, dy.
#[derive(Debug, Clone, Copy)]
struct MatmulGradWeight;

/// Sum over all dimensions but the last: the gradient of a bias.
#[derive(Debug, Clone, Copy)]
pub(super) struct SumRows;

/// `Params` of `shaders/matmul/{tile,plain}*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    depth: u32,
    columns: u32,
    depth_offset: u32,
    depth_stride: u32,
}

/// `Params` of `shaders/matmul/tile_grad_weight.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct SplitParams {
    rows: u32,
    depth: u32,
    columns: u32,
    depth_offset: u32,
    depth_stride: u32,
    split_rows: u32,
    splits: u32,
}

/// `Params` of `shaders/matmul/reduce.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct ReduceParams {
    elements: u32,
    splits: u32,
}

/// `Params` of `shaders/matmul/sum_rows.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct SumParams {
    rows: u32,
    columns: u32,
    split_rows: u32,
    splits: u32,
}

/// Rows and depth of x, columns of w.
fn sizes(x: &[usize], w: &[usize]) -> (usize, usize, usize) {
    let depth = x.last().copied().unwrap_or(1);
    (x.iter().product::<usize>() / depth.max(1), depth, w[1])
}

/// Number of splits, and of rows in each (a multiple of `align`), that give the device enough threads, where a single
/// pass would have `threads` and the result has `bytes`: at least 256 rows a split, at most 64 splits, partial sums
/// within one binding.
pub(super) fn split_rows(
    rows: usize,
    threads: usize,
    bytes: u64,
    align: usize,
    caps: &Caps,
) -> (usize, usize) {
    let wanted = if caps.software { 256 } else { 1 << 15 };
    let room = (caps.max_binding / bytes.max(1)).max(1) as usize;
    let splits = (wanted / threads.max(1)).min(rows / 256).min(64).min(room).max(1);
    let each = rows.div_ceil(splits).next_multiple_of(align);
    (rows.div_ceil(each).max(1), each)
}

/// The launch that adds `splits` partial results in scratch 0 into `output`.
pub(super) fn reduce(elements: usize, splits: usize, output: Operand, caps: &Caps) -> Launch {
    let kernel = Kernel::new(shader!("matmul/reduce.wgsl"), "reduce");
    let params = ReduceParams { elements: elements as u32, splits: splits as u32 };
    Launch::new(kernel, &params, groups(elements, caps)).read(Operand::Scratch(0)).write(output)
}

/// A kernel that writes `splits` contiguous partial results, and the pass that adds them; with one split the kernel
/// writes the output itself. `first` is the launch without its written binding.
pub(super) fn with_splits(
    name: &'static str,
    first: Launch,
    output: Operand,
    elements: usize,
    splits: usize,
    caps: &Caps,
) -> Variant {
    if splits == 1 {
        return Variant::single(name, first.write(output));
    }
    let launches = vec![first.write(Operand::Scratch(0)), reduce(elements, splits, output, caps)];
    Variant { name, launches, scratch: vec![(splits * elements * 4) as u64] }
}

/// The gradient rule of a product of x and a weight, optionally with a bias: `ops` gives the gradients' ops for the
/// shapes of x and the weight.
pub(super) fn product_grads<X: Op + 'static, W: Op + 'static>(
    tape: &mut Tape,
    epilogue: &Epilogue,
    (inputs, upstream, needs): (&[ValueId], &[Option<ValueId>], &[bool]),
    ops: impl FnOnce(Shape, Shape) -> (X, W),
) -> Result<GradRule> {
    let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
    require(epilogue.is_plain(), || "a fused product has no gradient".into())?;
    let (grad_x, grad_w) = ops(tape.shape(inputs[0]).clone(), tape.shape(inputs[1]).clone());
    let mut rule = vec![None; inputs.len()];
    if needs[0] {
        rule[0] = Some(tape.apply(grad_x, &[grad_y, inputs[1]])?);
    }
    if needs[1] {
        rule[1] = Some(tape.apply(grad_w, &[inputs[0], grad_y])?);
    }
    if epilogue.bias && needs[2] {
        rule[2] = Some(tape.apply(SumRows, &[grad_y])?);
    }
    Ok(rule)
}

impl Matmul {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (rows, depth, columns) = sizes(call.io.input(0), call.io.input(1));
        let weights = Weights { data: call.real(1), offset: 0, tap: 0, row: columns, column: 1, columns };
        let (grid, jobs) = (Grid::rows(rows, depth, columns), [(Job::pointwise(depth), weights)]);
        let epilogue = self.epilogue.operands_of(2, call);
        correlate(call, &grid, &jobs, &epilogue);
    }

    /// One launch a part of the weight.
    fn variant(
        &self,
        io: &Io<'_>,
        name: &'static str,
        source: &'static Source,
        launch: impl Fn(Kernel, &Params) -> Launch,
    ) -> Variant {
        let (rows, depth, columns) = sizes(io.input(0), io.input(1));
        let parts = &io.inputs[1].parts;
        let one = |(number, part): (usize, &std::ops::Range<usize>)| {
            let last = number + 1 == parts.len();
            let epilogue = if last { self.epilogue } else { Epilogue::default() };
            let kernel = Kernel::new(source, "forward")
                .with(&epilogue.constants())
                .with(&[("ACCUMULATE", (number > 0).into())]);
            let params = Params {
                rows: rows as u32,
                depth: part.len() as u32,
                columns: columns as u32,
                depth_offset: part.start as u32,
                depth_stride: depth as u32,
            };
            let launch = launch(kernel, &params).inputs([0]).read(Operand::Input(1, number));
            epilogue.bind(2, launch).output(0)
        };
        let launches = parts.iter().enumerate().map(one).collect();
        Variant { name, launches, scratch: Vec::new() }
    }
}

/// Whether depth, columns and every part allow vec4 loads.
fn quads(depth: usize, columns: usize, parts: &[std::ops::Range<usize>]) -> bool {
    depth.is_multiple_of(4)
        && columns.is_multiple_of(4)
        && parts.iter().all(|p| p.start % 4 == 0 && p.len() % 4 == 0)
}

impl Op for Matmul {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "matmul.forward"
    }

    fn attributes(&self) -> String {
        self.epilogue.describe().trim().into()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let (x, w) = (&inputs[0].shape, &inputs[1].shape);
        require(w.len() == 2 && x.channels() == w[0], || {
            format!("x {x} and the weight {w} do not fit: the weight must be [{}, columns]", x.channels())
        })?;
        let mut y = x.clone();
        if let Some(last) = y.0.last_mut() {
            *last = w[1];
        }
        self.epilogue.check(2, inputs, &y)?;
        Ok(vec![Type::f32(&y)])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        product_grads(tape, &self.epilogue, (inputs, upstream, needs), |_, _| {
            (MatmulGradInput, MatmulGradWeight)
        })
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        Some(Box::new(Matmul { epilogue: self.epilogue.absorb(consumer)? }))
    }

    fn splittable(&self, operand: usize) -> bool {
        operand == 1
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (rows, depth, columns) = sizes(io.input(0), io.input(1));
        let mut all = Vec::new();
        if quads(depth, columns, &io.inputs[1].parts) {
            for tiles in Tiles::of(rows, columns, depth, caps) {
                let launch = |kernel, params: &Params| tiles.launch(kernel, params, 1, caps);
                all.push(self.variant(io, tiles.name, shader!("matmul/block.wgsl"), launch));
            }
            let tiles = rows.div_ceil(8) * columns.div_ceil(16);
            let launch = |kernel, params: &Params| launch_tiles(kernel, params, tiles, caps);
            all.push(self.variant(io, "tile", shader!("matmul/tile.wgsl"), launch));
        }
        let launch = |kernel, params: &Params| launch_threads(kernel, params, rows * columns, caps);
        all.push(self.variant(io, "plain", shader!("matmul/plain.wgsl"), launch));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let (rows, depth, columns) = sizes(io.input(0), io.input(1));
        Cost::streaming(io, 2.0 * (rows * depth * columns) as f64)
    }
}

impl MatmulGradInput {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [depth, columns] = [call.io.input(1)[0], call.io.input(1)[1]];
        let weights =
            Weights { data: call.real(1), offset: 0, tap: 0, row: 1, column: columns, columns: depth };
        let grid = Grid::rows(call.io.input(0).rows(), columns, depth);
        let jobs = [(Job::pointwise(columns), weights)];
        let epilogue = Epilogue::default().operands_of(2, call);
        correlate(call, &grid, &jobs, &epilogue);
    }
}

impl Op for MatmulGradInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "matmul.grad_input"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let (grad_y, w) = (&inputs[0].shape, &inputs[1].shape);
        require(w.len() == 2 && grad_y.channels() == w[1], || format!("dy {grad_y} and the weight {w}"))?;
        let mut x = grad_y.clone();
        if let Some(last) = x.0.last_mut() {
            *last = w[0];
        }
        Ok(vec![Type::f32(&x)])
    }

    fn splittable(&self, operand: usize) -> bool {
        operand == 1
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let [depth, columns] = [io.input(1)[0], io.input(1)[1]];
        let rows = io.input(0).rows();
        let parts = &io.inputs[1].parts;
        let variant = |name, source, launch: &dyn Fn(Kernel, &Params) -> Launch| {
            let one = |(number, part): (usize, &std::ops::Range<usize>)| {
                let params = Params {
                    rows: rows as u32,
                    depth: part.len() as u32,
                    columns: columns as u32,
                    depth_offset: part.start as u32,
                    depth_stride: depth as u32,
                };
                let launch = launch(Kernel::new(source, "grad_input"), &params);
                launch.inputs([0]).read(Operand::Input(1, number)).output(0)
            };
            Variant { name, launches: parts.iter().enumerate().map(one).collect(), scratch: Vec::new() }
        };
        let mut all = Vec::new();
        if quads(depth, columns, parts) {
            let largest = parts.iter().map(std::ops::Range::len).max().unwrap_or(depth);
            for tiles in Tiles::of(rows, largest, columns, caps) {
                let launch = |kernel, params: &Params| tiles.launch(kernel, params, 1, caps);
                all.push(variant(tiles.name, shader!("matmul/block_grad_input.wgsl"), &launch));
            }
            let launch = |kernel, params: &Params| {
                launch_tiles(kernel, params, rows.div_ceil(8) * params.depth.div_ceil(16) as usize, caps)
            };
            all.push(variant("tile", shader!("matmul/tile_grad_input.wgsl"), &launch));
        }
        let launch =
            |kernel, params: &Params| launch_threads(kernel, params, rows * params.depth as usize, caps);
        all.push(variant("plain", shader!("matmul/plain_grad.wgsl"), &launch));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * (io.input(0).rows() * io.input(1).numel()) as f64)
    }
}

impl MatmulGradWeight {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [depth, columns] = [call.io.output(0)[0], call.io.output(0)[1]];
        let grid = Grid::rows(call.io.input(0).rows(), depth, columns);
        let job = Job::pointwise(depth);
        let scratch = call.scratch(weigh_scratch::<T>(&grid, &job, columns));
        weigh(call.real(0), call.real(1), &grid, &job, columns, scratch, call.output(0));
    }
}

impl Op for MatmulGradWeight {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "matmul.grad_weight"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let (x, grad_y) = (&inputs[0].shape, &inputs[1].shape);
        require(x.rows() == grad_y.rows(), || format!("x {x} and dy {grad_y} differ in rows"))?;
        Ok(vec![Type::f32(&[x.channels(), grad_y.channels()])])
    }

    fn splittable(&self, operand: usize) -> bool {
        operand == 2
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let rows = io.input(0).rows();
        let [stride, columns] = [io.output(0)[0], io.output(0)[1]];
        let parts = &io.outputs[0].parts;
        let mut all = Vec::new();
        // `tiles` in all; `launch` knows how many a part has.
        let split = |name, source, tiles, launch: &dyn Fn(Kernel, &SplitParams) -> Launch| {
            let whole = io.outputs[0].ty.bytes();
            // A weight that is split over bindings has enough tiles.
            let (splits, split_rows) = if parts.len() > 1 {
                (1, rows.next_multiple_of(4))
            } else {
                split_rows(rows, tiles, whole, 4, caps)
            };
            let mut variant = Variant { name, launches: Vec::new(), scratch: Vec::new() };
            for (number, part) in parts.iter().enumerate() {
                let params = SplitParams {
                    rows: rows as u32,
                    depth: part.len() as u32,
                    columns: columns as u32,
                    depth_offset: part.start as u32,
                    depth_stride: stride as u32,
                    split_rows: split_rows as u32,
                    splits: splits as u32,
                };
                let first = launch(Kernel::new(source, "grad_weight"), &params).inputs([0, 1]);
                let output = Operand::Output(0, number);
                let one = with_splits(name, first, output, part.len() * columns, splits, caps);
                variant.launches.extend(one.launches);
                variant.scratch.extend(one.scratch);
            }
            variant
        };
        if quads(stride, columns, parts) {
            let largest = parts.iter().map(std::ops::Range::len).max().unwrap_or(stride);
            for tiles in Tiles::of(largest, columns, rows, caps) {
                let source = shader!("matmul/block_grad_weight.wgsl");
                let launch =
                    |kernel, params: &SplitParams| tiles.launch(kernel, params, params.splits as usize, caps);
                all.push(split(tiles.name, source, tiles.count(), &launch));
            }
            let launch = |kernel, params: &SplitParams| {
                let tiles = params.depth.div_ceil(8) * params.columns.div_ceil(16) * params.splits;
                launch_tiles(kernel, params, tiles as usize, caps)
            };
            let tiles = stride.div_ceil(8) * columns.div_ceil(16);
            all.push(split("tile", shader!("matmul/tile_grad_weight.wgsl"), tiles, &launch));
        }
        let plain = |(number, part): (usize, &std::ops::Range<usize>)| {
            let params = Params {
                rows: rows as u32,
                depth: part.len() as u32,
                columns: columns as u32,
                depth_offset: part.start as u32,
                depth_stride: stride as u32,
            };
            let kernel = Kernel::new(shader!("matmul/plain_grad.wgsl"), "grad_weight");
            let launch = Launch::new(kernel, &params, groups(part.len() * columns, caps));
            launch.inputs([0, 1]).write(Operand::Output(0, number))
        };
        let launches = parts.iter().enumerate().map(plain).collect();
        all.push(Variant { name: "plain", launches, scratch: Vec::new() });
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * (io.input(0).rows() * io.output(0).numel()) as f64)
    }
}

impl SumRows {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, columns) = (call.real(0), call.io.output(0).numel());
        banded(
            call,
            x.len() / columns.max(1),
            256,
            #[inline(always)]
            |_, band, sums| {
                // Few enough rows at a time to stay in the cache from strip to strip.
                for rows in x[band.start * columns..band.end * columns].chunks(16 * columns) {
                    strips!([64, 16, 8, 1], columns, |c, N| {
                        let mut sum = [T::zero(); N];
                        for row in rows.chunks_exact(columns) {
                            let row = &row[c..][..N];
                            for i in 0..N {
                                sum[i] += row[i];
                            }
                        }
                        for i in 0..N {
                            sums[c + i] += sum[i];
                        }
                    });
                }
            },
        );
    }
}

impl Op for SumRows {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "matmul.sum_rows"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![Type::f32(&[inputs[0].shape.channels()])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (rows, columns) = (io.input(0).rows(), io.input(0).channels());
        let (splits, split_rows) = split_rows(rows, columns, columns as u64 * 4, 1, caps);
        let params = SumParams {
            rows: rows as u32,
            columns: columns as u32,
            split_rows: split_rows as u32,
            splits: splits as u32,
        };
        let kernel = Kernel::new(shader!("matmul/sum_rows.wgsl"), "sum_rows");
        let first = Launch::new(kernel, &params, groups(columns * splits, caps)).inputs([0]);
        vec![with_splits("split", first, Operand::Output(0, 0), columns, splits, caps)]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.input(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let bias = Matmul { epilogue: Epilogue::bias() };
    let full = Matmul {
        epilogue: Epilogue { bias: true, affine: true, residual: true, activation: super::Activation::Relu6 },
    };
    vec![
        Case::new(Matmul::default(), &[&[1, 5], &[5, 3]]),
        Case::new(Matmul::default(), &[&[3, 7, 5, 8], &[8, 12]]),
        Case::new(Matmul::default(), &[&[3, 20], &[20, 36]]),
        Case::new(bias, &[&[3, 17], &[17, 10], &[10]]),
        Case::new(bias, &[&[9, 24], &[24, 20], &[20]]),
        // Large enough for workgroup tiles, with partial ones at the edges, and for a split sum of them.
        Case::new(Matmul::default(), &[&[2, 70, 36], &[36, 136]]),
        Case::new(bias, &[&[3, 181, 44], &[44, 40], &[40]]),
        // Enough rows for the split sum.
        Case::new(bias, &[&[3, 19, 23, 12], &[12, 8], &[8]]),
        Case::new(full, &[&[3, 5, 3, 8], &[8, 20], &[20], &[2, 20], &[3, 5, 3, 20]]).grads(&[]),
        Case::new(full, &[&[3, 6], &[6, 7], &[7], &[2, 7], &[3, 7]]).grads(&[]),
        Case::new(Matmul::default(), &[&[2, 4], &[4, 4]]).fill(0, Fill::Range(-2.0, 2.0)),
    ]
}
