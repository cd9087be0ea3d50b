//! From an image of any size to the bytes of the network's input: torchvision's transforms on Pillow images. The
//! bytes are normalised on the device, not here.

use serde::{Deserialize, Serialize};

use super::affine::Affine;
use super::decode::Image;
use super::resize::{Rect, resize_window};
use crate::models::preprocess::{Placement, Preprocess, short};
use crate::rng::Stream;
use crate::{Error, Result};

/// Augmentation of training images. The host resizes a random part of the image to the crop. Where anything beyond
/// [`Augment::flip`] is on, [`super::draws`] draws the rest, and the device applies it in
/// [`crate::ops::AugmentInput`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Augment {
    /// Least and greatest share of the image's area that is kept, within 0 to 1.
    pub scale: (f64, f64),
    /// Least and greatest width / height of the part, drawn log-uniformly.
    pub ratio: (f64, f64),
    /// Probability of a left-right mirror.
    pub flip: f64,
    /// Probability of a top-bottom mirror.
    pub vertical_flip: f64,
    /// Greatest rotation to either side, degrees.
    pub rotate: f64,
    /// Brightness is multiplied by a factor from `max(0, 1 - brightness)` to `1 + brightness`: torchvision's
    /// `ColorJitter`, as the next three.
    pub brightness: f64,
    /// Contrast about the mean grey of the part.
    pub contrast: f64,
    /// Saturation, from grey.
    pub saturation: f64,
    /// Greatest turn of the hue in HSV to either side, as a share of the full circle, up to 0.5.
    pub hue: f64,
    /// Probability of no colour.
    pub grey: f64,
    /// Probability of a Gaussian blur.
    pub blur: f64,
    /// Its least and greatest standard deviation, pixels of the crop; the kernel has 7 taps.
    pub blur_sigma: (f64, f64),
    /// Probability that a rectangle is erased to the mean: torchvision's `RandomErasing`, 2% to 33% of the area.
    pub erase: f64,
    /// TrivialAugmentWide: one operation out of fourteen an image, of random strength.
    pub trivial: bool,
    /// What a rotation or a shift uncovers is the image's mirror image, else black.
    pub reflect: bool,
    /// MixUp: the alpha of Beta(alpha, alpha), 0 for none.
    pub mixup: f64,
    /// CutMix: the same. Where both are on, a coin chooses for each batch.
    pub cutmix: f64,
}

options!(Augment);

impl Default for Augment {
    /// At least 35% of the area, mirrored or not. torchvision goes down to 8%, which suits training from scratch on a
    /// million images; among a few hundred, such a small part often misses the object.
    fn default() -> Self {
        Augment {
            scale: (0.35, 1.0),
            ratio: (3.0 / 4.0, 4.0 / 3.0),
            flip: 0.5,
            vertical_flip: 0.0,
            rotate: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
            grey: 0.0,
            blur: 0.0,
            blur_sigma: (0.1, 2.0),
            erase: 0.0,
            trivial: false,
            reflect: true,
            mixup: 0.0,
            cutmix: 0.0,
        }
    }
}

impl Augment {
    /// The greatest probability.
    pub const PROBABILITY: f64 = 1.0;
    /// The greatest rotation, degrees.
    pub const ROTATION: f64 = 180.0;
    /// The greatest strength of brightness, contrast and saturation.
    pub const JITTER: f64 = 10.0;
    /// The greatest turn of the hue.
    pub const HUE: f64 = 0.5;
    /// The greatest alpha of MixUp and CutMix.
    pub const ALPHA: f64 = 1000.0;

    /// No augmentation: training images are resized and cropped like evaluation images.
    pub fn none() -> Self {
        Augment { scale: (1.0, 1.0), ratio: (1.0, 1.0), flip: 0.0, ..Augment::default() }
    }

    /// Whether the device augments images: anything beyond the random part and the left-right mirror is on. The
    /// device then also mirrors.
    pub fn on_device(&self) -> bool {
        let Augment {
            vertical_flip, rotate, brightness, contrast, saturation, hue, grey, blur, erase, ..
        } = *self;
        let strengths = [vertical_flip, rotate, brightness, contrast, saturation, hue, grey, blur, erase];
        self.trivial || self.mixes() || strengths.iter().any(|&strength| strength > 0.0)
    }

