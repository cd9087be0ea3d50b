//! Baseline JPEGs whose scans hold some of the components, such as luma alone and then both chromas.
//!
//! The decoder reads scans of one component or of all. So such a file is written anew, without loss: the coefficients
//! of each scan are read, and written as a scan for each component. ITU-T T.81: a unit of a scan of several components
//! holds `h x v` blocks of each; a scan of one component holds its blocks row by row, without those that only fill the
//! last units. The new scans have fixed codes of 5 bits for DC and 9 for AC: nothing needs to be counted.

use super::segments::{Frame, SOS, Segment};
use crate::data::formats::pixels::Outcome;

const DHT: u8 = 0xC4;
const DRI: u8 = 0xDD;
const DC_BITS: u32 = 5;
const AC_BITS: u32 = 9;

/// Whether the decoder does not read the file as it is.
pub(super) fn is_needed(frame: &Frame, segments: &[Segment]) -> bool {
    let some =
        |s: &Segment| s.data.first().is_some_and(|&n| n > 1 && usize::from(n) < frame.components.len());
    matches!(frame.code, 0xC0 | 0xC1) && segments.iter().any(|s| s.code == SOS && some(s))
}

/// The same image in a file with one component a scan.
pub(super) fn split(bytes: &[u8], frame: &Frame, segments: &[Segment]) -> Outcome<Vec<u8>> {
    let mut file = vec![0xFF, 0xD8];
    let mut state = State { tables: Default::default(), interval: 0 };
    let mut codes_are_there = false;
    for (i, segment) in segments.iter().enumerate() {
        match segment.code {
            DHT => state.read_tables(segment.data)?,
            DRI => {
                let [a, b] = *segment.data else { return Err(damaged()) };
                state.interval = usize::from(u16::from_be_bytes([a, b]));
            }
            SOS => {
                if !std::mem::replace(&mut codes_are_there, true) {
                    write_codes(&mut file);
                }
                let end = segments.get(i + 1).map_or(bytes.len(), |next| next.at);
                let data = bytes.get(segment.end()..end).ok_or_else(damaged)?;
                for (component, data) in state.scan(frame, segment.data, data)? {
                    file.extend([0xFF, SOS, 0, 8, 1, frame.components[component][0], 0, 0, 63, 0]);
                    file.extend(data);
                }
            }
            _ => file.extend_from_slice(&bytes[segment.at..segment.end()]),
        }
    }
    file.extend([0xFF, 0xD9]);
    Ok(file)
}

fn damaged() -> String {
    "the JPEG is damaged: its codes make no sense".into()
}

/// By the next 16 bits: length of the code they begin with, or 0, and its symbol.
type Table = Vec<(u8, u8)>;

struct State {
    /// Four tables for DC, four for AC.
    tables: [[Option<Table>; 4]; 2],
    /// Units between restarts, or 0.
    interval: usize,
}

impl State {
    fn read_tables(&mut self, mut data: &[u8]) -> Outcome<()> {
        while let [head, rest @ ..] = data {
            let (counts, rest) = rest.split_at_checked(16).ok_or_else(damaged)?;
            let total = counts.iter().map(|&n| usize::from(n)).sum();
            let (symbols, rest) = rest.split_at_checked(total).ok_or_else(damaged)?;
            let mut table = vec![(0, 0); 1 << 16];
            let (mut at, mut symbols) = (0usize, symbols.iter());
            for (length, count) in (1u8..).zip(counts) {
                for &symbol in symbols.by_ref().take(usize::from(*count)) {
                    let size = 1 << (16 - length);
                    table.get_mut(at..at + size).ok_or_else(damaged)?.fill((length, symbol));
                    at += size;
                }
            }
            let place =
                self.tables.get_mut(usize::from(head >> 4)).and_then(|t| t.get_mut(usize::from(head & 15)));
            *place.ok_or_else(damaged)? = Some(table);
            data = rest;
        }
        Ok(())
    }

