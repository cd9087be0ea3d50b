//! Images embedded in a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

use crate::data::{Image, resize};
use crate::models::preprocess::Filter;
use crate::{Error, Result};

/// As a `data:` address: a JPEG that needs no other file.
pub(super) fn embedded(image: &Image) -> Result<String> {
    let Image { width, height, rgb } = image;
    let bytes = compress(rgb, *width, *height, PixelFormat::Rgb, 85, Subsampling::S444)
        .map_err(|e| Error::Data(format!("an image of the report cannot be written: {e}")))?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}

/// The same, `side` pixels wide and high at most.
pub(super) fn thumbnail(image: &Image, side: usize) -> Result<String> {
    let long = image.width.max(image.height).max(1);
    if long <= side {
        return embedded(image);
    }
    let scaled = |n: usize| (n * side / long).max(1);
    embedded(&resize(image, scaled(image.width), scaled(image.height), Filter::Bilinear))
}