    /// Whether images of a batch are mixed, so that their targets must be mixed, too.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Checks that every number is within its limits.
    ///
    /// # Errors
    /// [`Error::Usage`] names the option that is not.
    pub fn check(&self) -> Result<()> {
        let refuse = |field, value: String, reason: String| Err(Error::setting(field, value, reason));
        let ordered = |(low, high): (f64, f64)| 0.0 < low && low <= high && high.is_finite();
        if !ordered(self.scale) || self.scale.1 > 1.0 {
            let (low, high) = self.scale;
            return refuse("scale", format!("{low},{high}"), "it needs 0 < least <= greatest <= 1".into());
        }
        if !ordered(self.ratio) {
            let (low, high) = self.ratio;
            return refuse("ratio", format!("{low},{high}"), "it needs 0 < least <= greatest".into());
        }
        if !ordered(self.blur_sigma) {
            let (low, high) = self.blur_sigma;
            return refuse("blur_sigma", format!("{low},{high}"), "it needs 0 < least <= greatest".into());
        }
        for (field, probability) in [
            ("flip", self.flip),
            ("vertical_flip", self.vertical_flip),
            ("grey", self.grey),
            ("blur", self.blur),
            ("erase", self.erase),
        ] {
            if !(0.0..=Self::PROBABILITY).contains(&probability) {
                return refuse(field, probability.to_string(), "a probability lies within 0 and 1".into());
            }
        }
        for (field, number, greatest) in [
            ("rotate", self.rotate, Self::ROTATION),
            ("brightness", self.brightness, Self::JITTER),
            ("contrast", self.contrast, Self::JITTER),
            ("saturation", self.saturation, Self::JITTER),
            ("hue", self.hue, Self::HUE),
            ("mixup", self.mixup, Self::ALPHA),
            ("cutmix", self.cutmix, Self::ALPHA),
        ] {
            if !(0.0..=greatest).contains(&number) {
                return refuse(field, number.to_string(), format!("it lies within 0 and {greatest}"));
            }
        }
        Ok(())
    }
}

/// The evaluation view of an image: bytes `[height, width, 3]`, placed according to the preprocessing.
///
/// [`Placement::Crop`] is torchvision's `Resize(resize)` then `CenterCrop(crop)`: the short side becomes `resize`, the
/// long one `int(resize * long / short)`. The crop's offset is half the difference, rounded half to even; where the
/// resized image is smaller than the crop, the fill colour surrounds it.
pub fn eval(image: &Image, preprocess: &Preprocess) -> Vec<u8> {
    let [height, width] = preprocess.size;
    let Placed { size, x, y } = placed(image.width, image.height, preprocess);
    let source = Rect { x: 0, y: 0, width: image.width, height: image.height };
    let part = Rect { x: x.first, y: y.first, width: x.count, height: y.count };
    let window = resize_window(image, source, size, part, preprocess.filter);
    if (x.count, y.count) == (width, height) {
        return window.rgb;
    }
    let mut out = preprocess.fill.repeat(height * width);
    let rows = out.chunks_exact_mut(width * 3).skip(y.before);
    for (to, from) in rows.zip(window.rgb.chunks_exact(x.count * 3)) {
        to[x.before * 3..][..x.count * 3].copy_from_slice(from);
    }
    out
}

/// One dimension of a placed image.
struct Span {
    /// First visible position of the scaled image, and the number of visible positions.
    first: usize,
    count: usize,
    /// Positions of the canvas before it.
    before: usize,
}

/// Placement of an image on the canvas.
struct Placed {
    /// Width and height of the whole scaled image.
    size: (usize, usize),
    x: Span,
    y: Span,
}

fn placed(w: usize, h: usize, preprocess: &Preprocess) -> Placed {
    let [height, width] = preprocess.size;
    let whole = |count, before| Span { first: 0, count, before };
    // Scales the given side to `to`; the other side follows, rounded down as in torchvision.
    let scaled = |by_width: bool, to: usize| match by_width {
        true => (to, (to * h / w).max(1)),
        false => ((to * w / h).max(1), to),
    };
    // Whether the image is narrower than the canvas.
    let narrow = w * height <= h * width;
    match preprocess.placement {
        Placement::Crop => {
            let around = |side: usize| side * preprocess.resize / short(preprocess.size);
            let size = scaled(narrow, around(if narrow { width } else { height }));
            Placed { size, x: centre(size.0, width), y: centre(size.1, height) }
        }
        Placement::Stretch => Placed { size: (width, height), x: whole(width, 0), y: whole(height, 0) },
        Placement::Fit | Placement::FitTopLeft => {
            let size = scaled(!narrow, if narrow { height } else { width });
            let size = (size.0.min(width), size.1.min(height));
            let before = |side: usize, own: usize| match preprocess.placement {
                Placement::Fit => (side - own) / 2,
                _ => 0,
            };
            Placed { size, x: whole(size.0, before(width, size.0)), y: whole(size.1, before(height, size.1)) }
        }
    }
}

