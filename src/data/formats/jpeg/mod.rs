//! JPEG, decoded as libjpeg-turbo does it, which is what Pillow uses: the same levels, not nearly the same.
//!
//! Read are baseline, extended and progressive files of 8 bits, with Huffman or arithmetic coding, in one scan or
//! many, of 1 (grey), 3 (YCbCr or RGB) or 4 components (CMYK or YCCK, whose inks are inverted, as Adobe's are).

mod inks;
mod segments;
mod split;

use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, JpegError, PixelFormat};

use self::segments::{Frame, SOS, Segment, segments};
use super::budget::MAX_PIXELS;
use super::orientation;
use super::pixels::{Outcome, Pixels, Room};

/// Pixels times scans that are read: a file of a few bytes a scan would take minutes otherwise. A file of few scans
/// is read in any case.
const MOST_WORK: u64 = 1_500_000_000;
const FEW_SCANS: u64 = 16;

pub(super) fn decode(bytes: &[u8], room: &mut Room) -> Outcome<Pixels> {
    let (segments, whole) = segments(bytes);
    if !whole {
        return Err("the JPEG is cut off: it has no end marker".into());
    }
    let frame = frame(&segments)?;
    let orientation = find_orientation(&segments);
    let turned = if orientation > 4 { 3 } else { 0 };
    let pixels = (frame.width * frame.height) as u64;
    // The file written anew, whose codes are longer.
    let splits = split::is_needed(&frame, &segments);
    let copy = if splits { 5 * bytes.len() as u64 } else { 0 };
    room.ask(frame.width as u64, frame.height as u64, (need(&frame) + copy).max(pixels * (3 + turned)))?;
    // A block has a code for DC, and one for AC where that does not come in scans of its own: a bit each at least. A
    // file that holds fewer would come out as grey, in all the memory that its header claims.
    let codes = match frame.code {
        0xC0 | 0xC1 => 2,
        0xC2 => 1,
        _ => 0,
    };
    if frame.blocks() * codes > 8 * bytes.len() as u64 {
        return Err(format!("the JPEG is cut off: it cannot hold {} x {} pixels", frame.width, frame.height));
    }
    let split = if splits { split::split(bytes, &frame, &segments)? } else { Vec::new() };
    let bytes = if splits { &split } else { bytes };
    let rgb = match frame.components.len() {
        4 => inks::to_rgb(bytes, &frame)?,
        _ => pixels_of(bytes, PixelFormat::Rgb)?,
    };
    Ok(Pixels { width: frame.width, height: frame.height, rgb, orientation })
}

/// The frame, if it is of a kind that is read.
fn frame(segments: &[Segment]) -> Outcome<Frame> {
    let segment = segments.iter().find(|s| s.is_frame()).ok_or("the JPEG is damaged: it has no frame")?;
    let kind = match segment.code {
        0xC0..=0xC3 | 0xC9..=0xCB => "",
        0xF7 => "a JPEG-LS; convert it to PNG",
        _ => "a hierarchical JPEG; convert it to PNG",
    };
    if !kind.is_empty() {
        return Err(kind.into());
    }
    let frame = Frame::of(segment).ok_or("the JPEG is damaged: its frame makes no sense")?;
    if frame.precision != 8 {
        return Err(format!("a JPEG of {} bits a sample; convert it to an 8-bit PNG", frame.precision));
    }
    if !matches!(frame.components.len(), 1 | 3 | 4) {
        return Err(format!("a JPEG of {} components; convert it to PNG", frame.components.len()));
    }
    if frame.height == 0 {
        return Err("a JPEG whose height follows its pixels (DNL); save it again".into());
    }
    let scans = segments.iter().filter(|s| s.code == SOS).count() as u64;
    let pixels = (frame.width * frame.height) as u64;
    if scans > FEW_SCANS && scans * pixels > MOST_WORK {
        return Err(format!("the JPEG has {scans} scans of {pixels} pixels: reading it would take too long"));
    }
    Ok(frame)
}

/// Bytes that the decoder needs at most: planes beside coefficients, where all are read first, or beside the result.
fn need(frame: &Frame) -> u64 {
    let pixels = (frame.width * frame.height) as u64;
    let samples = frame.samples();
    // The usual samplings are spread row by row, others plane by plane; inks always row by row.
    let (h, v) = frame.most();
    let usual = |c: &[u8; 4]| h / usize::from(c[1]) <= 2 && v / usize::from(c[2]) <= 2 && h <= 2 && v <= 2;
    let spread = if frame.components.len() == 4 || frame.components.iter().all(usual) {
        0
    } else {
        pixels * frame.components.len() as u64
    };
    let coefficients = match frame.code {
        _ if frame.is_progressive() => 2 * samples + samples / 32,
        // Lossless ones are computed in 16 bits.
        0xC3 | 0xCB => 2 * samples,
        _ => 0,
    };
    samples + coefficients.max(spread + 3 * pixels)
}

