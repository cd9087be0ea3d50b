//! The gradient of 3x3 weights in Winograd's form; see [`super::winograd`].

use rayon::prelude::*;

use crate::tape::Real;

use super::simd;
use super::tile::{ROWS, Tile, outer};
use super::winograd::{Block, PANEL, POINTS, Tiles, read};

/// Tiles that one task transforms for the gradient of the weights.
const GROUP: usize = 64;

/// Numbers of a panel of a group's transformed gradients, `[tile][PANEL]`: padded, so that the points of a tile do
/// not share cache lines of the same index.
const WIDTH: usize = (GROUP + 1) * PANEL;

/// Groups that are transformed before their products are added.
const SHARE: usize = 8;

/// The division of the weights' gradient into tasks.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Channels of the source, rounded up to whole register tiles; those after the last are zero.
    rows: usize,
    panels: usize,
    groups: usize,
}

impl Cut {
    fn new(tiles: &Tiles) -> Self {
        let groups = (tiles.images * tiles.of_image()).div_ceil(GROUP).min(SHARE);
        Cut { rows: tiles.source[2].next_multiple_of(ROWS), panels: tiles.panels(), groups }
    }

    /// Numbers of a group's transformed pixels `[POINTS][tile][rows]`, of its transformed gradients
    /// `[POINTS][panel][WIDTH]`, and of the sums `[POINTS][panel][rows][PANEL]`.
    fn sizes(&self) -> [usize; 3] {
        let (rows, panels) = (self.rows, self.panels);
        [POINTS * GROUP * rows, POINTS * panels * WIDTH, POINTS * panels * rows * PANEL]
    }
}

/// How many numbers of scratch memory [`winograd_weigh`] needs.
pub(in crate::ops) fn winograd_scratch(tiles: &Tiles) -> usize {
    let cut = Cut::new(tiles);
    let [v, w, sums] = cut.sizes();
    cut.groups * (v + w) + sums
}

/// The gradient of the weights `[3, 3, depth, columns]`: `G^T (sum over tiles of (B^T d B) (A dy A^T)) G`, where the
/// two factors are multiplied point by point, for all pairs of channels.
pub(in crate::ops) fn winograd_weigh<T: Real>(
    x: &[T],
    dy: &[T],
    tiles: &Tiles,
    scratch: &mut [T],
    dw: &mut [T],
) {
    let cut = Cut::new(tiles);
    let [v_size, w_size, sums_size] = cut.sizes();
    let zeros = vec![T::zero(); tiles.source[2].max(tiles.target[2])];
    let (sums, rest) = scratch.split_at_mut(sums_size);
    let (v, w) = rest.split_at_mut(cut.groups * v_size);
    v.fill(T::zero());
    let all = tiles.images * tiles.of_image();
    let block = Block { first: [0, 0], tiles: all };
    for from in (0..all).step_by(cut.groups * GROUP) {
        let count = (all - from).min(cut.groups * GROUP);
        let groups = v.par_chunks_exact_mut(v_size).zip(w.par_chunks_exact_mut(w_size)).enumerate();
        groups.for_each(|(group, (v, w))| {
            simd(
                #[inline(always)]
                |_| {
                    for t in 0..GROUP.min(count.saturating_sub(group * GROUP)) {
                        let tile = from + group * GROUP + t;
                        read(x, &zeros, tiles, &block, tile, GROUP * cut.rows, &mut v[t * cut.rows..]);
                        read_gradient(dy, &zeros, tiles, tile, &mut w[t * PANEL..]);
                    }
                },
            );
        });
        let (v, w) = (&*v, &*w);
        sums.par_chunks_exact_mut(cut.rows * PANEL).enumerate().for_each(|(i, sums)| {
            simd(
                #[inline(always)]
                |fused| {
                    for (k, sums) in sums.as_chunks_mut::<PANEL>().0.chunks_exact_mut(ROWS).enumerate() {
                        let mut tile: Tile<T, PANEL> = [[T::zero(); PANEL]; ROWS];
                        if from > 0 {
                            tile.copy_from_slice(sums);
                        }
                        for (group, (v, w)) in v.chunks_exact(v_size).zip(w.chunks_exact(w_size)).enumerate()
                        {
                            let used = GROUP.min(count.saturating_sub(group * GROUP));
                            let a = &v[i / cut.panels * GROUP * cut.rows + k * ROWS..];
                            let b = &w[i * WIDTH..][..used * PANEL];
                            outer::<T, PANEL>(fused, &mut tile, a, cut.rows, b);
                        }
                        sums.copy_from_slice(&tile);
                    }
                },
            );
        });
    }
    fold_weights(sums, &cut, tiles.target[2], tiles.source[2], dw);
}

