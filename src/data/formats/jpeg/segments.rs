//! The segments of a JPEG (ITU-T T.81, annex B), without their content.
//!
//! A segment is `FF`, a code, and, but for stand-alone codes, a big-endian length that counts itself. In the
//! entropy-coded data after a scan's header, an `FF` of the data is followed by `00`; `D0..D7` restart within the
//! scan. Bytes between segments are skipped, as decoders do.

const TEM: u8 = 0x01;
const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
pub(super) const SOS: u8 = 0xDA;

/// One segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) code: u8,
    /// Where its `FF` lies in the file.
    pub(super) at: usize,
    /// What follows its length.
    pub(super) data: &'a [u8],
}

impl Segment<'_> {
    /// Offset of the first byte after the segment.
    pub(super) fn end(&self) -> usize {
        self.at + 4 + self.data.len()
    }

    /// Whether it describes a frame: `SOF`, without `DHT`, `JPG` and `DAC`, and JPEG-LS's.
    pub(super) fn is_frame(&self) -> bool {
        matches!(self.code, 0xC0..=0xCF | 0xF7) && !matches!(self.code, 0xC4 | 0xC8 | 0xCC)
    }
}

/// The segments that have a length, and whether an end marker follows them: a file without is cut off, and what it
/// lacks would come out as grey.
pub(super) fn segments(bytes: &[u8]) -> (Vec<Segment<'_>>, bool) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(skip) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xFF)) {
        at += skip + 1;
        match bytes.get(at) {
            None => break,
            Some(&EOI) => return (found, true),
            Some(0xFF) => {} // fill byte: the code is still to come
            Some(&(0x00 | TEM | 0xD0..=0xD7 | SOI)) => at += 1,
            Some(&code) => {
                let Some(length) = bytes.get(at + 1..at + 3) else { break };
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if let Some(data) = bytes.get(at + 3..at + 1 + length) {
                    found.push(Segment { code, at: at - 1, data });
                }
                at += 1 + length;
            }
        }
    }
    (found, false)
}

/// What a frame's segment says.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) code: u8,
    pub(super) precision: u8,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Identifier, samples across and samples down in a unit, quantization table.
    pub(super) components: Vec<[u8; 4]>,
}

impl Frame {
    /// Reads the segment of a frame.
    pub(super) fn of(segment: &Segment) -> Option<Frame> {
        let [precision, h0, h1, w0, w1, count, rest @ ..] = segment.data else { return None };
        let (components, _) = rest.as_chunks::<3>();
        let components: Vec<[u8; 4]> = components
            .iter()
            .take(usize::from(*count))
            .map(|&[id, sampling, table]| [id, sampling >> 4, sampling & 15, table])
            .collect();
        let sound = |c: &[u8; 4]| (1..=4).contains(&c[1]) && (1..=4).contains(&c[2]);
        (components.len() == usize::from(*count) && components.iter().all(sound)).then(|| Frame {
            code: segment.code,
            precision: *precision,
            height: usize::from(u16::from_be_bytes([*h0, *h1])),
            width: usize::from(u16::from_be_bytes([*w0, *w1])),
            components,
        })
    }

    /// Whether all scans are read before the first pixel is computed.
    pub(super) fn is_progressive(&self) -> bool {
        matches!(self.code, 0xC2 | 0xCA)
    }

    /// The most samples across and down in a unit.
    pub(super) fn most(&self) -> (usize, usize) {
        let most = |i: usize| self.components.iter().map(|c| usize::from(c[i])).max().unwrap_or(1);
        (most(1), most(2))
    }

    /// Blocks of 8 x 8 samples of all components, without those that only fill units.
    pub(super) fn blocks(&self) -> u64 {
        let (h, v) = self.most();
        let side =
            |pixels: usize, own: u8, most: usize| (pixels * usize::from(own)).div_ceil(8 * most) as u64;
        self.components.iter().map(|c| side(self.width, c[1], h) * side(self.height, c[2], v)).sum()
    }

    /// Samples of all components in their planes, padded to whole units.
    pub(super) fn samples(&self) -> u64 {
        let (h, v) = self.most();
        let units = (self.width.div_ceil(8 * h) * self.height.div_ceil(8 * v)) as u64;
        let unit: u64 = self.components.iter().map(|c| 64 * u64::from(c[1]) * u64::from(c[2])).sum();
        units * unit
    }
}
