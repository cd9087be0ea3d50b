//! The CPU loops of batch norm. A table of one number a channel is repeated until it has `LANES` entries or more, and
//! as many rows are processed at a time, so that the inner loop is long enough for vector instructions even with few
//! channels.

use std::ops::Range;

use crate::ops::cpu::{PIECE, pieces};
use crate::tape::Real;

/// Least number of entries of a repeated table.
const LANES: usize = 128;

/// A table of one number a channel, repeated.
#[inline(always)]
pub(super) fn repeated<T: Real>(per_channel: &[T]) -> Vec<T> {
    per_channel.repeat(width(per_channel.len()) / per_channel.len())
}

/// Entries of a repeated table.
fn width(channels: usize) -> usize {
    LANES.next_multiple_of(channels)
}

/// Calls `f(offset, lanes)` for stretches of `width` elements of `y` (the last may be shorter), on all
/// threads. Write `#[inline(always)]` before the closure.
pub(super) fn stretches<T: Real>(y: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    pieces(
        y,
        PIECE.next_multiple_of(width),
        #[inline(always)]
        |at, piece| {
            for (i, lanes) in piece.chunks_mut(width).enumerate() {
                f(at + i * width, lanes);
            }
        },
    );
}

/// `y = x * scale`, with a repeated table of scales.
pub(super) fn scaled<T: Real>(y: &mut [T], x: &[T], scale: &[T]) {
    stretches(
        y,
        scale.len(),
        #[inline(always)]
        |at, y| {
            let x = &x[at..][..y.len()];
            y.iter_mut().zip(x).zip(scale).for_each(|((y, &x), &scale)| *y = x * scale);
        },
    );
}

/// Elements of a block: the sums below add rows of a block in T, then f64 adds the blocks. A lane adds at most 256
/// numbers, so rounding errors stay small, and a second pass over the block finds it in cache.
fn block(channels: usize) -> usize {
    let width = width(channels);
    (PIECE / width).clamp(32, 256) * width
}

/// Two numbers a channel for every block: `f(elements, first, second)` computes those of one block. Blocks depend on
/// the shape alone, and run on all threads. Write `#[inline(always)]` before the closure.
pub(super) fn blocks(
    elements: usize,
    channels: usize,
    f: impl Fn(Range<usize>, &mut [f64], &mut [f64]) + Sync,
) -> Vec<f64> {
    let block = block(channels);
    let mut all = vec![0.0; elements.div_ceil(block) * 2 * channels];
    pieces(
        &mut all,
        2 * channels,
        #[inline(always)]
        |at, pair| {
            let start = at / (2 * channels) * block;
            let (first, second) = pair.split_at_mut(channels);
            f(start..(start + block).min(elements), first, second);
        },
    );
    all
}

/// Adds lanes to the sums of their channels, in f64.
#[inline(always)]
pub(super) fn add_lanes<T: Real>(sums: &mut [f64], lanes: &[T]) {
    for row in lanes.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, v)| *sum += v.f64());
    }
}

/// Mean and sum of squared deviations of each channel over the rows of one block, in two passes. The first row is
/// subtracted before the sums: a mean far from zero costs no digits.
#[inline(always)]
pub(super) fn moments<T: Real>(x: &[T], mean: &mut [f64], squares: &mut [f64]) {
    let channels = mean.len();
    let rows = (x.len() / channels) as f64;
    let mut center = repeated(&x[..channels]);
    let mut sums = vec![T::zero(); center.len()];
    for x in x.chunks(center.len()) {
        for ((sum, &x), &center) in sums.iter_mut().zip(x).zip(&center) {
            *sum += x - center;
        }
    }
    add_lanes(mean, &sums);
    mean.iter_mut().zip(x).for_each(|(mean, first)| *mean = first.f64() + *mean / rows);
    for row in center.chunks_exact_mut(channels) {
        row.iter_mut().zip(&*mean).for_each(|(center, &mean)| *center = T::of(mean));
    }
    sums.fill(T::zero());
    for x in x.chunks(center.len()) {
        for ((sum, &x), &center) in sums.iter_mut().zip(x).zip(&center) {
            *sum += (x - center) * (x - center);
        }
    }
    add_lanes(squares, &sums);
}

/// The moments of all blocks as mean and biased variance of each channel:
///   mean = sum(n_b mean_b) / n        var = sum(squares_b + n_b (mean_b - mean)^2) / n
pub(super) fn join_moments(blocks: &[f64], elements: usize, channels: usize) -> (Vec<f64>, Vec<f64>) {
    let block = block(channels);
    let counted = || {
        blocks.chunks_exact(2 * channels).enumerate().map(|(i, pair)| {
            let rows = (elements - i * block).min(block) / channels;
            (rows as f64, pair.split_at(channels))
        })
    };
    let rows = (elements / channels) as f64;
    let (mut mean, mut var) = (vec![0.0; channels], vec![0.0; channels]);
    for (n, (means, _)) in counted() {
        mean.iter_mut().zip(means).for_each(|(mean, m)| *mean += n * m);
    }
    mean.iter_mut().for_each(|mean| *mean /= rows);
    for (n, (means, squares)) in counted() {
        for (((var, mean), m), squares) in var.iter_mut().zip(&mean).zip(means).zip(squares) {
            *var += squares + n * (m - mean) * (m - mean);
        }
    }
    var.iter_mut().for_each(|var| *var /= rows);
    (mean, var)
}
