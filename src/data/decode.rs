//! Decodes files to images. The content decides the format, not the file's extension.
//!
//! The result equals Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` byte for byte: EXIF orientation
//! applied, alpha dropped (not blended), grey repeated, CMYK converted. One difference is intended: 16-bit grey keeps
//! its high byte, whereas Pillow clips everything above 255 to white.
//!
//! | format | read | refused by name |
//! |---|---|---|
//! | JPEG | baseline, extended, progressive; Huffman and arithmetic coding; grey, YCbCr, RGB, CMYK, YCCK; any sampling | 12 bits, JPEG-LS, hierarchical |
//! | PNG | all | |
//! | TIFF | the first page; see `formats/tiff` | floating point, 32 bits, L*a*b*, JPEG of the old kind, JPEG 2000 |
//! | WebP | lossy, lossless, the first frame of animations | |
//! | BMP, PNM | all but PFM | floating point |
//!
//! Files of other known formats (HEIC, AVIF, JPEG 2000, JPEG XL, PSD, SVG, raw files of cameras, ...) are refused by
//! name.
//!
//! A decode needs at most 1 GiB, the file included, and all concurrent decodes together need no more: see
//! [`MAX_PIXELS`] and `formats/budget.rs`. Panics of decoders are caught.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use image::ImageEncoder;

use super::formats;
pub use super::formats::budget::MAX_PIXELS;
pub(crate) use super::formats::budget::holding;
use super::formats::budget::{self, MOST_BYTES, Permit};
use crate::panics::guarded;
use crate::{Error, Result};

/// An upright 8-bit RGB image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Bytes `[height, width, 3]`: rows from the top, red, green, blue interleaved.
    pub rgb: Vec<u8>,
}

impl Image {
    /// Writes the image as a PNG, and creates the folder where it is missing.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write_png(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        let (width, height) = (self.width as u32, self.height as u32);
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&self.rgb, width, height, image::ExtendedColorType::Rgb8)
            .map_err(|e| Error::io(path, "write", std::io::Error::other(e)))?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        }
        std::fs::write(path, bytes).map_err(|e| Error::io(path, "write", e))
    }
}

/// Reads and decodes a file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Data`] as [`decode`].
pub fn load(path: &Path) -> Result<Image> {
    Ok(load_and(path, |_| ())?.0)
}

/// Reads and decodes a file, and calls `look` with its bytes.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_and<T>(path: &Path, look: impl FnOnce(&[u8]) -> T) -> Result<(Image, T)> {
    /// A file of more bytes is read and decoded alone.
    const LARGE: u64 = 32 << 20;
    let io = |e| Error::io(path, "read", e);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut held = (length > LARGE).then(|| budget::take(MOST_BYTES));
    let mut bytes = Vec::with_capacity(length.min(MOST_BYTES) as usize);
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::Data(format!("{}: larger than {} MiB", path.display(), MOST_BYTES >> 20)));
    }
    let image = decode_held(&bytes, path, &mut held)?;
    let looked = look(&bytes);
    drop(bytes);
    keep(held, &image);
    Ok((image, looked))
}

/// Decodes the content of a file; `path` is only used in errors. Waits while other decoders use the memory that this
/// one needs.
///
/// # Errors
/// [`Error::Data`] `"{path}: {reason}"` for anything that is not a whole image of a supported format
/// (JPEG, PNG, BMP, PNM, TIFF, WebP) with at most [`MAX_PIXELS`] pixels.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Image> {
    let mut held = None;
    let image = decode_held(bytes, path, &mut held)?;
    keep(held, &image);
    Ok(image)
}

fn keep(held: Option<Permit>, image: &Image) {
    if let Some(permit) = held {
        budget::keep(permit, image.rgb.len() as u64);
    }
}

fn decode_held(bytes: &[u8], path: &Path, held: &mut Option<Permit>) -> Result<Image> {
    // A bug in a decoder costs one image, never the run.
    let outcome = guarded(|| formats::decode(bytes, held))
        .unwrap_or_else(|_| Err("the decoder failed on this file".into()));
    let (width, height, rgb) =
        outcome.map_err(|reason| Error::Data(format!("{}: {reason}", path.display())))?;
    Ok(Image { width, height, rgb })
}
