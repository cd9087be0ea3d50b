//! Matrix products over windows of an image, without unrolling the image: pixels are read in place. The forward pass
//! and the grad_input of a convolution, and both products of a linear layer, are such products; see [`super::weigh`]
//! for grad_weight.
//!
//! Work is divided into bands of output rows. A band first copies its source rows into a buffer with zeros around
//! them (only where windows reach over the edge), so that neighbouring taps of a row are one contiguous run of
//! numbers. Then each panel of weights, `[k][N]`, is multiplied with each tile of [`ROWS`] pixels, with all sums in
//! registers. The epilogue follows while the band is in the nearest cache.

use rayon::prelude::*;

use crate::ops::epilogue::Fused;
use crate::tape::{CpuCall, Real};

use super::tile::{ROWS, Run, Tile, inner};
use super::view::{Grid, Job, View, Weights, Windows, band_rows, panel};
use super::{PIECE, pieces, simd};

/// Products of at most this many output pixels are divided by panels of weights instead of by bands.
const FEW: usize = 512;

/// Numbers of a panel that are packed at a time where each task packs its own.
const DEPTH: usize = 1024;

/// Packs panels of weights: `[panel][k][N]`, columns after the last are zero.
fn pack<T: Real, const N: usize>(w: &Weights<'_, T>, job: &Job, packed: &mut [T]) {
    let depth = job.depth();
    packed.par_chunks_mut(depth * N).enumerate().for_each(|(p, panel)| {
        pack_numbers::<T, N>(w, job, p, 0, panel);
    });
}

/// The numbers of panel `p` from `k` on, as many as `panel` holds.
fn pack_numbers<T: Real, const N: usize>(w: &Weights<'_, T>, job: &Job, p: usize, k: usize, panel: &mut [T]) {
    let width = (w.columns - p * N).min(N);
    for (k, out) in (k..).zip(panel.as_chunks_mut::<N>().0) {
        let (tap, row) = (job.taps[k / job.depth].number, k % job.depth);
        let start = w.offset + tap * w.tap + row * w.row + p * N * w.column;
        if w.column == 1 && width == N {
            out.copy_from_slice(&w.data[start..][..N]);
        } else {
            for c in 0..N {
                out[c] = if c < width { w.data[start + c * w.column] } else { T::zero() };
            }
        }
    }
}

