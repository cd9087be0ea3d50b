//! Random augmentation of training images: presets, one row of [`Draws`] per image, one [`Mix`] per batch.
//!
//! Every draw is a function of seed, epoch and the image's index, so a run can be repeated and resumed. The
//! augmentation of an image does not depend on the other images of its batch; only mixing does.

use serde::{Deserialize, Serialize};

use super::affine::Affine;
use super::transform::Augment;
use crate::ops::{Draws, GREY};
use crate::rng::{Stream, key_of};

macro_rules! presets {
    ($($(#[$about:meta])* $name:ident = $text:literal, $help:literal => $augment:expr;)*) => {
        /// Augmentations that go well together. One more is one more entry of this list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum Preset {
            $($(#[$about])* #[serde(rename = $text)] $name,)*
        }

        impl Preset {
            /// Their names.
            pub const NAMES: &[&str] = &[$($text),*];
            /// What the help says of them.
            pub(crate) const HELP: &[&str] = &[$(concat!($text, ": ", $help)),*];

            /// Its settings.
            pub fn augment(self) -> Augment {
                match self {
                    $(Preset::$name => $augment,)*
                }
            }
        }
    };
}

presets! {
    /// The largest square in the middle, always the same.
    None = "none", "the middle square;" => Augment::none();
    /// Parts of at least 70% of the image, mirrored or not.
    Light = "light", "parts from 70% of the image on, mirrored or not;"
        => Augment { scale: (0.7, 1.0), ..Augment::default() };
    /// [`Augment::default`].
    #[default]
    Default = "default", "from 35%;" => Augment::default();
    /// Also turned a little, in other colours, sometimes grey, blurred or with a part missing.
    Strong = "strong", "also turned, in other colours, blurred, partly erased;" => Augment {
        rotate: 15.0,
        brightness: 0.3,
        contrast: 0.3,
        saturation: 0.3,
        hue: 0.05,
        grey: 0.05,
        blur: 0.1,
        erase: 0.25,
        ..Augment::default()
    };
    /// TrivialAugment on top of the default.
    Trivial = "trivial", "the default and TrivialAugment." => Augment { trivial: true, ..Augment::default() };
}

/// A linear map of colours on a scale of 0 to 255: each channel's row times `(r, g, b, 1)`, as in [`Draws::red`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colour(pub [[f64; 4]; 3]);

impl Colour {
    /// The identity map.
    pub const IDENTITY: Colour = Colour([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]);

    /// `factor * v + (1 - factor) * other`, where `other` is a row that gives one grey for all channels.
    fn blend(factor: f64, other: [f64; 4]) -> Colour {
        let Colour(identity) = Colour::IDENTITY;
        Colour(identity.map(|row| std::array::from_fn(|i| factor * row[i] + (1.0 - factor) * other[i])))
    }

    /// torchvision's `adjust_brightness`: from black.
    pub fn brightness(factor: f64) -> Colour {
        Colour::blend(factor, [0.0; 4])
    }

    /// torchvision's `adjust_contrast`: about the image's mean grey.
    pub fn contrast(factor: f64, grey: f64) -> Colour {
        Colour::blend(factor, [0.0, 0.0, 0.0, grey])
    }

    /// torchvision's `adjust_saturation`: from the pixel's own grey; 0 is `rgb_to_grayscale`.
    pub fn saturation(factor: f64) -> Colour {
        let [r, g, b] = GREY;
        Colour::blend(factor, [r, g, b, 0.0])
    }

    /// Writes the map into an image's draws.
    pub fn enter(&self, draws: &mut Draws) {
        [draws.red, draws.green, draws.blue] = self.0.map(|row| row.map(|x| x as f32));
    }

    /// The composition: this map, then `next`, without clamping between them.
    #[must_use]
    pub fn then(self, next: Colour) -> Colour {
        let Colour(first) = self;
        Colour(next.0.map(|row| {
            std::array::from_fn(|i| {
                let sum: f64 = (0..3).map(|c| row[c] * first[c][i]).sum();
                sum + if i == 3 { row[3] } else { 0.0 }
            })
        }))
    }

    /// The grey level of a colour after this map, by ITU-R 601.
    pub fn grey_of(&self, [r, g, b]: [f64; 3]) -> f64 {
        self.0.iter().zip(GREY).map(|(row, w)| w * (row[0] * r + row[1] * g + row[2] * b + row[3])).sum()
    }
}

/// The levels of an image that contrast and autocontrast need.
struct Levels {
    mean: [f64; 3],
    low: [u8; 3],
    high: [u8; 3],
}

impl Levels {
    /// The levels of bytes `[.., 3]`.
    fn of(pixels: &[u8]) -> Levels {
        let (mut sum, mut low, mut high) = ([0u64; 3], [u8::MAX; 3], [0; 3]);
        for pixel in pixels.chunks_exact(3) {
            for c in 0..3 {
                sum[c] += u64::from(pixel[c]);
                low[c] = low[c].min(pixel[c]);
                high[c] = high[c].max(pixel[c]);
            }
        }
        let count = (pixels.len() / 3).max(1) as f64;
        Levels { mean: sum.map(|sum| sum as f64 / count), low, high }
    }
}

/// An image's draws under construction: the operations that a matrix can express, and the others.
struct Drawing<'a> {
    pixels: &'a mut [u8],
    /// Height and width.
    size: [f64; 2],
    place: Affine,
    colour: Colour,
    draws: Draws,
}

impl Drawing<'_> {
    fn contrast(&mut self, factor: f64) {
        if factor != 1.0 {
            let grey = self.colour.grey_of(Levels::of(self.pixels).mean);
            self.colour = self.colour.then(Colour::contrast(factor, grey));
        }
    }

    /// Stretches each channel to 0..255.
    fn autocontrast(&mut self) {
        let Levels { low, high, .. } = Levels::of(self.pixels);
        let mut rows = Colour::IDENTITY;
        for c in (0..3).filter(|&c| low[c] < high[c]) {
            let factor = 255.0 / f64::from(high[c] - low[c]);
            rows.0[c][c] = factor;
            rows.0[c][3] = -factor * f64::from(low[c]);
        }
        self.colour = self.colour.then(rows);
    }

    /// TrivialAugmentWide (Mueller and Hutter 2021, arXiv:2103.10158) with torchvision's strengths: one operation
    /// from the list, with one of 31 strengths.
    fn trivial(&mut self, stream: &mut Stream) {
        let (operation, bin) = (stream.below(TRIVIAL), stream.below(31));
        let sign = if stream.unit() < 0.5 { -1.0 } else { 1.0 };
        let share = bin as f64 / 30.0;
        let strength = 0.99 * share * sign;
        let size = self.size;
        // Sizes in pixels refer to images of side 224.
        let [down, across] = size.map(|side| 32.0 * side / 224.0 * share * sign);
        match operation {
            0 => {}
            1 => self.place = self.place.then(Affine::about_centre(size, [[1.0, strength], [0.0, 1.0]])),
            2 => self.place = self.place.then(Affine::about_centre(size, [[1.0, 0.0], [strength, 1.0]])),
            3 => self.place = self.place.then(Affine([[1.0, 0.0, across], [0.0, 1.0, 0.0]])),
            4 => self.place = self.place.then(Affine([[1.0, 0.0, 0.0], [0.0, 1.0, down]])),
            5 => self.place = self.place.then(Affine::rotation(size, 135.0 * share * sign)),
            6 => self.colour = self.colour.then(Colour::brightness(1.0 + strength)),
            7 => self.colour = self.colour.then(Colour::saturation(1.0 + strength)),
            8 => self.contrast(1.0 + strength),
            9 => self.draws.sharpness = strength as f32,
            // 8 bits down to 2; a step of 1 changes nothing.
            10 => self.draws.step = 2f64.powi((share * 6.0).round_ties_even() as i32) as f32,
            11 => self.draws.threshold = (255.0 * (1.0 - share)) as f32,
            12 => self.autocontrast(),
            _ => equalize(self.pixels),
        }
    }
}

/// Pillow's `ImageOps.equalize`, torchvision's `equalize`: spreads each channel of RGB pixels so that all levels are
/// about equally frequent.
pub fn equalize(pixels: &mut [u8]) {
    for c in 0..3 {
        let mut counts = [0_usize; 256];
        pixels.iter().skip(c).step_by(3).for_each(|&level| counts[usize::from(level)] += 1);
        let most = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
        let step = counts[..most].iter().sum::<usize>() / 255;
        if step == 0 {
            continue;
        }
        let mut below = step / 2;
        let levels = counts.map(|count| {
            let level = (below / step).min(255) as u8;
            below += count;
            level
        });
        pixels.iter_mut().skip(c).step_by(3).for_each(|level| *level = levels[usize::from(*level)]);
    }
}

/// Number of operations of [`Augment::trivial`]: identity, shear x and y, translate x and y, rotate, brightness,
/// saturation, contrast, sharpness, posterize, solarize, autocontrast, equalize.
const TRIVIAL: usize = 14;

/// The draws for image `index` of the data set in an epoch. `pixels` are the image's bytes `[height, width, 3]`:
/// contrast needs their mean, and equalization changes them at once.
///
/// The order: mirrors, rotation; TrivialAugment's operation; brightness, contrast, saturation, hue, grey; blur;
/// erasing. Colours are clamped before the hue and after the last operation on colours.
pub fn draws(
    augment: &Augment,
    seed: u64,
    epoch: u64,
    index: usize,
    pixels: &mut [u8],
    size: [usize; 2],
) -> Draws {
    let mut stream = Stream::new(&[seed, key_of("augment"), epoch, index as u64]);
    let mut chance = |probability: f64| stream.unit() < probability;
    let (flip, vertical, grey, blur, erase) = (
        chance(augment.flip),
        chance(augment.vertical_flip),
        chance(augment.grey),
        chance(augment.blur),
        chance(augment.erase),
    );
    let mut within = |strength: f64| stream.range(-strength, strength);
    let degrees = within(augment.rotate);
    // torchvision draws factors from max(0, 1 - strength) upwards.
    let mut factor = |strength: f64| stream.range((1.0 - strength).max(0.0), 1.0 + strength);
    let (brightness, contrast, saturation) =
        (factor(augment.brightness), factor(augment.contrast), factor(augment.saturation));
    let hue = stream.range(-augment.hue, augment.hue);
    let sigma = stream.range(augment.blur_sigma.0, augment.blur_sigma.1);

    let whole = size.map(|side| side as f64);
    let mut drawing = Drawing {
        pixels,
        size: whole,
        place: Affine::IDENTITY,
        colour: Colour::IDENTITY,
        draws: Draws::IDENTITY,
    };
    let mirror = |flipped: bool| if flipped { -1.0 } else { 1.0 };
    drawing.place = Affine::about_centre(whole, [[mirror(flip), 0.0], [0.0, mirror(vertical)]]);
    if degrees != 0.0 {
        drawing.place = drawing.place.then(Affine::rotation(whole, degrees));
    }
    if augment.trivial {
        drawing.trivial(&mut stream);
    }
    drawing.colour = drawing.colour.then(Colour::brightness(brightness));
    drawing.contrast(contrast);
    drawing.colour = drawing.colour.then(Colour::saturation(saturation));
    let Drawing { place, colour, mut draws, .. } = drawing;
    place.enter(&mut draws);
    colour.enter(&mut draws);
    (draws.hue, draws.grey) = (hue as f32, f32::from(u8::from(grey)));
    draws.reflect = f32::from(u8::from(augment.reflect));
    if blur {
        draws.sigma = sigma as f32;
    }
    if erase {
        draws.erase = random_rect(size, &mut stream);
    }
    draws
}

/// torchvision's `RandomErasing`: 2% to 33% of the image's area, ratio 3:10 to 10:3; at most ten tries, else nothing
/// is erased.
fn random_rect([canvas_height, canvas_width]: [usize; 2], stream: &mut Stream) -> [f32; 4] {
    for _ in 0..10 {
        let area = (canvas_height * canvas_width) as f64 * stream.range(0.02, 0.33);
        let ratio = stream.range(0.3f64.ln(), 3.3f64.ln()).exp();
        let height = (area * ratio).sqrt().round_ties_even() as usize;
        let width = (area / ratio).sqrt().round_ties_even() as usize;
        if height < canvas_height && width < canvas_width {
            let (top, left) =
                (stream.below(canvas_height - height + 1), stream.below(canvas_width - width + 1));
            return [left, top, left + width, top + height].map(|x| x as f32);
        }
    }
    [0.0; 4]
}

/// The mixing of a batch: MixUp (Zhang et al. 2018, arXiv:1710.09412) or CutMix (Yun et al. 2019, arXiv:1905.04899).
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// For each row of the batch, its partner row: the row before, as in torchvision.
    pub partner: Vec<usize>,
    /// Weight of the image's own label; the partner's weight is `1 - lambda`.
    pub lambda: f32,
    /// Rectangle of the partner: left, top, right, bottom in pixels. MixUp: the whole image.
    pub rect: [f32; 4],
    /// Weight of the own image in the rectangle: `lambda` for MixUp, 0 for CutMix.
    pub own: f32,
}

