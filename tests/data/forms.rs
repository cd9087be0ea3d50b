//! Files in the forms that people have: each equals Pillow's, or is refused by name. `tools/image_fixtures.py` drew them.

use super::*;

/// Every file of `forms/`, with what is expected of it.
fn forms() -> Vec<(String, Vec<u8>, Value)> {
    let folder = fixtures().join("forms");
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let form = |case: &Value| {
        let file = case["file"].as_str().unwrap().to_string();
        (file.clone(), fs::read(folder.join(&file)).unwrap(), case.clone())
    };
    all["forms"].as_array().unwrap().iter().map(form).collect()
}

#[test]
fn jpeg_and_tiff_forms_equal_pillows_or_are_refused_by_name() {
    let (mut wrong, mut equal, mut refused) = (Vec::new(), 0, 0);
    for (file, bytes, case) in forms() {
        let outcome = decode(&bytes, Path::new(&file));
        match (case["refused"].as_array(), outcome) {
            (Some(words), Err(error)) => {
                let text = error.to_string();
                let missing = words.iter().filter(|w| !text.contains(w.as_str().unwrap())).count();
                if missing > 0 || !text.starts_with(&file) || text.contains("decoder failed") {
                    wrong.push(text);
                }
                refused += 1;
            }
            (Some(_), Ok(_)) => wrong.push(format!("{file} is read")),
            (None, Err(error)) => wrong.push(error.to_string()),
            (None, Ok(image)) => {
                let sum: String = Sha256::digest(&image.rgb).iter().map(|b| format!("{b:02x}")).collect();
                if (image.width, image.height) != pair(&case["size"]) || sum != case["sha256"] {
                    wrong.push(format!("{file} differs"));
                }
                equal += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(equal >= 150 && refused >= 20, "{equal} equal, {refused} refused");
}

/// The files that showed the faults, against Pillow's pixels.
#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn images_of_the_material_equal_their_references() {
    let root = material().join("faults");
    let mut compared = 0;
    for folder in fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for reference in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let Some(name) = reference.to_str().unwrap().strip_suffix(".ref.png") else { continue };
            let want = load(&reference).unwrap();
            match load(Path::new(name)) {
                Ok(image) => assert!(image == want, "{name}"),
                Err(error) => {
                    assert!(name.ends_with("lab.tif") && error.to_string().contains("L*a*b*"), "{error}");
                }
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared}");
}

/// Cut, flipped, spliced: an error or pixels, never a panic of a decoder.
#[test]
fn damaged_forms_do_no_harm() {
    let mut stream = Stream::new(&[5]);
    let forms = forms();
    for (file, bytes, _) in &forms {
        for _ in 0..40 {
            let mut damaged = bytes.clone();
            match stream.below(4) {
                0 => damaged.truncate(stream.below(bytes.len())),
                1 => {
                    let (other, at) = (&forms[stream.below(forms.len())].1, stream.below(bytes.len()));
                    let from = stream.below(other.len());
                    let to = (from + 100).min(other.len());
                    damaged.splice(at..(at + 60).min(bytes.len()), other[from..to].iter().copied());
                }
                _ => {
                    for _ in 0..=stream.below(4) {
                        let at = stream.below(damaged.len());
                        damaged[at] ^= 1 << stream.below(8);
                    }
                }
            }
            match decode(&damaged, Path::new(file)) {
                Ok(image) => assert_eq!(image.rgb.len(), image.width * image.height * 3, "{file}"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.starts_with(file.as_str()), "{text}");
                    assert!(!text.contains("decoder failed"), "a panic was caught in {file}: {damaged:02x?}");
                }
            }
        }
    }
}

#[test]
fn other_formats_are_refused_by_name() {
    let boxed = |brand: &str, more: &str| {
        let length = 16 + more.len() as u32;
        [&length.to_be_bytes(), b"ftyp", brand.as_bytes(), b"\0\0\0\0", more.as_bytes(), &[0; 40]].concat()
    };
    let dicom = [&[0; 128][..], b"DICM\x02\0"].concat();
    for (bytes, word) in [
        (b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), "GIF"),
        (boxed("heic", "mif1heic"), "HEIC"),
        (boxed("mif1", "mif1heix"), "HEIC"),
        (boxed("avif", "mif1"), "AVIF"),
        (boxed("mif1", "miafavif"), "AVIF"),
        (boxed("crx ", ""), "CR3"),
        (boxed("isom", "mp42"), "video"),
        (b"\0\0\0\x0CjP  \r\n\x87\n".to_vec(), "JPEG 2000"),
        (b"\xFF\x4F\xFF\x51\0\x29".to_vec(), "JPEG 2000"),
        (b"\0\0\0\x0CJXL \r\n\x87\n".to_vec(), "JPEG XL"),
        (b"\xFF\x0A\xFA\x1F".to_vec(), "JPEG XL"),
        (b"II\xBC\x01\x20\0\0\0".to_vec(), "JPEG XR"),
        (b"8BPS\0\x01".to_vec(), "PSD"),
        (b"\0\0\x01\0\x01\0\x10\x10".to_vec(), "ICO"),
        (b"<svg xmlns='x'/>".to_vec(), "SVG"),
        (b"\xEF\xBB\xBF <?xml version='1.0'?>\n<!-- a --><svg/>".to_vec(), "SVG"),
        (b"<!DOCTYPE html><html>".to_vec(), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS"),
        (b"II*\0\x10\0\0\0CR\x02\0\0\0\0\0".to_vec(), "CR2"),
        (b"IIRO\x08\0\0\0".to_vec(), "ORF"),
        (b"IIU\0\x08\0\0\0".to_vec(), "RW2"),
        (b"FUJIFILMCCD-RAW 0201".to_vec(), "RAF"),
        (b"v/1\x01\x02\0\0\0".to_vec(), "OpenEXR"),
        (b"#?RADIANCE\n".to_vec(), "HDR"),
        (b"qoif\0\0".to_vec(), "QOI"),
        (b"DDS |\0".to_vec(), "DDS"),
        (b"%PDF-1.7".to_vec(), "PDF"),
        (b"%!PS-Adobe".to_vec(), "PostScript"),
        (dicom, "DICOM"),
        (b"PK\x03\x04".to_vec(), "ZIP"),
        (b"\x1F\x8B\x08\0".to_vec(), "gzip"),
        (b"PF\n2 2\n-1.0\n".to_vec(), "PFM"),
    ] {
        let text = error_of(decode(&bytes, Path::new("a.jpg")));
        assert!(text.starts_with("a.jpg: a") && text.contains(word), "{word}: {text}");
        assert!(!text.contains("not an image ("), "{text}");
    }
}

/// A chunk of a PNG.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(kind);
    checksum.update(data);
    [&(data.len() as u32).to_be_bytes(), kind, data, &checksum.sum().to_be_bytes()[..]].concat()
}

