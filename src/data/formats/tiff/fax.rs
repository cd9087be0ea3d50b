//! CCITT's fax codes: ITU-T T.4 (group 3) and T.6 (group 4), as TIFF uses them.
//!
//! A row is white and black runs in turn, beginning with white. In one dimension each run is its length in a code
//! of its colour: codes of 64 and more may precede, one below 64 ends it. In two dimensions a code says where the
//! next change of colour lies relative to the changes `b1`, `b2` of the row above: `b2` is passed, or two runs
//! follow in full, or the change lies up to 3 pixels beside `b1`.

use std::sync::OnceLock;

use super::page::Packing;
use crate::data::formats::pixels::Outcome;

#[rustfmt::skip]
/// Length and bits of the codes of white runs of 0 to 63, then 64, 128, ... 1728.
const WHITE: [(u8, u16); 91] = [
    (8, 0x35), (6, 0x07), (4, 0x07), (4, 0x08), (4, 0x0B), (4, 0x0C), (4, 0x0E), (4, 0x0F), (5, 0x13),
    (5, 0x14), (5, 0x07), (5, 0x08), (6, 0x08), (6, 0x03), (6, 0x34), (6, 0x35), (6, 0x2A), (6, 0x2B),
    (7, 0x27), (7, 0x0C), (7, 0x08), (7, 0x17), (7, 0x03), (7, 0x04), (7, 0x28), (7, 0x2B), (7, 0x13),
    (7, 0x24), (7, 0x18), (8, 0x02), (8, 0x03), (8, 0x1A), (8, 0x1B), (8, 0x12), (8, 0x13), (8, 0x14),
    (8, 0x15), (8, 0x16), (8, 0x17), (8, 0x28), (8, 0x29), (8, 0x2A), (8, 0x2B), (8, 0x2C), (8, 0x2D),
    (8, 0x04), (8, 0x05), (8, 0x0A), (8, 0x0B), (8, 0x52), (8, 0x53), (8, 0x54), (8, 0x55), (8, 0x24),
    (8, 0x25), (8, 0x58), (8, 0x59), (8, 0x5A), (8, 0x5B), (8, 0x4A), (8, 0x4B), (8, 0x32), (8, 0x33),
    (8, 0x34), (5, 0x1B), (5, 0x12), (6, 0x17), (7, 0x37), (8, 0x36), (8, 0x37), (8, 0x64), (8, 0x65),
    (8, 0x68), (8, 0x67), (9, 0xCC), (9, 0xCD), (9, 0xD2), (9, 0xD3), (9, 0xD4), (9, 0xD5), (9, 0xD6),
    (9, 0xD7), (9, 0xD8), (9, 0xD9), (9, 0xDA), (9, 0xDB), (9, 0x98), (9, 0x99), (9, 0x9A), (6, 0x18),
    (9, 0x9B),
];
#[rustfmt::skip]
/// As [`WHITE`], for black runs.
const BLACK: [(u8, u16); 91] = [
    (10, 0x37), (3, 0x02), (2, 0x03), (2, 0x02), (3, 0x03), (4, 0x03), (4, 0x02), (5, 0x03), (6, 0x05),
    (6, 0x04), (7, 0x04), (7, 0x05), (7, 0x07), (8, 0x04), (8, 0x07), (9, 0x18), (10, 0x17), (10, 0x18),
    (10, 0x08), (11, 0x67), (11, 0x68), (11, 0x6C), (11, 0x37), (11, 0x28), (11, 0x17), (11, 0x18),
    (12, 0xCA), (12, 0xCB), (12, 0xCC), (12, 0xCD), (12, 0x68), (12, 0x69), (12, 0x6A), (12, 0x6B),
    (12, 0xD2), (12, 0xD3), (12, 0xD4), (12, 0xD5), (12, 0xD6), (12, 0xD7), (12, 0x6C), (12, 0x6D),
    (12, 0xDA), (12, 0xDB), (12, 0x54), (12, 0x55), (12, 0x56), (12, 0x57), (12, 0x64), (12, 0x65),
    (12, 0x52), (12, 0x53), (12, 0x24), (12, 0x37), (12, 0x38), (12, 0x27), (12, 0x28), (12, 0x58),
    (12, 0x59), (12, 0x2B), (12, 0x2C), (12, 0x5A), (12, 0x66), (12, 0x67), (10, 0x0F), (12, 0xC8),
    (12, 0xC9), (12, 0x5B), (12, 0x33), (12, 0x34), (12, 0x35), (13, 0x6C), (13, 0x6D), (13, 0x4A),
    (13, 0x4B), (13, 0x4C), (13, 0x4D), (13, 0x72), (13, 0x73), (13, 0x74), (13, 0x75), (13, 0x76),
    (13, 0x77), (13, 0x52), (13, 0x53), (13, 0x54), (13, 0x55), (13, 0x5A), (13, 0x5B), (13, 0x64),
    (13, 0x65),
];
#[rustfmt::skip]
/// Of runs of both colours of 1792, 1856, ... 2560.
const LONG: [(u8, u16); 13] = [
    (11, 0x08), (11, 0x0C), (11, 0x0D), (12, 0x12), (12, 0x13), (12, 0x14), (12, 0x15), (12, 0x16),
    (12, 0x17), (12, 0x1C), (12, 0x1D), (12, 0x1E), (12, 0x1F),
];

