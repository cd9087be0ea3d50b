//! The register tile of every matrix product: ROWS numbers of one operand against N neighbouring
//! columns of the other, ROWS x N sums in registers. With 16 columns of f32, AVX2 holds the 12
//! accumulators, two vectors of `b` and one broadcast of `a`.

use crate::tape::Real;

use super::mul_add;

/// Rows of a tile.
pub(super) const ROWS: usize = 6;

/// A run of source numbers that windows read in one piece, for neighbouring taps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Offset from the window's first number.
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Sums of one tile.
pub(super) type Tile<T, const N: usize> = [[T; N]; ROWS];

/// `tile[r][c] += sum over k of a[r][k] b[k][c]`: row r reads the runs of numbers `(offset, len)` from
/// `bases[r]` on; `b` is packed as `[k][N]`, of which the first `W` columns count.
#[inline(always)]
pub(super) fn inner<T: Real, const N: usize, const W: usize>(
    fused: bool,
    tile: &mut Tile<T, W>,
    data: &[T],
    bases: [usize; ROWS],
    runs: &[Run],
    b: &[T],
) {
    let mut sums = *tile;
    let mut b = b.as_chunks::<N>().0;
    for run in runs {
        let (now, rest) = b.split_at(run.len);
        b = rest;
        let row = |r: usize| &data[bases[r] + run.offset..][..run.len];
        let a: [&[T]; ROWS] = [row(0), row(1), row(2), row(3), row(4), row(5)];
        for (k, b) in now.iter().enumerate() {
            for r in 0..ROWS {
                let a = a[r][k];
                for c in 0..W {
                    sums[r][c] = mul_add(fused, a, b[c], sums[r][c]);
                }
            }
        }
    }
    *tile = sums;
}

/// `tile[r][c] += sum over p of a[p * stride + r] b[p][c]`, with `b` packed as `[p][N]`.
#[inline(always)]
pub(super) fn outer<T: Real, const N: usize>(
    fused: bool,
    tile: &mut Tile<T, N>,
    a: &[T],
    stride: usize,
    b: &[T],
) {
    let mut sums = *tile;
    for (p, b) in b.as_chunks::<N>().0.iter().enumerate() {
        let Some(a) = a[p * stride..].first_chunk::<ROWS>() else { break };
        for r in 0..ROWS {
            for c in 0..N {
                sums[r][c] = mul_add(fused, a[r], b[c], sums[r][c]);
            }
        }
    }
    *tile = sums;
}
