//! Pooling: maximum, average, and average to a given size, each with its gradient.
//! All gradients gather: a pixel of `grad_x` sums over the windows that cover it, so there are no atomics and the
//! result does not depend on the order of threads.

mod adaptive;
mod average;
mod max;

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

pub use adaptive::AdaptiveAvgPool;
pub use average::AvgPool;
pub use max::MaxPool;

use super::cpu::pieces;
use super::cpu::sums::{axis, strips};
use super::{Case, elem, groups, lanes, mismatch, require, word};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::tape::{CpuCall, DType, Launch, Real, Shape, Type, Variant};

/// A window over height and width, with the parameters of PyTorch's pooling layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolWindow {
    /// Taps.
    pub kernel: [usize; 2],
    /// Pixels between two windows.
    pub stride: [usize; 2],
    /// Pixels between the first window's start and the image.
    pub padding: [usize; 2],
    /// Pixels between two taps.
    pub dilation: [usize; 2],
    /// Whether a last window that only partly fits counts.
    pub ceil_mode: bool,
}

impl Default for PoolWindow {
    fn default() -> Self {
        PoolWindow { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], ceil_mode: false }
    }
}

impl PoolWindow {
    /// Number of windows along `axis` (0 height, 1 width) of `extent` pixels: PyTorch's rule. In ceil mode the last
    /// window must begin inside the image or the padding before it.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where the window does not fit, or one of the windows has no tap inside.
    pub fn output(&self, axis: usize, extent: usize) -> Result<usize> {
        let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
        let (padding, dilation) = (self.padding[axis], self.dilation[axis]);
        require(kernel > 0 && stride > 0 && dilation > 0, || {
            format!("a pooling window's kernel, stride and dilation must be at least 1: {}", self.describe())
        })?;
        let reach = (kernel - 1) * dilation + 1;
        require(padding * 2 <= reach, || {
            format!("padding {padding} is more than half of the window's {reach} pixels")
        })?;
        let slack = if self.ceil_mode { stride - 1 } else { 0 };
        let room = (extent + 2 * padding + slack)
            .checked_sub(reach)
            .filter(|_| extent > 0)
            .ok_or_else(|| mismatch(format!("a window of {reach} does not fit {extent} pixels")))?;
        let mut count = room / stride + 1;
        if self.ceil_mode && (count - 1) * stride >= extent + padding {
            count -= 1;
        }
        require((0..count).all(|o| !self.taps(axis, o, extent).is_empty()), || {
            format!("a window of {} has no tap among {extent} pixels", self.describe())
        })?;
        Ok(count)
    }

    /// The taps of window `o` that lie inside `extent` pixels.
    fn taps(&self, axis: usize, o: usize, extent: usize) -> Range<usize> {
        let (start, padding, dilation) = (o * self.stride[axis], self.padding[axis], self.dilation[axis]);
        let first = padding.saturating_sub(start).div_ceil(dilation);
        let end = (extent + padding).saturating_sub(start).div_ceil(dilation).min(self.kernel[axis]);
        first..end.max(first)
    }

    /// The pixels under window `o`, of `extent`.
    fn pixels(&self, axis: usize, o: usize, extent: usize) -> impl Iterator<Item = usize> + use<> {
        let (start, dilation, padding) = (o * self.stride[axis], self.dilation[axis], self.padding[axis]);
        self.taps(axis, o, extent).map(move |tap| start + tap * dilation - padding)
    }

    fn infer(&self, x: &Type) -> Result<Shape> {
        let [batch, height, width, channels] = floats(x)?;
        Ok(Shape(vec![batch, self.output(0, height)?, self.output(1, width)?, channels]))
    }

