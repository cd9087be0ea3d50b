//! Depthwise convolution: every channel has its own window. `y[.., c] = sum over taps of x[under, c] w[tap, c]`.
//! Memory-bound, so its kernels run along channels and share weights between neighbouring pixels.

use super::conv::{Params, Window};
use rayon::prelude::*;

use super::cpu::sums::{Axis, axis, banded, strips};
use super::cpu::{mul_add, simd};
use super::matmul::{product_grads, split_rows, with_splits};
use super::{Activation, Case, Epilogue, Padding, groups, launch_tiles, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Shape, Tape, Type, ValueId, Variant,
};

/// Inputs x `[N, H, W, C]`, w `[kh, kw, C]`, then the epilogue's. Output `[N, OH, OW, C]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Depthwise {
    /// Geometry.
    pub window: Window,
    /// Bias, folded norm, residual and activation.
    pub epilogue: Epilogue,
}

/// dx from dy, w.
#[derive(Debug, Clone)]
struct DepthwiseGradInput {
    window: Window,
    input: Shape,
}

/// dw from x, dy.
#[derive(Debug, Clone)]
struct DepthwiseGradWeight {
    window: Window,
}

fn flops(window: &Window, y: &Shape) -> f64 {
    2.0 * (y.numel() * window.kernel[0] * window.kernel[1]) as f64
}

/// The entry point of `shaders/depthwise/walk*.wgsl` for a window, where these shaders support it.
fn walks(window: &Window, channels: usize) -> Option<&'static str> {
    let fits = window.kernel == [3, 3] && window.dilation == [1, 1] && channels.is_multiple_of(4);
    match window.stride {
        [1, 1] if fits => Some("walk_1"),
        [2, 2] if fits => Some("walk_2"),
        _ => None,
    }
}

/// Whether `shaders/depthwise/rows*.wgsl` support a window on a map of this shape: whole rows, one thread an image.
fn takes_rows(window: &Window, x: &Shape) -> bool {
    *window == Window::square(3, 1, 1) && x[2] <= 8 && x[3].is_multiple_of(4)
}

/// Output rows of a strip of `shaders/depthwise/walk*.wgsl`: three where four would leave more of the last strip
/// empty.
fn lines(height: usize) -> usize {
    if height.next_multiple_of(3) < height.next_multiple_of(4) { 3 } else { 4 }
}

/// Number of threads, each walking over many pixels, that keeps a device busy.
fn long_threads(caps: &Caps) -> usize {
    if caps.software { 256 } else { 1 << 15 }
}

/// A dispatch of threads that walk along strips of the rows of `target`.
fn walk(kernel: Kernel, params: Params, target: &Shape, caps: &Caps) -> Launch {
    let lines = lines(target[1]);
    let strips = target[0] * target[1].div_ceil(lines) * target[3] / 4;
    walk_strips(kernel.with(&[("LINES", lines as u32)]), params, target[2], strips, caps)
}

/// The same over `columns`, with `strips` threads one below another. Each thread takes as many columns as leave
/// enough threads.
fn walk_strips(kernel: Kernel, mut params: Params, columns: usize, strips: usize, caps: &Caps) -> Launch {
    let wanted = long_threads(caps).div_ceil(strips);
    let each = columns.div_ceil(wanted.clamp(1, columns.div_ceil(4)));
    let splits = columns.div_ceil(each);
    (params.splits, params.split_rows) = (splits as u32, each as u32);
    launch_tiles(kernel, &params, splits * strips, caps)
}

/// `rows` before `walk` where its fewer threads keep a device busy; on a software adapter that means eight vectors of
/// threads for each core.
fn in_order(
    x: &Shape,
    rows: Option<Variant>,
    walk: Option<Variant>,
    caps: &Caps,
) -> impl Iterator<Item = Variant> {
    let busy = if caps.software { 64 } else { long_threads(caps) };
    let enough = x[0] * x[3] / 4 >= busy;
    let both = if enough { [rows, walk] } else { [walk, rows] };
    both.into_iter().flatten()
}

