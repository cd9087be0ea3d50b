//! Rows of samples to RGB, as Pillow converts them.

use super::page::{Colour, Packing, Page};
use super::tag;
use super::unpack::Rows;
use crate::data::formats::ifd::Directory;
use crate::data::formats::pixels::{Outcome, cmyk_to_rgb};

/// Turns rows into RGB.
pub(super) struct Painter {
    paint: Paint,
    /// Bytes of a pixel.
    pixel: usize,
    /// Bytes of a sample, and which of them is the highest.
    sample: usize,
    high: usize,
}

enum Paint {
    /// Grey and palettes: the colour of each value of 1, 2, 4 or 8 bits.
    Table {
        bits: usize,
        colours: Box<[[u8; 3]; 256]>,
    },
    /// Two values in three bytes.
    Grey12 {
        inverted: bool,
    },
    /// The highest byte.
    Grey16 {
        inverted: bool,
    },
    /// Grey that was multiplied by alpha.
    GreyTimesAlpha {
        inverted: bool,
    },
    Rgb,
    RgbTimesAlpha,
    Cmyk,
    YCbCr {
        across: usize,
        down: usize,
        convert: Box<YCbCr>,
    },
}

impl Painter {
    pub(super) fn new(page: &Page, directory: &Directory) -> Outcome<Painter> {
        let sample = page.bits.div_ceil(8);
        let high = if page.big_endian { 0 } else { sample - 1 };
        let paint = match page.colour {
            Colour::Grey { inverted } if page.premultiplied => Paint::GreyTimesAlpha { inverted },
            Colour::Grey { inverted } if page.bits == 12 => Paint::Grey12 { inverted },
            Colour::Grey { inverted } if page.bits == 16 => Paint::Grey16 { inverted },
            Colour::Grey { inverted } => {
                let top = (1usize << page.bits) - 1;
                let level = |v: usize| (v.min(top) * 255 / top) as u8 ^ if inverted { 255 } else { 0 };
                Paint::Table { bits: page.bits, colours: Box::new(std::array::from_fn(|v| [level(v); 3])) }
            }
            Colour::Palette => Paint::Table { bits: page.bits, colours: palette(directory)? },
            // JPEG's decoder has converted it.
            Colour::YCbCr { .. } if page.packing == Packing::Jpeg => Paint::Rgb,
            Colour::YCbCr { across, down } => {
                // Pillow converts plain samples itself and leaves all others to libtiff.
                let plain = page.packing == Packing::Plain && across * down == 1;
                let convert = if plain { YCbCr::pillow() } else { YCbCr::libtiff(directory) };
                Paint::YCbCr { across, down, convert: Box::new(convert) }
            }
            Colour::Rgb if page.premultiplied => Paint::RgbTimesAlpha,
            Colour::Rgb => Paint::Rgb,
            Colour::Cmyk => Paint::Cmyk,
        };
        Ok(Painter { paint, pixel: page.samples * sample, sample, high })
    }

    /// Paints the first pixels of row `row` of a strip or tile to `rgb`.
    pub(super) fn paint(&self, rows: &Rows, row: usize, rgb: &mut [u8]) {
        let (to, _) = rgb.as_chunks_mut::<3>();
        if let Paint::YCbCr { across, down, convert } = &self.paint {
            let (across, unit) = (*across, across * down + 2);
            let blocks = rows.row(row / down).chunks_exact(unit);
            let first = row % down * across;
            for (to, block) in to.chunks_mut(across).zip(blocks) {
                let (luma, chroma) = (&block[first..], &block[unit - 2..]);
                to.iter_mut().zip(luma).for_each(|(to, &y)| *to = convert.rgb(y, chroma[0], chroma[1]));
            }
            return;
        }
        let row = rows.row(row);
        let pixels = row.chunks_exact(self.pixel);
        // The highest byte of a sample.
        let byte = |pixel: &[u8], i: usize| pixel[i * self.sample + self.high];
        let invert = |inverted: bool| if inverted { 255 } else { 0 };
        match &self.paint {
            Paint::Table { bits: 8, colours } => {
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = colours[usize::from(p[0])]);
            }
            Paint::Table { bits, colours } => {
                let in_byte = 8 / bits;
                let mask = (1 << bits) - 1;
                for (x, to) in to.iter_mut().enumerate() {
                    let shift = (in_byte - 1 - x % in_byte) * bits;
                    *to = colours[usize::from(row[x / in_byte] >> shift & mask)];
                }
            }
            Paint::Grey12 { inverted } => {
                for (x, to) in to.iter_mut().enumerate() {
                    let at = x / 2 * 3;
                    let high = if x % 2 == 0 { row[at] } else { row[at + 1] << 4 | row[at + 2] >> 4 };
                    *to = [high ^ invert(*inverted); 3];
                }
            }
            Paint::Grey16 { inverted } => {
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = [byte(p, 0) ^ invert(*inverted); 3]);
            }
            Paint::GreyTimesAlpha { inverted } => {
                let divided = |p| divide(byte(p, 0), byte(p, 1)) ^ invert(*inverted);
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = [divided(p); 3]);
            }
            Paint::Rgb if self.pixel == 3 => rgb.copy_from_slice(&row[..rgb.len()]),
            Paint::Rgb => {
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = [0, 1, 2].map(|i| byte(p, i)));
            }
            Paint::RgbTimesAlpha => {
                let divided = |p| [0, 1, 2].map(|i| divide(byte(p, i), byte(p, 3)));
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = divided(p));
            }
            Paint::Cmyk => {
                let inks = |p| [0, 1, 2, 3].map(|i| byte(p, i));
                to.iter_mut().zip(pixels).for_each(|(to, p)| *to = cmyk_to_rgb(&inks(p)));
            }
            Paint::YCbCr { .. } => {}
        }
    }
}