/// EXIF data with an orientation, without `Exif`.
fn exif(orientation: u8) -> Vec<u8> {
    [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], &[0; 6]].concat()
}

fn xmp(orientation: u8) -> Vec<u8> {
    format!("<x:xmpmeta><rdf:Description tiff:Orientation=\"{orientation}\"/></x:xmpmeta>").into_bytes()
}

/// As `exifN.png` and `turned.webp` show it, wherever a file tells its orientation.
#[test]
fn orientation_is_found_wherever_it_is_told() {
    let plain = fs::read(fixtures().join("rgb.png")).unwrap();
    let name = Path::new("a.png");
    let turned = |orientation: u8| {
        let end = plain.len() - 12;
        let file = [&plain[..end], &chunk(b"eXIf", &exif(orientation)), &plain[end..]].concat();
        decode(&file, name).unwrap()
    };
    assert_eq!(turned(1), decode(&plain, name).unwrap());
    assert_eq!(turned(6).width, turned(1).height);
    let hex: String = exif(6).iter().map(|b| format!("{b:02x}")).collect();
    let profile = format!("\nexif\n{:8}\n{}\n{}\n", hex.len() / 2, &hex[..20], &hex[20..]).into_bytes();
    let packed = |bytes: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let text = |key: &str, middle: &[u8], text: &[u8]| [key.as_bytes(), b"\0", middle, text].concat();
    let (raw, packet) = ("Raw profile type exif", "XML:com.adobe.xmp");
    let chunks: [(&[u8; 4], Vec<u8>); 7] = [
        (b"eXIf", exif(6)),
        (b"eXIf", [b"Exif\0\0", &exif(6)[..]].concat()),
        (b"tEXt", text(raw, b"", &profile)),
        (b"zTXt", text(raw, b"\0", &packed(&profile))),
        (b"iTXt", text(packet, b"\0\0\0\0", &xmp(6))),
        (b"iTXt", text(packet, b"\x01\0\0\0", &packed(&xmp(6)))),
        (b"tEXt", text(packet, b"", b"<tiff:Orientation>6</tiff:Orientation>")),
    ];
    for (kind, data) in chunks {
        for at in [33, plain.len() - 12] {
            let file = [&plain[..at], &chunk(kind, &data), &plain[at..]].concat();
            let what = String::from_utf8_lossy(kind);
            assert_eq!(decode(&file, name).unwrap(), turned(6), "{what} at {at}");
        }
    }
    // EXIF counts before XMP, even where it says nothing that is meant.
    let both =
        |value| [chunk(b"iTXt", &text(packet, b"\0\0\0\0", &xmp(6))), chunk(b"eXIf", &exif(value))].concat();
    for (value, orientation) in [(3, 3), (0, 1), (9, 1)] {
        let file = [&plain[..33], &both(value), &plain[33..]].concat();
        assert_eq!(decode(&file, name).unwrap(), turned(orientation));
    }

    // WebP tells in its header which chunks count.
    let simple = fs::read(fixtures().join("lossless.webp")).unwrap();
    let upright = decode(&simple, Path::new("a.webp")).unwrap();
    let extended = |flags: u8, chunks: &[(&[u8; 4], Vec<u8>)]| {
        let side = |n: usize| (n as u32 - 1).to_le_bytes()[..3].to_vec();
        let header = [&[flags, 0, 0, 0][..], &side(upright.width), &side(upright.height)].concat();
        let mut body = b"WEBP".to_vec();
        for (kind, data) in [(b"VP8X", header)].iter().chain(chunks) {
            body.extend([&kind[..], &(data.len() as u32).to_le_bytes(), data].concat());
            body.resize(body.len().next_multiple_of(2), 0);
        }
        [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat()
    };
    let pixels: (&[u8; 4], Vec<u8>) = (b"VP8L", simple[20..].to_vec());
    let open = |flags, chunks: &[(&[u8; 4], Vec<u8>)]| decode(&extended(flags, chunks), Path::new("a.webp"));
    let all = |more| [pixels.clone(), more];
    assert_eq!(open(0, std::slice::from_ref(&pixels)).unwrap(), upright);
    let sideways = open(8, &all((b"EXIF", exif(6)))).unwrap();
    assert_eq!((sideways.width, sideways.height), (upright.height, upright.width));
    for (flags, more, want) in [
        (8, (b"EXIF", [b"Exif\0\0", &exif(6)[..]].concat()), &sideways),
        (4, (b"XMP ", xmp(6)), &sideways),
        (0, (b"EXIF", exif(6)), &upright),
        (4, (b"EXIF", exif(6)), &upright),
    ] {
        assert!(open(flags, &all(more)).unwrap() == *want, "{flags}");
    }
    // The header promises what is not there, or another size.
    assert_eq!(open(12, std::slice::from_ref(&pixels)).unwrap(), upright);
    let mut larger = extended(0, &[pixels]);
    larger[24] += 1;
    assert!(error_of(decode(&larger, Path::new("a.webp"))).contains("differ in size"));
}

/// A chunk's length is no reason to reserve memory.
#[test]
fn chunks_that_claim_more_than_there_is_are_refused() {
    let file = fs::read(fixtures().join("turned.webp")).unwrap();
    let with = |at: usize, length: u32| {
        let mut file = file.clone();
        file[at..at + 4].copy_from_slice(&length.to_le_bytes());
        error_of(decode(&file, Path::new("a.webp")))
    };
    let starts: Vec<usize> = (12..file.len() - 8)
        .filter(|&at| [&b"VP8X"[..], b"VP8L", b"EXIF"].contains(&&file[at..at + 4]))
        .collect();
    assert_eq!(starts.len(), 3);
    for at in starts {
        for length in [u32::MAX, u32::MAX - 1, 1 << 31, file.len() as u32] {
            let text = with(at + 4, length);
            assert!(text.contains("damaged") && text.contains("claims"), "{text}");
        }
    }
    // Within a frame of an animation, too.
    let inner = [b"VP8L", &u32::MAX.to_le_bytes()[..], &[0x2F, 0, 0, 0, 0, 0, 0, 0]].concat();
    let frame = [&[0; 16][..], &inner].concat();
    let header = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut body = b"WEBP".to_vec();
    for (kind, data) in [(b"VP8X", &header[..]), (b"ANIM", &[0; 6]), (b"ANMF", &frame)] {
        body.extend([&kind[..], &(data.len() as u32).to_le_bytes(), data].concat());
    }
    let file = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    assert!(error_of(decode(&file, Path::new("a.webp"))).contains("claims"));
}

/// Headers that claim more than memory holds, or more pixels than there are bytes.
#[test]
fn sizes_that_cannot_be_are_refused_before_memory_is_taken() {
    let with = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(fixtures().join(file)).unwrap();
        change(&mut bytes);
        error_of(decode(&bytes, Path::new(file)))
    };
    let put = |bytes: &mut Vec<u8>, after: &[u8], at: usize, new: &[u8]| {
        let start = bytes.windows(after.len()).position(|w| w == after).unwrap() + at;
        bytes[start..start + new.len()].copy_from_slice(new);
    };
    let text = with("rgb.jpg", &|b| put(b, &[0xFF, 0xC0], 5, &[0xFF, 0xDC, 0xFF, 0xDC]));
    assert!(text.contains("65500 x 65500") && text.contains("allowed"), "{text}");
    for file in ["rgb.jpg", "progressive.jpg", "cmyk.jpg"] {
        let start = if file.starts_with('p') { 0xC2 } else { 0xC0 };
        let text = with(file, &|b| put(b, &[0xFF, start], 5, &[0x23, 0x28, 0x23, 0x28]));
        assert!(text.contains("cut off") && text.contains("9000 x 9000"), "{text}");
    }
    let text = with("rgb.tif", &|b| put(b, &[0, 1, 4, 0], 8 - 2, &[0xFF; 4]));
    assert!(text.contains("rgb.tif: "), "{text}");
    let text = with("forms/rgb_lzw.tif", &|b| put(b, &[1, 1, 4, 0, 1, 0, 0, 0], 8, &60_000u32.to_le_bytes()));
    assert!(text.contains("parts are missing"), "{text}");
    let wide = |b: &mut Vec<u8>| {
        put(b, &[0, 1, 3, 0, 1, 0, 0, 0], 8, &60_000u16.to_le_bytes());
        put(b, &[1, 1, 4, 0, 1, 0, 0, 0], 8, &60_000u32.to_le_bytes());
        put(b, &[22, 1, 4, 0, 1, 0, 0, 0], 8, &60_000u32.to_le_bytes());
    };
    let text = with("forms/rgb_plain.tif", &|b| wide(b));
    assert!(text.contains("60000 x 60000") || text.contains("missing"), "{text}");
    for header in ["P6\n9000 9000\n255\n", "P5 9000 9000 65535\n", "P4 9000 9000\n", "P1 9000 9000\n1 0"] {
        assert!(error_of(decode(header.as_bytes(), Path::new("a.pnm"))).contains("cut off"), "{header}");
    }
}

