//! Convolution with 3x3 taps and stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2015). A tile of 2x2 results is computed from 4x4 source pixels d and the taps g
//! as `A^T ((G g G^T) (B^T d B)) A`: 16 products instead of 36, each of them one point of a matrix product over
//! channels. All factors are 0, 1, -1 and 1/2.
//!
//! Work is divided into blocks of tiles whose transformed pixels and products stay in the nearest caches. With few
//! tiles there would be few blocks, and each would read all of the weights; then all tiles are one block, and threads
//! share its points.

use rayon::prelude::*;

use crate::ops::epilogue::Fused;
use crate::tape::{CpuCall, Real};

use super::correlate::finish;
use super::simd;
use super::tile::{ROWS, Run, Tile, inner};

/// Points of a tile: products that replace 36.
pub(in crate::ops) const POINTS: usize = 16;

/// Columns of a panel of transformed weights, `[POINTS][panel][depth][PANEL]`.
pub(in crate::ops) const PANEL: usize = 16;

/// Channels that are transformed at a time.
const LANES: usize = 8;

/// Least number of tiles of a block; more with few channels.
const BLOCK: usize = 48;

/// At most this many tiles are one block, whose points threads share.
const FEW: usize = 256;

/// Images `[n, height, width, channels]` on both sides, and the tiles of the target.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Tiles {
    pub(in crate::ops) images: usize,
    /// Height, width and channels of the source.
    pub(in crate::ops) source: [usize; 3],
    /// Height, width and channels of the target.
    pub(in crate::ops) target: [usize; 3],
    /// Zeros above and to the left of the source.
    pub(in crate::ops) padding: [usize; 2],
}

impl Tiles {
    /// Rows and columns of tiles in an image.
    pub(in crate::ops) fn grid(&self) -> [usize; 2] {
        [self.target[0].div_ceil(2), self.target[1].div_ceil(2)]
    }

    pub(super) fn of_image(&self) -> usize {
        self.grid()[0] * self.grid()[1]
    }

    /// Numbers of one point's products of a panel, for `tiles` tiles, with padding for the same reason as in
    /// [`Tiles::pitch`].
    fn width(tiles: usize) -> usize {
        (tiles + 1) * PANEL
    }

    pub(super) fn panels(&self) -> usize {
        self.target[2].div_ceil(PANEL)
    }

    /// Numbers from one transformed tile to the next: padded, so that neighbouring tiles do not share cache lines of
    /// the same index.
    fn pitch(&self) -> usize {
        POINTS * self.source[2] + PANEL
    }
}

/// Tiles that are processed together: some rows of tiles of one image, or some whole images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// The first image and row of tiles.
    pub(super) first: [usize; 2],
    pub(super) tiles: usize,
}

/// `B^T d B` of `L` channels: the four rows, then the four columns.
#[inline(always)]
fn transform<T: Real, const L: usize>(d: &[[T; L]; POINTS]) -> [[T; L]; POINTS] {
    let mut half = [[T::zero(); L]; POINTS];
    for j in 0..4 {
        for c in 0..L {
            let [d0, d1, d2, d3] = [d[j][c], d[4 + j][c], d[8 + j][c], d[12 + j][c]];
            half[j][c] = d0 - d2;
            half[4 + j][c] = d1 + d2;
            half[8 + j][c] = d2 - d1;
            half[12 + j][c] = d1 - d3;
        }
    }
    let mut v = [[T::zero(); L]; POINTS];
    for i in 0..4 {
        for c in 0..L {
            let [d0, d1, d2, d3] =
                [half[4 * i][c], half[4 * i + 1][c], half[4 * i + 2][c], half[4 * i + 3][c]];
            v[4 * i][c] = d0 - d2;
            v[4 * i + 1][c] = d1 + d2;
            v[4 * i + 2][c] = d2 - d1;
            v[4 * i + 3][c] = d1 - d3;
        }
    }
    v
}

