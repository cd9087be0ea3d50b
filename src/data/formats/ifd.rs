//! Directories of TIFF files, classic and BigTIFF, and of EXIF data, which is a TIFF file without pixels.
//!
//! `II` (little-endian) or `MM`, 42 and a 4-byte offset, or 43, two fixed numbers and an 8-byte offset (BigTIFF). A
//! directory is a count and entries: tag, type, count of values, and the values where they fit into 4 (8) bytes, else
//! their offset. Every offset and length is compared with the file before anything is allocated. What lies outside
//! is passed over, as Pillow does it; of two entries with one tag the first counts.

use std::collections::BTreeMap;

/// One entry: its type, its count of values and where their bytes lie.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u16,
    at: usize,
    length: usize,
}

/// A directory of a file.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    file: &'a [u8],
    pub(super) big_endian: bool,
    entries: BTreeMap<u16, Entry>,
}

/// Bytes of one value of a type, or nothing for types that are not known.
fn size_of(kind: u16) -> Option<u64> {
    match kind {
        // BYTE, ASCII, SBYTE, UNDEFINED
        1 | 2 | 6 | 7 => Some(1),
        // SHORT, SSHORT
        3 | 8 => Some(2),
        // LONG, SLONG, FLOAT, IFD
        4 | 9 | 11 | 13 => Some(4),
        // RATIONAL, SRATIONAL, DOUBLE, LONG8
        5 | 10 | 12 | 16 => Some(8),
        _ => None,
    }
}

/// Reads numbers in the file's byte order.
#[derive(Clone, Copy)]
struct Reader<'a> {
    file: &'a [u8],
    big_endian: bool,
}

impl Reader<'_> {
    fn uint(&self, at: usize, bytes: usize) -> Option<u64> {
        let bytes = self.file.get(at..at.checked_add(bytes)?)?.iter();
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if self.big_endian { bytes.fold(0, join) } else { bytes.rev().fold(0, join) })
    }

    fn offset(&self, at: usize, bytes: usize) -> Option<usize> {
        usize::try_from(self.uint(at, bytes)?).ok()
    }
}

impl<'a> Directory<'a> {
    /// The first directory of a file, or nothing where the file does not begin as a TIFF or ends before its directory.
    pub(super) fn first(file: &'a [u8]) -> Option<Directory<'a>> {
        let (big_endian, big) = head(file)?;
        let reader = Reader { file, big_endian };
        // Bytes of the count, of an entry, and of the values within it.
        let (count_size, entry_size, inline) = if big { (8, 20, 8) } else { (2, 12, 4) };
        let start = reader.offset(if big { 8 } else { 4 }, inline)?;
        let count = reader.uint(start, count_size)?;
        let mut entries = BTreeMap::new();
        let first = start.checked_add(count_size)?;
        for at in (first..file.len()).step_by(entry_size).take(usize::try_from(count).unwrap_or(usize::MAX)) {
            let fields = || {
                let (tag, kind) = (reader.uint(at, 2)? as u16, reader.uint(at + 2, 2)? as u16);
                let (values, data) = (reader.uint(at + 4, inline)?, at + 4 + inline);
                let length = usize::try_from(values.checked_mul(size_of(kind)?)?).ok()?;
                let at = if length > inline { reader.offset(data, inline)? } else { data };
                let is_there = length > 0 && at.checked_add(length).is_some_and(|end| end <= file.len());
                is_there.then_some((tag, Entry { kind, at, length }))
            };
            if let Some((tag, entry)) = fields() {
                entries.entry(tag).or_insert(entry);
            }
        }
        Some(Directory { file, big_endian, entries })
    }

    /// The bytes of a tag's values.
    pub(super) fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        let entry = self.entries.get(&tag)?;
        self.file.get(entry.at..entry.at + entry.length)
    }

    /// The first values of a tag, `most` of them, where they are whole numbers of 0 or more.
    pub(super) fn uints(&self, tag: u16, most: usize) -> Option<Vec<u64>> {
        let entry = self.entries.get(&tag)?;
        let size = match entry.kind {
            1 | 3 | 4 | 13 | 16 => size_of(entry.kind)? as usize,
            _ => return None,
        };
        let reader = Reader { file: self.file, big_endian: self.big_endian };
        let places = (entry.at..entry.at + entry.length).step_by(size).take(most);
        places.map(|at| reader.uint(at, size)).collect()
    }

    /// The first of a tag's values, where they are whole numbers.
    pub(super) fn uint(&self, tag: u16) -> Option<u64> {
        self.uints(tag, 1)?.first().copied()
    }

    /// The first values of a tag, `most` of them, as numbers: fractions are divided, and bytes and texts are no
    /// numbers (NaN).
    pub(super) fn numbers(&self, tag: u16, most: usize) -> Option<Vec<f64>> {
        let entry = self.entries.get(&tag)?;
        let size = size_of(entry.kind)? as usize;
        let reader = Reader { file: self.file, big_endian: self.big_endian };
        let number = |at: usize| {
            let raw = reader.uint(at, size)?;
            let half = |at: usize| reader.uint(at, 4);
            Some(match entry.kind {
                3 | 4 | 13 | 16 => raw as f64,
                6 => f64::from(raw as i8),
                8 => f64::from(raw as i16),
                9 => f64::from(raw as i32),
                11 => f64::from(f32::from_bits(raw as u32)),
                12 => f64::from_bits(raw),
                5 => half(at)? as f64 / half(at + 4)? as f64,
                10 => f64::from(half(at)? as i32) / f64::from(half(at + 4)? as i32),
                _ => f64::NAN,
            })
        };
        (entry.at..entry.at + entry.length).step_by(size).take(most).map(number).collect()
    }

    /// The first of a tag's [`Self::numbers`].
    pub(super) fn number(&self, tag: u16) -> Option<f64> {
        self.numbers(tag, 1)?.first().copied()
    }
}

/// Whether numbers are big-endian, and whether offsets have 8 bytes. Some writers swap the bytes of the 42.
pub(super) fn head(file: &[u8]) -> Option<(bool, bool)> {
    match file.get(..4)? {
        b"II\x2A\0" | b"II\0\x2A" => Some((false, false)),
        b"MM\0\x2A" | b"MM\x2A\0" => Some((true, false)),
        b"II\x2B\0" => Some((false, true)),
        b"MM\0\x2B" => Some((true, true)),
        _ => None,
    }
}
