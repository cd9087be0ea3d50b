//! Sums of neighbouring channels that stay in registers: strips of channels, gathers along an axis, and
//! bands of rows.

use std::ops::Range;

use rayon::prelude::*;

use super::simd;
use crate::tape::{CpuCall, Real};

/// Runs `$body` for strips that cover all channels, `$c` the first channel of each and the constant `$N`
/// its width, the widest of the list that fits: `[T; $N]` lies in vector registers. The list ends in 1.
macro_rules! strips {
    ([$($width:literal),*], $channels:expr, |$c:ident, $N:ident| $body:expr) => {{
        let mut $c = 0;
        $(while $channels - $c >= $width {
            const $N: usize = $width;
            $body;
            $c += $width;
        })*
    }};
}
pub(in crate::ops) use strips;

/// One axis of a gather: for each position of the result, the positions of the source in its sum, each with a factor
/// or number (a tap, a weight).
pub(in crate::ops) type Axis<A> = Vec<Vec<(usize, A)>>;

/// An axis of `places`, from triples of a position of the result, a position of the source, and its factor or number.
pub(in crate::ops) fn axis<A>(places: usize, taken: impl Iterator<Item = (usize, usize, A)>) -> Axis<A> {
    let mut axis: Axis<A> = (0..places).map(|_| Vec::new()).collect();
    taken.for_each(|(to, from, what)| axis[to].push((from, what)));
    axis
}

/// Output 0 as the sum over `rows`, in at most 64 bands of at least `least` rows each: `f` adds its rows to a band's
/// own sums (its first argument is that of [`simd`]), and the bands are added in order. Write `#[inline(always)]`
/// before the closure.
pub(in crate::ops) fn banded<T: Real>(
    call: &mut CpuCall<'_, T>,
    rows: usize,
    least: usize,
    f: impl Fn(bool, Range<usize>, &mut [T]) + Sync,
) {
    let total = call.output(0);
    if total.is_empty() {
        return;
    }
    let len = total.len();
    let band = rows.div_ceil(64).max(least).max(1);
    let partial = call.scratch(rows.div_ceil(band) * len);
    partial.par_chunks_mut(len).enumerate().for_each(|(b, sums)| {
        simd(
            #[inline(always)]
            |fused| {
                sums.fill(T::zero());
                f(fused, b * band..((b + 1) * band).min(rows), sums);
            },
        );
    });
    total.fill(T::zero());
    for sums in partial.chunks_exact(len) {
        total.iter_mut().zip(sums).for_each(|(total, &sum)| *total += sum);
    }
}
