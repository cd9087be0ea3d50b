//! Convolution over NHWC activations, with any stride, dilation, groups and padding per side.
//!
//! `y[n, oh, ow, co] = sum over kh, kw, ci of x[n, oh s - p + kh d, ow s - p + kw d, ci] w[kh, kw, ci, co]`,
//! then the epilogue. Weights are HWIO: `[kernel_h, kernel_w, in_channels / groups, out_channels]`.
//! All three passes are implicit matrix products: no patch matrix is ever stored.

use bytemuck::{Pod, Zeroable};

use super::matmul::{SumRows, split_rows, with_splits};
use super::{Activation, Case, Epilogue, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// Zeros around a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Above.
    pub top: usize,
    /// Left.
    pub left: usize,
    /// Below.
    pub bottom: usize,
    /// Right.
    pub right: usize,
}

impl Padding {
    /// The same on all sides.
    pub fn same(pixels: usize) -> Self {
        Padding { top: pixels, left: pixels, bottom: pixels, right: pixels }
    }
}

/// A window sliding over a picture; `[height, width]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Step between output pixels.
    pub stride: [usize; 2],
    /// Zeros around the picture.
    pub padding: Padding,
    /// Distance between taps.
    pub dilation: [usize; 2],
}

impl Default for Window {
    /// 1x1, stride 1, no padding.
    fn default() -> Self {
        Window { kernel: [1, 1], stride: [1, 1], padding: Padding::default(), dilation: [1, 1] }
    }
}

impl Window {
    /// A square window with the same stride and padding everywhere.
    pub fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Window {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: Padding::same(padding),
            ..Self::default()
        }
    }

    /// Height and width of the output: `floor((in + pad - dilation (kernel - 1) - 1) / stride) + 1`.
    ///
    /// # Errors
    /// Where the window is larger than the padded picture.
    pub fn output(&self, height: usize, width: usize) -> Result<[usize; 2]> {
        let p = self.padding;
        let along = |size: usize, pad: usize, axis: usize| {
            let reach = self.dilation[axis] * (self.kernel[axis].max(1) - 1) + 1;
            require(size + pad >= reach && self.stride[axis] > 0 && self.kernel[axis] > 0, || {
                format!("a window of {} does not fit {height}x{width} pixels", self.describe())
            })?;
            Ok((size + pad - reach) / self.stride[axis] + 1)
        };
        Ok([along(height, p.top + p.bottom, 0)?, along(width, p.left + p.right, 1)?])
    }

    /// `3x3 s2 p0,0,1,1 d2`
    pub fn describe(&self) -> String {
        let ([kh, kw], [sh, sw], p, [dh, dw]) = (self.kernel, self.stride, self.padding, self.dilation);
        let mut text = format!("{kh}x{kw}");
        if (sh, sw) != (1, 1) {
            text += &if sh == sw { format!(" s{sh}") } else { format!(" s{sh},{sw}") };
        }
        if p != Padding::default() {
            let same = p == Padding::same(p.top);
            text += &if same {
                format!(" p{}", p.top)
            } else {
                format!(" p{},{},{},{}", p.top, p.left, p.bottom, p.right)
            };
        }
        if (dh, dw) != (1, 1) {
            text += &if dh == dw { format!(" d{dh}") } else { format!(" d{dh},{dw}") };
        }
        text
    }

    pub(super) fn constants(&self) -> [(&'static str, u32); 6] {
        [
            ("KERNEL_H", self.kernel[0] as u32),
            ("KERNEL_W", self.kernel[1] as u32),
            ("STRIDE_H", self.stride[0] as u32),
            ("STRIDE_W", self.stride[1] as u32),
            ("DILATION_H", self.dilation[0] as u32),
            ("DILATION_W", self.dilation[1] as u32),
        ]
    }
}

/// `Params` of `shaders/lib/window.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    batch: u32,
    in_height: u32,
    in_width: u32,
    in_channels: u32,
    out_height: u32,
    out_width: u32,
    out_channels: u32,
    pad_top: u32,
    pad_left: u32,
    groups: u32,
    pub(super) split_rows: u32,
    pub(super) splits: u32,
}

