//! From an image of any size to the square bytes a network reads: torchvision's transforms on Pillow
//! images. Normalisation is not done here; the bytes travel to the device and are normalised there.

use serde::{Deserialize, Serialize};

use super::decode::Image;
use super::resize::{Rect, resize_window};
use crate::models::preprocess::Preprocess;
use crate::rng::Stream;
use crate::{Error, Result};

/// How training images are varied. A random part of the image is resized to the crop here; where anything
/// beyond [`Augment::flip`] is on, the rest is drawn by [`super::draws`] and done on the device, by
/// [`crate::ops::AugmentInput`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

impl Default for Augment {
    /// At least 35% of the area, mirrored or not. torchvision keeps as little as 8%, which suits training from nothing
    /// on a million images; in a few hundred, such a part often misses what the image shows.
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

    /// No change at all: training images are resized and cut as those for evaluation are.
    pub fn none() -> Self {
        Augment { scale: (1.0, 1.0), ratio: (1.0, 1.0), flip: 0.0, ..Augment::default() }
    }

    /// Whether the device varies images: anything beyond part and left-right mirror is on. Then it mirrors them,
    /// too.
    pub fn on_device(&self) -> bool {
        let Augment {
            vertical_flip, rotate, brightness, contrast, saturation, hue, grey, blur, erase, ..
        } = *self;
        let strengths = [vertical_flip, rotate, brightness, contrast, saturation, hue, grey, blur, erase];
        self.trivial || self.mixes() || strengths.iter().any(|&strength| strength > 0.0)
    }

    /// Whether images of a batch are mixed, and so must be their targets.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Whether every number lies where it means something.
    ///
    /// # Errors
    /// [`Error::Usage`] names the option that does not.
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

/// torchvision's `Resize(resize)` then `CenterCrop(crop)`: bytes `[crop, crop, 3]`.
///
/// The short side becomes `resize`, the long one `int(resize * long / short)`. The crop's offset is half
/// the difference, rounded half to even; where the resized image is smaller than the crop, zeros surround it.
pub fn eval(image: &Image, preprocess: &Preprocess) -> Vec<u8> {
    let (w, h) = (image.width, image.height);
    let short = w.min(h);
    let size = (preprocess.resize * w / short, preprocess.resize * h / short);
    let crop = preprocess.crop;
    let (x, width, left) = centre(size.0, crop);
    let (y, height, top) = centre(size.1, crop);
    let source = Rect { x: 0, y: 0, width: w, height: h };
    let window = resize_window(image, source, size, Rect { x, y, width, height }, preprocess.filter);
    if (width, height) == (crop, crop) {
        return window.rgb;
    }
    let mut out = vec![0; crop * crop * 3];
    let rows = out.chunks_exact_mut(crop * 3).skip(top);
    for (to, from) in rows.zip(window.rgb.chunks_exact(width * 3)) {
        to[left * 3..][..width * 3].copy_from_slice(from);
    }
    out
}

/// For one dimension of a centre crop: first position kept, how many, and the zeros before them.
fn centre(size: usize, crop: usize) -> (usize, usize, usize) {
    if size < crop {
        return (0, size, (crop - size) / 2);
    }
    let twice = size - crop;
    let half = twice / 2;
    // Python's round(): n + 1/2 goes to the even neighbour.
    (half + (twice % 2) * (half % 2), crop, 0)
}

/// torchvision's `RandomResizedCrop(crop)` then `RandomHorizontalFlip`: bytes `[crop, crop, 3]`.
///
/// Draws from `stream`: area, ratio and position for each of up to ten tries, then the flip.
pub fn train(image: &Image, preprocess: &Preprocess, augment: &Augment, stream: &mut Stream) -> Vec<u8> {
    let crop = preprocess.crop;
    let part = random_part(image.width, image.height, augment, stream);
    let whole = Rect { x: 0, y: 0, width: crop, height: crop };
    let mut rgb = resize_window(image, part, (crop, crop), whole, preprocess.filter).rgb;
    if stream.unit() < augment.flip {
        for row in rgb.chunks_exact_mut(crop * 3) {
            // Reversing all bytes also reverses each pixel's channels; put those right again.
            row.reverse();
            row.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
    }
    rgb
}

/// The part that a training image is cut down to: ten tries, then the largest allowed centre crop.
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
