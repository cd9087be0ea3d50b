//! Strips and tiles to rows of samples.

use std::borrow::Cow;
use std::io::Read;

use weezl::BitOrder;
use weezl::decode::Decoder as Lzw;

use super::fax;
use super::page::{Colour, Packing, Page};
use super::tag;
use crate::data::formats::ifd::Directory;
use crate::data::formats::jpeg;
use crate::data::formats::pixels::Outcome;

/// Rows of a strip or tile.
pub(super) struct Rows<'a> {
    bytes: Cow<'a, [u8]>,
    /// Bytes of a row.
    length: usize,
}

impl Rows<'_> {
    pub(super) fn of(bytes: Vec<u8>, length: usize) -> Rows<'static> {
        Rows { bytes: Cow::Owned(bytes), length }
    }

    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.bytes[row * self.length..][..self.length]
    }
}

/// Unpacks strip or tile `index`, which is number `down` from the top.
pub(super) fn part<'a>(
    file: &'a [u8],
    directory: &Directory,
    page: &Page,
    index: usize,
    down: usize,
) -> Outcome<Rows<'a>> {
    let cut = || "the TIFF is cut off or damaged: a strip holds too few bytes".to_string();
    let (rows, length) = page.part_size(down).ok_or_else(cut)?;
    let size = rows * length;
    let (offset, told) = page.parts[index];
    if page.packing == Packing::Plain {
        let bytes = file.get(offset..).and_then(|rest| rest.get(..size)).ok_or_else(cut)?;
        let bytes = if page.low_bits_first { Cow::Owned(reversed(bytes)) } else { Cow::Borrowed(bytes) };
        return Ok(Rows { bytes, length });
    }
    let packed = match told {
        Some(length) => file.get(offset..).and_then(|rest| rest.get(..length)),
        None => file.get(offset..),
    };
    let packed = packed.ok_or_else(cut)?;
    let turned = page.low_bits_first && page.packing != Packing::Jpeg;
    let packed = if turned { Cow::Owned(reversed(packed)) } else { Cow::Borrowed(packed) };
    let mut unpacked = match page.packing {
        Packing::Jpeg => return jpeg_part(&packed, directory, page, rows),
        Packing::Runs { .. } | Packing::Group3 { .. } | Packing::Group4 => {
            fax::unpack(&packed, page.packing, page.part.0, rows)?
        }
        Packing::PackBits => pack_bits(&packed, size),
        Packing::Lzw => lzw(&packed, size)?,
        Packing::Deflate => {
            read(flate2::read::ZlibDecoder::new(&*packed), size).map_err(|e| format!("{}: {e}", cut()))?
        }
        Packing::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&*packed);
            let decoder = decoder.map_err(|e| format!("the TIFF is damaged: {e}"))?;
            read(decoder, size).map_err(|e| format!("{}: {e}", cut()))?
        }
        Packing::Plain => Vec::new(),
    };
    if unpacked.len() != size {
        return Err(cut());
    }
    if page.differences {
        let stride = if page.planar { 1 } else { page.samples };
        unpacked.chunks_exact_mut(length).for_each(|row| add_up(row, page, stride));
    }
    Ok(Rows { bytes: Cow::Owned(unpacked), length })
}

/// Bytes with the lowest bit first.
fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|b| b.reverse_bits()).collect()
}

/// At most `size` bytes; the buffer grows with what comes.
fn read(from: impl Read, size: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn pack_bits(packed: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = packed;
    while let ([count, after @ ..], true) = (rest, bytes.len() < size) {
        rest = match *count as i8 {
            -128 => after,
            // The next byte, 2 to 128 times.
            n @ -127..=-1 => {
                let [byte, after @ ..] = after else { break };
                bytes.extend(std::iter::repeat_n(*byte, 1 + usize::from(n.unsigned_abs())));
                after
            }
            // 1 to 128 bytes as they are.
            n => {
                let (own, after) = after.split_at(after.len().min(n as usize + 1));
                bytes.extend_from_slice(own);
                after
            }
        };
    }
    bytes.truncate(size);
    bytes
}

fn lzw(packed: &[u8], size: usize) -> Outcome<Vec<u8>> {
    if matches!(packed, [0, second, ..] if second & 1 == 1) {
        return super::page::unread("with LZW data of the old kind");
    }
    let mut decoder = Lzw::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut bytes = vec![0; size];
    let (mut from, mut to) = (0, 0);
    while to < size {
        let progress = decoder.decode_bytes(&packed[from..], &mut bytes[to..]);
        from += progress.consumed_in;
        to += progress.consumed_out;
        match progress.status {
            Ok(weezl::LzwStatus::Ok) if progress.consumed_in + progress.consumed_out > 0 => {}
            Ok(_) => break,
            Err(e) => return Err(format!("the TIFF is damaged: {e}")),
        }
    }
    bytes.truncate(to);
    Ok(bytes)
}

/// Undoes TIFF's predictor 2: each sample was stored as the difference to the pixel before.
fn add_up(row: &mut [u8], page: &Page, stride: usize) {
    if page.bits == 8 {
        for i in stride..row.len() {
            row[i] = row[i].wrapping_add(row[i - stride]);
        }
        return;
    }
    let get = |bytes| if page.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let put = |sample: u16| if page.big_endian { sample.to_be_bytes() } else { sample.to_le_bytes() };
    let (samples, _) = row.as_chunks_mut::<2>();
    for i in stride..samples.len() {
        samples[i] = put(get(samples[i]).wrapping_add(get(samples[i - stride])));
    }
}

/// A JPEG of its own, whose tables may lie in a tag. YCbCr becomes RGB.
fn jpeg_part(packed: &[u8], directory: &Directory, page: &Page, rows: usize) -> Outcome<Rows<'static>> {
    let tables = directory.bytes(tag::JPEG_TABLES).unwrap_or_default();
    let is_ycbcr = matches!(page.colour, Colour::YCbCr { .. });
    let part = (page.part.0, page.part.1.max(rows));
    let (width, height, bytes) = jpeg::decode_part(tables, packed, page.samples, is_ycbcr, part)?;
    let columns = if page.tiled { page.part.0.min(page.width) } else { page.part.0 };
    if width < columns || height < rows.min(page.height) {
        return Err(format!(
            "the TIFF is damaged: a part of {columns} x {rows} pixels holds {width} x {height}"
        ));
    }
    Ok(Rows::of(bytes, width * page.samples))
}
