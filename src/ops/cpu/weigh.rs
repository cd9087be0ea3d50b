//! The gradient of weights: for every tap, channel and column the sum over all windows of the source number times
//! `dy`. Each task processes some pixels and some columns, stores its sums in memory of its own as `[panel][k][N]`,
//! and adds one band at a time; then the tasks' sums are added in order.

use rayon::prelude::*;

use crate::tape::Real;

use super::tile::{ROWS, Tile, outer};
use super::view::{Grid, Job, View, band_rows, panel};
use super::{PIECE, pieces, simd};

/// Numbers of scratch memory allowed for more tasks.
const ROOM: usize = 1 << 20;

/// Preferred number of tasks, as many as there may be threads.
const TASKS: usize = 16;

/// The division of one job's sum into tasks.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Numbers of one window.
    depth: usize,
    /// Panels in all, and panels of one task.
    panels: usize,
    chunk: usize,
    /// Bands of all images, and bands of one task.
    bands: usize,
    share: usize,
}

impl Cut {
    fn new<T>(grid: &Grid, job: &Job, columns: usize) -> Self {
        let (depth, panels) = (job.depth(), columns.div_ceil(panel::<T>()));
        let bands = grid.images * grid.target[0].div_ceil(band_rows(grid));
        let size = depth * panels * panel::<T>();
        let shares = (ROOM / size.max(1)).clamp(1, TASKS).min(bands);
        let chunk = panels.div_ceil(TASKS.div_ceil(shares));
        Cut { depth, panels, chunk, bands, share: bands.div_ceil(shares) }
    }

    fn shares(&self) -> usize {
        self.bands.div_ceil(self.share)
    }

    fn chunks(&self) -> usize {
        self.panels.div_ceil(self.chunk)
    }

    /// Numbers of one task.
    fn task<const N: usize>(&self) -> usize {
        self.chunk * self.depth * N
    }
}

/// How many numbers of scratch memory [`weigh`] needs for jobs like this one.
pub(in crate::ops) fn scratch<T>(grid: &Grid, job: &Job, columns: usize) -> usize {
    let cut = Cut::new::<T>(grid, job, columns);
    cut.shares() * cut.chunks() * cut.chunk * cut.depth * panel::<T>()
}

/// Writes the sums of `job` over windows of `x` and the `columns` channels of `dy` from `job.column` on into these
/// columns of `dw`, whose rows are taps, then channels. `scratch` holds [`scratch`] numbers; the spread of `grid` is
/// 1.
pub(in crate::ops) fn weigh<T: Real>(
    x: &[T],
    dy: &[T],
    grid: &Grid,
    job: &Job,
    columns: usize,
    scratch: &mut [T],
    dw: &mut [T],
) {
    if size_of::<T>() == 4 {
        run::<T, 16>(x, dy, grid, job, columns, scratch, dw);
    } else {
        run::<T, 8>(x, dy, grid, job, columns, scratch, dw);
    }
}

