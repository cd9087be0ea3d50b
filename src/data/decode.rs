//! Bytes to pictures. The content decides the format, not the file's extension.
//!
//! The result is what Pillow's `ImageOps.exif_transpose(Image.open(f)).convert("RGB")` gives: EXIF
//! orientation applied, alpha dropped (not blended), grey repeated, CMYK converted. One difference is
//! meant: 16-bit grey keeps its high byte, where Pillow clips everything above 255 to white. JPEG
//! decoders differ by a few levels among themselves.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits};

use crate::panics::guarded;
use crate::{Error, Result};

/// The most pixels a picture may have: 256 MiB of RGB, where Pillow too suspects a decompression bomb.
pub const MAX_PIXELS: u64 = (256 << 20) / 3;

/// An upright 8-bit RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Bytes `[height, width, 3]`: rows from the top, red, green, blue interleaved.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Writes it as a PNG, and the folder where there is none.
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
pub fn load(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    decode(&bytes, path)
}

/// Decodes the content of a file; `path` only names it in errors.
///
/// # Errors
/// [`Error::Data`] `"{path}: {reason}"` for anything that is not a whole picture of a supported format
/// (JPEG, PNG, BMP, PNM, TIFF, WebP) with at most [`MAX_PIXELS`] pixels.
pub fn decode(bytes: &[u8], path: &Path) -> Result<Picture> {
    // A bug in a decoder costs one picture, never the run.
    let outcome = guarded(|| decode_content(bytes))
        .unwrap_or_else(|_| Err("the decoder failed on this file".into()));
    outcome.map_err(|reason| Error::Data(format!("{}: {reason}", path.display())))
}

fn decode_content(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    match reader.format() {
        Some(ImageFormat::Jpeg) if !jpeg_is_whole(bytes) => {
            return Err("the JPEG is cut off: it has no end marker".into());
        }
        Some(ImageFormat::WebP) if !riff_is_whole(bytes) => return Err("the WebP is cut off".into()),
        Some(ImageFormat::Gif) => return Err("a GIF; convert it to PNG or JPEG to use it".into()),
        Some(_) => {}
        None => return Err("not a picture (JPEG, PNG, BMP, PNM, TIFF or WebP)".into()),
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(1 << 30);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;

    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(format!("{width} x {height} pixels: nothing to see"));
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("{width} x {height} pixels, more than the {MAX_PIXELS} allowed"));
    }
    // Damaged EXIF says nothing about the pixels.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut image = to_rgb8(DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?)?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    Ok(Picture { width: image.width() as usize, height: image.height() as usize, rgb: image.into_raw() })
}

/// 8-bit RGB: of 16 bits the high byte, as libpng strips them; alpha dropped.
fn to_rgb8(image: DynamicImage) -> Result<DynamicImage, String> {
    let (width, height) = (image.width(), image.height());
    let high = |v: &u16| (v >> 8) as u8;
    let rgb: Vec<u8> = match &image {
        DynamicImage::ImageRgb8(_) => return Ok(image),
        DynamicImage::ImageLuma8(i) => i.iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(i) => i.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        DynamicImage::ImageRgba8(i) => i.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        DynamicImage::ImageLuma16(i) => i.iter().flat_map(|v| [high(v); 3]).collect(),
        DynamicImage::ImageLumaA16(i) => i.chunks_exact(2).flat_map(|p| [high(&p[0]); 3]).collect(),
        DynamicImage::ImageRgb16(i) => i.iter().map(high).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.chunks_exact(4).flat_map(|p| [0, 1, 2].map(|c| high(&p[c]))).collect()
        }
        other => {
            return Err(format!("{:?} samples have no fixed range; convert it to 8 bits", other.color()));
        }
    };
    image::RgbImage::from_raw(width, height, rgb)
        .map(DynamicImage::ImageRgb8)
        .ok_or_else(|| "the decoder returned too few pixels".into())
}

/// Whether the JPEG's segments lead to an end-of-image marker.
///
/// The `image` crate fills what a cut-off file lacks with grey and reports success, so this is asked
/// first. ITU T.81, annex B: a segment is `FF`, a code, and, but for stand-alone codes, a big-endian
/// length that counts itself. In the entropy-coded data after a scan's header an `FF` of the data is
/// followed by `00`; `D0..D7` restart within the scan. Bytes between segments are skipped, as decoders do.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const TEM: u8 = 0x01;
    const SOI: u8 = 0xD8;
    const EOI: u8 = 0xD9;
    let mut at = 0;
    while let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF)) {
        at += skip + 1;
        match bytes.get(at) {
            None => return false,
            Some(&EOI) => return true,
            Some(0xFF) => {} // fill byte: the code is still to come
            Some(&(0x00 | TEM | 0xD0..=0xD7 | SOI)) => at += 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(length) => at += 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

/// Whether a RIFF file is as long as its header says: `RIFF`, then the length of what follows, little-endian.
/// Chunks after the pixels, such as the orientation, would otherwise be lost unnoticed.
fn riff_is_whole(bytes: &[u8]) -> bool {
    bytes
        .get(4..8)
        .is_some_and(|n| u64::from(u32::from_le_bytes([n[0], n[1], n[2], n[3]])) + 8 <= bytes.len() as u64)
}
