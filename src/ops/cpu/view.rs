//! The source numbers that the windows of a band read: shared by products and weight gradients.

use crate::tape::Real;

use super::tile::{ROWS, Run};

/// Pixels of a band: enough that a panel of weights is read often from the nearest cache, few enough that the band's
/// source stays in the next cache.
const BAND: usize = 96;

/// One tap: its number in the weights, and its source pixel, relative to the origin of the target pixel's window.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Tap {
    pub(in crate::ops) number: usize,
    pub(in crate::ops) row: isize,
    pub(in crate::ops) column: isize,
}

/// The weights of a job: column `n` of number `k` of tap `t` is `data[offset + t * tap + k * row + n * column]`.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Weights<'a, T> {
    pub(in crate::ops) data: &'a [T],
    pub(in crate::ops) offset: usize,
    pub(in crate::ops) tap: usize,
    pub(in crate::ops) row: usize,
    pub(in crate::ops) column: usize,
    /// Number of columns.
    pub(in crate::ops) columns: usize,
}

/// Images `[n, height, width, channels]` on both sides.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Grid {
    pub(in crate::ops) images: usize,
    /// Height, width and channels of the source.
    pub(in crate::ops) source: [usize; 3],
    /// Height, width and channels of the target.
    pub(in crate::ops) target: [usize; 3],
    /// Source pixels from one window to the next.
    pub(in crate::ops) step: [usize; 2],
    /// Distance of target pixels from one window to the next: jobs take turns on the pixels between.
    pub(in crate::ops) spread: [usize; 2],
}

impl Grid {
    /// Rows of `x` times a matrix.
    pub(in crate::ops) fn rows(rows: usize, depth: usize, columns: usize) -> Self {
        let [source, target] = [[rows, 1, depth], [rows, 1, columns]];
        Grid { images: 1, source, target, step: [1, 1], spread: [1, 1] }
    }
}

/// One product: for every window, its taps' `depth` channels times the weights.
#[derive(Debug, Clone)]
pub(in crate::ops) struct Job {
    /// The first target row and column.
    pub(in crate::ops) origin: [usize; 2],
    /// The taps, in the order of the sum.
    pub(in crate::ops) taps: Vec<Tap>,
    /// Source channels `first..first + depth`.
    pub(in crate::ops) first: usize,
    pub(in crate::ops) depth: usize,
    /// First target channel.
    pub(in crate::ops) column: usize,
}

impl Job {
    /// A single tap on the whole pixel.
    pub(in crate::ops) fn pointwise(depth: usize) -> Self {
        let taps = vec![Tap { number: 0, row: 0, column: 0 }];
        Job { origin: [0, 0], taps, first: 0, depth, column: 0 }
    }

    /// Numbers that one window sums over.
    pub(super) fn depth(&self) -> usize {
        self.taps.len() * self.depth
    }

    /// The windows along `axis` whose target lies in `from..to`.
    fn windows(&self, grid: &Grid, axis: usize, from: usize, to: usize) -> std::ops::Range<usize> {
        let count = |end: usize| end.saturating_sub(self.origin[axis]).div_ceil(grid.spread[axis]);
        count(from)..count(to)
    }
}

/// Windows whose first numbers lie `stride` apart, and their target pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) base: usize,
    pub(super) windows: usize,
    /// First target pixel, counted within the band.
    pub(super) pixel: usize,
}

/// The windows of one job in one band.
pub(super) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) runs: Vec<Run>,
    pub(super) segments: Vec<Segment>,
    /// Numbers from one window of a segment to the next.
    pub(super) stride: usize,
}

