//! TIFF: the first page, read as Pillow and libtiff read it.
//!
//! [`ifd`] reads what is said under the numbers in [`tag`], [`page`] decides what they mean and whether it is read, [`unpack`] turns the bytes of a strip
//! or tile into rows of samples, [`colour`] turns rows of samples into RGB.
//!
//! Read are classic and BigTIFF files in both byte orders, in strips or tiles, with samples together or apart: grey
//! of 1, 2, 4, 8, 12 and 16 bits, palettes of 1 to 8, RGB and CMYK of 8 and 16, YCbCr of 8; plain or packed by
//! PackBits, LZW, Deflate, Zstandard (each with differences or without), CCITT's fax codes or JPEG. All else is
//! refused by name.

mod colour;
mod fax;
mod page;
mod tag;
mod unpack;

use self::colour::Painter;
use self::page::{Packing, Page};
use super::ifd::{self, Directory};
use super::orientation;
use super::pixels::{Outcome, Pixels, Room};

/// Whether the file begins as a TIFF.
pub(super) fn is_tiff(file: &[u8]) -> bool {
    ifd::head(file).is_some()
}

pub(super) fn decode(file: &[u8], room: &mut Room) -> Outcome<Pixels> {
    // Canon's raw files say so behind their header; their first page is a JPEG of the old kind.
    if file.get(8..10) == Some(b"CR") && file.get(10) == Some(&2) {
        return Err("a camera's raw file (CR2); convert it to PNG or JPEG to use it".into());
    }
    let directory = Directory::first(file).ok_or("the TIFF is cut off")?;
    let page = Page::of(&directory, file.len())?;
    let orientation = orientation::of_directory(&directory)
        .or_else(|| directory.bytes(tag::XMP).and_then(orientation::from_xmp))
        .unwrap_or(1);
    let (width, height) = (page.width, page.height);
    // Beside the pixels, one strip or tile is unpacked at a time. Plain ones are read where they lie.
    let (rows, length) = page.part_size(0).ok_or("the TIFF is damaged: its parts are too large")?;
    let part = (rows as u64).saturating_mul(length as u64);
    let unpacked = match page.packing {
        Packing::Plain if !page.low_bits_first => 0,
        // The decoder holds planes beside its result.
        Packing::Jpeg => part.saturating_mul(4),
        _ => part,
    };
    let pixels = (width as u64).saturating_mul(height as u64);
    let planes = if page.planar { page.planes() as u64 } else { 0 };
    let turned = if orientation > 4 { 6 } else { 3 };
    let need = pixels.saturating_mul(3 + planes).saturating_add(unpacked).max(pixels.saturating_mul(turned));
    room.ask(width as u64, height as u64, need)?;
    let rgb = if page.planar { apart(file, &directory, &page)? } else { together(file, &directory, &page)? };
    Ok(Pixels { width, height, rgb, orientation })
}

/// Samples of a pixel lie together.
fn together(file: &[u8], directory: &Directory, page: &Page) -> Outcome<Vec<u8>> {
    let painter = Painter::new(page, directory)?;
    let mut rgb = vec![0; page.width * page.height * 3];
    let (across, down) = page.grid();
    for y in 0..down {
        for x in 0..across {
            let data = unpack::part(file, directory, page, y * across + x, y)?;
            let (left, top) = (x * page.part.0, y * page.part.1);
            let (columns, rows) = (page.part.0.min(page.width - left), page.part.1.min(page.height - top));
            for row in 0..rows {
                let to = ((top + row) * page.width + left) * 3;
                painter.paint(&data, row, &mut rgb[to..to + columns * 3]);
            }
        }
    }
    Ok(rgb)
}

/// Each sample has strips or tiles of its own: they are brought together first, 8 bits each.
fn apart(file: &[u8], directory: &Directory, page: &Page) -> Outcome<Vec<u8>> {
    let samples = page.planes();
    let mut joined = vec![0; page.width * page.height * samples];
    let (across, down) = page.grid();
    let bytes = page.bits / 8;
    let high = if page.big_endian { 0 } else { bytes - 1 };
    for plane in 0..samples {
        for y in 0..down {
            for x in 0..across {
                let data = unpack::part(file, directory, page, (plane * down + y) * across + x, y)?;
                let (left, top) = (x * page.part.0, y * page.part.1);
                let (columns, rows) =
                    (page.part.0.min(page.width - left), page.part.1.min(page.height - top));
                for row in 0..rows {
                    let from = data.row(row).chunks_exact(bytes).map(|sample| sample[high]);
                    let to = ((top + row) * page.width + left) * samples + plane;
                    joined[to..]
                        .iter_mut()
                        .step_by(samples)
                        .zip(from.take(columns))
                        .for_each(|(to, v)| *to = v);
                }
            }
        }
    }
    let page = Page { bits: 8, samples, planar: false, packing: Packing::Lzw, parts: Vec::new(), ..*page };
    let painter = Painter::new(&page, directory)?;
    let rows = unpack::Rows::of(joined, page.width * samples);
    let mut rgb = vec![0; page.width * page.height * 3];
    for (row, to) in rgb.chunks_exact_mut(page.width * 3).enumerate() {
        painter.paint(&rows, row, to);
    }
    Ok(rgb)
}