/// What Pillow makes of these headers and samples.
#[test]
fn pnm_files_are_scaled_as_pillow_does() {
    let open = |bytes: &[u8]| decode(bytes, Path::new("a.pnm")).unwrap().rgb;
    let grey = |levels: &[u8]| -> Vec<u8> { levels.iter().flat_map(|&v| [v; 3]).collect() };
    assert_eq!(open(b"P1\n# a comment\n3 2\n101 # more\n0\n1 0\n"), grey(&[0, 255, 0, 255, 0, 255]));
    assert_eq!(
        open(b"P4 9 2\n\xAA\x80\x55\0"),
        grey(&[0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255])
    );
    assert_eq!(open(b"P2 3 1 15 0 7 15"), grey(&[0, 119, 255]));
    // round(v / 5 * 255): 127.5 does not occur, but 2 / 4 * 255 = 127.5 goes to 128, 1 / 510 * 255 = 0.5 to 0.
    assert_eq!(open(b"P5 3 1 4\n\x01\x02\x09"), grey(&[64, 128, 255]));
    assert_eq!(open(b"P5 2 1 65535\n\x12\x34\xFF\xFF"), grey(&[0x12, 0xFF]));
    assert_eq!(open(b"P3 1 1 510 1 3 510"), [0, 2, 255]);
    assert_eq!(open(b"P6\n1 1\n65535\n\x01\x80\x80\0\xFF\xFF"), [1, 128, 255]);
    assert_eq!(
        open(b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n\x01\x02\x03\x04"),
        [1, 2, 3]
    );
    for bad in [
        &b"P2 2 1 15 0 16"[..],
        b"P2 2 1 15 0 -1",
        b"P5 1 1 0\n0",
        b"P5 1 1 65536\n000",
        b"P1 2 1 1 2",
        b"P5 x 1 255\n0",
    ] {
        assert!(error_of(decode(bad, Path::new("a.pnm"))).contains("damaged"), "{}", bad.escape_ascii());
    }
}

/// A DIB is a BMP without the first of its headers.
#[test]
fn bitmaps_without_a_file_header_are_read() {
    let file = fs::read(fixtures().join("rgb.bmp")).unwrap();
    let want = decode(&file, Path::new("a.bmp")).unwrap();
    assert_eq!(decode(&file[14..], Path::new("a.dib")).unwrap(), want);
}

/// Deep PNGs keep the high byte.
#[test]
fn deep_pngs_keep_the_high_byte() {
    let (width, height) = (13u32, 11u32);
    let sample = |x: u32, y: u32, c: u32| (x * 4001 + y * 977 + c * 20_011) as u16;
    for color in
        [png::ColorType::Grayscale, png::ColorType::GrayscaleAlpha, png::ColorType::Rgb, png::ColorType::Rgba]
    {
        let samples = color.samples() as u32;
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Sixteen);
        let all =
            (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..samples).map(move |c| (x, y, c))));
        let data: Vec<u8> = all.flat_map(|(x, y, c)| sample(x, y, c).to_be_bytes()).collect();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&data).unwrap();
        writer.finish().unwrap();
        let channel = |c: u32| if samples < 3 { 0 } else { c };
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let want: Vec<u8> =
            pixels.flat_map(|(x, y)| [0, 1, 2].map(|c| (sample(x, y, channel(c)) >> 8) as u8)).collect();
        assert!(decode(&file, Path::new("a.png")).unwrap().rgb == want, "{color:?}");
    }
}

/// One pixel of 16 bits, uncompressed: tags 256 and 257 its size, 258 bits, 262 grey, 273 and 279 its strip, 277 samples,
/// 338 what the samples beyond the colours are.
#[test]
fn alpha_that_a_tiff_claims_and_lacks_is_refused() {
    let tiff = |extra: u16| {
        let tags: [(u16, u16); 9] = [
            (256, 1),
            (257, 1),
            (258, 16),
            (259, 1),
            (262, 1),
            (273, 8 + 2 + 9 * 12 + 4),
            (277, 1),
            (279, 2),
            (338, extra),
        ];
        let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
        for (tag, value) in tags {
            let short = [&tag.to_le_bytes()[..], &[3, 0, 1, 0, 0, 0], &value.to_le_bytes(), &[0, 0]].concat();
            file.extend(short);
        }
        file.extend([0, 0, 0, 0, 0x34, 0x12]);
        file
    };
    assert_eq!(decode(&tiff(0), Path::new("a.tif")).unwrap().rgb, [0x12; 3]);
    let error = decode(&tiff(1), Path::new("a.tif")).unwrap_err().to_string();
    assert!(error.starts_with("a.tif: ") && error.contains("alpha"), "{error}");
}