fn pixels_of(bytes: &[u8], format: PixelFormat) -> Outcome<Vec<u8>> {
    // Memory was asked for before.
    let limits = DecodeLimits { max_pixels: MAX_PIXELS, ..DecodeLimits::default() };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(reason)?;
    // As libjpeg does it where a progressive file lacks its last scans; files that are whole stay as they are.
    let decoder = decoder.with_output_format(format).with_block_smoothing(true).with_lenient(true);
    let image = decoder.decode_image().map_err(reason)?;
    check(&image.warnings)?;
    Ok(image.data)
}

/// What libjpeg only warns of is taken, too, but for pixels that the decoder made up in its own way.
fn check(warnings: &[DecodeWarning]) -> Outcome<()> {
    let made_up = |warning: &DecodeWarning| match warning {
        DecodeWarning::UnsupportedRecovered { detail } => Some(unusual(detail)),
        DecodeWarning::HuffmanError { message, .. } => Some(format!("the JPEG is damaged: {message}")),
        _ => None,
    };
    warnings.iter().find_map(made_up).map_or(Ok(()), Err)
}

fn unusual(detail: &str) -> String {
    format!("a JPEG of an unusual kind ({detail}); convert it to PNG")
}

fn reason(error: JpegError) -> String {
    match error {
        JpegError::Unsupported(detail) => unusual(&detail),
        other => format!("the JPEG is damaged: {other}"),
    }
}

/// EXIF data of all segments before the first scan, concatenated, and the last XMP packet there.
fn find_orientation(segments: &[Segment]) -> u8 {
    const APP1: u8 = 0xE1;
    let (mut exif, mut xmp) = (Vec::new(), None);
    for segment in segments.iter().take_while(|s| s.code != SOS).filter(|s| s.code == APP1) {
        if let Some(data) = segment.data.strip_prefix(b"Exif\0\0") {
            exif.extend_from_slice(data);
        } else if let Some(packet) = segment.data.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
            xmp = Some(packet);
        }
    }
    orientation::find(Some(&exif).filter(|e| !e.is_empty()).map(Vec::as_slice), xmp)
}

/// Decodes a strip or tile of a TIFF, a JPEG whose tables may lie elsewhere: width, height and bytes
/// `[height, width, components]`. YCbCr becomes RGB, other samples stay as they are: the TIFF says what they mean, so
/// the taps that would say so to a JPEG's decoder are replaced.
pub(super) fn decode_part(
    tables: &[u8],
    bytes: &[u8],
    components: usize,
    is_ycbcr: bool,
    most: (usize, usize),
) -> Outcome<(usize, usize, Vec<u8>)> {
    let (found, whole) = segments(bytes);
    if !whole {
        return Err("the TIFF is cut off: JPEG data without an end marker".into());
    }
    let frame = frame(&found)?;
    if frame.components.len() != components || frame.width > most.0 || frame.height > most.1 {
        return Err(format!(
            "the TIFF is damaged: a part of {} x {} pixels holds a JPEG of {} x {}",
            most.0, most.1, frame.width, frame.height
        ));
    }
    let mut file = vec![0xFF, 0xD8, 0xFF, 0xEE, 0, 14];
    file.extend_from_slice(b"Adobe\0\x64\0\0\0\0");
    file.push(u8::from(is_ycbcr));
    let is_table = |s: &&Segment| !matches!(s.code, 0xE0..=0xEF | 0xFE);
    for segment in segments(tables).0.iter().filter(is_table) {
        file.extend_from_slice(&tables[segment.at..segment.end()]);
    }
    let scan = found.iter().find(|s| s.code == SOS).ok_or("the TIFF is damaged: JPEG data without a scan")?;
    for segment in found.iter().take_while(|s| s.at < scan.at).filter(is_table) {
        file.extend_from_slice(&bytes[segment.at..segment.end()]);
    }
    file.extend_from_slice(&bytes[scan.at..]);
    let bytes = match components {
        1 => pixels_of(&file, PixelFormat::Grayscale)?,
        3 => pixels_of(&file, PixelFormat::Rgb)?,
        _ => {
            let mut bytes = Vec::with_capacity(frame.width * frame.height * 4);
            inks::rows(&file, &frame, |row| {
                bytes.extend((0..frame.width).flat_map(|x| [0, 1, 2, 3].map(|i: usize| row[i][x])));
            })?;
            bytes
        }
    };
    Ok((frame.width, frame.height, bytes))
}
