//! Combines a layer's maps and their gradients, or an image's gradient, into one map between 0 and 1. All maps are
//! NHWC, of one image: `[pixels, channels]`.
//!
//! Grad-CAM and Grad-CAM++ follow pytorch-grad-cam, its small constants included.

/// Grad-CAM's weights: the mean gradient of each channel.
pub(super) fn mean_gradient(gradient: &[f32], channels: usize) -> Vec<f64> {
    let pixels = (gradient.len() / channels) as f64;
    sums(gradient, channels).iter().map(|sum| sum / pixels).collect()
}

/// Grad-CAM++'s weights: `sum_ij alpha_ij relu(g_ij)` with `alpha = g^2 / (2 g^2 + sum(A) g^3)`, equation 19 of the
/// paper, 0 where the gradient is 0.
pub(super) fn plus_plus(map: &[f32], gradient: &[f32], channels: usize) -> Vec<f64> {
    const EPS: f64 = 1e-6;
    let totals = sums(map, channels);
    let mut weights = vec![0.0; channels];
    for row in gradient.chunks_exact(channels) {
        for ((weight, &g), total) in weights.iter_mut().zip(row).zip(&totals) {
            let g = f64::from(g);
            if g > 0.0 {
                *weight += g * g.powi(2) / (2.0 * g.powi(2) + total * g.powi(3) + EPS);
            }
        }
    }
    weights
}

/// The sum of each channel over all pixels.
fn sums(map: &[f32], channels: usize) -> Vec<f64> {
    let mut sums = vec![0.0; channels];
    for row in map.chunks_exact(channels) {
        sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    sums
}

/// The weighted sum of the maps, with negative values set to 0. The result is scaled to 0..1, enlarged from
/// `[height, width]` to another size, and scaled again.
pub(super) fn class_map(map: &[f32], weights: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let pixel = |row: &[f32]| row.iter().zip(weights).map(|(&a, w)| f64::from(a) * w).sum::<f64>().max(0.0);
    let mut cam: Vec<f64> = map.chunks_exact(weights.len()).map(pixel).collect();
    scale(&mut cam);
    let mut cam = enlarge(&cam, from, to);
    scale(&mut cam);
    cam.into_iter().map(|v| v as f32).collect()
}

/// `(x - min) / (1e-7 + max(x - min))`: near 1 at the maximum, and 0 everywhere where all values are equal.
fn scale(values: &mut [f64]) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    values.iter_mut().for_each(|x| *x = (*x - low) / (1e-7 + (high - low)));
}

/// Bilinear interpolation without antialiasing; pixel centres lie at halves, the border is repeated: OpenCV's
/// `INTER_LINEAR`.
fn enlarge(values: &[f64], [height, width]: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    // For each output position: the two inputs, and the share of the second.
    let tap = |i: usize, from: usize, to: usize| {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = at as usize;
        (first, (first + 1).min(from - 1), at - first as f64)
    };
    let columns: Vec<_> = (0..to[1]).map(|x| tap(x, width, to[1])).collect();
    let mut out = Vec::with_capacity(to[0] * to[1]);
    for y in 0..to[0] {
        let (top, bottom, down) = tap(y, height, to[0]);
        for &(left, right, across) in &columns {
            let along =
                |y: usize| values[y * width + left] * (1.0 - across) + values[y * width + right] * across;
            out.push(along(top) * (1.0 - down) + along(bottom) * down);
        }
    }
    out
}

/// An image's gradient `[pixels, channels]` as a map: absolute values summed over the channels, scaled from the
/// minimum to the 99th percentile, so that a few bright pixels do not hide the rest (as in the authors' code).
pub(super) fn saliency(gradient: &[f64], channels: usize) -> Vec<f32> {
    const TOP: f64 = 0.99;
    let sizes = gradient.chunks_exact(channels).map(|pixel| pixel.iter().map(|g| g.abs()).sum());
    let sizes: Vec<f64> = sizes.collect();
    let mut sorted = sizes.clone();
    sorted.sort_by(f64::total_cmp);
    let low = sorted.first().copied().unwrap_or_default();
    let span = percentile(&sorted, TOP) - low;
    let share = |x: f64| if span > 0.0 { ((x - low) / span).clamp(0.0, 1.0) } else { 0.0 };
    sizes.into_iter().map(|x| share(x) as f32).collect()
}

/// Interpolates between the two nearest of the sorted numbers, as numpy does.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = share * sorted.len().saturating_sub(1) as f64;
    let value = |i: usize| sorted.get(i).or(sorted.last()).copied().unwrap_or_default();
    let low = value(at as usize);
    low + (value(at as usize + 1) - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_is_opencvs() {
        // cv2.resize(np.float32([[0, 1], [2, 4]]), (4, 3)), OpenCV 5.0.
        let found = enlarge(&[0.0, 1.0, 2.0, 4.0], [2, 2], [3, 4]);
        let wanted = [0.0, 0.25, 0.75, 1.0, 1.0, 1.375, 2.125, 2.5, 2.0, 2.5, 3.5, 4.0];
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn percentiles_are_numpys() {
        let numbers: Vec<f64> = (0..11).map(f64::from).collect();
        assert!((percentile(&numbers, 0.99) - 9.9).abs() < 1e-12);
        assert_eq!(percentile(&[3.0], 0.99), 3.0);
    }

    #[test]
    fn what_speaks_for_nothing_is_empty() {
        let map = class_map(&[1.0, 2.0, 3.0, 4.0], &[-1.0], [2, 2], [4, 4]);
        assert_eq!(map, [0.0; 16]);
        assert_eq!(saliency(&[0.0; 12], 3), [0.0; 4]);
    }
}