impl Mix {
    /// Writes the mixing into the batch's rows.
    pub fn apply(&self, rows: &mut [Draws]) {
        for (row, &partner) in rows.iter_mut().zip(&self.partner) {
            (row.partner, row.own, row.mix) = (partner as f32, self.own, self.rect);
        }
    }
}

/// Draws the mixing of a batch of `rows` images: one draw for the whole batch, as in timm by default. `batch`
/// identifies the batch within the epoch: the loader passes the index of its first image, which stays the same in a
/// resumed run. None where mixing is off or the batch has a single image. Where both alphas are set, a coin decides
/// between MixUp and CutMix.
pub fn mix(
    augment: &Augment,
    seed: u64,
    epoch: u64,
    batch: u64,
    rows: usize,
    [height, width]: [usize; 2],
) -> Option<Mix> {
    if rows < 2 || !augment.mixes() {
        return None;
    }
    let mut stream = Stream::new(&[seed, key_of("mix"), epoch, batch]);
    let heads = stream.unit() < 0.5;
    let cut = augment.cutmix > 0.0 && (augment.mixup == 0.0 || heads);
    let lambda = stream.beta(if cut { augment.cutmix } else { augment.mixup });
    let partner = (0..rows).map(|row| (row + rows - 1) % rows).collect();
    if !cut {
        let whole = [0.0, 0.0, width as f32, height as f32];
        return Some(Mix { partner, lambda: lambda as f32, rect: whole, own: lambda as f32 });
    }
    // torchvision's rectangle: its centre is anywhere in the image, and the part outside the image is cut off.
    let (x, y) = (stream.below(width), stream.below(height));
    let span = |centre: usize, side: usize| {
        let half = (0.5 * (1.0 - lambda).sqrt() * side as f64) as usize;
        (centre.saturating_sub(half), (centre + half).min(side))
    };
    let ((left, right), (top, bottom)) = (span(x, width), span(y, height));
    let shown = ((right - left) * (bottom - top)) as f64 / (height * width) as f64;
    let rect = [left, top, right, bottom].map(|x| x as f32);
    Some(Mix { partner, lambda: (1.0 - shown) as f32, rect, own: 0.0 })
}
