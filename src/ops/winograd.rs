//! Convolution with 3x3 taps and stride 1 by Winograd's F(2x2, 3x3): 16 products instead of 36 (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2015). Plans use it in place of convolutions where it is faster;
//! the transformed weights of frozen layers are computed once.
//!
//! Rounding errors are up to a few times those of the direct sum, in f32 about 1e-6 of a layer's range.

use bytemuck::{Pod, Zeroable};

use super::cpu::{PANEL, POINTS, Tiles, transform_weights, winograd};
use super::{Case, Epilogue, Padding, Window, launch_threads, launch_tiles, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Op, Operand, Real, Shape, Type, Variant};

/// A convolution of transformed weights, with the epilogue of a convolution. Inputs x `[N, H, W, C]`, the transformed
/// weights `[16, panels of 16 columns, C, 16]` from [`WinogradWeight`], then the epilogue's. Output
/// `[N, OH, OW, columns]`. C and columns are multiples of 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Winograd {
    /// Zeros around the image.
    pub padding: Padding,
    /// Channels of the output.
    pub columns: usize,
    /// Bias, folded norm, residual and activation.
    pub epilogue: Epilogue,
}

/// Transformed weights `[16, panels, depth, 16]` from weights `[3, 3, in_channels, out_channels]`; columns after the
/// last are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WinogradWeight {
    /// For the gradient of the input: the taps rotated by 180 degrees, and sums over out_channels.
    pub flipped: bool,
}

/// Bytes of one scratch buffer that suffice to fill a device: more images are processed in turns.
const TURN: u64 = 16 << 20;

/// `Params` of `shaders/lib/winograd.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    images: u32,
    first_image: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    pad_top: u32,
    pad_left: u32,
    tile_rows: u32,
    tile_columns: u32,
}

/// `Params` of `shaders/winograd/weight.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct WeightParams {
    depth: u32,
    columns: u32,
}

/// Tiles of one image of this output.
pub(super) fn of_image(y: &Shape) -> usize {
    y[1].div_ceil(2) * y[2].div_ceil(2)
}

/// Least number of pixels for which transforming trainable weights pays.
pub(super) const ROWS: usize = 256;

/// Whether a convolution has 3x3 taps with stride 1, and enough channels to pay for the transforms.
pub(super) fn suits(window: &Window, groups: usize, depth: usize, columns: usize) -> bool {
    let plain = Window { padding: window.padding, ..Window::square(3, 1, 0) };
    *window == plain && groups == 1 && depth.min(columns) >= 32
}

/// The tiles of a convolution from `x` to `y`.
pub(super) fn tiles(padding: &Padding, x: &Shape, y: &Shape) -> Tiles {
    Tiles {
        images: x[0],
        source: [x[1], x[2], x[3]],
        target: [y[1], y[2], y[3]],
        padding: [padding.top, padding.left],
    }
}

impl Winograd {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, y) = (call.io.input(0), call.io.output(0));
        let tiles = tiles(&self.padding, x, y);
        let epilogue = self.epilogue.operands_of(2, call);
        winograd(call, &tiles, &epilogue);
    }

    fn window(&self) -> Window {
        Window { padding: self.padding, ..Window::square(3, 1, 0) }
    }
}

impl Op for Winograd {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "winograd.forward"
    }

    fn attributes(&self) -> String {
        self.window().describe() + &self.epilogue.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [n, h, width, c] = inputs[0].shape.nhwc()?;
        require(c.is_multiple_of(4) && self.columns.is_multiple_of(4), || {
            format!("{c} and {} channels are no multiples of 4", self.columns)
        })?;
        let wanted = [POINTS, self.columns.div_ceil(PANEL), c, PANEL];
        let found = &inputs[1].shape;
        require(found.0 == wanted, || format!("the transformed weight must be {wanted:?}, found {found}"))?;
        let [oh, ow] = self.window().output(h, width)?;
        let y = Type::f32(&[n, oh, ow, self.columns]);
        self.epilogue.check(2, inputs, &y.shape)?;
        Ok(vec![y])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let tiles = of_image(y);
        let bytes = |channels: usize| (tiles * POINTS * channels * 4) as u64;
        let [input, product] = [bytes(x[3]), bytes(y[3])];
        let turn = (TURN / input.max(product)).clamp(1, x[0] as u64) as usize;
        let mut launches = Vec::new();
        for first in (0..x[0]).step_by(turn) {
            let images = turn.min(x[0] - first);
            let n = |number: usize| number as u32;
            let params = Params {
                images: n(images),
                first_image: n(first),
                in_height: n(x[1]),
                in_width: n(x[2]),
                in_quads: n(x[3] / 4),
                out_height: n(y[1]),
                out_width: n(y[2]),
                out_quads: n(y[3] / 4),
                pad_top: n(self.padding.top),
                pad_left: n(self.padding.left),
                tile_rows: n(y[1].div_ceil(2)),
                tile_columns: n(y[2].div_ceil(2)),
            };
            let count = images * tiles;
            let kernel = |source| Kernel::new(source, "forward");
            let spread = kernel(shader!("winograd/input.wgsl"));
            let spread = launch_threads(spread, &params, count * x[3] / 4, caps).inputs([0]);
            launches.push(spread.write(Operand::Scratch(0)));
            let multiply = kernel(shader!("winograd/multiply.wgsl"));
            let threads = POINTS * count.div_ceil(8) * y[3].div_ceil(PANEL);
            let multiply = launch_tiles(multiply, &params, threads, caps).read(Operand::Scratch(0));
            launches.push(multiply.inputs([1]).write(Operand::Scratch(1)));
            let fold = kernel(shader!("winograd/output.wgsl")).with(&self.epilogue.constants());
            let fold = launch_threads(fold, &params, count * y[3] / 4, caps).read(Operand::Scratch(1));
            launches.push(self.epilogue.bind(2, fold).output(0));
        }
        let scratch = [input, product].map(|bytes| bytes * turn as u64).to_vec();
        vec![Variant { name: "tile", launches, scratch }]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let (x, y) = (io.input(0), io.output(0));
        Cost::streaming(io, 2.0 * (x[0] * of_image(y) * POINTS * x[3] * y[3]) as f64)
    }
}

