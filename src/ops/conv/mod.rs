//! Convolution over NHWC activations, with any stride, dilation, groups and padding per side.
//!
//! `y[n, oh, ow, co] = sum over kh, kw, ci of x[n, oh s - p + kh d, ow s - p + kw d, ci] w[kh, kw, ci, co]`,
//! then the epilogue. Weights are HWIO: `[kernel_h, kernel_w, in_channels / groups, out_channels]`.
//! All three passes are implicit matrix products: no patch matrix is ever stored.

mod instead;
mod window;

pub(crate) use instead::winograd_instead;
pub(super) use window::Params;
pub use window::{Padding, Window};

use super::block::Tiles;
use super::cpu::{
    Grid, Job, Tap, Weights, correlate, weigh, weigh_scratch, winograd_scratch, winograd_weigh,
};
use super::matmul::{product_grads, split_rows, with_splits};
use super::winograd;
use super::{Activation, Case, Epilogue, launch_threads, launch_tiles, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// Inputs x `[N, H, W, C]`, w `[kh, kw, C / groups, O]`, then the epilogue's. Output `[N, OH, OW, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// Number of groups of channels; groups are independent.
    pub groups: usize,
    /// Bias, folded norm, residual and activation.
    pub epilogue: Epilogue,
}

/// dx from dy, w.
#[derive(Debug, Clone)]
struct ConvGradInput {
    window: Window,
    groups: usize,
    input: Shape,
}

/// dw from x, dy.
#[derive(Debug, Clone)]
struct ConvGradWeight {
    window: Window,
    groups: usize,
    weight: Shape,
}

/// Whether the tiled kernels support this convolution, and whether with vec4 loads of the input.
fn tiled(groups: usize, in_channels: usize, out_channels: usize) -> Option<bool> {
    (groups == 1 && out_channels.is_multiple_of(4)).then_some(in_channels.is_multiple_of(4))
}

fn flops(window: &Window, groups: usize, x: &Shape, y: &Shape) -> f64 {
    2.0 * (y.numel() * window.kernel[0] * window.kernel[1] * x[3] / groups) as f64
}

fn describe(window: &Window, groups: usize) -> String {
    if groups == 1 { window.describe() } else { format!("{} g{groups}", window.describe()) }
}

/// The products of a forward pass: one a group, over all taps.
fn forward<'a, T>(conv: &Conv, x: &Shape, w: &'a [T], y: &Shape) -> (Grid, Vec<(Job, Weights<'a, T>)>) {
    let (window, groups) = (&conv.window, conv.groups);
    let (depth, width) = (x[3] / groups, y[3] / groups);
    let taps: Vec<Tap> = window
        .taps()
        .map(|[h, w]| Tap {
            number: h * window.kernel[1] + w,
            row: (h * window.dilation[0]) as isize - window.padding.top as isize,
            column: (w * window.dilation[1]) as isize - window.padding.left as isize,
        })
        .collect();
    let job = |group: usize| {
        let (first, column) = (group * depth, group * width);
        let weights =
            Weights { data: w, offset: column, tap: depth * y[3], row: y[3], column: 1, columns: width };
        (Job { origin: [0, 0], taps: taps.clone(), first, depth, column }, weights)
    };
    let grid = match window.is_pointwise() {
        true => Grid::rows(x.rows(), x[3], y[3]),
        false => Grid {
            images: x[0],
            source: [x[1], x[2], x[3]],
            target: [y[1], y[2], y[3]],
            step: window.stride,
            spread: [1, 1],
        },
    };
    (grid, (0..groups).map(job).collect())
}

impl Conv {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grid, jobs) = forward(self, call.io.input(0), call.real(1), call.io.output(0));
        let epilogue = self.epilogue.operands_of(2, call);
        correlate(call, &grid, &jobs, &epilogue);
    }
}