impl Params {
    pub(super) fn new(window: &Window, groups: usize, x: &Shape, y: &Shape) -> Self {
        let n = |shape: &Shape, i: usize| shape[i] as u32;
        Params {
            batch: n(x, 0),
            in_height: n(x, 1),
            in_width: n(x, 2),
            in_channels: n(x, 3),
            out_height: n(y, 1),
            out_width: n(y, 2),
            out_channels: n(y, 3),
            pad_top: window.padding.top as u32,
            pad_left: window.padding.left as u32,
            groups: groups as u32,
            split_rows: 0,
            splits: 1,
        }
    }
}

/// Calls `visit(output pixel, tap, input pixel)` for every tap that lies inside the picture, output
/// pixels in order. Pixels are numbered through the whole batch.
pub(super) fn for_each_tap(
    window: &Window,
    x: &Shape,
    y: &Shape,
    mut visit: impl FnMut(usize, usize, usize),
) {
    let (p, [kh, kw]) = (window.padding, window.kernel);
    for n in 0..y[0] {
        for oh in 0..y[1] {
            for ow in 0..y[2] {
                let pixel = (n * y[1] + oh) * y[2] + ow;
                for tap_h in 0..kh {
                    let ih = (oh * window.stride[0] + tap_h * window.dilation[0]).wrapping_sub(p.top);
                    if ih >= x[1] {
                        continue;
                    }
                    for tap_w in 0..kw {
                        let iw = (ow * window.stride[1] + tap_w * window.dilation[1]).wrapping_sub(p.left);
                        if iw < x[2] {
                            visit(pixel, tap_h * kw + tap_w, (n * x[1] + ih) * x[2] + iw);
                        }
                    }
                }
            }
        }
    }
}

/// Inputs x `[N, H, W, C]`, w `[kh, kw, C / groups, O]`, then the epilogue's. Output `[N, OH, OW, O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// Channels fall into this many groups that do not see each other.
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

/// Whether the tiled kernels serve this convolution, and with vec4 loads of the input.
fn tiled(groups: usize, in_channels: usize, out_channels: usize) -> Option<bool> {
    (groups == 1 && out_channels.is_multiple_of(4)).then_some(in_channels.is_multiple_of(4))
}

fn flops(window: &Window, groups: usize, x: &Shape, y: &Shape) -> f64 {
    2.0 * (y.numel() * window.kernel[0] * window.kernel[1] * x[3] / groups) as f64
}

fn describe(window: &Window, groups: usize) -> String {
    if groups == 1 { window.describe() } else { format!("{} g{groups}", window.describe()) }
}

impl Conv {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, w) = (call.real(0), call.real(1));
        let (xs, ys) = (call.io.input(0), call.io.output(0));
        let (cin, cout) = (xs[3], ys[3]);
        let (depth, width) = (cin / self.groups, cout / self.groups);
        let mut y = call.take(0);
        for_each_tap(&self.window, xs, ys, |pixel, tap, under| {
            let out = &mut y[pixel * cout..][..cout];
            for (c, &x) in x[under * cin..][..cin].iter().enumerate() {
                let (group, ci) = (c / depth, c % depth);
                let row = &w[(tap * depth + ci) * cout + group * width..][..width];
                for (y, &w) in out[group * width..][..width].iter_mut().zip(row) {
                    *y += x * w;
                }
            }
        });
        self.epilogue.cpu(2, call, &mut y);
        call.set(0, y);
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
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        require(self.epilogue.is_plain(), || "a fused convolution has no gradient".into())?;
        let (window, groups) = (self.window, self.groups);
        let mut rule = vec![None; inputs.len()];
        if needs[0] {
            let input = tape.shape(inputs[0]).clone();
            rule[0] = Some(tape.apply(ConvGradInput { window, groups, input }, &[grad_y, inputs[1]])?);
        }
        if needs[1] {
            let weight = tape.shape(inputs[1]).clone();
            rule[1] = Some(tape.apply(ConvGradWeight { window, groups, weight }, &[inputs[0], grad_y])?);
        }
        if self.epilogue.bias && needs[2] {
            rule[2] = Some(tape.apply(SumRows, &[grad_y])?);
        }
        Ok(rule)
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        Some(Box::new(Conv { epilogue: self.epilogue.absorb(consumer)?, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let params = Params::new(&self.window, self.groups, x, y);
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "forward")
                .with(&self.window.constants())
                .with(&self.epilogue.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps)).inputs([0, 1]);
            Variant::single(name, self.epilogue.bind(2, launch).output(0))
        };
        let tiles = y.rows().div_ceil(8) * y[3].div_ceil(16);
        let mut all = Vec::new();
        if let Some(quads) = tiled(self.groups, x[3], y[3]) {
            if quads {
                all.push(variant("tile", shader!("conv/tile.wgsl"), tiles));
            }
            all.push(variant("tile_any", shader!("conv/tile_any.wgsl"), tiles));
        }
        all.push(variant("plain", shader!("conv/plain.wgsl"), y.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, self.groups, io.input(0), io.output(0)))
    }
}