/// Writes the transformed pixels of tile `t` of a block: the points `step` numbers apart, the channels of each
/// contiguous.
#[inline(always)]
pub(super) fn read<T: Real>(
    x: &[T],
    zeros: &[T],
    tiles: &Tiles,
    block: &Block,
    t: usize,
    step: usize,
    out: &mut [T],
) {
    let [height, width, channels] = tiles.source;
    let [rows, columns] = tiles.grid();
    let row = block.first[1] + t / columns;
    let (n, row, column) = (block.first[0] + row / rows, row % rows, t % columns);
    let source: [&[T]; POINTS] = std::array::from_fn(|p| {
        // A negative row wraps to a number far above the height.
        let h = (2 * row + p / 4).wrapping_sub(tiles.padding[0]);
        let w = (2 * column + p % 4).wrapping_sub(tiles.padding[1]);
        match h < height && w < width {
            true => &x[((n * height + h) * width + w) * channels..][..channels],
            false => &zeros[..channels],
        }
    });
    let out = &mut out[..(POINTS - 1) * step + channels];
    let whole = channels / LANES;
    let quads = source.map(|pixel| &pixel.as_chunks::<LANES>().0[..whole]);
    for q in 0..whole {
        let v = transform(&std::array::from_fn(|p| quads[p][q]));
        for p in 0..POINTS {
            out[p * step + q * LANES..][..LANES].copy_from_slice(&v[p]);
        }
    }
    for c in whole * LANES..channels {
        let v = transform(&std::array::from_fn(|p| [source[p][c]]));
        for p in 0..POINTS {
            out[p * step + c] = v[p][0];
        }
    }
}

/// The products of one point and one panel of weights for `count` tiles, `[tile][PANEL]`.
#[inline(always)]
fn multiply<T: Real>(
    fused: bool,
    v: &[T],
    point: usize,
    (depth, pitch, count): (usize, usize, usize),
    weights: &[T],
    products: &mut [T],
) {
    let products = products.as_chunks_mut::<PANEL>().0;
    let run = [Run { offset: point * depth, len: depth }];
    let mut t = 0;
    while t < count {
        let bases = std::array::from_fn(|r| (t + r).min(count - 1) * pitch);
        let mut tile: Tile<T, PANEL> = [[T::zero(); PANEL]; ROWS];
        inner::<T, PANEL, PANEL>(fused, &mut tile, v, bases, &run, weights);
        for (to, row) in products[t..].iter_mut().zip(tile).take(count - t) {
            *to = row;
        }
        t += ROWS;
    }
}

/// `A^T m A` of all tiles of a block, into pixels of `out`, which begins with the block's first pixel.
/// `products` are `[POINTS][panel][of + 1][PANEL]`, the block's from tile `at` on.
#[inline(always)]
fn write<T: Real>(tiles: &Tiles, block: &Block, products: &[T], (at, of): (usize, usize), out: &mut [T]) {
    let [height, width, channels] = tiles.target;
    let [rows, columns] = tiles.grid();
    let panels = tiles.panels();
    let products = products.as_chunks::<PANEL>().0;
    for t in 0..block.tiles {
        let (row, column) = (t / columns, t % columns);
        // Rows of a later image of the block follow all rows of the earlier ones.
        let (image, row) = ((block.first[1] + row) / rows, (block.first[1] + row) % rows);
        let top = image * height + 2 * row - 2 * block.first[1];
        let whole = [2 * row + 1 < height, 2 * column + 1 < width];
        for panel in 0..panels {
            let used = (channels - panel * PANEL).min(PANEL);
            let m: [&[T; PANEL]; POINTS] =
                std::array::from_fn(|p| &products[(p * panels + panel) * (of + 1) + at + t]);
            let mut half = [[T::zero(); PANEL]; 8];
            for j in 0..4 {
                for c in 0..PANEL {
                    let [m0, m1, m2, m3] = [m[j][c], m[4 + j][c], m[8 + j][c], m[12 + j][c]];
                    half[j][c] = m0 + m1 + m2;
                    half[4 + j][c] = m1 - m2 - m3;
                }
            }
            for i in 0..2 {
                if i == 1 && !whole[0] {
                    continue;
                }
                let mut y = [[T::zero(); PANEL]; 2];
                for c in 0..PANEL {
                    let [m0, m1, m2, m3] =
                        [half[4 * i][c], half[4 * i + 1][c], half[4 * i + 2][c], half[4 * i + 3][c]];
                    y[0][c] = m0 + m1 + m2;
                    y[1][c] = m1 - m2 - m3;
                }
                let pixel = (top + i) * width + 2 * column;
                for (j, y) in y.iter().enumerate().take(1 + usize::from(whole[1])) {
                    let out = &mut out[(pixel + j) * channels + panel * PANEL..][..used];
                    // The same twice; in the first, the compiler knows the length.
                    if used == PANEL {
                        out.copy_from_slice(y);
                    } else {
                        out.copy_from_slice(&y[..used]);
                    }
                }
            }
        }
    }
}