/// Output 0 = `epilogue(sum over jobs of input 0 * weights)`; each target channel of each pixel belongs to one job.
pub(in crate::ops) fn correlate<T: Real>(
    call: &mut CpuCall<'_, T>,
    grid: &Grid,
    jobs: &[(Job, Weights<'_, T>)],
    epilogue: &Fused<'_, T>,
) {
    let (x, scratch, out) = (call.real(0), call.scratch(scratch(grid, jobs)), call.output(0));
    if size_of::<T>() == 4 {
        run::<T, 16, 8>(x, grid, jobs, epilogue, scratch, out);
    } else {
        run::<T, 8, 4>(x, grid, jobs, epilogue, scratch, out);
    }
}

/// How many numbers of scratch memory [`correlate`] needs.
fn scratch<T>(grid: &Grid, jobs: &[(Job, Weights<'_, T>)]) -> usize {
    let padded = |w: &Weights<'_, T>| w.columns.next_multiple_of(panel::<T>());
    if few(grid, jobs) {
        return jobs.iter().map(|(_, w)| padded(w) * grid.target[0] * grid.target[1] * grid.images).sum();
    }
    jobs.iter().map(|(job, w)| padded(w) * job.depth()).sum()
}

/// Whether the product has so few rows, and so many weights, that it is divided by panels of weights.
fn few<T>(grid: &Grid, jobs: &[(Job, Weights<'_, T>)]) -> bool {
    let [(job, w)] = jobs else { return false };
    let pixels = grid.images * grid.target[0] * grid.target[1];
    pixels <= FEW && grid.spread == [1, 1] && w.columns >= 4 * panel::<T>() && job.depth() > 0
}

fn run<T: Real, const N: usize, const HALF: usize>(
    x: &[T],
    grid: &Grid,
    jobs: &[(Job, Weights<'_, T>)],
    epilogue: &Fused<'_, T>,
    scratch: &mut [T],
    out: &mut [T],
) {
    if few(grid, jobs) {
        return by_panels::<T, N>(x, grid, &jobs[0], epilogue, scratch, out);
    }
    let mut packed = Vec::new();
    let mut rest = scratch;
    for (job, w) in jobs {
        let (own, behind) = rest.split_at_mut(w.columns.next_multiple_of(N) * job.depth());
        rest = behind;
        if job.depth() > 0 {
            pack::<T, N>(w, job, own);
        }
        packed.push(&*own);
    }
    let [height, width, channels] = grid.target;
    let rows = band_rows(grid);
    let bands = height.div_ceil(rows);
    let row = width * channels;
    // Bands do not cross images, so each image is divided separately.
    out.par_chunks_mut(height * row).enumerate().for_each(|(n, image)| {
        let body = |(band, out): (usize, &mut [T])| {
            let from = band * rows;
            let span = (n, from, (from + rows).min(height));
            let first = (n * height + from) * width;
            for ((job, w), packed) in jobs.iter().zip(&packed) {
                simd(
                    #[inline(always)]
                    |fused| {
                        let mut buffer = Vec::new();
                        let view = View::new(x, grid, job, span, &mut buffer);
                        let mut at = 0;
                        while at < w.columns {
                            let panel = packed.get(at * job.depth()..).unwrap_or(&[]);
                            let place = Place { column: job.column + at, channels, spread: grid.spread[1] };
                            if w.columns - at > HALF {
                                let width = (w.columns - at).min(N);
                                tiles::<T, N, N>(fused, &view, panel, place, width, out);
                            } else {
                                tiles::<T, N, HALF>(fused, &view, panel, place, w.columns - at, out);
                            }
                            at += N;
                        }
                    },
                );
            }
            simd(
                #[inline(always)]
                |_| finish(epilogue, first, channels, out),
            );
        };
        if bands == 1 {
            body((0, image));
        } else {
            image.par_chunks_mut(rows * row).enumerate().for_each(body);
        }
    });
}

/// Applies the epilogue to whole pixels, `first` the number of the first: from the nearest cache, and in loops over
/// all channels, which compile better than those over a tile's few columns.
#[inline(always)]
pub(super) fn finish<T: Real>(epilogue: &Fused<'_, T>, first: usize, channels: usize, out: &mut [T]) {
    if epilogue.is_empty() {
        return;
    }
    for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
        epilogue.apply((first + i) * channels, 0, pixel);
    }
}

/// The position of the tiles of a panel.
#[derive(Clone, Copy)]
struct Place {
    /// First target channel.
    column: usize,
    /// Channels of the target.
    channels: usize,
    /// Distance of target pixels from window to window.
    spread: usize,
}

/// All tiles of a band against one panel. `W` of the panel's `N` columns are computed, `width` stored.
#[inline(always)]
fn tiles<T: Real, const N: usize, const W: usize>(
    fused: bool,
    view: &View<'_, T>,
    panel: &[T],
    place: Place,
    width: usize,
    out: &mut [T],
) {
    let mut windows = Windows::new(view, place.spread);
    loop {
        let (count, bases, pixels) = windows.next();
        if count == 0 {
            break;
        }
        let mut tile: Tile<T, W> = [[T::zero(); W]; ROWS];
        inner::<T, N, W>(fused, &mut tile, view.data, bases, &view.runs, panel);
        for (row, pixel) in tile.iter().zip(pixels).take(count) {
            let out = &mut out[pixel * place.channels + place.column..][..width];
            // The same twice; in the first, the compiler knows the length.
            if width == W {
                out.copy_from_slice(row);
            } else {
                out.copy_from_slice(&row[..width]);
            }
        }
    }
}

/// The product divided by panels of weights: each task packs its own panel, a part at a time, and stores its sums
/// `[pixel][N]` in `sums`; the epilogue follows.
fn by_panels<T: Real, const N: usize>(
    x: &[T],
    grid: &Grid,
    (job, w): &(Job, Weights<'_, T>),
    epilogue: &Fused<'_, T>,
    sums: &mut [T],
    out: &mut [T],
) {
    let [height, width, channels] = grid.target;
    let pixels = height * width;
    let mut buffers = vec![Vec::new(); grid.images];
    let views: Vec<View<'_, T>> = buffers
        .iter_mut()
        .enumerate()
        .map(|(n, buffer)| View::new(x, grid, job, (n, 0, height), buffer))
        .collect();
    let size = grid.images * pixels * N;
    sums.par_chunks_mut(size).enumerate().for_each(|(p, sums)| {
        sums.fill(T::zero());
        let mut packed = vec![T::zero(); DEPTH.min(job.depth()) * N];
        let mut k = 0;
        for run in 0..views[0].runs.len() {
            let mut done = 0;
            while done < views[0].runs[run].len {
                let len = (views[0].runs[run].len - done).min(DEPTH);
                let packed = &mut packed[..len * N];
                pack_numbers::<T, N>(w, job, p, k, packed);
                simd(
                    #[inline(always)]
                    |fused| {
                        for (view, sums) in views.iter().zip(sums.chunks_exact_mut(pixels * N)) {
                            let part = [Run { offset: view.runs[run].offset + done, len }];
                            let mut windows = Windows::new(view, 1);
                            let sums = sums.as_chunks_mut::<N>().0;
                            loop {
                                let (count, bases, places) = windows.next();
                                if count == 0 {
                                    break;
                                }
                                let mut tile: Tile<T, N> = places.map(|pixel| sums[pixel]);
                                inner::<T, N, N>(fused, &mut tile, view.data, bases, &part, packed);
                                for r in 0..count {
                                    sums[places[r]] = tile[r];
                                }
                            }
                        }
                    },
                );
                (k, done) = (k + len, done + len);
            }
        }
    });
    let sums = &*sums;
    pieces(
        out,
        channels * (PIECE / channels).max(1),
        #[inline(always)]
        |at, piece| {
            for (i, row) in piece.chunks_exact_mut(channels).enumerate() {
                let pixel = at / channels + i;
                for (p, values) in row[job.column..][..w.columns].chunks_mut(N).enumerate() {
                    values.copy_from_slice(&sums[p * size + pixel * N..][..values.len()]);
                }
            }
            finish(epilogue, at / channels, channels, piece);
        },
    );
}