/// The longest code of a run, bits.
const LONGEST: u32 = 13;

/// By the next [`LONGEST`] bits: the length of the code they begin with, or 0, and its run.
type Codes = Vec<(u8, u16)>;

fn codes(black: bool) -> &'static Codes {
    static CODES: [OnceLock<Codes>; 2] = [OnceLock::new(), OnceLock::new()];
    CODES[usize::from(black)].get_or_init(|| {
        let own = if black { &BLACK } else { &WHITE };
        let run = |i: usize| if i < 64 { i } else { 64 * (i - 63) } as u16;
        let own = own.iter().enumerate().map(|(i, code)| (code, run(i)));
        let long = LONG.iter().enumerate().map(|(i, code)| (code, 1792 + 64 * i as u16));
        let mut table = vec![(0, 0); 1 << LONGEST];
        for (&(length, bits), run) in own.chain(long) {
            let unused = LONGEST - u32::from(length);
            let first = usize::from(bits) << unused;
            table[first..first + (1 << unused)].fill((length, run));
        }
        table
    })
}

/// Bits of a strip, the highest of a byte first. Behind the end come zeros.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 16.
    fn peek(&self, count: u32) -> u32 {
        let byte = |i: usize| u32::from(self.bytes.get(self.at / 8 + i).copied().unwrap_or(0));
        let window = byte(0) << 16 | byte(1) << 8 | byte(2);
        window >> (24 - self.at as u32 % 8 - count) & ((1 << count) - 1)
    }

    fn is_over(&self) -> bool {
        self.at >= 8 * self.bytes.len()
    }

    /// One run.
    fn run(&mut self, black: bool) -> Option<usize> {
        let mut sum = 0;
        loop {
            let (length, run) = codes(black)[self.peek(LONGEST) as usize];
            if length == 0 || self.is_over() {
                return None;
            }
            self.at += usize::from(length);
            sum += usize::from(run);
            if run < 64 {
                return Some(sum);
            }
        }
    }

    /// Skips past the next end-of-line code: 11 zeros or more, and a one.
    fn pass_end_of_line(&mut self) -> bool {
        while self.peek(11) != 0 {
            if self.is_over() {
                return false;
            }
            self.at += 1;
        }
        while self.peek(1) == 0 {
            if self.is_over() {
                return false;
            }
            self.at += 1;
        }
        self.at += 1;
        true
    }
}