impl Op for Conv {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "conv.forward"
    }

    fn attributes(&self) -> String {
        describe(&self.window, self.groups) + &self.epilogue.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [n, h, width, c] = inputs[0].shape.nhwc()?;
        let w = &inputs[1].shape;
        let [kh, kw] = self.window.kernel;
        require(self.groups > 0 && c % self.groups == 0, || {
            format!("{c} channels do not divide into {} groups", self.groups)
        })?;
        require(
            w.len() == 4 && w[..3] == [kh, kw, c / self.groups] && w[3].is_multiple_of(self.groups),
            || format!("the weight must be [{kh}, {kw}, {}, out_channels], found {w}", c / self.groups),
        )?;
        let [oh, ow] = self.window.output(h, width)?;
        let y = Type::f32(&[n, oh, ow, w[3]]);
        self.epilogue.check(2, inputs, &y.shape)?;
        Ok(vec![y])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let (window, groups) = (self.window, self.groups);
        product_grads(tape, &self.epilogue, (inputs, upstream, needs), |input, weight| {
            (ConvGradInput { window, groups, input }, ConvGradWeight { window, groups, weight })
        })
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        Some(Box::new(Conv { epilogue: self.epilogue.absorb(consumer)?, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let params = Params::new(&self.window, self.groups, x, y);
        let kernel = |source| {
            let kernel = Kernel::new(source, "forward").with(&self.window.constants());
            kernel.with(&self.epilogue.constants())
        };
        let variant = |name, launch: Launch| {
            Variant::single(name, self.epilogue.bind(2, launch.inputs([0, 1])).output(0))
        };
        let by_place = [("BY_PLACE", self.window.by_place(x, y).into())];
        let tile = |name, kernel, tiles| variant(name, launch_tiles(kernel, &params, tiles, caps));
        let tiles = y.rows().div_ceil(8) * y[3].div_ceil(16);
        let mut all = Vec::new();
        if let Some(quads) = tiled(self.groups, x[3], y[3]) {
            if quads {
                let depth = self.window.taps().count() * x[3];
                for tiles in Tiles::of(y.rows(), y[3], depth, caps) {
                    let launch = tiles.launch(kernel(shader!("conv/block.wgsl")), &params, 1, caps);
                    all.push(variant(tiles.name, launch));
                }
                all.push(tile("tile", kernel(shader!("conv/tile.wgsl")).with(&by_place), tiles));
            }
            all.push(tile("tile_any", kernel(shader!("conv/tile_any.wgsl")), tiles));
        }
        let plain = launch_threads(kernel(shader!("conv/plain.wgsl")), &params, y.numel(), caps);
        all.push(variant("plain", plain));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, self.groups, io.input(0), io.output(0)))
    }
}

