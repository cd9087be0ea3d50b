//! Pillow's antialiased resize, byte for byte (`src/libImaging/Resample.c`, `Image.resize`).
//!
//! Output pixel `i` of a pass has its centre at `c = (i + 0.5) * scale` of the input, `scale = in / out`.
//! The filter is stretched by `s = max(scale, 1)`, which is what prevents aliasing, and weighs the input
//! pixels `x` from `trunc(c - support * s + 0.5)` up to, not including, `trunc(c + support * s + 0.5)` by
//! `f((x - c + 0.5) / s)`. The weights are divided by their sum in f64 and rounded to 22 fractional bits;
//! sums start at one half and are clamped to a byte. A pass that does not change the size changes nothing.
//!
//! The horizontal pass comes first and the vertical one works on its rounded bytes; the other way round where
//! the height shrinks by more than twice as many pixels as the width. That exception is Pillow 13's (pull
//! request 9549; the condition was found by trial on 3000 sizes). It concerns images more than twice as
//! tall as wide and crops that are stretched; earlier Pillows differ there, bilinear by one level.

use super::decode::Image;
use crate::models::preprocess::Filter;

/// 32 bits less 8 for the sample and 2 for the sign and overshoot of the cubic.
const FRACTION: u32 = 22;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// Left column.
    pub x: usize,
    /// Top row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Resizes the whole image to `width` x `height` pixels, both at least 1.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Image {
    let source = Rect { x: 0, y: 0, width: image.width, height: image.height };
    resize_window(image, source, (width, height), Rect { x: 0, y: 0, width, height }, filter)
}

/// Crops `source` out of the image, resizes it to `size` (width, height), and crops `keep` out of that:
/// three steps of Pillow in one, computing only the pixels that are kept.
///
/// `source` must lie within the image and `keep` within `size`, none of them empty.
pub fn resize_window(image: &Image, source: Rect, size: (usize, usize), keep: Rect, filter: Filter) -> Image {
    let mut columns = Taps::new(source.width, size.0, keep.x, keep.width, filter);
    let mut rows = Taps::new(source.height, size.1, keep.y, keep.height, filter);
    // Only what the kept pixels read is computed.
    let (left, width) = columns.rebase();
    let (top, height) = rows.rebase();
    let (left, top) = (source.x + left, source.y + top);
    if source.height.saturating_sub(size.1) > 2 * source.width.saturating_sub(size.0) {
        horizontal(&vertical(image, left, top, width, &rows), 0, 0, keep.height, &columns)
    } else {
        vertical(&horizontal(image, left, top, height, &columns), 0, 0, keep.width, &rows)
    }
}

/// For each output position the first input position it reads, and its weights.
struct Taps {
    /// Weights of one output position, padded with zeros to the longest.
    length: usize,
    starts: Vec<usize>,
    counts: Vec<usize>,
    weights: Vec<i32>,
}

impl Taps {
    /// The taps of outputs `from .. from + count` of a pass from `input` to `output` positions.
    fn new(input: usize, output: usize, from: usize, count: usize, filter: Filter) -> Taps {
        if input == output {
            let starts = (from..from + count).collect();
            return Taps { length: 1, starts, counts: vec![1; count], weights: vec![1 << FRACTION; count] };
        }
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = stretch * radius(filter);
        let length = support.ceil() as usize * 2 + 1;
        let mut taps =
            Taps { length, starts: Vec::new(), counts: Vec::new(), weights: vec![0; length * count] };
        for (i, out) in (from..from + count).zip(taps.weights.chunks_exact_mut(length)) {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            let weights: Vec<f64> =
                (start..end).map(|x| weight(filter, (x as f64 - centre + 0.5) * (1.0 / stretch))).collect();
            let sum: f64 = weights.iter().sum();
            for (fixed, w) in out.iter_mut().zip(&weights) {
                let scaled = w / sum * f64::from(1 << FRACTION);
                *fixed = (scaled + 0.5f64.copysign(scaled)) as i32;
            }
            taps.starts.push(start);
            taps.counts.push(end - start);
        }
        taps
    }

    /// Counts input positions from the first one that is read; gives that one, and how many there are.
    fn rebase(&mut self) -> (usize, usize) {
        let (first, last) = (self.starts[0], self.starts.len() - 1);
        self.starts.iter_mut().for_each(|start| *start -= first);
        (first, self.starts[last] + self.counts[last])
    }

    /// Each output's first input position and weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.length);
        self.starts.iter().zip(&self.counts).zip(weights).map(|((&start, &n), w)| (start, &w[..n]))
    }
}

/// Where the filter ends, in input pixels before stretching.
fn radius(filter: Filter) -> f64 {
    match filter {
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
    }
}

/// The filter at `x`; the order of operations is Pillow's, so that the last bit is too.
fn weight(filter: Filter, x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    match filter {
        Filter::Bilinear if x < 1.0 => 1.0 - x,
        Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (FRACTION - 1);

/// Resizes across: of `height` rows from `top`, the columns counted from `left`.
fn horizontal(image: &Image, left: usize, top: usize, height: usize, columns: &Taps) -> Image {
    let width = columns.starts.len();
    let mut rgb = Vec::with_capacity(width * height * 3);
    for row in image.rgb.chunks_exact(image.width * 3).skip(top).take(height) {
        let row = &row[left * 3..];
        for (start, weights) in columns.iter() {
            let mut sum = [HALF; 3];
            for (pixel, &w) in row[start * 3..].chunks_exact(3).zip(weights) {
                for c in 0..3 {
                    sum[c] += w * i32::from(pixel[c]);
                }
            }
            rgb.extend(sum.map(to_byte));
        }
    }
    Image { width, height, rgb }
}

/// Resizes down: of `width` columns from `left`, the rows counted from `top`.
fn vertical(image: &Image, left: usize, top: usize, width: usize, rows: &Taps) -> Image {
    let stride = image.width * 3;
    let mut rgb = Vec::with_capacity(width * rows.starts.len() * 3);
    let mut sums = vec![0i32; width * 3];
    for (start, weights) in rows.iter() {
        sums.fill(HALF);
        for (row, &w) in image.rgb[(top + start) * stride..].chunks_exact(stride).zip(weights) {
            for (sum, &byte) in sums.iter_mut().zip(&row[left * 3..]) {
                *sum += w * i32::from(byte);
            }
        }
        rgb.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    Image { width, height: rows.starts.len(), rgb }
}