/// How many numbers of scratch memory [`winograd`] needs.
fn scratch(tiles: &Tiles) -> usize {
    let all = tiles.images * tiles.of_image();
    if all > FEW { 0 } else { all * tiles.pitch() + POINTS * tiles.panels() * Tiles::width(all) }
}

/// Output 0 = `epilogue(convolution of input 0 with the transformed weights in input 1)`.
pub(in crate::ops) fn winograd<T: Real>(call: &mut CpuCall<'_, T>, tiles: &Tiles, epilogue: &Fused<'_, T>) {
    let (x, u) = (call.real(0), call.real(1));
    let (scratch, out) = (call.scratch(scratch(tiles)), call.output(0));
    let zeros = vec![T::zero(); tiles.source[2]];
    if tiles.images * tiles.of_image() <= FEW {
        by_points(x, &zeros, u, tiles, epilogue, scratch, out);
    } else {
        by_blocks(x, &zeros, u, tiles, epilogue, out);
    }
}

/// One block of all tiles.
fn by_points<T: Real>(
    x: &[T],
    zeros: &[T],
    u: &[T],
    tiles: &Tiles,
    epilogue: &Fused<'_, T>,
    scratch: &mut [T],
    out: &mut [T],
) {
    let [height, width, channels] = tiles.target;
    let (depth, pitch, of_image) = (tiles.source[2], tiles.pitch(), tiles.of_image());
    let all = Block { first: [0, 0], tiles: tiles.images * of_image };
    let (v, products) = scratch.split_at_mut(all.tiles * pitch);
    v.par_chunks_mut(pitch).enumerate().for_each(|(t, out)| {
        simd(
            #[inline(always)]
            |_| read(x, zeros, tiles, &all, t, depth, out),
        );
    });
    let (v, sizes) = (&*v, (depth, pitch, all.tiles));
    products.par_chunks_mut(Tiles::width(all.tiles)).enumerate().for_each(|(i, products)| {
        let weights = &u[i * depth * PANEL..][..depth * PANEL];
        simd(
            #[inline(always)]
            |fused| multiply(fused, v, i / tiles.panels(), sizes, weights, products),
        );
    });
    let products = &*products;
    let (columns, row) = (tiles.grid()[1], width * channels);
    out.par_chunks_mut(height * row).enumerate().for_each(|(n, image)| {
        image.par_chunks_mut(2 * row).enumerate().for_each(|(i, out)| {
            let block = Block { first: [0, i], tiles: columns };
            let at = n * of_image + i * columns;
            simd(
                #[inline(always)]
                |_| {
                    write(tiles, &block, products, (at, all.tiles), out);
                    finish(epilogue, (n * height + 2 * i) * width, channels, out);
                },
            );
        });
    });
}

