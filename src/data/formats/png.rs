//! PNG: the `png` crate decodes, row by row, so that no second copy of the image is held. The orientation is looked
//! for in chunks before and after the pixels.

use std::io::{Cursor, Read};

use png::{Decoder, InterlaceInfo, Limits, Transformations};

use super::orientation;
use super::pixels::{Outcome, Pixels, Room};

/// Bytes that the `png` crate may use beside rows, for chunks.
const CHUNKS: usize = 64 << 20;
/// The longest text that is unpacked, as in Pillow.
const TEXT: u64 = 1 << 20;

pub(super) fn decode(bytes: &[u8], room: &mut Room) -> Outcome<Pixels> {
    let orientation = find_orientation(bytes)?;
    let damaged = |e: png::DecodingError| e.to_string();
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: CHUNKS });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and fewer bits are expanded to 8 bits; 16 bits are reduced to the high byte.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let (width, height) = {
        let header = decoder.read_header_info().map_err(damaged)?;
        (header.width, header.height)
    };
    let turned = if orientation > 4 { 6 } else { 3 };
    let pixels = u64::from(width) * u64::from(height);
    // Two rows of 16-bit RGBA, packed and unpacked.
    room.ask(
        width.into(),
        height.into(),
        pixels.saturating_mul(turned).saturating_add(32 * u64::from(width)),
    )?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let samples = reader.output_color_type().0.samples();
    let (width, height) = (width as usize, height as usize);
    let mut rgb = vec![0; width * height * 3];
    let (mut next, mut scattered) = (0, Vec::new());
    while let Some(row) = reader.next_interlaced_row().map_err(damaged)? {
        match row.interlace() {
            InterlaceInfo::Null(_) => {
                to_rgb(row.data(), samples, &mut rgb[next..next + width * 3]);
                next += width * 3;
            }
            InterlaceInfo::Adam7(info) => {
                scattered.resize(row.data().len() / samples * 3, 0);
                to_rgb(row.data(), samples, &mut scattered);
                png::expand_interlaced_row(&mut rgb, width * 3, &scattered, info, 24);
            }
        }
    }
    Ok(Pixels { width, height, rgb, orientation })
}

/// Grey is repeated, alpha dropped.
fn to_rgb(row: &[u8], samples: usize, rgb: &mut [u8]) {
    let pixels = rgb.as_chunks_mut::<3>().0;
    match samples {
        1 => row.iter().zip(pixels).for_each(|(&v, p)| *p = [v; 3]),
        2 => row.as_chunks::<2>().0.iter().zip(pixels).for_each(|(v, p)| *p = [v[0]; 3]),
        3 => rgb.copy_from_slice(row),
        _ => row.as_chunks::<4>().0.iter().zip(pixels).for_each(|(v, p)| *p = [v[0], v[1], v[2]]),
    }
}

/// What chunks say of the orientation: `eXIf`, or EXIF data as text in hexadecimal (ImageMagick), or else XMP.
///
/// # Errors
/// A file that ends within a chunk: the missing part might have held the orientation.
fn find_orientation(bytes: &[u8]) -> Outcome<u8> {
    const PROFILE: &[u8] = b"Raw profile type exif";
    const XMP: &[u8] = b"XML:com.adobe.xmp";
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = &head[4..];
        if kind == b"IEND" {
            break;
        }
        let data = after.get(..length).ok_or("the PNG is cut off")?;
        match kind {
            b"eXIf" => exif = Some(data.to_vec()),
            b"tEXt" | b"zTXt" | b"iTXt" => match text(kind, data) {
                Some((PROFILE, text)) => profile = Some(text),
                Some((XMP, text)) => xmp = Some(text),
                _ => {}
            },
            _ => {}
        }
        // A checksum follows.
        rest = after.get(length + 4..).ok_or("the PNG is cut off")?;
    }
    if !(rest.is_empty() || rest.len() >= 8) {
        return Err("the PNG is cut off".into());
    }
    let exif = exif.or_else(|| profile.as_deref().map(from_hexadecimal));
    Ok(orientation::find(exif.as_deref(), xmp.as_deref()))
}

/// Key and text of a text chunk, where it is one that may tell the orientation.
fn text<'a>(kind: &[u8], data: &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    let end = data.iter().position(|&b| b == 0)?;
    let (key, text) = (&data[..end], &data[end + 1..]);
    if !matches!(key, b"Raw profile type exif" | b"XML:com.adobe.xmp") {
        return None;
    }
    let packed = |text: &[u8]| {
        let mut unpacked = Vec::new();
        flate2::read::ZlibDecoder::new(text).take(TEXT).read_to_end(&mut unpacked).ok()?;
        Some(unpacked)
    };
    let text = match kind {
        b"tEXt" => text.to_vec(),
        // One byte tells how it is packed: 0 is zlib.
        b"zTXt" => packed(text.strip_prefix(b"\0")?)?,
        // Whether packed, how, a language and a translated key, each ended by 0.
        _ => {
            let mut parts = text.get(2..)?.splitn(3, |&b| b == 0);
            let last = parts.nth(2)?;
            if text[0] == 0 { last.to_vec() } else { packed(last)? }
        }
    };
    Some((key, text))
}

/// A profile as text: an empty line, its name, its length, then the bytes in hexadecimal.
fn from_hexadecimal(text: &[u8]) -> Vec<u8> {
    let lines = text.split(|&b| b == b'\n').skip(3).flatten().filter(|b| !b.is_ascii_whitespace());
    let digits: Vec<u8> = lines.map_while(|&b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
