//! WebP: chunks of a RIFF file. The chunks are checked here; the `image` crate decodes pixels.
//!
//! `RIFF`, length, `WEBP`, then chunks: four letters, length (little-endian), data, one byte more where the length is
//! odd. Simple files have one chunk, `VP8 ` or `VP8L`. Extended ones begin with `VP8X`: flags and the canvas's size;
//! frames of an animation are chunks within `ANMF`. The decoder reserves what a chunk's length claims, up to 4 GiB,
//! so every length is compared with the file first. Of a still image the decoder sees only the chunk of pixels.

use std::io::Cursor;

use image::codecs::webp::WebPDecoder;
use image::{ColorType, ImageDecoder};

use super::orientation;
use super::pixels::{Outcome, Pixels, Room, keep_first};

const ANIMATION: u8 = 0x02;
const XMP: u8 = 0x04;
const EXIF: u8 = 0x08;

pub(super) fn decode(bytes: &[u8], room: &mut Room) -> Outcome<Pixels> {
    let length = bytes.get(4..8).map_or(0, |n| u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize);
    // Chunks after the pixels, such as the orientation, would be lost unnoticed.
    let body = bytes.get(12..length.saturating_add(8)).ok_or("the WebP is cut off")?;
    let chunks = chunks(body)?;
    let find = |kind: &[u8; 4]| chunks.iter().find(|(k, _)| *k == kind).map(|(_, data)| *data);
    let extended = match chunks.first() {
        Some((b"VP8X", data)) => {
            Some(data.first_chunk::<10>().ok_or("the WebP is damaged: its header is too short")?)
        }
        _ => None,
    };
    let flags = extended.map_or(0, |header| header[0]);
    // Frames lie within their chunks.
    for (_, data) in chunks.iter().filter(|(kind, _)| *kind == b"ANMF") {
        self::chunks(data.get(16..).ok_or("the WebP is damaged: a frame without a header")?)?;
    }
    let exif = find(b"EXIF").filter(|_| flags & EXIF != 0);
    let xmp = find(b"XMP ").filter(|_| flags & XMP != 0);
    let orientation = orientation::find(exif, xmp);

    let animated = flags & ANIMATION != 0;
    let (file, beside) = if animated {
        // Canvas, frame and planes of the lossy format.
        (bytes.to_vec(), 4 + 4 + 2)
    } else {
        let pixels = [b"VP8 ", b"VP8L"].into_iter().find_map(|kind| Some((kind, find(kind)?)));
        let (kind, data) = pixels.ok_or("the WebP holds no pixels")?;
        // Without alpha a lossless decoder still holds it; a lossy one holds planes.
        (simple(kind, data), if kind == b"VP8L" { 4 } else { 2 })
    };
    let decoder = WebPDecoder::new(Cursor::new(file)).map_err(|e| e.to_string())?;
    let ((width, height), color) = (decoder.dimensions(), decoder.color_type());
    let samples = if color == ColorType::Rgba8 { 4 } else { 3 };
    let turned = if orientation > 4 { 3 } else { 0 };
    let each = (samples as u64 + beside).max(3 + turned);
    let count = u64::from(width) * u64::from(height);
    room.ask(width.into(), height.into(), count * each + bytes.len() as u64)?;
    if let Some(header) = extended {
        let side = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]) + 1;
        if (side(4), side(7)) != (width, height) {
            return Err("the WebP is damaged: its canvas and its pixels differ in size".into());
        }
    }
    let mut rgb = vec![0; count as usize * samples];
    decoder.read_image(&mut rgb).map_err(|e| e.to_string())?;
    if samples == 4 {
        keep_first(&mut rgb, 4, 3);
    }
    Ok(Pixels { width: width as usize, height: height as usize, rgb, orientation })
}

type Chunk<'a> = (&'a [u8; 4], &'a [u8]);

/// Kind and data of each chunk.
///
/// # Errors
/// A chunk that is longer than what is there.
fn chunks(mut rest: &[u8]) -> Outcome<Vec<Chunk<'_>>> {
    let mut found = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [kind, length] =
            [&head[..4], &head[4..]].map(|part| <&[u8; 4]>::try_from(part).unwrap_or(b"    "));
        let length = u32::from_le_bytes(*length) as usize;
        let data = after.get(..length).ok_or_else(|| {
            format!(
                "the WebP is damaged: its chunk '{}' claims {length} bytes where {} are left",
                kind.escape_ascii(),
                after.len()
            )
        })?;
        found.push((kind, data));
        // The last one may lack the byte that makes its length even.
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    Ok(found)
}

/// A WebP of one chunk.
fn simple(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let even = data.len() + data.len() % 2;
    let length = |n: usize| (n as u32).to_le_bytes();
    let mut file = Vec::with_capacity(20 + even);
    for part in [b"RIFF", &length(12 + even)[..], b"WEBP", kind, &length(data.len()), data] {
        file.extend_from_slice(part);
    }
    file.resize(20 + even, 0);
    file
}