/// Each thread processes one block at a time.
fn by_blocks<T: Real>(x: &[T], zeros: &[T], u: &[T], tiles: &Tiles, epilogue: &Fused<'_, T>, out: &mut [T]) {
    let [height, width, channels] = tiles.target;
    let (depth, pitch, panels) = (tiles.source[2], tiles.pitch(), tiles.panels());
    let [rows, columns] = tiles.grid();
    let wanted = (12288 / (depth + channels)).max(BLOCK);
    // Some images, or some rows of tiles of one.
    let images = (wanted / (rows * columns)).max(1);
    let band = (wanted / columns).clamp(1, rows);
    let row = width * channels;
    let run = |block: Block, memory: &mut (Vec<T>, Vec<T>), out: &mut [T]| {
        let (v, products) = memory;
        v.resize(block.tiles * pitch, T::zero());
        products.resize(POINTS * panels * Tiles::width(block.tiles), T::zero());
        simd(
            #[inline(always)]
            |_| {
                for (t, out) in v.chunks_exact_mut(pitch).enumerate() {
                    read(x, zeros, tiles, &block, t, depth, out);
                }
            },
        );
        let sizes = (depth, pitch, block.tiles);
        simd(
            #[inline(always)]
            |fused| {
                for (i, products) in products.chunks_exact_mut(Tiles::width(block.tiles)).enumerate() {
                    let weights = &u[i * depth * PANEL..][..depth * PANEL];
                    multiply(fused, v, i / panels, sizes, weights, products);
                }
            },
        );
        simd(
            #[inline(always)]
            |_| {
                let local = Block { first: [0, block.first[1]], tiles: block.tiles };
                write(tiles, &local, products, (0, block.tiles), out);
                finish(epilogue, (block.first[0] * height + 2 * block.first[1]) * width, channels, out);
            },
        );
    };
    out.par_chunks_mut(images * height * row).enumerate().for_each(|(i, group)| {
        let first = i * images;
        if images > 1 || band == rows {
            let count = group.len() / (height * row);
            run(Block { first: [first, 0], tiles: count * rows * columns }, &mut Default::default(), group);
        } else {
            group.par_chunks_mut(2 * band * row).enumerate().for_each_init(
                Default::default,
                |memory, (i, out)| {
                    let from = i * band;
                    let tiles = (rows - from).min(band) * columns;
                    run(Block { first: [first, from], tiles }, memory, out);
                },
            );
        }
    });
}

/// `G g G^T` for all channels, in panels. `load(tap, k, panel, lanes)` gives the weights of tap `[row, column]` from
/// source channel `k` to the target channels of a panel, as many as `lanes` has.
pub(in crate::ops) fn transform_weights<T: Real>(
    depth: usize,
    columns: usize,
    load: impl Fn([usize; 2], usize, usize, &mut [T]) + Sync,
    out: &mut [T],
) {
    let panels = columns.div_ceil(PANEL);
    // The same panel of every point at a time: they lie far apart in memory.
    let mut all: Vec<Vec<&mut [[T; PANEL]]>> = (0..panels).map(|_| Vec::new()).collect();
    for (i, piece) in out.chunks_exact_mut(depth * PANEL).enumerate() {
        all[i % panels].push(piece.as_chunks_mut().0);
    }
    all.par_iter_mut().enumerate().for_each(|(panel, points)| {
        let used = (columns - panel * PANEL).min(PANEL);
        simd(
            #[inline(always)]
            |_| {
                let mut g = [[T::zero(); PANEL]; 9];
                for k in 0..depth {
                    for (tap, g) in g.iter_mut().enumerate() {
                        load([tap / 3, tap % 3], k, panel, &mut g[..used]);
                    }
                    for (point, u) in points.iter_mut().zip(spread(&g)) {
                        point[k] = u;
                    }
                }
            },
        );
    });
}

/// `G g G^T` of a panel's columns: the rows of taps, then their columns.
#[inline(always)]
fn spread<T: Real>(g: &[[T; PANEL]; 9]) -> [[T; PANEL]; POINTS] {
    let half = T::of(0.5);
    let mut rows = [[T::zero(); PANEL]; 12];
    for h in 0..3 {
        for c in 0..PANEL {
            let [a, b, d] = [g[3 * h][c], g[3 * h + 1][c], g[3 * h + 2][c]];
            rows[4 * h][c] = a;
            rows[4 * h + 1][c] = half * (a + b + d);
            rows[4 * h + 2][c] = half * (a - b + d);
            rows[4 * h + 3][c] = d;
        }
    }
    let mut u = [[T::zero(); PANEL]; POINTS];
    for j in 0..4 {
        for c in 0..PANEL {
            let [a, b, d] = [rows[j][c], rows[4 + j][c], rows[8 + j][c]];
            u[j][c] = a;
            u[4 + j][c] = half * (a + b + d);
            u[8 + j][c] = half * (a - b + d);
            u[12 + j][c] = d;
        }
    }
    u
}