/// The dispatch of `shaders/depthwise/rows.wgsl` on inputs 0 and 1: one thread for an image and four channels.
fn rows(x: &Shape, params: Params, epilogue: Epilogue, flipped: bool, caps: &Caps) -> Variant {
    let kernel = Kernel::new(shader!("depthwise/rows.wgsl"), "forward")
        .with(&epilogue.constants())
        .with(&[("FLIPPED", flipped.into()), ("WIDTH", x[2] as u32)]);
    let launch = launch_tiles(kernel, &params, x[0] * x[3] / 4, caps).inputs([0, 1]);
    Variant::single("rows", epilogue.bind(2, launch).output(0))
}

/// Along `axis`, every position of the output, every position of the input under its window, and the tap.
fn meetings(window: &Window, axis: usize, x: &Shape, y: &Shape) -> impl Iterator<Item = [usize; 3]> {
    let before = [window.padding.top, window.padding.left][axis];
    let (taps, stride, dilation) = (window.kernel[axis], window.stride[axis], window.dilation[axis]);
    let (inputs, outputs) = (x[axis + 1], y[axis + 1]);
    let all = (0..outputs).flat_map(move |o| (0..taps).map(move |tap| (o, tap)));
    all.filter_map(move |(o, tap)| {
        let i = (o * stride + tap * dilation).wrapping_sub(before);
        (i < inputs).then_some([o, i, tap])
    })
}

/// The shared part of forward and grad_input: every pixel of the result sums pixels of `source`, whose images have
/// these `extents`, each times the weights of a tap. `rows` and `columns` say which.
struct Gather<'a, T> {
    source: &'a [T],
    extents: [usize; 2],
    w: &'a [T],
    taps: usize,
    channels: usize,
    rows: Axis<usize>,
    columns: Axis<usize>,
}

impl<'a, T: Real> Gather<'a, T> {
    /// From input 0, whose shape is `source`, and the weights in input 1.
    fn new(
        window: &Window,
        source: &Shape,
        [rows, columns]: [Axis<usize>; 2],
        call: &CpuCall<'a, T>,
    ) -> Self {
        let (extents, channels) = ([source[1], source[2]], source[3]);
        let (source, w) = (call.real(0), call.real(1));
        Gather { source, extents, w, taps: window.kernel[1], channels, rows, columns }
    }

    /// Writes output 0.
    fn run(&self, call: &mut CpuCall<'_, T>, epilogue: &Epilogue) {
        let epilogue = epilogue.operands_of(2, call);
        let result = call.output(0);
        let (channels, [height, width]) = (self.channels, self.extents);
        let len = self.columns.len() * channels;
        result.par_chunks_mut(len.max(1)).enumerate().for_each(|(line, out)| {
            let (n, row) = (line / self.rows.len(), line % self.rows.len());
            let lines = self.rows[row].iter().map(|&(y, tap)| {
                let x = &self.source[(n * height + y) * width * channels..][..width * channels];
                (x, &self.w[tap * self.taps * channels..][..self.taps * channels])
            });
            let lines: Vec<(&[T], &[T])> = lines.collect();
            simd(
                #[inline(always)]
                |fused| {
                    for (o, (out, taken)) in out.chunks_exact_mut(channels).zip(&self.columns).enumerate() {
                        strips!([64, 32, 16, 8, 1], channels, |c, N| {
                            let mut sum = [T::zero(); N];
                            for (x, w) in &lines {
                                for (at, tap) in taken {
                                    let x = &x[at * channels + c..][..N];
                                    let w = &w[tap * channels + c..][..N];
                                    for i in 0..N {
                                        sum[i] = mul_add(fused, x[i], w[i], sum[i]);
                                    }
                                }
                            }
                            out[c..][..N].copy_from_slice(&sum);
                        });
                        epilogue.apply(line * len + o * channels, 0, out);
                    }
                },
            );
        });
    }
}

impl Depthwise {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (window, x, y) = (&self.window, call.io.input(0), call.io.output(0));
        let along = |a| axis(y[a + 1], meetings(window, a, x, y).map(|[o, i, tap]| (o, i, tap)));
        Gather::new(window, x, [along(0), along(1)], call).run(call, &self.epilogue);
    }
}