impl<'a, T: Real> View<'a, T> {
    /// The windows of `job` whose targets are rows `from..to` of image `n`; `buffer` receives the source rows where
    /// some windows reach over the edge.
    pub(super) fn new(
        x: &'a [T],
        grid: &Grid,
        job: &Job,
        (n, from, to): (usize, usize, usize),
        buffer: &'a mut Vec<T>,
    ) -> Self {
        let [height, width, channels] = grid.source;
        let rows = job.windows(grid, 0, from, to);
        let columns = job.windows(grid, 1, 0, grid.target[1]);
        if rows.is_empty() || columns.is_empty() || job.taps.is_empty() {
            let segments = segments(grid, job, from, rows, columns, [0, 0], [0, 0]);
            return View { data: &[], runs: Vec::new(), segments, stride: 0 };
        }
        let ends = |of: fn(&Tap) -> isize| {
            let all = job.taps.iter().map(of);
            (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
        };
        let ((top, bottom), (left, right)) = (ends(|t| t.row), ends(|t| t.column));
        let at = |axis: usize, i: usize| (i * grid.step[axis]) as isize;
        let first = [at(0, rows.start) + top, at(1, columns.start) + left];
        let last = [at(0, rows.end - 1) + bottom, at(1, columns.end - 1) + right];
        let inside = first[0] >= 0 && first[1] >= 0 && last[0] < height as isize && last[1] < width as isize;
        if inside {
            let corner =
                ((n * height + first[0] as usize) * width + first[1] as usize) * channels + job.first;
            let pitch = [width * channels, channels];
            return View {
                data: &x[corner..],
                runs: runs(job, [top, left], pitch),
                segments: segments(grid, job, from, rows, columns, pitch, grid.step),
                stride: grid.step[1] * channels,
            };
        }
        let extent = [0, 1].map(|axis| (last[axis] - first[axis] + 1) as usize);
        let pitch = [extent[1] * job.depth, job.depth];
        buffer.clear();
        buffer.resize(extent[0] * pitch[0], T::zero());
        // Columns that exist on both sides.
        let begin = (-first[1]).max(0) as usize;
        let end = (width as isize - first[1]).clamp(0, extent[1] as isize) as usize;
        for (i, row) in buffer.chunks_exact_mut(pitch[0]).enumerate() {
            let source = first[0] + i as isize;
            if source < 0 || source >= height as isize || begin >= end {
                continue;
            }
            let pixel = (n * height + source as usize) * width + (first[1] + begin as isize) as usize;
            let (from, to) = (&x[pixel * channels..], &mut row[begin * job.depth..end * job.depth]);
            if job.depth == channels {
                to.copy_from_slice(&from[..to.len()]);
            } else {
                for (to, from) in to.chunks_exact_mut(job.depth).zip(from.chunks(channels)) {
                    to.copy_from_slice(&from[job.first..][..job.depth]);
                }
            }
        }
        View {
            data: buffer,
            runs: runs(job, [top, left], pitch),
            segments: segments(grid, job, from, rows, columns, pitch, grid.step),
            stride: grid.step[1] * pitch[1],
        }
    }
}

/// The taps as contiguous runs, counted from the window's first number.
fn runs(job: &Job, [top, left]: [isize; 2], [row, pixel]: [usize; 2]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for tap in &job.taps {
        let offset = (tap.row - top) as usize * row + (tap.column - left) as usize * pixel;
        match runs.last_mut() {
            Some(run) if run.offset + run.len == offset => run.len += job.depth,
            _ => runs.push(Run { offset, len: job.depth }),
        }
    }
    runs
}

/// The windows in pieces of equal stride: one a row, or all where rows follow each other seamlessly.
fn segments(
    grid: &Grid,
    job: &Job,
    from: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
    [row, pixel]: [usize; 2],
    step: [usize; 2],
) -> Vec<Segment> {
    let (stride, windows, width) = (step[1] * pixel, columns.len(), grid.target[1]);
    let mut segments: Vec<Segment> = Vec::new();
    let seamless = grid.spread == [1, 1] && windows == width;
    for (i, window) in rows.enumerate() {
        let base = i * step[0] * row;
        let target = job.origin[0] + window * grid.spread[0] - from;
        match segments.last_mut() {
            Some(last) if seamless && last.base + last.windows * stride == base => last.windows += windows,
            _ => segments.push(Segment { base, windows, pixel: target * width + job.origin[1] }),
        }
    }
    segments.retain(|segment| segment.windows > 0);
    segments
}

/// Rows of `grid`'s target in one band: a multiple of the spread of the jobs.
pub(super) fn band_rows(grid: &Grid) -> usize {
    (BAND / grid.target[1].max(1)).max(1).next_multiple_of(grid.spread[0])
}

/// Columns of a panel.
pub(super) fn panel<T>() -> usize {
    64 / size_of::<T>()
}

/// The windows of a view in tiles of [`ROWS`]; the last tile repeats its first window.
pub(super) struct Windows<'a, T> {
    view: &'a View<'a, T>,
    spread: usize,
    segment: usize,
    window: usize,
}

impl<'a, T> Windows<'a, T> {
    #[inline(always)]
    pub(super) fn new(view: &'a View<'a, T>, spread: usize) -> Self {
        Windows { view, spread, segment: 0, window: 0 }
    }

    /// The number of windows in the next tile, the first number of each, and its target pixel.
    #[inline(always)]
    pub(super) fn next(&mut self) -> (usize, [usize; ROWS], [usize; ROWS]) {
        if let Some(segment) = self.view.segments.get(self.segment)
            && self.window + ROWS <= segment.windows
        {
            let window = self.window;
            self.window += ROWS;
            return (
                ROWS,
                std::array::from_fn(|r| segment.base + (window + r) * self.view.stride),
                std::array::from_fn(|r| segment.pixel + (window + r) * self.spread),
            );
        }
        let (mut bases, mut pixels, mut count) = ([0; ROWS], [0; ROWS], 0);
        while count < ROWS
            && let Some(segment) = self.view.segments.get(self.segment)
        {
            if self.window == segment.windows {
                (self.segment, self.window) = (self.segment + 1, 0);
                continue;
            }
            bases[count] = segment.base + self.window * self.view.stride;
            pixels[count] = segment.pixel + self.window * self.spread;
            self.window += 1;
            count += 1;
        }
        for r in count.max(1)..ROWS {
            bases[r] = bases[0];
        }
        (count, bases, pixels)
    }
}