impl ConvGradInput {
    /// A pixel of dx sums over the windows that cover it. With a stride, pixels of equal remainder (a phase) see the
    /// same taps, and each phase is a product with stride 1: `oh = (ih + top - tap_h dilation) / stride`, where that
    /// divides.
    fn jobs<'a, T>(&self, w: &'a [T], y: &Shape) -> (Grid, Vec<(Job, Weights<'a, T>)>) {
        let (window, x) = (&self.window, &self.input);
        let (depth, width) = (x[3] / self.groups, y[3] / self.groups);
        let [sh, sw] = window.stride.map(|s| s as isize);
        let mut jobs = Vec::new();
        for (a, b) in (0..sh).flat_map(|a| (0..sw).map(move |b| (a, b))) {
            let covers = |[h, w]: [usize; 2]| {
                let row = a + window.padding.top as isize - (h * window.dilation[0]) as isize;
                let column = b + window.padding.left as isize - (w * window.dilation[1]) as isize;
                let number = h * window.kernel[1] + w;
                (row % sh == 0 && column % sw == 0).then_some(Tap {
                    number,
                    row: row / sh,
                    column: column / sw,
                })
            };
            let mut taps: Vec<Tap> = window.taps().filter_map(covers).collect();
            taps.sort_by_key(|tap| (tap.row, tap.column));
            for group in 0..self.groups {
                let (first, column) = (group * width, group * depth);
                let origin = [a as usize, b as usize];
                let job = Job { origin, taps: taps.clone(), first, depth: width, column };
                let (tap, column) = (depth * y[3], y[3]);
                jobs.push((job, Weights { data: w, offset: first, tap, row: 1, column, columns: depth }));
            }
        }
        let grid = match window.is_pointwise() {
            true => Grid::rows(x.rows(), y[3], x[3]),
            false => Grid {
                images: x[0],
                source: [y[1], y[2], y[3]],
                target: [x[1], x[2], x[3]],
                step: [1, 1],
                spread: window.stride,
            },
        };
        (grid, jobs)
    }

    /// The taps over the pixels of a phase, as `shaders/conv/block_grad_input.wgsl` counts them: along an axis, those
    /// where `phase + padding - tap dilation` is divisible by the stride.
    fn taps_of(&self, [a, b]: [usize; 2]) -> [(&'static str, u32); 8] {
        let Window { kernel, stride, padding, dilation } = self.window;
        let along = |axis: usize, at: usize| {
            let covers = |&tap: &usize| at % stride[axis] == tap * dilation[axis] % stride[axis];
            let taps: Vec<usize> = (0..kernel[axis]).filter(covers).collect();
            let step = if taps.len() > 1 { taps[1] - taps[0] } else { 1 };
            [taps.first().copied().unwrap_or(0), step, taps.len()].map(|n| n as u32)
        };
        let [first_h, step_h, taps_h] = along(0, a + padding.top);
        let [first_w, step_w, taps_w] = along(1, b + padding.left);
        [
            ("PHASE_H", a as u32),
            ("PHASE_W", b as u32),
            ("FIRST_H", first_h),
            ("STEP_H", step_h),
            ("TAPS_H", taps_h),
            ("FIRST_W", first_w),
            ("STEP_W", step_w),
            ("TAPS_W", taps_w),
        ]
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grid, jobs) = self.jobs(call.real(1), call.io.input(0));
        let epilogue = Epilogue::default().operands_of(2, call);
        correlate(call, &grid, &jobs, &epilogue);
    }
}

impl Op for ConvGradInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "conv.grad_input"
    }

    fn attributes(&self) -> String {
        describe(&self.window, self.groups)
    }

    fn infer(&self, _inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (y, x) = (io.input(0), &self.input);
        let params = Params::new(&self.window, self.groups, x, y);
        let kernel = |source| Kernel::new(source, "grad_input").with(&self.window.constants());
        let mut all = Vec::new();
        if tiled(self.groups, x[3], y[3]) == Some(true) {
            let [sh, sw] = self.window.stride;
            // The pixels of a phase, where there are any.
            let phases = (0..sh.min(x[1])).flat_map(|a| (0..sw.min(x[2])).map(move |b| [a, b]));
            let rows_of = |[a, b]: [usize; 2]| x[0] * (x[1] - a).div_ceil(sh) * (x[2] - b).div_ceil(sw);
            let depth = self.window.taps().count() * y[3] / (sh * sw);
            for tiles in Tiles::of(rows_of([0, 0]), x[3], depth, caps) {
                let launch = |phase: [usize; 2]| {
                    let kernel = kernel(shader!("conv/block_grad_input.wgsl")).with(&self.taps_of(phase));
                    let tiles = tiles.over(rows_of(phase), x[3]);
                    tiles.launch(kernel, &params, 1, caps).inputs([0, 1]).output(0)
                };
                let launches = phases.clone().map(launch).collect();
                all.push(Variant { name: tiles.name, launches, scratch: Vec::new() });
            }
            let launch = |[a, b]: [usize; 2]| {
                let rows = rows_of([a, b]);
                let tiles = rows.div_ceil(8) * x[3].div_ceil(16);
                let by_place = self.window.by_place(x, y).into();
                let phase = [("PHASE_H", a as u32), ("PHASE_W", b as u32), ("BY_PLACE", by_place)];
                let kernel = kernel(shader!("conv/tile_grad_input.wgsl")).with(&phase);
                launch_tiles(kernel, &params, tiles, caps).inputs([0, 1]).output(0)
            };
            all.push(Variant { name: "tile", launches: phases.map(launch).collect(), scratch: Vec::new() });
        }
        let plain = launch_threads(kernel(shader!("conv/plain_grad.wgsl")), &params, x.numel(), caps);
        all.push(Variant::single("plain", plain.inputs([0, 1]).output(0)));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, self.groups, &self.input, io.input(0)))
    }
}