/// A level that was multiplied by alpha, divided by it again.
fn divide(level: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        255 => level,
        _ => (u32::from(level) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// All reds, then greens, then blues, in 16 bits, of which the highest byte counts. Colours that the file leaves out
/// are grey levels, as in Pillow.
fn palette(directory: &Directory) -> Outcome<Box<[[u8; 3]; 256]>> {
    let values = directory.uints(tag::COLOR_MAP, 3 << 8).ok_or("the TIFF is damaged: it has no palette")?;
    let count = values.len() / 3;
    let colour = |i: usize| match i < count {
        true => [0, 1, 2].map(|c| (values[c * count + i] >> 8) as u8),
        false => [i as u8; 3],
    };
    Ok(Box::new(std::array::from_fn(colour)))
}

/// Luma and chroma to RGB by tables of fixed-point numbers.
struct YCbCr {
    luma: [i32; 256],
    /// To red by Cr, to blue by Cb: whole levels.
    red: [i32; 256],
    blue: [i32; 256],
    /// To green by Cb and by Cr: their sum is shifted.
    green_by_cb: [i32; 256],
    green_by_cr: [i32; 256],
    shift: u32,
}

impl YCbCr {
    fn rgb(&self, y: u8, cb: u8, cr: u8) -> [u8; 3] {
        let (y, cb, cr) = (self.luma[usize::from(y)], usize::from(cb), usize::from(cr));
        let green = (self.green_by_cb[cb] + self.green_by_cr[cr]) >> self.shift;
        [y + self.red[cr], y + green, y + self.blue[cb]].map(|level| level.clamp(0, 255) as u8)
    }

    /// Pillow's `ConvertYCbCr.c`: factors in 64ths, rounded towards 0.
    fn pillow() -> YCbCr {
        let table = |factor: f64| -> [i32; 256] {
            std::array::from_fn(|i| (factor * 64.0 * (i as f64 - 128.0) + 0.5) as i32)
        };
        YCbCr {
            luma: std::array::from_fn(|i| i as i32),
            red: table(1.402).map(|v| v >> 6),
            blue: table(1.772).map(|v| v >> 6),
            green_by_cb: table(-0.34414),
            green_by_cr: table(-0.71414),
            shift: 6,
        }
    }

    /// libtiff's `tif_color.c`: factors in 65536ths from the file's weights of red, green and blue in luma, and its
    /// levels of black and white.
    fn libtiff(directory: &Directory) -> YCbCr {
        let numbers = |tag, usual: &[f32]| -> Vec<f32> {
            let told = directory
                .numbers(tag, usual.len())
                .map(|all| all.into_iter().map(|v| v as f32).collect::<Vec<_>>());
            let sound = |v: &Vec<f32>| v.len() >= usual.len() && v.iter().all(|v| v.is_finite());
            told.filter(sound).unwrap_or_else(|| usual.to_vec())
        };
        let weights = numbers(tag::YCBCR_COEFFICIENTS, &[0.299, 0.587, 0.114]);
        let levels = numbers(tag::REFERENCE_BLACK_WHITE, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0]);
        let fixed = |factor: f32| {
            let factor = if factor >= 0.0 { factor.min(2.0) } else { 0.0 };
            (f64::from(factor) * 65536.0 + 0.5) as i32
        };
        let by_cr = 2.0 - 2.0 * weights[0];
        let by_cb = 2.0 - 2.0 * weights[2];
        let (red, blue) = (fixed(by_cr), fixed(by_cb));
        let green_by_cr = -fixed(weights[0] * by_cr / weights[1]);
        let green_by_cb = -fixed(weights[2] * by_cb / weights[1]);
        const HALF: i32 = 1 << 15;
        // A sample as a number of levels, where `black` and `white` lie `range` apart.
        let level = |value: i32, black: f32, white: f32, range: f32| {
            let between = if white == black { 1.0 } else { white - black };
            (((value - black as i32) as f32 * range) / between).clamp(-4096.0, 4096.0) as i32
        };
        let chroma =
            |i: usize, at: usize| level(i as i32 - 128, levels[at] - 128.0, levels[at + 1] - 128.0, 127.0);
        let cb: [i32; 256] = std::array::from_fn(|i| chroma(i, 2));
        let cr: [i32; 256] = std::array::from_fn(|i| chroma(i, 4));
        YCbCr {
            luma: std::array::from_fn(|i| level(i as i32, levels[0], levels[1], 255.0)),
            red: cr.map(|v| (red.wrapping_mul(v).wrapping_add(HALF)) >> 16),
            blue: cb.map(|v| (blue.wrapping_mul(v).wrapping_add(HALF)) >> 16),
            green_by_cb: cb.map(|v| green_by_cb.wrapping_mul(v).wrapping_add(HALF)),
            green_by_cr: cr.map(|v| green_by_cr.wrapping_mul(v)),
            shift: 16,
        }
    }
}