impl Op for Depthwise {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.forward"
    }

    fn attributes(&self) -> String {
        self.window.describe() + &self.epilogue.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [n, h, width, c] = inputs[0].shape.nhwc()?;
        let [kh, kw] = self.window.kernel;
        require(inputs[1].shape.0 == [kh, kw, c], || {
            format!("the weight must be [{kh}, {kw}, {c}], found {}", inputs[1].shape)
        })?;
        let [oh, ow] = self.window.output(h, width)?;
        let y = Type::f32(&[n, oh, ow, c]);
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
        let window = self.window;
        product_grads(tape, &self.epilogue, (inputs, upstream, needs), |input, _| {
            (DepthwiseGradInput { window, input }, DepthwiseGradWeight { window })
        })
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        Some(Box::new(Depthwise { epilogue: self.epilogue.absorb(consumer)?, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.output(0));
        let params = Params::new(&self.window, x[3], x, y);
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "forward")
                .with(&self.window.constants())
                .with(&self.epilogue.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps)).inputs([0, 1]);
            Variant::single(name, self.epilogue.bind(2, launch).output(0))
        };
        let mut all = Vec::new();
        let walk = walks(&self.window, x[3]).map(|entry| {
            let kernel = Kernel::new(shader!("depthwise/walk.wgsl"), entry)
                .with(&self.window.constants())
                .with(&self.epilogue.constants());
            let launch = walk(kernel, params, y, caps);
            Variant::single("walk", self.epilogue.bind(2, launch.inputs([0, 1])).output(0))
        });
        let rows = takes_rows(&self.window, x).then(|| rows(x, params, self.epilogue, false, caps));
        all.extend(in_order(x, rows, walk, caps));
        if x[3] % 4 == 0 {
            all.push(variant("strip", shader!("depthwise/strip.wgsl"), y.rows().div_ceil(4) * x[3] / 4));
        }
        all.push(variant("plain", shader!("depthwise/plain.wgsl"), y.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.output(0)))
    }
}

impl DepthwiseGradInput {
    /// At stride 1 the input's gradient is a convolution of dy with the taps in reverse.
    fn walk(&self, y: &Shape, caps: &Caps) -> Option<Variant> {
        let (x, window) = (&self.input, &self.window);
        let entry = walks(window, x[3])?;
        let plain = Epilogue::default();
        if window.stride == [2, 2] {
            let kernel = Kernel::new(shader!("depthwise/walk_grad_input.wgsl"), "grad_input")
                .with(&window.constants());
            let Padding { top, left, .. } = window.padding;
            let odd = [("ODD_TOP", top as u32 % 2), ("ODD_LEFT", left as u32 % 2)];
            let strips = x[0] * x[1].div_ceil(4) * x[3] / 4;
            let params = Params::new(window, x[3], x, y);
            let launch = walk_strips(kernel.with(&odd), params, x[2].div_ceil(2), strips, caps);
            return Some(Variant::single("walk", launch.inputs([0, 1]).output(0)));
        }
        let before = |padding: usize| 2_usize.checked_sub(padding);
        let (top, left) = (before(window.padding.top)?, before(window.padding.left)?);
        let reversed = Window { padding: Padding { top, left, ..window.padding }, ..*window };
        let kernel = Kernel::new(shader!("depthwise/walk.wgsl"), entry)
            .with(&window.constants())
            .with(&plain.constants())
            .with(&[("FLIPPED", 1)]);
        let params = Params::new(&reversed, x[3], y, x);
        let launch = walk(kernel, params, x, caps);
        Some(Variant::single("walk", plain.bind(2, launch.inputs([0, 1])).output(0)))
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (window, x, y) = (&self.window, &self.input, call.io.input(0));
        let along = |a| axis(x[a + 1], meetings(window, a, x, y).map(|[o, i, tap]| (i, o, tap)));
        Gather::new(window, y, [along(0), along(1)], call).run(call, &Epilogue::default());
    }
}