fn run<T: Real, const N: usize>(
    x: &[T],
    dy: &[T],
    grid: &Grid,
    job: &Job,
    columns: usize,
    scratch: &mut [T],
    dw: &mut [T],
) {
    let cut = Cut::new::<T>(grid, job, columns);
    let [height, width, channels] = grid.target;
    let rows = band_rows(grid);
    let bands = height.div_ceil(rows);
    scratch.par_chunks_mut(cut.task::<N>()).enumerate().for_each(|(task, sums)| {
        let (share, chunk) = (task / cut.chunks(), task % cut.chunks());
        sums.fill(T::zero());
        let (mut buffer, mut packed) = (Vec::new(), Vec::new());
        for band in share * cut.share..((share + 1) * cut.share).min(cut.bands) {
            let (n, from) = (band / bands, band % bands * rows);
            let to = (from + rows).min(height);
            let view = View::new(x, grid, job, (n, from, to), &mut buffer);
            let pixels = (to - from) * width;
            let dy = &dy[(n * height + from) * width * channels..][..pixels * channels];
            simd(
                #[inline(always)]
                |fused| {
                    for p in chunk * cut.chunk..((chunk + 1) * cut.chunk).min(cut.panels) {
                        pack::<T, N>(dy, channels, job.column + p * N, (columns - p * N).min(N), &mut packed);
                        let own = (p - chunk * cut.chunk) * cut.depth * N;
                        let sums = sums[own..][..cut.depth * N].as_chunks_mut::<N>().0;
                        add_band::<T, N>(fused, &view, &packed, sums);
                    }
                },
            );
        }
    });
    let scratch = &*scratch;
    pieces(
        dw,
        channels * (PIECE / channels).max(1),
        #[inline(always)]
        |at, rows| {
            for (k, row) in (at / channels..).zip(rows.chunks_exact_mut(channels)) {
                for (p, out) in row[job.column..][..columns].chunks_mut(N).enumerate() {
                    out.fill(T::zero());
                    for share in 0..cut.shares() {
                        let task = share * cut.chunks() + p / cut.chunk;
                        let at = task * cut.task::<N>() + (p % cut.chunk * cut.depth + k) * N;
                        out.iter_mut().zip(&scratch[at..]).for_each(|(sum, &part)| *sum += part);
                    }
                }
            }
        },
    );
}

/// Columns `first..first + width` of `dy` as `[pixel][N]`, padded with zeros.
#[inline(always)]
fn pack<T: Real, const N: usize>(dy: &[T], channels: usize, first: usize, width: usize, packed: &mut Vec<T>) {
    packed.resize(dy.len() / channels * N, T::zero());
    for (to, from) in packed.as_chunks_mut::<N>().0.iter_mut().zip(dy.chunks_exact(channels)) {
        if width == N {
            to.copy_from_slice(&from[first..][..N]);
        } else {
            *to = [T::zero(); N];
            to[..width].copy_from_slice(&from[first..][..width]);
        }
    }
}

/// Adds the windows of one band to the sums of one panel, tile by tile.
#[inline(always)]
fn add_band<T: Real, const N: usize>(fused: bool, view: &View<'_, T>, dy: &[T], sums: &mut [[T; N]]) {
    let mut k = 0;
    for run in &view.runs {
        let mut done = 0;
        while done < run.len {
            // The last tile of a run overlaps the one before, so that it never reads beyond the run.
            let begin = done.min(run.len.saturating_sub(ROWS));
            let offset = run.offset + begin;
            let mut tile: Tile<T, N> = [[T::zero(); N]; ROWS];
            if run.len >= ROWS {
                for segment in &view.segments {
                    let (a, b) = (
                        &view.data[segment.base + offset..],
                        &dy[segment.pixel * N..][..segment.windows * N],
                    );
                    outer::<T, N>(fused, &mut tile, a, view.stride, b);
                }
            } else {
                short::<T, N>(view, run.len, offset, dy, &mut tile);
            }
            let new = (run.len - done).min(ROWS);
            let rows = &tile[done - begin..][..new.min(ROWS - (done - begin))];
            for (sums, row) in sums[k + done..].iter_mut().zip(rows) {
                sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v);
            }
            done = begin + ROWS;
        }
        k += run.len;
    }
}

/// Adds a run shorter than a tile.
#[inline(always)]
fn short<T: Real, const N: usize>(
    view: &View<'_, T>,
    len: usize,
    offset: usize,
    dy: &[T],
    tile: &mut Tile<T, N>,
) {
    for segment in &view.segments {
        for window in 0..segment.windows {
            let a = &view.data[segment.base + offset + window * view.stride..][..len];
            let b = &dy[(segment.pixel + window) * N..][..N];
            for (row, &a) in tile.iter_mut().zip(a) {
                row.iter_mut().zip(b).for_each(|(sum, &b)| *sum += a * b);
            }
        }
    }
}
