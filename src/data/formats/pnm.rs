//! PBM, PGM, PPM and PAM: a header of words, then samples as text or bytes.
//!
//! | magic | samples | |
//! |---|---|---|
//! | `P1`, `P4` | 1 bit, 1 is black | text, bytes |
//! | `P2`, `P5` | grey, 0 to maxval | text, bytes |
//! | `P3`, `P6` | red, green, blue, 0 to maxval | text, bytes |
//! | `P7` | 1 to 4 samples a pixel, 0 to maxval | bytes |
//!
//! A maxval other than 255 is scaled as Pillow does: `round(v / maxval * 255)`, halves to even. Grey with a maxval
//! above 255 is scaled to 16 bits and keeps the high byte.

use super::pixels::{Outcome, Pixels, Room};

/// The words of the header and of samples in text.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next word and the one separator behind it; `#` begins a comment up to the line's end.
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first() != Some(&b'#') {
                break;
            }
            let end = self.rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(self.rest.len());
            self.rest = &self.rest[end..];
        }
        let end = self.rest.iter().position(|b| b.is_ascii_whitespace() || *b == b'#');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.strip_prefix(b"#").map_or(rest.get(1..).unwrap_or_default(), |_| rest);
        Some(word).filter(|word| !word.is_empty())
    }

    fn number(&mut self) -> Outcome<u32> {
        let word = self.next().ok_or("the PNM is cut off")?;
        let number =
            std::str::from_utf8(word).ok().filter(|word| word.len() <= 10).and_then(|w| w.parse().ok());
        number.ok_or_else(|| format!("the PNM is damaged: '{}' is no number", word.escape_ascii()))
    }
}

struct Header {
    width: u32,
    height: u32,
    maxval: u32,
    /// Samples a pixel.
    depth: usize,
}

pub(super) fn decode(bytes: &[u8], room: &mut Room) -> Outcome<Pixels> {
    let mut words = Words { rest: &bytes[2..] };
    let kind = bytes[1];
    let header = match kind {
        b'f' | b'F' => return Err("a PFM: its numbers have no fixed range; convert it to 8 bits".into()),
        b'7' => pam_header(&mut words)?,
        _ => {
            let (width, height) = (words.number()?, words.number()?);
            let maxval = if matches!(kind, b'1' | b'4') { 1 } else { words.number()? };
            Header { width, height, maxval, depth: if matches!(kind, b'3' | b'6') { 3 } else { 1 } }
        }
    };
    let Header { width, height, maxval, depth } = header;
    if !(1..65536).contains(&maxval) {
        return Err(format!("the PNM is damaged: its largest value is {maxval}"));
    }
    room.ask(width.into(), height.into(), (u64::from(width) * u64::from(height)).saturating_mul(3))?;
    let (width, height) = (width as usize, height as usize);
    let count = width * height * depth;
    let cut = || "the PNM is cut off".to_string();
    // Before anything is allocated: the samples must be there.
    let wide = if maxval > 255 { 2 } else { 1 };
    let least = match kind {
        b'4' => width.div_ceil(8) * height,
        b'1' => count,
        b'2' | b'3' => 2 * count - 1,
        _ => wide * count,
    };
    if words.rest.len() < least {
        return Err(cut());
    }
    let scale = |value: u32, to: f64| (f64::from(value) / f64::from(maxval) * to).round_ties_even();
    let level = |value: u32| match (depth, maxval) {
        (1 | 2, 256..) => ((scale(value, 65535.0) as u32).min(65535) >> 8) as u8,
        (_, 255) => value.min(255) as u8,
        _ => scale(value, 255.0).min(255.0) as u8,
    };
    let mut rgb = Vec::with_capacity(width * height * 3);
    match kind {
        b'1' => {
            let mut comment = false;
            let dots = words.rest.iter().filter(|&&b| {
                comment = if comment { !matches!(b, b'\n' | b'\r') } else { b == b'#' };
                !comment && !b.is_ascii_whitespace()
            });
            for dot in dots.take(count) {
                match dot {
                    b'0' => rgb.extend([255; 3]),
                    b'1' => rgb.extend([0; 3]),
                    other => return Err(format!("the PBM is damaged: '{}' is no dot", other.escape_ascii())),
                }
            }
        }
        b'4' => {
            for row in words.rest.chunks_exact(width.div_ceil(8)).take(height) {
                rgb.extend(
                    (0..width).flat_map(|x| [if row[x / 8] << (x % 8) & 0x80 == 0 { 255 } else { 0 }; 3]),
                );
            }
        }
        b'2' | b'3' => {
            for _ in 0..count {
                let value = words.number()?;
                if value > maxval {
                    return Err(format!("the PNM is damaged: {value} where {maxval} is the most"));
                }
                rgb.extend(std::iter::repeat_n(level(value), if depth == 1 { 3 } else { 1 }));
            }
        }
        _ => {
            // Every value's level, once.
            let levels: Vec<u8> = (0..if wide == 1 { 256 } else { 65536 }).map(level).collect();
            let value = |at: usize| match wide {
                1 => usize::from(words.rest[at]),
                _ => usize::from(words.rest[2 * at]) << 8 | usize::from(words.rest[2 * at + 1]),
            };
            for pixel in 0..width * height {
                let sample = |i: usize| levels[value(pixel * depth + i)];
                rgb.extend(if depth < 3 { [sample(0); 3] } else { [sample(0), sample(1), sample(2)] });
            }
        }
    }
    if rgb.len() != width * height * 3 {
        return Err(cut());
    }
    Ok(Pixels { width, height, rgb, orientation: 1 })
}

/// `WIDTH`, `HEIGHT`, `DEPTH`, `MAXVAL` and others, up to `ENDHDR`.
fn pam_header(words: &mut Words) -> Outcome<Header> {
    let mut header = Header { width: 0, height: 0, maxval: 0, depth: 0 };
    loop {
        match words.next().ok_or("the PAM is cut off")? {
            b"WIDTH" => header.width = words.number()?,
            b"HEIGHT" => header.height = words.number()?,
            b"MAXVAL" => header.maxval = words.number()?,
            b"DEPTH" => header.depth = words.number()? as usize,
            b"ENDHDR" => break,
            _ => {}
        }
    }
    match header.depth {
        1..=4 => Ok(header),
        n => Err(format!("a PAM with {n} samples a pixel; convert it to PNG")),
    }
}
