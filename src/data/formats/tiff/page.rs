//! Interprets the tags of a TIFF's first page, and decides whether the page is supported.

use super::tag;
use crate::data::formats::ifd::Directory;
use crate::data::formats::pixels::Outcome;

/// How the bytes of a strip or tile are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    /// CCITT: rows of runs, each from a byte's start (tag 2), or from a word's (32771).
    Runs {
        words: bool,
    },
    /// CCITT group 3, with rows that refer to the one above where the options say so.
    Group3 {
        two_dimensional: bool,
    },
    Group4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

/// The meaning of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// 0 is white where inverted.
    Grey {
        inverted: bool,
    },
    Rgb,
    Palette,
    Cmyk,
    /// Luma for each pixel, chroma for each `across` x `down` pixels.
    YCbCr {
        across: usize,
        down: usize,
    },
}

/// The first page of a file.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) packing: Packing,
    pub(super) colour: Colour,
    /// Bits of each sample: 1, 2, 4, 8, 12 or 16.
    pub(super) bits: usize,
    /// Samples of a pixel, those without a meaning included.
    pub(super) samples: usize,
    /// Colours are multiplied by the alpha that follows them.
    pub(super) premultiplied: bool,
    /// Each sample has strips or tiles of its own.
    pub(super) planar: bool,
    /// The lowest bit of a byte comes first.
    pub(super) low_bits_first: bool,
    /// Each sample is the difference to the one before it in the row.
    pub(super) differences: bool,
    pub(super) big_endian: bool,
    pub(super) tiled: bool,
    /// Size of a strip or tile.
    pub(super) part: (usize, usize),
    /// Offset and length of each strip or tile, where the file tells its length.
    pub(super) parts: Vec<(usize, Option<usize>)>,
}

/// The most strips or tiles: their places take memory, too.
const MOST_PARTS: usize = 1 << 20;

/// "a TIFF ...; convert it to PNG".
pub(super) fn unread<T>(what: impl std::fmt::Display) -> Outcome<T> {
    Err(format!("a TIFF {what}; convert it to an 8-bit PNG"))
}

fn damaged<T>(what: impl std::fmt::Display) -> Outcome<T> {
    Err(format!("the TIFF is damaged: {what}"))
}

impl Page {
    pub(super) fn of(directory: &Directory, file: usize) -> Outcome<Page> {
        let uint = |tag, usual| directory.uint(tag).unwrap_or(usual);
        let raw = "a camera's raw file (DNG, NEF, ARW or the like); convert it to PNG or JPEG to use it";
        if directory.bytes(tag::DNG_VERSION).is_some() {
            return Err(raw.into());
        }
        let (Some(width), Some(height)) = (directory.uint(tag::WIDTH), directory.uint(tag::HEIGHT)) else {
            return damaged("it does not say how large the image is");
        };
        let size = |n: u64| usize::try_from(n).ok().filter(|&n| n <= u32::MAX as usize);
        let (Some(width), Some(height)) = (size(width), size(height)) else {
            return damaged(format_args!("{width} x {height} pixels"));
        };
        let planar = uint(tag::PLANAR, 1) == 2;
        let packing = packing(uint(tag::COMPRESSION, 1), uint(tag::T4_OPTIONS, 0))?;
        let photometric = uint(tag::PHOTOMETRIC, 0);
        if photometric == 32803
            || uint(tag::SUBFILE_TYPE, 0) & 1 == 1 && directory.bytes(tag::SUB_IFDS).is_some()
        {
            return Err(raw.into());
        }
        let (bits, samples) = sample_bits(directory, photometric)?;
        let extra = directory.uints(tag::EXTRA_SAMPLES, 16).unwrap_or_default();
        let (colour, own) = colour(directory, photometric, samples)?;
        if matches!(colour, Colour::YCbCr { .. }) && samples != 3
            || samples < own
            || samples > own + 3
            || own == 4 && samples > 6
        {
            return unread(format_args!("of {samples} samples a pixel"));
        }
        let premultiplied = matches!(colour, Colour::Rgb | Colour::Grey { .. }) && extra.first() == Some(&1);
        if premultiplied && samples == own {
            return unread(format_args!("with an alpha channel that its {samples} samples a pixel lack"));
        }
        match (colour, bits) {
            (Colour::Grey { .. }, 1 | 2 | 4 | 12) if samples == 1 => {}
            (Colour::Palette, 1 | 2 | 4) if samples == 1 => {}
            (Colour::Palette | Colour::YCbCr { .. }, 8) => {}
            (Colour::Grey { .. } | Colour::Rgb | Colour::Cmyk, 8 | 16) => {}
            _ => return unread(format_args!("with {bits} bits a sample and {samples} samples a pixel")),
        }
        let predictor = uint(tag::PREDICTOR, 1);
        let differences =
            predictor != 1 && matches!(packing, Packing::Lzw | Packing::Deflate | Packing::Zstd);
        let subsampled = matches!(colour, Colour::YCbCr { across, down } if across * down > 1);
        if differences && (predictor != 2 || bits < 8 || bits == 12 || subsampled) {
            return unread(format_args!("with predictor {predictor} and {bits} bits a sample"));
        }
        if matches!(packing, Packing::Runs { .. } | Packing::Group3 { .. } | Packing::Group4)
            && (bits, samples) != (1, 1)
        {
            return damaged("its fax packing needs 1 bit a pixel");
        }
        if packing == Packing::Jpeg && bits != 8 {
            return unread(format_args!("with JPEG data of {bits} bits a sample"));
        }
        if planar && subsampled && packing != Packing::Jpeg
            || planar && packing == Packing::Jpeg && samples > 1
        {
            return unread("whose samples lie apart and are packed or subsampled in an unusual way");
        }
        let mut page = Page {
            width,
            height,
            packing,
            colour,
            bits,
            samples,
            premultiplied,
            planar: planar && samples > 1,
            low_bits_first: uint(tag::FILL_ORDER, 1) == 2,
            differences,
            big_endian: directory.big_endian,
            tiled: directory.bytes(tag::STRIP_OFFSETS).is_none(),
            part: (width, height),
            parts: Vec::new(),
        };
        page.find_parts(directory, file)?;
        Ok(page)
    }