impl WinogradWeight {
    /// The channels that are summed, and those of the output.
    fn sides(&self, w: &Shape) -> (usize, usize) {
        if self.flipped { (w[3], w[2]) } else { (w[2], w[3]) }
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let shape = call.io.input(0);
        let (depth, columns) = self.sides(shape);
        let (w, u, flipped) = (call.real(0), call.output(0), self.flipped);
        transform_weights(
            depth,
            columns,
            #[inline(always)]
            |[h, tap]: [usize; 2], k: usize, panel: usize, lanes: &mut [T]| {
                let column = panel * PANEL;
                if flipped {
                    let from = &w[(((2 - h) * 3 + 2 - tap) * columns + column) * depth + k..];
                    for (lane, &weight) in lanes.iter_mut().zip(from.iter().step_by(depth)) {
                        *lane = weight;
                    }
                } else {
                    lanes
                        .copy_from_slice(&w[((h * 3 + tap) * depth + k) * columns + column..][..lanes.len()]);
                }
            },
            u,
        );
    }
}

impl Op for WinogradWeight {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "winograd.weight"
    }

    fn attributes(&self) -> String {
        if self.flipped { "flipped".into() } else { String::new() }
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let w = &inputs[0].shape;
        require(w.len() == 4 && w[..2] == [3, 3], || {
            format!("the weight must be [3, 3, in_channels, out_channels], found {w}")
        })?;
        let (depth, columns) = self.sides(w);
        Ok(vec![Type::f32(&[POINTS, columns.div_ceil(PANEL), depth, PANEL])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (depth, columns) = self.sides(io.input(0));
        let params = WeightParams { depth: depth as u32, columns: columns as u32 };
        let kernel = Kernel::new(shader!("winograd/weight.wgsl"), "forward");
        let kernel = kernel.with(&[("FLIPPED", self.flipped.into())]);
        let launch = launch_threads(kernel, &params, io.output(0).numel() / POINTS, caps);
        vec![Variant::single("plain", launch.inputs([0]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let plain = |padding, columns| Winograd { padding, columns, epilogue: Epilogue::default() };
    let full = Epilogue { bias: true, affine: true, residual: true, activation: super::Activation::Relu };
    let uneven = Padding { top: 0, left: 2, bottom: 1, right: 0 };
    let weight = |flipped| WinogradWeight { flipped };
    let all = vec![
        Case::new(plain(Padding::same(1), 16), &[&[2, 6, 8, 8], &[16, 1, 8, 16]]),
        Case::new(plain(uneven, 20), &[&[3, 5, 7, 12], &[16, 2, 12, 16]]),
        Case::new(plain(Padding::same(0), 4), &[&[1, 3, 4, 4], &[16, 1, 4, 16]]),
        // More tiles than one block may have, in blocks of rows and of images.
        Case::new(plain(Padding::same(1), 8), &[&[1, 45, 39, 8], &[16, 1, 8, 16]]),
        Case::new(plain(Padding::same(2), 36), &[&[37, 3, 4, 4], &[16, 3, 4, 16]]),
        Case::new(
            Winograd { epilogue: full, ..plain(Padding::same(1), 20) },
            &[&[3, 5, 6, 8], &[16, 2, 8, 16], &[20], &[2, 20], &[3, 5, 6, 20]],
        ),
        Case::new(weight(false), &[&[3, 3, 4, 20]]),
        Case::new(weight(true), &[&[3, 3, 20, 8]]),
    ];
    all.into_iter().map(|case| case.grads(&[])).collect()
}
