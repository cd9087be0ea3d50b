//! A window that slides over images, for convolutions of every kind.

use bytemuck::{Pod, Zeroable};

use crate::Result;
use crate::ops::require;
use crate::tape::Shape;

/// Zeros around an image, in pixels.
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

/// A window that slides over an image; `[height, width]` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Step between output pixels.
    pub stride: [usize; 2],
    /// Zeros around the image.
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
    /// [`crate::Error::Shape`] where the window is larger than the padded image.
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

    /// Whether so many taps lie in the padding, as on small maps, that it pays to order pixels by position: the
    /// pixels of a tile, from several images, then lie in the padding together. `x` and `y` are the inputs' and
    /// outputs' shapes.
    pub(super) fn by_place(&self, x: &Shape, y: &Shape) -> bool {
        let inside = |axis: usize, pad: usize| {
            let steps = (0..y[1 + axis]).flat_map(|o| (0..self.kernel[axis]).map(move |k| (o, k)));
            let at = |(o, k): (usize, usize)| o * self.stride[axis] + k * self.dilation[axis];
            let met = steps.filter(|&step| (pad..pad + x[1 + axis]).contains(&at(step))).count();
            met as f64 / (y[1 + axis] * self.kernel[axis]) as f64
        };
        x[0] >= 4 && inside(0, self.padding.top) * inside(1, self.padding.left) < 0.9
    }

    /// All taps, row by row.
    pub(super) fn taps(&self) -> impl Iterator<Item = [usize; 2]> {
        let [height, width] = self.kernel;
        (0..height).flat_map(move |h| (0..width).map(move |w| [h, w]))
    }

    /// Whether each output pixel depends only on the input pixel at its position.
    pub(super) fn is_pointwise(&self) -> bool {
        *self == Window { dilation: self.dilation, ..Window::default() }
    }

    pub(in crate::ops) fn constants(&self) -> [(&'static str, u32); 6] {
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
pub(in crate::ops) struct Params {
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
    pub(in crate::ops) split_rows: u32,
    pub(in crate::ops) splits: u32,
}

impl Params {
    pub(in crate::ops) fn new(window: &Window, groups: usize, x: &Shape, y: &Shape) -> Self {
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

    /// With the sum over output pixels in `splits` parts of `rows`.
    pub(super) fn split(self, splits: usize, rows: usize) -> Self {
        Params { splits: splits as u32, split_rows: rows as u32, ..self }
    }
}
