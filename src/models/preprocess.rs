//! How an image becomes the network's input. It belongs to the weights, not to the architecture,
//! and travels with every checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nn::TensorFile;
use crate::{Error, Result};

/// The resampling filter of a resize, antialiased as Pillow does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

/// Resize the short side, crop the centre, normalise each channel: `(u8 / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// Short side after the resize, pixels.
    pub resize: usize,
    /// Side of the square centre crop, pixels: the network's input.
    pub crop: usize,
    /// Resampling filter.
    pub filter: Filter,
    /// Mean of each channel (red, green, blue), on a scale of 0 to 1.
    pub mean: [f32; 3],
    /// Standard deviation of each channel.
    pub std: [f32; 3],
}

/// ImageNet's channel means.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl Default for Preprocess {
    /// torchvision's V1 evaluation transform: 256 -> 224, bilinear, ImageNet statistics.
    fn default() -> Self {
        Preprocess {
            resize: 256,
            crop: 224,
            filter: Filter::Bilinear,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }
}

impl Preprocess {
    /// Square images that are scaled to `side` and not cropped.
    pub fn whole(side: usize) -> Self {
        Preprocess { resize: side, crop: side, ..Self::default() }
    }

    /// The same for inputs of `crop` pixels, with the same ratio of resize to crop, as timm rounds it: 256 -> 224 becomes
    /// 182 -> 160.
    #[must_use]
    pub fn at_size(&self, crop: usize) -> Self {
        Preprocess { resize: crop * self.resize / self.crop, crop, ..self.clone() }
    }

    /// What `ImageInput` computes from a byte: `byte * scale + shift`, a channel.
    pub fn scale_shift(&self) -> ([f32; 3], [f32; 3]) {
        let each = |f: fn(f64, f64) -> f64| {
            std::array::from_fn(|c| f(self.mean[c].into(), self.std[c].into()) as f32)
        };
        (each(|_, std| 1.0 / (255.0 * std)), each(|mean, std| -mean / std))
    }

    /// This, with what a weight file says of itself: `mean`, `std`, `input`, `resize`, `filter`. A file
    /// that names its input's size only keeps the ratio of resize to crop.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the entry that cannot be understood.
    pub fn with_metadata(&self, file: &TensorFile) -> Result<Self> {
        let mut changed = self.clone();
        let about: &BTreeMap<String, String> = file.metadata();
        let fail = |key: &str, want: &str| {
            file.error(format!("metadata '{key}' is '{}', expected {want}", about[key]))
        };
        let side = |key: &str| -> Result<Option<usize>> {
            let Some(text) = about.get(key) else { return Ok(None) };
            // A remark may follow, "224 (227 slightly better)", or the other side, which is to be the same.
            let number = |text: &str| -> Option<(usize, usize)> {
                let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                Some((text[..end].parse().ok()?, end))
            };
            let text = text.trim();
            let side = number(text).filter(|(side, end)| {
                let other =
                    text[*end..].trim_start().strip_prefix('x').map(|other| number(other.trim_start()));
                (8..=4096).contains(side)
                    && other.is_none_or(|other| other.is_some_and(|(other, _)| other == *side))
            });
            let side = side.map(|(side, _)| side);
            side.map(Some).ok_or_else(|| fail(key, "the side of a square in pixels, 8 to 4096"))
        };
        for (key, target) in [("mean", &mut changed.mean), ("std", &mut changed.std)] {
            let Some(text) = about.get(key) else { continue };
            let numbers: Vec<f32> = text.split(',').filter_map(|x| x.trim().parse().ok()).collect();
            let valid = |x: &[f32; 3]| x.iter().all(|x| x.is_finite() && (key == "mean" || *x > 0.0));
            let numbers = <[f32; 3]>::try_from(numbers).ok().filter(valid);
            *target = numbers.ok_or_else(|| fail(key, "three numbers, such as 0.485,0.456,0.406"))?;
        }
        if let Some(crop) = side("input")? {
            changed = changed.at_size(crop);
        }
        if let Some(resize) = side("resize")? {
            changed.resize = resize.max(changed.crop);
        }
        if let Some(filter) = about.get("filter").or_else(|| about.get("interpolation")) {
            changed.filter = match filter.as_str() {
                "bilinear" => Filter::Bilinear,
                "bicubic" => Filter::Bicubic,
                _ => return Err(file.error(format!("the filter '{filter}' is neither bilinear nor bicubic"))),
            };
        }
        Ok(changed)
    }

    /// Checks numbers that come from a file.
    ///
    /// # Errors
    /// [`Error::Weights`] saying which is out of range.
    pub fn check(&self) -> Result<()> {
        let finite = self.mean.iter().all(|m| m.is_finite());
        let positive = self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if !finite
            || !positive
            || !(8..=4096).contains(&self.crop)
            || !(self.crop..=8192).contains(&self.resize)
        {
            return Err(Error::Weights(format!("the preprocessing is out of range: {self:?}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_normalised_as_torchvision_does_it() {
        let (scale, shift) = Preprocess::default().scale_shift();
        for c in 0..3 {
            let wanted = (128.0 / 255.0 - IMAGENET_MEAN[c]) / IMAGENET_STD[c];
            assert!((128.0 * scale[c] + shift[c] - wanted).abs() < 1e-6);
        }
    }
}
