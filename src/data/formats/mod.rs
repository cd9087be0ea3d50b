//! The supported file formats, one file each, and the names of unsupported ones.

pub(super) mod budget;
mod ifd;
mod jpeg;
mod orientation;
mod pixels;
mod png;
mod pnm;
mod sniff;
mod tiff;
mod webp;

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};

use self::budget::Permit;
use self::pixels::{Outcome, Pixels, Room, keep_first};
use self::sniff::Format;

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