    /// Component and entropy-coded data of each component's own scan.
    fn scan(&self, frame: &Frame, header: &[u8], data: &[u8]) -> Outcome<Vec<(usize, Vec<u8>)>> {
        let [count, rest @ ..] = header else { return Err(damaged()) };
        let table = |kind: usize, index: u8| {
            self.tables[kind].get(usize::from(index)).and_then(Option::as_ref).ok_or_else(damaged)
        };
        let (most_h, most_v) = frame.most();
        let mut parts = Vec::new();
        for [id, tables] in rest.as_chunks::<2>().0.iter().take(usize::from(*count)) {
            let component = frame.components.iter().position(|c| c[0] == *id).ok_or_else(damaged)?;
            let [_, h, v, _] = frame.components[component].map(usize::from);
            let blocks = |pixels: usize, own: usize, most: usize| (pixels * own).div_ceil(most).div_ceil(8);
            let alone = *count == 1;
            parts.push(Part {
                component,
                dc: table(0, tables >> 4)?,
                ac: table(1, tables & 15)?,
                unit: if alone { (1, 1) } else { (h, v) },
                size: (blocks(frame.width, h, most_h), blocks(frame.height, v, most_v)),
                before: 0,
                rows: Vec::new(),
                writer: Writer::default(),
            });
        }
        let (across, down) = match parts.as_slice() {
            [] => return Err(damaged()),
            [part] => part.size,
            _ => (frame.width.div_ceil(8 * most_h), frame.height.div_ceil(8 * most_v)),
        };
        let mut reader = Reader { data, at: 0, bits: 0, count: 0, zeros: 0 };
        for unit in 0..across * down {
            if self.interval > 0 && unit > 0 && unit % self.interval == 0 {
                reader.restart()?;
                parts.iter_mut().for_each(|part| part.before = 0);
            }
            let (x, y) = (unit % across, unit / across);
            for part in &mut parts {
                let (h, v) = part.unit;
                part.rows.resize(v * across * h, [0; 64]);
                for block in 0..h * v {
                    let to = block / h * across * h + x * h + block % h;
                    part.rows[to] = part.read(&mut reader)?;
                }
            }
            if reader.is_over() {
                return Err("the JPEG is cut off: a scan ends before its last unit".into());
            }
            if x + 1 == across {
                parts.iter_mut().try_for_each(|part| part.write(across, y))?;
            }
        }
        Ok(parts.into_iter().map(|part| (part.component, part.writer.finish())).collect())
    }
}

/// A component of a scan.
struct Part<'a> {
    component: usize,
    dc: &'a Table,
    ac: &'a Table,
    /// Blocks across and down in a unit.
    unit: (usize, usize),
    /// Blocks across and down in the image.
    size: (usize, usize),
    /// The DC coefficient that was read last.
    before: i32,
    /// The blocks of a row of units: DC, then AC in zigzag order.
    rows: Vec<[i32; 64]>,
    writer: Writer,
}

impl Part<'_> {
    fn read(&mut self, reader: &mut Reader) -> Outcome<[i32; 64]> {
        let mut block = [0; 64];
        let size = reader.symbol(self.dc)?;
        self.before += reader.number(size)?;
        block[0] = self.before;
        let mut at = 1;
        while at < 64 {
            let symbol = reader.symbol(self.ac)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            if size == 0 {
                if zeros != 15 {
                    break;
                }
                at += 16;
                continue;
            }
            at += zeros;
            *block.get_mut(at).ok_or_else(damaged)? = reader.number(size)?;
            at += 1;
        }
        Ok(block)
    }

    /// Writes the blocks of row `y` of units, but for those beyond the image.
    fn write(&mut self, across: usize, y: usize) -> Outcome<()> {
        let (h, v) = self.unit;
        let rows = self.size.1.saturating_sub(y * v).min(v);
        for row in self.rows.chunks_exact(across * h).take(rows) {
            for block in row.iter().take(self.size.0) {
                self.writer.block(block).ok_or_else(damaged)?;
            }
        }
        Ok(())
    }
}

/// Bits of entropy-coded data.
struct Reader<'a> {
    data: &'a [u8],
    at: usize,
    bits: u64,
    count: u32,
    /// How many of the bits, the last ones, are zeros that follow the data.
    zeros: u32,
}