impl ConvGradInput {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (grad_y, w) = (call.real(0), call.real(1));
        let (ys, xs) = (call.io.input(0), &self.input);
        let (cin, cout) = (xs[3], ys[3]);
        let (depth, width) = (cin / self.groups, cout / self.groups);
        let mut grad_x = call.take(0);
        for_each_tap(&self.window, xs, ys, |pixel, tap, under| {
            let dy = &grad_y[pixel * cout..][..cout];
            for (c, dx) in grad_x[under * cin..][..cin].iter_mut().enumerate() {
                let (group, ci) = (c / depth, c % depth);
                let row = &w[(tap * depth + ci) * cout + group * width..][..width];
                *dx += dy[group * width..][..width].iter().zip(row).map(|(&dy, &w)| dy * w).sum();
            }
        });
        call.set(0, grad_x);
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
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "grad_input").with(&self.window.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps));
            Variant::single(name, launch.inputs([0, 1]).output(0))
        };
        let mut all = Vec::new();
        if tiled(self.groups, x[3], y[3]) == Some(true) {
            let tiles = x.rows().div_ceil(8) * x[3].div_ceil(16);
            all.push(variant("tile", shader!("conv/tile_grad_input.wgsl"), tiles));
        }
        all.push(variant("plain", shader!("conv/plain_grad.wgsl"), x.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, self.groups, &self.input, io.input(0)))
    }
}

impl ConvGradWeight {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, grad_y) = (call.real(0), call.real(1));
        let (xs, ys) = (call.io.input(0), call.io.input(1));
        let (cin, cout) = (xs[3], ys[3]);
        let (depth, width) = (cin / self.groups, cout / self.groups);
        let mut grad_w = call.take(0);
        for_each_tap(&self.window, xs, ys, |pixel, tap, under| {
            let dy = &grad_y[pixel * cout..][..cout];
            for (c, &x) in x[under * cin..][..cin].iter().enumerate() {
                let (group, ci) = (c / depth, c % depth);
                let row = &mut grad_w[(tap * depth + ci) * cout + group * width..][..width];
                for (dw, &dy) in row.iter_mut().zip(&dy[group * width..][..width]) {
                    *dw += x * dy;
                }
            }
        });
        call.set(0, grad_w);
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
        let mut params = Params::new(window, self.groups, x, y);
        let elements = self.weight.numel();
        let kernel = |source| Kernel::new(source, "grad_weight").with(&window.constants());
        let mut tile = |name, source, tiles, align| {
            let (splits, rows) = split_rows(y.rows(), tiles, elements as u64 * 4, align, caps);
            (params.splits, params.split_rows) = (splits as u32, rows as u32);
            let first = Launch::new(kernel(source), &params, groups(tiles * splits, caps)).inputs([0, 1]);
            with_splits(name, first, Operand::Output(0, 0), elements, splits, caps)
        };
        let mut all = Vec::new();
        if let Some(quads) = tiled(self.groups, x[3], y[3]) {
            let (taps, wide) = (window.kernel[0] * window.kernel[1], y[3].div_ceil(16));
            if quads {
                let tiles = taps * x[3].div_ceil(8) * wide;
                all.push(tile("tile", shader!("conv/tile_grad_weight.wgsl"), tiles, 4));
            }
            let tiles = (taps * x[3]).div_ceil(8) * wide;
            all.push(tile("tile_any", shader!("conv/tile_any_grad_weight.wgsl"), tiles, 1));
        }
        let params = Params::new(window, self.groups, x, y);
        let launch = Launch::new(kernel(shader!("conv/plain_grad.wgsl")), &params, groups(elements, caps));
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