impl ConvGradWeight {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let conv = Conv { window: self.window, groups: self.groups, epilogue: Epilogue::default() };
        let (x, y) = (call.io.input(0), call.io.input(1));
        if winograd::suits(&self.window, self.groups, x[3], y[3]) && y.rows() >= winograd::ROWS {
            let tiles = winograd::tiles(&self.window.padding, x, y);
            let scratch = call.scratch(winograd_scratch(&tiles));
            return winograd_weigh(call.real(0), call.real(1), &tiles, scratch, call.output(0));
        }
        let (grid, jobs) = forward::<T>(&conv, x, &[], y);
        let columns = y[3] / self.groups;
        let scratch = call.scratch(weigh_scratch::<T>(&grid, &jobs[0].0, columns));
        let dw = call.output(0);
        for (job, _) in &jobs {
            weigh(call.real(0), call.real(1), &grid, job, columns, scratch, dw);
        }
    }
}

impl Op for ConvGradWeight {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "conv.grad_weight"
    }

    fn attributes(&self) -> String {
        describe(&self.window, self.groups)
    }

    fn infer(&self, _inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![Type::f32(&self.weight)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.input(1));
        let window = &self.window;
        let params = Params::new(window, self.groups, x, y);
        let elements = self.weight.numel();
        let kernel = |source| Kernel::new(source, "grad_weight").with(&window.constants());
        let split = |name, tiles, align, launch: &dyn Fn(&Params, usize) -> Launch| {
            let (splits, rows) = split_rows(y.rows(), tiles, elements as u64 * 4, align, caps);
            let params = params.split(splits, rows);
            let first = launch(&params, splits).inputs([0, 1]);
            with_splits(name, first, Operand::Output(0, 0), elements, splits, caps)
        };
        let mut all = Vec::new();
        if let Some(quads) = tiled(self.groups, x[3], y[3]) {
            let (taps, wide) = (window.kernel[0] * window.kernel[1], y[3].div_ceil(16));
            if quads {
                for tiles in Tiles::of(taps * x[3], y[3], y.rows(), caps) {
                    let kernel = kernel(shader!("conv/block_grad_weight.wgsl"));
                    let launch = |params: &Params, splits| tiles.launch(kernel.clone(), params, splits, caps);
                    all.push(split(tiles.name, tiles.count(), 4, &launch));
                }
                let tiles = taps * x[3].div_ceil(8) * wide;
                let kernel = kernel(shader!("conv/tile_grad_weight.wgsl"));
                let kernel = kernel.with(&[("BY_PLACE", window.by_place(x, y).into())]);
                let launch =
                    |params: &Params, splits| launch_tiles(kernel.clone(), params, tiles * splits, caps);
                all.push(split("tile", tiles, 4, &launch));
            }
            let tiles = (taps * x[3]).div_ceil(8) * wide;
            let kernel = kernel(shader!("conv/tile_any_grad_weight.wgsl"));
            let launch = |params: &Params, splits| launch_tiles(kernel.clone(), params, tiles * splits, caps);
            all.push(split("tile_any", tiles, 1, &launch));
        }
        let launch = launch_threads(kernel(shader!("conv/plain_grad.wgsl")), &params, elements, caps);
        all.push(Variant::single("plain", launch.inputs([0, 1]).output(0)));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, self.groups, io.input(0), io.input(1)))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let conv = |window, groups| Conv { window, groups, epilogue: Epilogue::default() };
    let square = |k, s, p| Window::square(k, s, p);
    let uneven = Window {
        kernel: [3, 3],
        stride: [2, 2],
        padding: Padding { top: 0, left: 0, bottom: 1, right: 1 },
        ..Window::default()
    };
    let odd = Window {
        kernel: [3, 2],
        stride: [2, 1],
        padding: Padding { top: 1, left: 0, bottom: 2, right: 1 },
        dilation: [1, 2],
    };
    let dilated = Window { dilation: [2, 2], ..square(3, 1, 2) };
    let full = Epilogue { bias: true, affine: true, residual: true, activation: Activation::Relu };
    vec![
        Case::new(conv(square(3, 1, 1), 1), &[&[1, 5, 6, 8], &[3, 3, 8, 16]]),
        Case::new(conv(square(3, 2, 1), 1), &[&[3, 7, 9, 12], &[3, 3, 12, 20]]),
        Case::new(conv(uneven, 1), &[&[2, 8, 8, 4], &[3, 3, 4, 8]]),
        Case::new(conv(odd, 1), &[&[3, 7, 6, 4], &[3, 2, 4, 12]]),
        Case::new(conv(dilated, 1), &[&[1, 7, 7, 8], &[3, 3, 8, 4]]),
        Case::new(conv(square(7, 2, 3), 1), &[&[3, 13, 11, 3], &[7, 7, 3, 8]]),
        Case::new(conv(square(1, 2, 0), 1), &[&[3, 5, 6, 8], &[1, 1, 8, 12]]),
        Case::new(conv(square(5, 1, 2), 1), &[&[1, 6, 5, 5], &[5, 5, 5, 7]]),
        Case::new(conv(square(3, 1, 1), 4), &[&[3, 4, 5, 8], &[3, 3, 2, 12]]),
        Case::new(conv(square(3, 2, 1), 3), &[&[1, 6, 5, 6], &[3, 3, 2, 3]]),
        // Mostly padding: pixels are ordered by position.
        Case::new(conv(square(3, 1, 1), 1), &[&[5, 3, 2, 8], &[3, 3, 8, 20]]),
        Case::new(conv(square(3, 2, 1), 1), &[&[9, 4, 3, 12], &[3, 3, 12, 8]]),
        Case::new(conv(square(3, 1, 1), 1), &[&[16, 7, 7, 8], &[3, 3, 8, 16]]),
        Case::new(
            Conv { epilogue: full, ..conv(square(3, 1, 1), 1) },
            &[&[6, 2, 2, 8], &[3, 3, 8, 20], &[20], &[2, 20], &[6, 2, 2, 20]],
        )
        .grads(&[]),
        // Enough channels and pixels for Winograd's form of the weight's gradient on the CPU.
        Case::new(conv(square(3, 1, 1), 1), &[&[3, 9, 11, 32], &[3, 3, 32, 36]]),
        // Large enough for workgroup tiles, with partial ones at the edges: with an epilogue, a stride, phases
        // without a tap, taps of one parity, sums that end within a step.
        Case::new(
            Conv { epilogue: full, ..conv(square(3, 1, 1), 1) },
            &[&[1, 13, 11, 12], &[3, 3, 12, 36], &[36], &[2, 36], &[1, 13, 11, 36]],
        )
        .grads(&[]),
        Case::new(conv(square(3, 2, 1), 1), &[&[2, 17, 15, 36], &[3, 3, 36, 132]]),
        Case::new(conv(square(1, 2, 0), 1), &[&[2, 11, 13, 32], &[1, 1, 32, 44]]),
        Case::new(conv(odd, 1), &[&[3, 11, 9, 32], &[3, 2, 32, 32]]),
        Case::new(conv(Window { stride: [2, 2], ..dilated }, 1), &[&[1, 13, 14, 32], &[3, 3, 32, 32]]),
        // Enough pixels for the split sum.
        Case::new(conv(square(3, 1, 1), 1), &[&[2, 19, 23, 4], &[3, 3, 4, 8]]),
        Case::new(
            Conv { epilogue: Epilogue::bias(), ..conv(square(3, 1, 1), 1) },
            &[&[3, 5, 5, 4], &[3, 3, 4, 8], &[8]],
        ),
        Case::new(
            Conv { epilogue: full, ..conv(square(3, 2, 1), 1) },
            &[&[3, 5, 6, 8], &[3, 3, 8, 20], &[20], &[2, 20], &[3, 3, 3, 20]],
        )
        .grads(&[]),
        Case::new(
            Conv { epilogue: full, ..conv(square(3, 1, 1), 1) },
            &[&[1, 4, 5, 3], &[3, 3, 3, 7], &[7], &[2, 7], &[1, 4, 5, 7]],
        )
        .grads(&[]),
    ]
}
