//! Turns an image upright, like Pillow's `ImageOps.exif_transpose`.
//!
//! The orientation is EXIF's tag 0x0112: 1 to 8. Pillow takes the orientation from EXIF data if they have the tag,
//! whatever its numeric type, else from `tiff:Orientation` in XMP. An invalid value counts as 1, and still hides the
//! one in XMP.

use super::ifd::Directory;
use super::pixels::Pixels;

const TAG: u16 = 0x0112;

/// The orientation in EXIF data (with or without `Exif\0\0` before them), else in an XMP packet, else 1.
pub(super) fn find(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> u8 {
    exif.and_then(from_exif).or_else(|| xmp.and_then(from_xmp)).unwrap_or(1)
}

fn from_exif(mut data: &[u8]) -> Option<u8> {
    for _ in 0..2 {
        data = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
    }
    of_directory(&Directory::first(data)?)
}

/// The orientation in a TIFF directory, if it has the tag.
pub(super) fn of_directory(directory: &Directory) -> Option<u8> {
    let value = directory.number(TAG)?;
    Some((2..=8).find(|&o| f64::from(o) == value).unwrap_or(1))
}

/// Pillow's pattern: `tiff:Orientation(="|>)([0-9])`, as an attribute or an element.
pub(super) fn from_xmp(packet: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut rest = packet;
    while let Some(at) = rest.windows(NAME.len()).position(|w| w == NAME) {
        rest = &rest[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"));
        if let Some(digit @ b'0'..=b'9') = value.and_then(<[u8]>::first) {
            return Some(digit - b'0');
        }
    }
    None
}

/// Width, height and bytes `[height, width, 3]` of the upright image.
pub(super) fn upright(pixels: Pixels) -> (usize, usize, Vec<u8>) {
    let Pixels { width, height, mut rgb, orientation } = pixels;
    let row = width * 3;
    let mirror = |rgb: &mut [u8]| {
        let (pixels, _) = rgb.as_chunks_mut::<3>();
        pixels.reverse();
    };
    match orientation {
        2 => rgb.chunks_exact_mut(row).for_each(mirror),
        3 => mirror(&mut rgb),
        4 => {
            let (upper, lower) = rgb.split_at_mut(height / 2 * row);
            let lower = lower.rchunks_exact_mut(row);
            upper.chunks_exact_mut(row).zip(lower).for_each(|(a, b)| a.swap_with_slice(b));
        }
        5..=8 => return (height, width, turn(&rgb, width, height, orientation)),
        _ => {}
    }
    (width, height, rgb)
}

/// The pixels with rows and columns exchanged. Tiles of 32 x 32 keep both sides in the cache.
fn turn(rgb: &[u8], width: usize, height: usize, orientation: u8) -> Vec<u8> {
    const TILE: usize = 32;
    let mut turned = vec![0; rgb.len()];
    let (from, _) = rgb.as_chunks::<3>();
    let (to, _) = turned.as_chunks_mut::<3>();
    // Where column x and row y of the stored image go: to row x and column y, either of them counted backwards.
    let (backwards_x, backwards_y) = (matches!(orientation, 7 | 8), matches!(orientation, 6 | 7));
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for y in top..(top + TILE).min(height) {
                let column = if backwards_y { height - 1 - y } else { y };
                for x in left..(left + TILE).min(width) {
                    let row = if backwards_x { width - 1 - x } else { x };
                    to[row * height + column] = from[y * width + x];
                }
            }
        }
    }
    turned
}