/// The map from positions of the canvas to positions in an image of this width and height, as [`eval`] places it:
/// pixels from the top left corner. Positions beyond the canvas were cut off.
pub fn eval_map(width: usize, height: usize, preprocess: &Preprocess) -> Affine {
    let Placed { size, x, y } = placed(width, height, preprocess);
    let row = |span: Span, own: usize, scaled: usize| {
        let factor = own as f64 / scaled as f64;
        (factor, factor * (span.first as f64 - span.before as f64))
    };
    let ((across, left), (down, top)) = (row(x, width, size.0), row(y, height, size.1));
    Affine([[across, 0.0, left], [0.0, down, top]])
}

/// One dimension of a centre crop.
fn centre(size: usize, crop: usize) -> Span {
    if size < crop {
        return Span { first: 0, count: size, before: (crop - size) / 2 };
    }
    let twice = size - crop;
    let half = twice / 2;
    // Python's round(): n + 1/2 goes to the even neighbour.
    Span { first: half + (twice % 2) * (half % 2), count: crop, before: 0 }
}

/// torchvision's `RandomResizedCrop` then `RandomHorizontalFlip`: bytes `[height, width, 3]`.
///
/// Draws from `stream`: area, ratio and position for each of up to ten tries, then the flip.
pub fn train(image: &Image, preprocess: &Preprocess, augment: &Augment, stream: &mut Stream) -> Vec<u8> {
    let [height, width] = preprocess.size;
    let (part, flipped) = random_view(image.width, image.height, augment, stream);
    let whole = Rect { x: 0, y: 0, width, height };
    let mut rgb = resize_window(image, part, (width, height), whole, preprocess.filter).rgb;
    if flipped {
        for row in rgb.chunks_exact_mut(width * 3) {
            // Reversing all bytes also reverses each pixel's channels; put those right again.
            row.reverse();
            row.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
    }
    rgb
}

/// The random part of a training image, and whether the image is mirrored.
fn random_view(width: usize, height: usize, augment: &Augment, stream: &mut Stream) -> (Rect, bool) {
    let part = random_part(width, height, augment, stream);
    (part, stream.unit() < augment.flip)
}

/// As [`eval_map`], for an image that [`train`] places with the same draws.
pub fn train_map(
    width: usize,
    height: usize,
    preprocess: &Preprocess,
    augment: &Augment,
    stream: &mut Stream,
) -> Affine {
    let (part, flipped) = random_view(width, height, augment, stream);
    let [canvas_height, canvas_width] = preprocess.size.map(|side| side as f64);
    let (across, down) = (part.width as f64 / canvas_width, part.height as f64 / canvas_height);
    let (left, top) = (part.x as f64, part.y as f64);
    match flipped {
        false => Affine([[across, 0.0, left], [0.0, down, top]]),
        true => Affine([[-across, 0.0, left + part.width as f64], [0.0, down, top]]),
    }
}

/// The random part of a training image: ten tries, then the largest allowed centre crop.
pub fn random_part(width: usize, height: usize, augment: &Augment, stream: &mut Stream) -> Rect {
    let (w, h) = (width as f64, height as f64);
    let (least, greatest) = augment.ratio;
    for _ in 0..10 {
        let area = w * h * stream.range(augment.scale.0, augment.scale.1);
        let ratio = stream.range(least.ln(), greatest.ln()).exp();
        let part_w = (area * ratio).sqrt().round_ties_even() as usize;
        let part_h = (area / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&part_w) && (1..=height).contains(&part_h) {
            let y = stream.below(height - part_h + 1);
            let x = stream.below(width - part_w + 1);
            return Rect { x, y, width: part_w, height: part_h };
        }
    }
    let (part_w, part_h) = if w / h < least {
        (width, ((w / least).round_ties_even() as usize).clamp(1, height))
    } else if w / h > greatest {
        (((h * greatest).round_ties_even() as usize).clamp(1, width), height)
    } else {
        (width, height)
    };
    Rect { x: (width - part_w) / 2, y: (height - part_h) / 2, width: part_w, height: part_h }
}
