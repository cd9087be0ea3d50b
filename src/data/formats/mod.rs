//! The file formats that are read, each in its own file, and the names of those that are not.

pub(super) mod budget;
mod jpeg;
mod orientation;
mod png;
mod pnm;
mod sniff;
mod tiff;
mod webp;

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};

use self::budget::{MOST_BYTES, Permit};
use self::sniff::Format;
use super::decode::MAX_PIXELS;

/// A result or, for people, the reason why there is none. The reason follows the file's name and a colon.
type Outcome<T> = Result<T, String>;

/// The pixels of a file, as they are stored.
struct Pixels {
    width: usize,
    height: usize,
    /// Bytes `[height, width, 3]`.
    rgb: Vec<u8>,
    /// How to turn them upright: 1 to 8, as in EXIF.
    orientation: u8,
}

/// What a decoder must ask before it allocates anything that grows with the image.
struct Room<'a> {
    /// Length of the file, bytes.
    file: usize,
    held: &'a mut Option<Permit>,
}

impl Room<'_> {
    /// Checks the size of the image and waits for memory: `bytes` are needed at most, pixels included, file excluded.
    fn ask(&mut self, width: u64, height: u64, bytes: u64) -> Outcome<()> {
        if width == 0 || height == 0 {
            return Err(format!("{width} x {height} pixels: nothing to see"));
        }
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(format!("{width} x {height} pixels, more than the {MAX_PIXELS} allowed"));
        }
        let bytes = bytes.saturating_add(self.file as u64);
        if bytes > MOST_BYTES {
            return Err(format!(
                "{width} x {height} pixels of this kind need {} MiB to decode, more than the {} allowed; make the \
                 image smaller or save it as an 8-bit PNG",
                bytes >> 20,
                MOST_BYTES >> 20
            ));
        }
        if self.held.is_none() {
            *self.held = Some(budget::take(bytes));
        }
        Ok(())
    }
}

/// Decodes a file's content to width, height and RGB bytes, upright. The memory that this needs is counted in `held`,
/// which may hold enough already and holds it until the caller drops it.
pub(super) fn decode(bytes: &[u8], held: &mut Option<Permit>) -> Outcome<(usize, usize, Vec<u8>)> {
    let room = &mut Room { file: bytes.len(), held };
    let pixels = match sniff::format(bytes)? {
        Format::Jpeg => jpeg::decode(bytes, room),
        Format::Png => png::decode(bytes, room),
        Format::Bmp => bmp(bytes, room),
        Format::Pnm => pnm::decode(bytes, room),
        Format::Tiff => tiff::decode(bytes, room),
        Format::WebP => webp::decode(bytes, room),
    }?;
    if pixels.rgb.len() != pixels.width * pixels.height * 3 {
        return Err("the decoder returned too few pixels".into());
    }
    Ok(orientation::upright(pixels))
}

/// A BMP, or a DIB, which is one without the header of a file; decoded by the `image` crate.
fn bmp(bytes: &[u8], room: &mut Room) -> Outcome<Pixels> {
    let file = Cursor::new(bytes);
    let is_file = bytes.starts_with(b"BM");
    let decoder = if is_file { BmpDecoder::new(file) } else { BmpDecoder::new_without_file_header(file) };
    let decoder = decoder.map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    let (color, length) = (decoder.color_type(), decoder.total_bytes());
    room.ask(width.into(), height.into(), length)?;
    let mut rgb = vec![0; length as usize];
    decoder.read_image(&mut rgb).map_err(|e| e.to_string())?;
    match color {
        ColorType::Rgb8 => {}
        ColorType::Rgba8 => keep_first(&mut rgb, 4, 3),
        other => return Err(format!("a BMP with {other:?} samples; convert it to PNG")),
    }
    Ok(Pixels { width: width as usize, height: height as usize, rgb, orientation: 1 })
}

/// Of every `of` bytes keeps the first `keep`, in place.
fn keep_first(bytes: &mut Vec<u8>, of: usize, keep: usize) {
    let count = bytes.len() / of;
    for i in 1..count {
        bytes.copy_within(i * of..i * of + keep, i * keep);
    }
    bytes.truncate(count * keep);
    bytes.shrink_to_fit();
}

/// RGB of one pixel of CMYK, as Pillow converts it: 0 is no ink.
fn cmyk_to_rgb(c: &[u8]) -> [u8; 3] {
    let paper = 255 - u32::from(c[3]);
    [0, 1, 2].map(|i| {
        let product = u32::from(c[i]) * paper + 128;
        (paper - (((product >> 8) + product) >> 8).min(paper)) as u8
    })
}