    /// The override constants that max and average share.
    fn constants(&self) -> [(&'static str, u32); 6] {
        [
            ("KERNEL_HEIGHT", self.kernel[0] as u32),
            ("KERNEL_WIDTH", self.kernel[1] as u32),
            ("STRIDE_HEIGHT", self.stride[0] as u32),
            ("STRIDE_WIDTH", self.stride[1] as u32),
            ("PADDING_HEIGHT", self.padding[0] as u32),
            ("PADDING_WIDTH", self.padding[1] as u32),
        ]
    }

    /// For plans: `3x3 s2 p1 d1 ceil`.
    fn describe(&self) -> String {
        let pair = |[a, b]: [usize; 2]| if a == b { a.to_string() } else { format!("{a},{b}") };
        let mut text = format!("{}x{} s{}", self.kernel[0], self.kernel[1], pair(self.stride));
        for (name, value, default) in [("p", self.padding, [0, 0]), ("d", self.dilation, [1, 1])] {
            if value != default {
                text.push_str(&format!(" {name}{}", pair(value)));
            }
        }
        text.push_str(if self.ceil_mode { " ceil" } else { "" });
        text
    }
}

fn floats(x: &Type) -> Result<[usize; 4]> {
    require(x.dtype == DType::F32, || format!("expected floats, found {x}"))?;
    let extents = x.shape.nhwc()?;
    require(x.shape.numel() > 0, || format!("{x} is empty"))?;
    Ok(extents)
}

/// Extents of the larger and the smaller side: those of x and y, or of their gradients.
#[derive(Clone, Copy)]
struct Planes {
    input: [usize; 2],
    output: [usize; 2],
    channels: usize,
}

impl Planes {
    fn of(x: &Shape, y: &Shape) -> Self {
        Planes { input: [x[1], x[2]], output: [y[1], y[2]], channels: x[3] }
    }

    /// The mean over windows, or with `gradient` its gradient. `under` gives the pixels under window `o` of an axis,
    /// and the divisor.
    fn mean<T: Real, R: Iterator<Item = usize>>(
        &self,
        call: &mut CpuCall<'_, T>,
        gradient: bool,
        under: impl Fn(usize, usize) -> (R, usize),
    ) {
        let under = &under;
        let along = |a: usize| {
            let windows = (0..self.output[a]).flat_map(move |o| {
                let (pixels, divisor) = under(a, o);
                pixels.map(move |i| (o, i, T::of(1.0 / divisor as f64)))
            });
            if gradient {
                axis(self.input[a], windows.map(|(o, i, weight)| (i, o, weight)))
            } else {
                axis(self.output[a], windows)
            }
        };
        let (rows, columns, channels) = (along(0), along(1), self.channels);
        let [height, width] = if gradient { self.output } else { self.input };
        let (source, line) = (call.real(0), columns.len() * channels);
        pieces(
            call.output(0),
            line,
            #[inline(always)]
            |at, out| {
                let (n, row) = (at / line / rows.len(), at / line % rows.len());
                for (out, columns) in out.chunks_exact_mut(channels).zip(&columns) {
                    strips!([32, 16, 8, 1], channels, |c, N| {
                        let mut sum = [T::zero(); N];
                        for &(h, row_weight) in &rows[row] {
                            let mut part = [T::zero(); N];
                            for &(w, weight) in columns {
                                let from = ((n * height + h) * width + w) * channels + c;
                                let from = &source[from..][..N];
                                for i in 0..N {
                                    part[i] += from[i] * weight;
                                }
                            }
                            for i in 0..N {
                                sum[i] += part[i] * row_weight;
                            }
                        }
                        out[c..][..N].copy_from_slice(&sum);
                    });
                }
            },
        );
    }

    /// One variant for each number of channels that a thread may process. `count` is the elements of the written
    /// value; a value of bytes is read (`max_grad`), or written in words (`max`).
    fn variants(
        &self,
        count: usize,
        caps: &Caps,
        kernel: &Kernel,
        bind: impl Fn(Launch) -> Launch,
    ) -> Vec<Variant> {
        let (bytes, words) = (kernel.source.text.contains("const SHIFTS"), kernel.entry == "forward");
        let variant = |&lanes: &usize| {
            let (name, knob) = elem(lanes);
            let params = Params {
                count: (count / lanes) as u32,
                in_height: self.input[0] as u32,
                in_width: self.input[1] as u32,
                out_height: self.output[0] as u32,
                out_width: self.output[1] as u32,
                channels: (self.channels / lanes) as u32,
            };
            let mut kernel = kernel.clone().knob("Elem", knob);
            if bytes {
                let shifts = if lanes == 4 { "vec4<u32>(0u, 8u, 16u, 24u)" } else { "0u" };
                kernel = kernel.knob("Word", word(lanes)).knob("LANES", format!("{lanes}u"));
                kernel = kernel.knob("SHIFTS", shifts);
            }
            let threads = if bytes && words { count.div_ceil(4) } else { count / lanes };
            Variant::single(name, bind(Launch::new(kernel, &params, groups(threads, caps))))
        };
        lanes(&[self.channels]).iter().map(variant).collect()
    }
}

/// `Params` of `shaders/pool/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
}