impl Reader<'_> {
    /// Whether bits past the end of the data were read.
    fn is_over(&self) -> bool {
        self.zeros > self.count
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match self.data.get(self.at..) {
                Some([0xFF, 0, ..]) => {
                    self.at += 2;
                    0xFF
                }
                // A marker ends the data; zeros follow.
                Some([0xFF, ..] | []) | None => {
                    self.zeros += 8;
                    0
                }
                Some([byte, ..]) => {
                    self.at += 1;
                    *byte
                }
            };
            self.bits = self.bits << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn take(&mut self, count: u32) -> u32 {
        self.count -= count;
        (self.bits >> self.count) as u32 & ((1u32 << count) - 1)
    }

    fn symbol(&mut self, table: &Table) -> Outcome<u8> {
        self.fill();
        let (length, symbol) = table[(self.bits >> (self.count - 16)) as usize & 0xFFFF];
        if length == 0 {
            return Err(damaged());
        }
        self.count -= u32::from(length);
        Ok(symbol)
    }

    /// A number of `size` bits: those that begin with 0 are negative.
    fn number(&mut self, size: u8) -> Outcome<i32> {
        if size == 0 {
            return Ok(0);
        }
        if size > 15 {
            return Err(damaged());
        }
        self.fill();
        let value = self.take(u32::from(size)) as i32;
        Ok(if value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value })
    }

    /// Skips past the next restart marker.
    fn restart(&mut self) -> Outcome<()> {
        (self.bits, self.count, self.zeros) = (0, 0, 0);
        while let Some(skip) = self.data.get(self.at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF))
        {
            self.at += skip + 1;
            if matches!(self.data.get(self.at), Some(0xD0..=0xD7)) {
                self.at += 1;
                return Ok(());
            }
        }
        Err(damaged())
    }
}

#[derive(Default)]
struct Writer {
    data: Vec<u8>,
    bits: u64,
    count: u32,
    /// The DC coefficient that was written last.
    before: i32,
}

impl Writer {
    fn put(&mut self, bits: u32, count: u32) {
        self.bits = self.bits << count | u64::from(bits);
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.bits >> self.count) as u8;
            self.data.push(byte);
            if byte == 0xFF {
                self.data.push(0);
            }
        }
    }

    /// A symbol of `bits` bits, whose low four bits are the size of the number, and the number.
    fn number(&mut self, zeros: u32, value: i32, bits: u32) -> Option<()> {
        let size = 32 - value.unsigned_abs().leading_zeros();
        let symbol = zeros << 4 | size;
        if size > 15 || symbol == 255 {
            return None;
        }
        self.put(symbol, bits);
        let value = if value < 0 { value + (1 << size) - 1 } else { value };
        self.put(value as u32, size);
        Some(())
    }

    fn block(&mut self, block: &[i32; 64]) -> Option<()> {
        self.number(0, block[0] - self.before, DC_BITS)?;
        self.before = block[0];
        let mut zeros = 0;
        for &value in &block[1..] {
            if value == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 {
                self.put(0xF0, AC_BITS);
                zeros -= 16;
            }
            self.number(zeros, value, AC_BITS)?;
            zeros = 0;
        }
        if zeros > 0 {
            self.put(0, AC_BITS);
        }
        Some(())
    }

    /// The data, filled with ones to a whole byte.
    fn finish(mut self) -> Vec<u8> {
        let missing = (8 - self.count) % 8;
        self.put((1 << missing) - 1, missing);
        self.data
    }
}

/// Tables 0 of DC and AC whose codes are the symbols themselves: 16 of 5 bits, and 255 of 9.
fn write_codes(file: &mut Vec<u8>) {
    for (class, bits, symbols) in [(0x00, DC_BITS, 16u8), (0x10, AC_BITS, 255)] {
        file.extend([0xFF, DHT]);
        file.extend((2 + 17 + u16::from(symbols)).to_be_bytes());
        file.push(class);
        file.extend((1..=16).map(|length| if length == bits { symbols } else { 0 }));
        file.extend(0..symbols);
    }
}
