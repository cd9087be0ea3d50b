//! Preprocessing: from an image to the network's input. The preprocessing belongs to the weights, not to the
//! architecture, and is stored in every checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nn::TensorFile;
use crate::ops::GREY;
use crate::{Error, Result};

/// The resampling filter of a resize, antialiased as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
}

/// Placement of an image on the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Scales the image until it covers the input and the [`Preprocess::resize`] margin around it, then crops the
    /// centre.
    #[default]
    Crop,
    /// Scales height and width separately to those of the input.
    Stretch,
    /// Scales the image until it just fits and centres it; [`Preprocess::fill`] surrounds it (letterbox).
    Fit,
    /// As `Fit`, with the image in the top left corner.
    FitTopLeft,
}

/// The order of the input's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: for networks trained with Caffe.
    Bgr,
    /// One channel: grey by ITU-R 601, as in Pillow's `convert("L")`, but not rounded to bytes.
    Grey,
}

impl Channels {
    /// Number of channels.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Grey => 1,
        }
    }
}

/// The input of a network: the image is scaled, placed on a canvas of the input's size, and each channel is
/// normalised as `(u8 / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Preprocess {
    /// Height and width of the network's input, pixels.
    pub size: [usize; 2],
    /// For a centre crop: the short side of the scaled image, of which the input's short side is cut out, pixels.
    /// torchvision uses 256 for an input of 224.
    pub resize: usize,
    /// Placement of the image.
    #[serde(default)]
    pub placement: Placement,
    /// Colour of the canvas outside the image: red, green, blue.
    #[serde(default)]
    pub fill: [u8; 3],
    /// Resampling filter.
    pub filter: Filter,
    /// The order of the channels.
    #[serde(default)]
    pub channels: Channels,
    /// Mean of red, green and blue, on a scale of 0 to 1; an input of one channel uses the first.
    pub mean: [f32; 3],
    /// Standard deviations of the channels, likewise. A network that takes bytes from 0 to 255 has 1/255.
    pub std: [f32; 3],
}

options!(Preprocess);

/// ImageNet's channel means.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

impl Default for Preprocess {
    /// torchvision's V1 evaluation transform: 256 -> 224, bilinear, ImageNet statistics.
    fn default() -> Self {
        Preprocess::cropped(256, 224, Filter::Bilinear)
    }
}

/// The shorter of a height and a width.
pub(crate) fn short([height, width]: [usize; 2]) -> usize {
    height.min(width)
}

impl Preprocess {
    /// A centre crop of `crop` x `crop` pixels from an image whose short side is scaled to `resize` pixels;
    /// ImageNet's statistics.
    pub const fn cropped(resize: usize, crop: usize, filter: Filter) -> Self {
        Preprocess {
            size: [crop; 2],
            resize,
            placement: Placement::Crop,
            fill: [0; 3],
            filter,
            channels: Channels::Rgb,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }

    /// Square images, scaled to `side` and not cropped.
    pub fn whole(side: usize) -> Self {
        Self::cropped(side, side, Filter::Bilinear)
    }

    /// The same preprocessing for an input of this height and width. The ratio of resize to crop stays, rounded as in
    /// timm: 256 -> 224 becomes 182 -> 160.
    #[must_use]
    pub fn at_size(&self, size: [usize; 2]) -> Self {
        Preprocess { resize: short(size) * self.resize / short(self.size), size, ..self.clone() }
    }

    /// The placement in words: "the short side becomes 256 pixels, the middle 224 x 224 are cut out".
    pub fn in_words(&self) -> String {
        let [height, width] = self.size;
        match self.placement {
            Placement::Crop if height == width => format!(
                "the short side becomes {} pixels, and the middle {width} x {height} pixels are cut out",
                self.resize
            ),
            Placement::Crop => {
                format!("scaled to cover, and the middle {width} x {height} pixels are cut out")
            }
            Placement::Stretch => format!("stretched to {width} x {height} pixels"),
            Placement::Fit => format!("scaled to fit into the middle of {width} x {height} pixels"),
            Placement::FitTopLeft => {
                format!("scaled to fit into the top left corner of {width} x {height} pixels")
            }
        }
    }

    /// Bytes of an image uploaded to the device: red, green and blue of each pixel.
    pub fn bytes(&self) -> usize {
        self.size[0] * self.size[1] * 3
    }

    /// Scale and shift of each channel: `ImageInput` computes `byte * scale + shift` from a byte of red, green or
    /// blue. The single channel of a grey input is the sum of the three results.
    pub fn scale_shift(&self) -> ([f32; 3], [f32; 3]) {
        let each = |f: fn(f64, f64) -> f64| {
            std::array::from_fn(|c| match self.channels {
                Channels::Grey => (f(self.mean[0].into(), self.std[0].into()) * GREY[c]) as f32,
                _ => f(self.mean[c].into(), self.std[c].into()) as f32,
            })
        };
        (each(|_, std| 1.0 / (255.0 * std)), each(|mean, std| -mean / std))
    }

    /// Converts bytes `[height, width, 3]` to the network's input `[height, width, channels]`, with the same result
    /// as on the device.
    pub fn normalised(&self, bytes: &[u8]) -> Vec<f32> {
        let (scale, shift) = self.scale_shift();
        let pixels = bytes.chunks_exact(3);
        let rgb = pixels
            .map(|pixel| -> [f32; 3] { std::array::from_fn(|c| f32::from(pixel[c]) * scale[c] + shift[c]) });
        match self.channels {
            Channels::Rgb => rgb.flatten().collect(),
            Channels::Bgr => rgb.flat_map(|[r, g, b]| [b, g, r]).collect(),
            Channels::Grey => rgb.map(|[r, g, b]| r + g + b).collect(),
        }
    }

    /// This preprocessing, changed by the metadata of a weights file: `mean`, `std`, `input`, `resize`, `filter`. A
    /// file that only names its input's size keeps the ratio of resize to crop.
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
            // A remark may follow the number, "224 (227 slightly better)", or the other side, which must be equal.
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
            changed = changed.at_size([crop; 2]);
        }
        if let Some(resize) = side("resize")? {
            changed.resize = resize.max(short(changed.size));
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

    /// Checks the numbers, which may come from a file.
    ///
    /// # Errors
    /// [`Error::Weights`] naming the number that is out of range.
    pub fn check(&self) -> Result<()> {
        let finite = self.mean.iter().all(|m| m.is_finite());
        let positive = self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if !finite
            || !positive
            || !self.size.iter().all(|side| (8..=4096).contains(side))
            || !(short(self.size)..=8192).contains(&self.resize)
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
