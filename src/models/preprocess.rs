//! How an image becomes the network's input. It belongs to the weights, not to the architecture,
//! and travels with every checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::nn::TensorFile;
use crate::ops::GREY;
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

/// How an image is placed on the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// Scaled until it covers the input and [`Preprocess::resize`] around it; the centre is cut out.
    #[default]
    Crop,
    /// Height and width are scaled to the input's, each by itself.
    Stretch,
    /// Scaled until it just fits, in the centre; [`Preprocess::fill`] lies around it (letterbox).
    Fit,
    /// The same in the top left corner.
    FitTopLeft,
}

/// The order of the input's channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: networks that were trained with Caffe.
    Bgr,
    /// One channel: the grey of ITU-R 601, as Pillow's `convert("L")`, not rounded to bytes.
    Grey,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Grey => 1,
        }
    }
}

/// The image that a network takes: scaled, placed on a canvas of the input's size, each channel normalised as
/// `(u8 / 255 - mean) / std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Preprocess {
    /// Height and width of the network's input, pixels.
    pub size: [usize; 2],
    /// Where the centre is cut out: what the input's short side is a part of, pixels. torchvision's 256 for an input of
    /// 224.
    pub resize: usize,
    /// How the image is placed.
    #[serde(default)]
    pub placement: Placement,
    /// Colour of what the image does not cover: red, green, blue.
    #[serde(default)]
    pub fill: [u8; 3],
    /// Resampling filter.
    pub filter: Filter,
    /// The order of the channels.
    #[serde(default)]
    pub channels: Channels,
    /// Mean of red, green and blue, on a scale of 0 to 1; of one channel the first.
    pub mean: [f32; 3],
    /// Their standard deviations. A network that takes bytes as they are, from 0 to 255, has 1/255.
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

/// The short side of a height and a width.
pub(crate) fn short([height, width]: [usize; 2]) -> usize {
    height.min(width)
}

impl Preprocess {
    /// A square of `crop` pixels, cut out of the centre of an image whose short side is `resize` pixels; ImageNet's
    /// statistics.
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

    /// Square images that are scaled to `side` and not cropped.
    pub fn whole(side: usize) -> Self {
        Self::cropped(side, side, Filter::Bilinear)
    }

    /// The same for inputs of this height and width, with the same ratio of resize to crop, as timm rounds it: 256 -> 224
    /// becomes 182 -> 160.
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

    /// Bytes of an image on its way to the device: red, green and blue of each pixel.
    pub fn bytes(&self) -> usize {
        self.size[0] * self.size[1] * 3
    }

    /// What `ImageInput` computes from a byte of red, green or blue: `byte * scale + shift`. The single channel of a grey
    /// input is the sum of the three.
    pub fn scale_shift(&self) -> ([f32; 3], [f32; 3]) {
        let each = |f: fn(f64, f64) -> f64| {
            std::array::from_fn(|c| match self.channels {
                Channels::Grey => (f(self.mean[0].into(), self.std[0].into()) * GREY[c]) as f32,
                _ => f(self.mean[c].into(), self.std[c].into()) as f32,
            })
        };
        (each(|_, std| 1.0 / (255.0 * std)), each(|mean, std| -mean / std))
    }

    /// Bytes `[height, width, 3]` as the network's numbers `[height, width, channels]`: what the device computes from them.
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

    /// Checks numbers that come from a file.
    ///
    /// # Errors
    /// [`Error::Weights`] saying which is out of range.
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