impl Op for DepthwiseGradInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.grad_input"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, _inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![Type::f32(&self.input)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (y, x) = (io.input(0), &self.input);
        let params = Params::new(&self.window, x[3], x, y);
        let variant = |name, source, threads| {
            let kernel = Kernel::new(source, "grad_input").with(&self.window.constants());
            let launch = Launch::new(kernel, &params, groups(threads, caps));
            Variant::single(name, launch.inputs([0, 1]).output(0))
        };
        let mut all = Vec::new();
        let rows = takes_rows(&self.window, x).then(|| rows(x, params, Epilogue::default(), true, caps));
        all.extend(in_order(x, rows, self.walk(y, caps), caps));
        if x[3] % 4 == 0 {
            let strips = x.rows().div_ceil(4) * x[3] / 4;
            all.push(variant("strip", shader!("depthwise/strip_grad_input.wgsl"), strips));
        }
        all.push(variant("plain", shader!("depthwise/plain_grad_input.wgsl"), x.numel()));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.input(0)))
    }
}

impl DepthwiseGradWeight {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (source, grad_y) = (call.real(0), call.real(1));
        let (window, x, y) = (&self.window, call.io.input(0), call.io.input(1));
        let (height, width, channels) = (y[1], y[2], y[3]);
        let rows = axis(height, meetings(window, 0, x, y).map(|[o, i, tap]| (o, i, tap)));
        // For each tap inside the image: a column of y, and the column of x under it.
        let taps = axis(window.kernel[1], meetings(window, 1, x, y).map(|[o, i, tap]| (tap, o, i)));
        // At least 128 pixels a band, so that adding up the bands costs little.
        banded(
            call,
            y[0] * height,
            128usize.div_ceil(width),
            #[inline(always)]
            |fused, band, sums| {
                for row in band {
                    let grad_y = &grad_y[row * width * channels..][..width * channels];
                    for &(i, tap_h) in &rows[row % height] {
                        let line = (row / height * x[1] + i) * x[2] * channels;
                        let line = &source[line..][..x[2] * channels];
                        for (tap_w, columns) in taps.iter().enumerate() {
                            let sums = &mut sums[(tap_h * taps.len() + tap_w) * channels..][..channels];
                            strips!([64, 32, 16, 8, 1], channels, |c, N| {
                                let mut sum = [T::zero(); N];
                                for (o, i) in columns {
                                    let dy = &grad_y[o * channels + c..][..N];
                                    let x = &line[i * channels + c..][..N];
                                    for i in 0..N {
                                        sum[i] = mul_add(fused, x[i], dy[i], sum[i]);
                                    }
                                }
                                for i in 0..N {
                                    sums[c + i] += sum[i];
                                }
                            });
                        }
                    }
                }
            },
        );
    }
}

impl Op for DepthwiseGradWeight {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "depthwise.grad_weight"
    }

    fn attributes(&self) -> String {
        self.window.describe()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [kh, kw] = self.window.kernel;
        Ok(vec![Type::f32(&[kh, kw, inputs[0].shape.channels()])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let (x, y) = (io.input(0), io.input(1));
        let elements = io.output(0).numel();
        let variant = |name, lanes: usize, elem: &str| {
            let threads = elements / lanes;
            let (splits, rows) = split_rows(y.rows(), threads, elements as u64 * 4, 1, caps);
            let mut params = Params::new(&self.window, x[3], x, y);
            (params.splits, params.split_rows) = (splits as u32, rows as u32);
            let kernel = Kernel::new(shader!("depthwise/grad_weight.wgsl"), "grad_weight")
                .with(&self.window.constants())
                .knob("Elem", elem)
                .knob("LANES", format!("{lanes}u"));
            let first = Launch::new(kernel, &params, groups(threads * splits, caps)).inputs([0, 1]);
            with_splits(name, first, Operand::Output(0, 0), elements, splits, caps)
        };
        // Threads that walk along `strips` of rows one below another, each through several images.
        let walk = |name, kernel: Kernel, strips: usize| {
            let mut params = Params::new(&self.window, x[3], x, y);
            let threads = strips * x[3] / 4;
            let splits = (long_threads(caps) / threads).clamp(1, x[0]);
            let images = x[0].div_ceil(splits);
            let splits = x[0].div_ceil(images);
            (params.splits, params.split_rows) = (splits as u32, images as u32);
            let partials = splits * strips;
            let first = launch_tiles(kernel, &params, threads * splits, caps).inputs([0, 1]);
            ((partials * elements * 4) as u64 <= caps.max_binding)
                .then(|| with_splits(name, first, Operand::Output(0, 0), elements, partials, caps))
        };
        let mut all = Vec::new();
        let rows = takes_rows(&self.window, x).then(|| {
            let kernel = Kernel::new(shader!("depthwise/rows_grad_weight.wgsl"), "grad_weight");
            walk("rows", kernel.with(&[("WIDTH", x[2] as u32)]), 1)
        });
        let walk = walks(&self.window, x[3]).map(|entry| {
            let lines = lines(y[1]);
            let kernel = Kernel::new(shader!("depthwise/walk_grad_weight.wgsl"), entry);
            let kernel = kernel.with(&self.window.constants()).with(&[("LINES", lines as u32)]);
            walk("walk", kernel, y[1].div_ceil(lines))
        });
        all.extend(in_order(x, rows.flatten(), walk.flatten(), caps));
        if x[3] % 4 == 0 {
            all.push(variant("quad", 4, "vec4<f32>"));
        }
        all.push(variant("plain", 1, "f32"));
        all
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, flops(&self.window, io.input(1)))
    }
}

