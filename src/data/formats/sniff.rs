//! Detects the format of a file by its first bytes, and names unsupported formats.

use super::pixels::Outcome;

/// A supported format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Bmp,
    Pnm,
    Tiff,
    WebP,
}

/// The format of a file's content.
///
/// # Errors
/// The format's name and advice, where the format is known but not supported.
pub(super) fn format(bytes: &[u8]) -> Outcome<Format> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if let Some(name) = unread(bytes) {
        return Err(name);
    }
    let starts = |start: &[u8]| bytes.starts_with(start);
    let is_pnm =
        || matches!(bytes, [b'P', b'1'..=b'7' | b'f' | b'F', c, ..] if c.is_ascii_whitespace() || *c == b'#');
    let format = match () {
        () if starts(b"\xFF\xD8\xFF") => Format::Jpeg,
        () if starts(b"\x89PNG\r\n\x1A\n") => Format::Png,
        () if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Format::WebP,
        () if super::tiff::is_tiff(bytes) => Format::Tiff,
        () if starts(b"BM") || is_dib(bytes) => Format::Bmp,
        () if is_pnm() => Format::Pnm,
        () => return Err("not an image (JPEG, PNG, BMP, PNM, TIFF or WebP)".into()),
    };
    Ok(format)
}

/// Whether a BMP's second header comes first: its length, width and height, 1 plane, bits of a pixel.
fn is_dib(bytes: &[u8]) -> bool {
    let head = bytes.first_chunk::<16>();
    head.is_some_and(|h| {
        matches!(h[..4], [40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
            && matches!(h[12..], [1, 0, 1 | 4 | 8 | 16 | 24 | 32, 0])
    })
}

/// First bytes of unsupported formats, and their names.
const UNREAD: &[(&[u8], &str)] = &[
    (b"GIF87a", "a GIF"),
    (b"GIF89a", "a GIF"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\0\0\x01\0", "an icon (ICO)"),
    (b"\0\0\x02\0", "a cursor (CUR)"),
    (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000"),
    (b"\xFF\x4F\xFF\x51", "a JPEG 2000"),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL"),
    (b"\xFF\x0A", "a JPEG XL"),
    (b"II\xBC\x01", "a JPEG XR"),
    (b"v/1\x01", "an OpenEXR"),
    (b"#?RADIANCE", "a Radiance HDR"),
    (b"#?RGBE", "a Radiance HDR"),
    (b"qoif", "a QOI"),
    (b"DDS ", "a DDS texture"),
    (b"farbfeld", "a farbfeld"),
    (b"gimp xcf", "a GIMP file (XCF)"),
    (b"\x8AMNG", "an MNG"),
    (b"\x8BJNG", "a JNG"),
    (b"BPG\xFB", "a BPG"),
    (b"%PDF", "a PDF"),
    (b"%!PS", "a PostScript file"),
    (b"\xC5\xD0\xD3\xC6", "a PostScript file (EPS)"),
    (b"SIMPLE  =", "a FITS"),
    // Raw files of cameras that have first bytes of their own.
    (b"IIRO", "a camera's raw file (ORF)"),
    (b"IIRS", "a camera's raw file (ORF)"),
    (b"MMOR", "a camera's raw file (ORF)"),
    (b"IIU\0", "a camera's raw file (RW2)"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file (RAF)"),
    (b"FOVb", "a camera's raw file (X3F)"),
    (b"\0MRM", "a camera's raw file (MRW)"),
];

/// Brands of ISO base media files (ISO/IEC 14496-12), which begin with a box `ftyp`.
fn brand(brand: &[u8]) -> Option<&'static str> {
    match brand {
        b"avif" | b"avis" => Some("an AVIF"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => Some("a HEIC"),
        b"jxl " => Some("a JPEG XL"),
        b"jp2 " | b"jpx " | b"jpm " => Some("a JPEG 2000"),
        b"crx " => Some("a camera's raw file (CR3)"),
        _ => None,
    }
}

/// The format's name and advice, where the file has a known but unsupported format.
fn unread(bytes: &[u8]) -> Option<String> {
    let image = |what: &str| Some(format!("{what}; convert it to PNG or JPEG to use it"));
    let other = |what: &str| Some(format!("{what}, not an image; is it the right file?"));
    if let Some((_, what)) = UNREAD.iter().find(|(start, _)| bytes.starts_with(start)) {
        return image(what);
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        // The major brand, a version, and the compatible brands up to the end of the box.
        let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let list = bytes.get(8..length.clamp(12, 256).min(bytes.len())).unwrap_or_default();
        let known = list.chunks_exact(4).enumerate().filter(|(at, _)| *at != 1).find_map(|(_, b)| brand(b));
        return match (known, list.get(..4)) {
            (Some(what), _) => image(what),
            (None, Some(b"mif1" | b"msf1" | b"miaf")) => image("a HEIF"),
            _ => other("a video (MP4 or MOV)"),
        };
    }
    if bytes.get(128..132) == Some(b"DICM") {
        return image("a DICOM");
    }
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let begins =
        |start: &str| text.get(..start.len()).is_some_and(|t| t.eq_ignore_ascii_case(start.as_bytes()));
    let head = &text[..text.len().min(4096)];
    if begins("<svg")
        || (begins("<?xml") || begins("<!--") || begins("<!doctype svg")) && holds(head, b"<svg")
    {
        return image("an SVG, a drawing without pixels");
    }
    if begins("<!doctype html") || begins("<html") {
        return Some("a web page, not an image; download the file again".into());
    }
    if begins("version https://git-lfs") {
        return Some("a Git LFS pointer, not an image; fetch the file with git lfs pull".into());
    }
    match bytes {
        [b'P', b'K', 3, 4, ..] => other("a ZIP archive"),
        [0x1F, 0x8B, ..] => other("a gzip archive"),
        _ => None,
    }
}

fn holds(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|w| w == wanted)
}