    /// Strips or tiles, each of which must lie in the file.
    fn find_parts(&mut self, directory: &Directory, file: usize) -> Outcome<()> {
        let (offsets, lengths) = if self.tiled {
            let side = |tag| directory.uint(tag).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
            let (Some(width), Some(height)) = (side(tag::TILE_WIDTH), side(tag::TILE_HEIGHT)) else {
                return damaged("it does not say where its pixels lie");
            };
            self.part = (width, height);
            (tag::TILE_OFFSETS, tag::TILE_LENGTHS)
        } else {
            let rows = directory.uint(tag::ROWS_PER_STRIP).and_then(|n| usize::try_from(n).ok());
            self.part.1 = rows.filter(|&n| n > 0).unwrap_or(self.height).min(self.height);
            (tag::STRIP_OFFSETS, tag::STRIP_LENGTHS)
        };
        let needed = self.grid().0.saturating_mul(self.grid().1).saturating_mul(self.planes());
        if needed > MOST_PARTS {
            return damaged(format_args!("it is divided into {needed} parts"));
        }
        let offsets = directory.uints(offsets, needed).unwrap_or_default();
        let lengths = directory.uints(lengths, needed).unwrap_or_default();
        if offsets.len() < needed {
            return damaged(format_args!("{} of its {needed} parts are missing", needed - offsets.len()));
        }
        for (i, offset) in offsets.into_iter().enumerate() {
            let length = lengths.get(i).copied().filter(|&n| n > 0 && n < u64::from(u32::MAX));
            let end = offset.saturating_add(length.unwrap_or(1));
            // Bytes that are not packed are counted when they are read: some writers tell too large a length.
            if offset >= file as u64 || self.packing != Packing::Plain && end > file as u64 {
                return Err("the TIFF is cut off".into());
            }
            self.parts.push((offset as usize, length.map(|n| n as usize)));
        }
        // Without a word on chroma it is there for 2 x 2 pixels; some writers store it for every pixel all the same.
        if let (Colour::YCbCr { .. }, Packing::Plain, None) =
            (self.colour, self.packing, directory.uints(tag::YCBCR_SUBSAMPLING, 2))
            && self.parts.first().and_then(|part| part.1) >= Some(self.part.0 * self.part.1 * 3)
        {
            self.colour = Colour::YCbCr { across: 1, down: 1 };
        }
        Ok(())
    }