/// Unpacks `rows` rows of `width` pixels to bytes `[rows, width / 8, rounded up]`, a bit a pixel, black 1.
pub(super) fn unpack(bytes: &[u8], packing: Packing, width: usize, rows: usize) -> Outcome<Vec<u8>> {
    let mut bits = Bits { bytes, at: 0 };
    let length = width.div_ceil(8);
    let mut unpacked = Vec::new();
    // Where colours change in the row above and in this one, ascending.
    let (mut above, mut changes) = (Vec::new(), Vec::new());
    // Some writers leave out the ends of lines that group 3 asks for.
    let has_ends = matches!(packing, Packing::Group3 { .. }) && Bits { bytes, at: 0 }.pass_end_of_line();
    for row in 0..rows {
        changes.clear();
        let complete = match packing {
            Packing::Group4 => {
                // End of the block: the writer left out white rows.
                if bits.peek(12) == 1 || bits.is_over() && row > 0 {
                    break;
                }
                two_dimensional(&mut bits, &above, &mut changes, width)
            }
            Packing::Group3 { two_dimensional: mixed } => {
                let found = !has_ends || bits.pass_end_of_line();
                let refers = mixed && {
                    bits.at += 1;
                    bits.peek_before() == 0
                };
                found
                    && if refers {
                        two_dimensional(&mut bits, &above, &mut changes, width)
                    } else {
                        one_dimensional(&mut bits, &mut changes, width)
                    }
            }
            _ => {
                let word = if packing == (Packing::Runs { words: true }) { 16 } else { 8 };
                bits.at = bits.at.next_multiple_of(word);
                one_dimensional(&mut bits, &mut changes, width)
            }
        };
        if !complete {
            return Err(format!("the TIFF is damaged: its fax codes make no sense in row {row} of a strip"));
        }
        paint(&changes, width, &mut unpacked);
        std::mem::swap(&mut above, &mut changes);
    }
    unpacked.resize(length * rows, 0);
    Ok(unpacked)
}

impl Bits<'_> {
    /// The bit that was passed last.
    fn peek_before(&self) -> u32 {
        Bits { bytes: self.bytes, at: self.at - 1 }.peek(1)
    }
}

fn one_dimensional(bits: &mut Bits, changes: &mut Vec<usize>, width: usize) -> bool {
    let (mut at, mut black) = (0, false);
    while at < width {
        let Some(run) = bits.run(black) else { return false };
        at += run;
        changes.push(at.min(width));
        black = !black;
    }
    at == width
}

fn two_dimensional(bits: &mut Bits, above: &[usize], changes: &mut Vec<usize>, width: usize) -> bool {
    let (mut at, mut black, mut started) = (0, false, false);
    // The first change above that lies after `at` and is to the other colour than this run's.
    let mut first = 0;
    while at < width {
        while first > 0 && above[first - 1] > at {
            first -= 1;
        }
        let behind = |change: usize| if started { change > at } else { change >= at };
        while first < above.len() && (!behind(above[first]) || (first % 2 == 1) != black) {
            first += 1;
        }
        let change = |i: usize| above.get(i).copied().unwrap_or(width);
        let b1 = change(first);
        let beside: isize;
        match bits.peek(7) {
            0b1000000.. => (beside, bits.at) = (0, bits.at + 1),
            0b0110000..=0b0111111 => (beside, bits.at) = (1, bits.at + 3),
            0b0100000..=0b0101111 => (beside, bits.at) = (-1, bits.at + 3),
            0b0010000..=0b0011111 => {
                bits.at += 3;
                for colour in [black, !black] {
                    let Some(run) = bits.run(colour) else { return false };
                    at += run;
                    changes.push(at.min(width));
                }
                started = true;
                continue;
            }
            0b0001000..=0b0001111 => {
                bits.at += 4;
                at = change(first + 1);
                started = true;
                continue;
            }
            0b0000110 | 0b0000111 => (beside, bits.at) = (2, bits.at + 6),
            0b0000100 | 0b0000101 => (beside, bits.at) = (-2, bits.at + 6),
            0b0000011 => (beside, bits.at) = (3, bits.at + 7),
            0b0000010 => (beside, bits.at) = (-3, bits.at + 7),
            // Extensions, such as rows that are not packed, are not read.
            _ => return false,
        }
        let Some(next) = b1.checked_add_signed(beside).filter(|&next| next >= at && next <= width) else {
            return false;
        };
        if bits.at > 8 * bits.bytes.len() {
            return false;
        }
        changes.push(next);
        (at, black, started) = (next, !black, true);
    }
    at <= width
}

/// Adds a row to the bytes.
fn paint(changes: &[usize], width: usize, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + width.div_ceil(8), 0);
    let row = &mut bytes[start..];
    for run in changes.chunks(2) {
        let to = run.get(1).copied().unwrap_or(width);
        (run[0]..to).for_each(|x| row[x / 8] |= 0x80 >> (x % 8));
    }
}