pub(super) fn cases() -> Vec<Case> {
    let base = PoolWindow::default();
    let windows = [
        (base, [4, 6]),
        (PoolWindow { kernel: [3, 3], padding: [1, 1], ..base }, [7, 9]),
        (PoolWindow { kernel: [3, 2], stride: [1, 3], padding: [1, 0], ..base }, [5, 8]),
        (PoolWindow { kernel: [3, 3], ceil_mode: true, ..base }, [6, 7]),
        // The rule for the last window: without it there would be one that covers only padding.
        (PoolWindow { padding: [1, 1], ceil_mode: true, ..base }, [5, 4]),
        (PoolWindow { kernel: [3, 3], stride: [3, 3], padding: [1, 1], ceil_mode: true, ..base }, [6, 8]),
        (PoolWindow { kernel: [2, 2], stride: [3, 3], ..base }, [8, 5]),
    ];
    let dilated = PoolWindow { kernel: [3, 2], stride: [1, 2], padding: [2, 1], dilation: [2, 3], ..base };
    let mut all = Vec::new();
    for (window, [h, w]) in windows {
        for (batch, channels) in [(1, 8), (3, 5)] {
            let shape = [batch, h, w, channels];
            all.push(Case::new(MaxPool { window }, &[&shape]));
            for count_include_pad in [true, false] {
                if count_include_pad || window.padding != [0, 0] {
                    all.push(Case::new(AvgPool { window, count_include_pad }, &[&shape]));
                }
            }
        }
    }
    all.push(Case::new(MaxPool { window: dilated }, &[&[2, 7, 9, 4]]));
    // Strips of every width.
    let overlapping = PoolWindow { kernel: [3, 3], padding: [1, 1], ..base };
    all.push(Case::new(MaxPool { window: overlapping }, &[&[1, 5, 4, 57]]));
    all.push(Case::new(AvgPool { window: overlapping, count_include_pad: false }, &[&[1, 5, 4, 57]]));
    all.push(Case::new(MaxPool { window: PoolWindow { ceil_mode: true, ..dilated } }, &[&[1, 6, 8, 3]]));
    // Its only column of windows hangs over the right edge.
    let wide = PoolWindow { kernel: [2, 4], stride: [2, 3], ceil_mode: true, ..base };
    all.push(Case::new(MaxPool { window: wide }, &[&[3, 5, 3, 4]]));
    all.push(Case::new(AvgPool { window: wide, count_include_pad: true }, &[&[3, 5, 3, 4]]));
    for (output, shape) in [
        ([1, 1], [3, 7, 7, 16]),
        ([1, 1], [1, 5, 3, 7]),
        ([7, 7], [1, 7, 7, 4]),
        ([3, 2], [2, 7, 5, 8]),
        ([7, 5], [1, 3, 2, 3]),
        ([5, 4], [3, 3, 9, 4]),
    ] {
        all.push(Case::new(AdaptiveAvgPool { output }, &[&shape]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PyTorch 2.15's results, except the last: there PyTorch returns an index outside the image.
    #[test]
    fn output_sizes() {
        let of = |kernel, stride, padding, dilation, ceil_mode, extent| {
            let window = PoolWindow {
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
                dilation: [dilation; 2],
                ceil_mode,
            };
            window.output(0, extent).ok()
        };
        assert_eq!(of(3, 2, 1, 1, false, 112), Some(56));
        assert_eq!(of(3, 2, 0, 1, true, 112), Some(56));
        assert_eq!(of(3, 2, 0, 1, false, 112), Some(55));
        assert_eq!(of(2, 2, 1, 1, true, 4), Some(3));
        assert_eq!(of(2, 2, 1, 1, true, 5), Some(3));
        // (6 + 2 - 3) / 3 rounded up + 1 = 3, and the third window begins at 6 < 6 + 1.
        assert_eq!(of(3, 3, 1, 1, true, 6), Some(3));
        assert_eq!(of(2, 3, 0, 1, true, 3), Some(1));
        // A first window that hangs over the end.
        assert_eq!(of(3, 2, 0, 2, true, 4), Some(1));
        assert_eq!(of(3, 1, 0, 2, true, 4), None);
        assert_eq!(of(3, 1, 2, 1, false, 5), None, "padding beyond half of the kernel");
        assert_eq!(of(3, 1, 0, 1, false, 2), None, "a window larger than the image");
        assert_eq!(of(2, 1, 1, 3, false, 2), None, "both taps outside");
    }
}