    /// How many strips or tiles lie beside and below each other.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.width.div_ceil(self.part.0.max(1)), self.height.div_ceil(self.part.1.max(1)))
    }

    /// How many planes of samples are read: those that have a meaning, and alpha where colours are divided by it.
    pub(super) fn planes(&self) -> usize {
        let colours = match self.colour {
            Colour::Grey { .. } | Colour::Palette => 1,
            Colour::Rgb | Colour::YCbCr { .. } => 3,
            Colour::Cmyk => 4,
        };
        if self.planar { (colours + usize::from(self.premultiplied)).min(self.samples) } else { 1 }
    }

    /// Rows and bytes of strip or tile number `down` from the top: the last strip is shorter. A row of subsampled
    /// data holds `down` rows of pixels.
    pub(super) fn part_size(&self, down: usize) -> Option<(usize, usize)> {
        let rows = if self.tiled { self.part.1 } else { self.part.1.min(self.height - down * self.part.1) };
        match self.colour {
            Colour::YCbCr { across, down } if across * down > 1 && self.packing != Packing::Jpeg => {
                let unit = self.part.0.div_ceil(across).checked_mul(across * down + 2)?;
                Some((rows.div_ceil(down), unit))
            }
            _ => {
                let samples = if self.planar { 1 } else { self.samples };
                Some((rows, self.part.0.checked_mul(samples * self.bits)?.div_ceil(8)))
            }
        }
    }
}

fn packing(compression: u64, t4: u64) -> Outcome<Packing> {
    Ok(match compression {
        1 => Packing::Plain,
        2 => Packing::Runs { words: false },
        32771 => Packing::Runs { words: true },
        3 => Packing::Group3 { two_dimensional: t4 & 1 == 1 },
        4 => Packing::Group4,
        5 => Packing::Lzw,
        7 => Packing::Jpeg,
        8 | 32946 => Packing::Deflate,
        32773 => Packing::PackBits,
        50000 => Packing::Zstd,
        6 => return unread("with JPEG data of the old kind"),
        34892 => return unread("with lossy DNG data"),
        34712 | 33003..=33005 => return unread("with JPEG 2000 data"),
        34925 => return unread("with LZMA data"),
        50001 | 34927 => return unread("with WebP data"),
        50002 | 52546 => return unread("with JPEG XL data"),
        34887 => return unread("with LERC data"),
        32809 => return unread("with ThunderScan data"),
        32766 => return unread("with NeXT data"),
        34676 | 34677 => return unread("with SGI log data"),
        34661 | 9 | 10 => return unread("with JBIG data"),
        34933 => return unread("with PNG data"),
        other => return unread(format_args!("packed in a way that is not known ({other})")),
    })
}

/// Bits of a sample, and samples of a pixel.
fn sample_bits(directory: &Directory, photometric: u64) -> Outcome<(usize, usize)> {
    let all = directory.uints(tag::BITS, 16).unwrap_or_else(|| vec![1]);
    let samples = directory.uint(tag::SAMPLES).unwrap_or(1);
    if !(1..=16).contains(&samples) {
        return unread(format_args!("of {samples} samples a pixel"));
    }
    // Some writers give one number for all samples.
    let own = &all[..all.len().min(samples as usize)];
    let [first, rest @ ..] = own else { return damaged("it does not say how many bits a sample has") };
    if rest.iter().any(|bits| bits != first) || all.len() > 1 && all.len() < samples as usize {
        return unread("whose samples have different numbers of bits");
    }
    let format = directory.uint(tag::SAMPLE_FORMAT).unwrap_or(1);
    match (format, *first) {
        // Bytes that are called signed are taken as they are, as in Pillow.
        (1 | 4, _) => {}
        (2, 8) if photometric <= 1 => {}
        (2, _) => return unread("of numbers with a sign, which have no fixed range"),
        (3, bits) => {
            return unread(format_args!("of {bits}-bit floating-point numbers, which have no fixed range"));
        }
        _ => return unread("of complex numbers"),
    }
    if *first > 16 {
        return unread(format_args!("of {first}-bit numbers, which have no fixed range"));
    }
    Ok((*first as usize, samples as usize))
}

/// The meaning of the samples, and how many of them have that meaning.
fn colour(directory: &Directory, photometric: u64, samples: usize) -> Outcome<(Colour, usize)> {
    Ok(match photometric {
        0 | 1 => (Colour::Grey { inverted: photometric == 0 }, 1),
        2 => (Colour::Rgb, 3),
        3 => (Colour::Palette, 1),
        5 => (Colour::Cmyk, 4),
        6 if samples == 1 => (Colour::Grey { inverted: false }, 1),
        6 => {
            let told = directory.uints(tag::YCBCR_SUBSAMPLING, 2);
            let sides = told.as_deref().unwrap_or(&[2, 2]);
            match *sides {
                [across @ (1 | 2 | 4), down @ (1 | 2 | 4), ..] => {
                    (Colour::YCbCr { across: across as usize, down: down as usize }, 3)
                }
                _ => return unread(format_args!("with chroma for {sides:?} pixels")),
            }
        }
        4 => return unread("that is a mask of another image"),
        8..=10 => return unread("in CIE L*a*b* colours"),
        32844 | 32845 => return unread("in LogLuv colours"),
        other => return unread(format_args!("in colours that are not known (photometric {other})")),
    })
}
