//! JPEGs of four components: inks, CMYK or YCCK. The decoder gives the planes of components; here they are spread to
//! the size of the image as libjpeg-turbo does it (`jdsample.c`). The decoder's own spreading and conversion of four
//! components differ by a level at the right edge.

use libjpeg_turbo_rs::{DecodeLimits, Decoder};

use super::segments::{Frame, SOS, segments};
use super::{check, reason, unusual};
use crate::data::formats::budget::MAX_PIXELS;
use crate::data::formats::pixels::{Outcome, cmyk_to_rgb};

/// RGB of inks. Pillow takes them to be inverted, whether the file says so or not.
pub(super) fn to_rgb(bytes: &[u8], frame: &Frame) -> Outcome<Vec<u8>> {
    const APP14: u8 = 0xEE;
    let before = segments(bytes).0.into_iter().take_while(|s| s.code != SOS);
    let taps = before.filter(|s| s.code == APP14 && s.data.starts_with(b"Adobe"));
    let is_ycck = taps.filter_map(|s| s.data.get(11)).last() == Some(&2);
    let mut rgb = Vec::with_capacity(frame.width * frame.height * 3);
    rows(bytes, frame, |[a, b, c, k]| {
        for x in 0..frame.width {
            // What libjpeg makes of YCCK are the inverted levels of RGB, which Pillow inverts again.
            let [c, m, y] =
                if is_ycck { ycc_to_rgb(a[x], b[x], c[x]) } else { [a[x], b[x], c[x]].map(|v| 255 - v) };
            rgb.extend(cmyk_to_rgb(&[c, m, y, 255 - k[x]]));
        }
    })?;
    Ok(rgb)
}

/// Calls `each` with the four components of each row of the image, from the top.
pub(super) fn rows(bytes: &[u8], frame: &Frame, mut each: impl FnMut(&[Vec<u8>; 4])) -> Outcome<()> {
    let (h, v) = frame.most();
    if frame.components.iter().any(|c| h % usize::from(c[1]) != 0 || v % usize::from(c[2]) != 0) {
        return Err(unusual("samples that are no whole part of each other"));
    }
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, ..DecodeLimits::default() };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(reason)?.with_lenient(true);
    let (image, warnings) = decoder.decode_raw_with_warnings().map_err(reason)?;
    check(&warnings)?;
    let planes =
        image.planes.iter().zip(&image.plane_widths).zip(&frame.components).map(|((samples, stride), c)| {
            let [own_h, own_v] = [c[1], c[2]].map(usize::from);
            Plane {
                samples,
                stride: *stride,
                width: (frame.width * own_h).div_ceil(h),
                height: (frame.height * own_v).div_ceil(v),
                across: h / own_h,
                down: v / own_v,
            }
        });
    let planes: Vec<Plane> = planes.collect();
    let mut row: [Vec<u8>; 4] = Default::default();
    for y in 0..frame.height {
        planes.iter().zip(&mut row).for_each(|(plane, row)| plane.spread(y, frame.width, row));
        each(&row);
    }
    Ok(())
}

/// The samples of a component.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    /// Samples that belong to the image; more of them fill the last blocks.
    width: usize,
    height: usize,
    /// Pixels of the image for each sample.
    across: usize,
    down: usize,
}

impl Plane<'_> {
    fn row(&self, row: usize) -> &[u8] {
        &self.samples[row * self.stride..][..self.width]
    }

    /// Row `y` of the image. For 2 pixels a sample counts three quarters and the next one a quarter; the halves of
    /// levels are rounded down and up in turn.
    fn spread(&self, y: usize, width: usize, to: &mut Vec<u8>) {
        to.clear();
        let own = self.row(y / self.down);
        // The nearer of the rows above and below.
        let next =
            if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(self.height - 1) };
        match (self.across, self.down) {
            (1, 1) => to.extend_from_slice(own),
            (1, 2) => {
                let bias = 1 + (y % 2) as u16;
                let pairs = own.iter().zip(self.row(next));
                to.extend(pairs.map(|(&a, &b)| ((u16::from(a) * 3 + u16::from(b) + bias) >> 2) as u8));
            }
            (2, 1) if self.width > 2 => {
                let sample = |x: usize| u16::from(own[x]);
                for x in 0..self.width {
                    let left = if x == 0 { sample(0) } else { (sample(x) * 3 + sample(x - 1) + 1) >> 2 };
                    let last = x + 1 == self.width;
                    let right = if last { sample(x) } else { (sample(x) * 3 + sample(x + 1) + 2) >> 2 };
                    to.extend([left as u8, right as u8]);
                }
            }
            (2, 2) if self.width > 2 => {
                let next = self.row(next);
                let sum = |x: usize| u16::from(own[x]) * 3 + u16::from(next[x]);
                for x in 0..self.width {
                    let left =
                        if x == 0 { (sum(0) * 4 + 8) >> 4 } else { (sum(x) * 3 + sum(x - 1) + 8) >> 4 };
                    let last = x + 1 == self.width;
                    let right = if last { (sum(x) * 4 + 7) >> 4 } else { (sum(x) * 3 + sum(x + 1) + 7) >> 4 };
                    to.extend([left as u8, right as u8]);
                }
            }
            (across, _) => to.extend(own.iter().flat_map(|&v| std::iter::repeat_n(v, across))),
        }
        to.truncate(width);
    }
}

/// libjpeg's `jdcolor.c`: factors in 65536ths, rounded.
fn ycc_to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let [y, cb, cr] = [i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128];
    const HALF: i32 = 1 << 15;
    let red = (91_881 * cr + HALF) >> 16;
    let green = (-22_554 * cb - 46_802 * cr + HALF) >> 16;
    let blue = (116_130 * cb + HALF) >> 16;
    [red, green, blue].map(|add| (y + add).clamp(0, 255) as u8)
}