pub(super) fn cases() -> Vec<Case> {
    let plain = |window| Depthwise { window, epilogue: Epilogue::default() };
    let uneven =
        Window { padding: Padding { top: 0, left: 0, bottom: 1, right: 1 }, ..Window::square(3, 2, 0) };
    let padding = Padding { top: 2, left: 0, bottom: 0, right: 1 };
    let lopsided = |stride| Window { padding, ..Window::square(3, stride, 0) };
    let full = Epilogue { bias: true, affine: true, residual: true, activation: Activation::Relu6 };
    let dilated = Window { dilation: [2, 1], ..Window::square(3, 1, 1) };
    vec![
        Case::new(plain(Window::square(3, 1, 1)), &[&[1, 5, 6, 8], &[3, 3, 8]]),
        Case::new(plain(Window::square(3, 2, 1)), &[&[3, 7, 6, 12], &[3, 3, 12]]),
        Case::new(plain(uneven), &[&[2, 8, 8, 4], &[3, 3, 4]]),
        Case::new(plain(Window::square(5, 2, 2)), &[&[3, 9, 7, 5], &[5, 5, 5]]),
        Case::new(plain(dilated), &[&[2, 7, 6, 4], &[3, 3, 4]]),
        Case::new(
            plain(Window { dilation: [2, 3], ..Window::square(3, 2, 2) }),
            &[&[1, 7, 8, 3], &[3, 3, 3]],
        ),
        // Different padding on each side.
        Case::new(plain(lopsided(1)), &[&[2, 6, 9, 4], &[3, 3, 4]]),
        Case::new(plain(lopsided(2)), &[&[2, 9, 10, 8], &[3, 3, 8]]),
        // One thread processes whole rows.
        Case::new(plain(Window::square(3, 1, 1)), &[&[3, 1, 1, 4], &[3, 3, 4]]),
        Case::new(plain(Window::square(3, 1, 1)), &[&[2, 4, 8, 12], &[3, 3, 12]]),
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: full },
            &[&[2, 5, 7, 8], &[3, 3, 8], &[8], &[2, 8], &[2, 5, 7, 8]],
        )
        .grads(&[]),
        // Some pixels lie under no window.
        Case::new(plain(Window::square(2, 3, 0)), &[&[1, 6, 7, 9], &[2, 2, 9]]),
        // Strips of every width.
        Case::new(plain(Window::square(5, 1, 2)), &[&[1, 4, 3, 121], &[5, 5, 121]]),
        // Several bands of rows.
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: Epilogue::bias() },
            &[&[3, 17, 19, 4], &[3, 3, 4], &[4]],
        ),
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: Epilogue::bias() },
            &[&[3, 4, 5, 6], &[3, 3, 6], &[6]],
        ),
        Case::new(
            Depthwise { window: Window::square(3, 2, 1), epilogue: full },
            &[&[3, 5, 6, 8], &[3, 3, 8], &[8], &[2, 8], &[3, 3, 3, 8]],
        )
        .grads(&[]),
        Case::new(
            Depthwise { window: Window::square(3, 1, 1), epilogue: full },
            &[&[1, 4, 5, 7], &[3, 3, 7], &[7], &[2, 7], &[1, 4, 5, 7]],
        )
        .grads(&[]),
    ]
}