/// Writes `A dy A^T` of tile `t`: `PANEL` numbers every `WIDTH`, by point, then by panel.
#[inline(always)]
fn read_gradient<T: Real>(dy: &[T], zeros: &[T], tiles: &Tiles, t: usize, out: &mut [T]) {
    let [height, width, channels] = tiles.target;
    let [rows, columns] = tiles.grid();
    let (n, row, column) = (t / columns / rows, t / columns % rows, t % columns);
    let source: [&[T]; 4] = std::array::from_fn(|p| {
        let (h, w) = (2 * row + p / 2, 2 * column + p % 2);
        match h < height && w < width {
            true => &dy[((n * height + h) * width + w) * channels..][..channels],
            false => &zeros[..channels],
        }
    });
    let panels = tiles.panels();
    for panel in 0..panels {
        let at = panel * PANEL;
        let used = (channels - at).min(PANEL);
        let mut d = [[T::zero(); PANEL]; 4];
        for (d, pixel) in d.iter_mut().zip(source) {
            // The same twice; in the first, the compiler knows the length.
            if used == PANEL {
                d.copy_from_slice(&pixel[at..][..PANEL]);
            } else {
                d[..used].copy_from_slice(&pixel[at..][..used]);
            }
        }
        let mut half = [[T::zero(); PANEL]; 8];
        for j in 0..2 {
            for c in 0..PANEL {
                let [a, b] = [d[j][c], d[2 + j][c]];
                half[j][c] = a;
                half[2 + j][c] = a + b;
                half[4 + j][c] = a - b;
                half[6 + j][c] = -b;
            }
        }
        for i in 0..4 {
            let mut row = [[T::zero(); PANEL]; 4];
            for c in 0..PANEL {
                let [a, b] = [half[2 * i][c], half[2 * i + 1][c]];
                row[0][c] = a;
                row[1][c] = a + b;
                row[2][c] = a - b;
                row[3][c] = -b;
            }
            for (j, row) in row.iter().enumerate() {
                out[((4 * i + j) * panels + panel) * WIDTH..][..PANEL].copy_from_slice(row);
            }
        }
    }
}

/// `G^T s G` for all pairs of channels.
fn fold_weights<T: Real>(sums: &[T], cut: &Cut, columns: usize, depth: usize, dw: &mut [T]) {
    let half = T::of(0.5);
    let sums = sums.as_chunks::<PANEL>().0;
    // A row of every tap at a time: the taps lie far apart in memory.
    let mut all: Vec<Vec<&mut [T]>> = (0..depth).map(|_| Vec::new()).collect();
    for (i, row) in dw.chunks_exact_mut(columns).enumerate() {
        all[i % depth].push(row);
    }
    all.par_iter_mut().enumerate().for_each(|(k, taps)| {
        simd(
            #[inline(always)]
            |_| {
                for panel in 0..cut.panels {
                    let s: [&[T; PANEL]; POINTS] =
                        std::array::from_fn(|p| &sums[(p * cut.panels + panel) * cut.rows + k]);
                    let mut down = [[T::zero(); PANEL]; 12];
                    for j in 0..4 {
                        for c in 0..PANEL {
                            let [a, b, d, e] = [s[j][c], s[4 + j][c], s[8 + j][c], s[12 + j][c]];
                            down[j][c] = a + half * (b + d);
                            down[4 + j][c] = half * (b - d);
                            down[8 + j][c] = half * (b + d) + e;
                        }
                    }
                    let used = (columns - panel * PANEL).min(PANEL);
                    for h in 0..3 {
                        let mut g = [[T::zero(); PANEL]; 3];
                        for c in 0..PANEL {
                            let at = |j: usize| down[4 * h + j][c];
                            let [a, b, d, e] = [at(0), at(1), at(2), at(3)];
                            g[0][c] = a + half * (b + d);
                            g[1][c] = half * (b - d);
                            g[2][c] = half * (b + d) + e;
                        }
                        for (w, g) in g.iter().enumerate() {
                            taps[3 * h + w][panel * PANEL..][..used].copy_from_slice(&g[..used]);
                        }
                    }
                }
            },
        );
    });
}
