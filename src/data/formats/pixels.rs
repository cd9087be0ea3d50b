//! The result of every decoder, and the memory request before any allocation.

use super::budget::{self, MAX_PIXELS, MOST_BYTES, Permit};

/// A result, or the reason for the failure as text. Messages put the file's name and a colon before the reason.
pub(super) type Outcome<T> = Result<T, String>;

/// The pixels of a file, in stored orientation.
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bytes `[height, width, 3]`.
    pub(super) rgb: Vec<u8>,
    /// Orientation: 1 to 8, as in EXIF.
    pub(super) orientation: u8,
}

/// The memory request that a decoder must make before any allocation that grows with the image.
pub(super) struct Room<'a> {
    /// Length of the file, bytes.
    pub(super) file: usize,
    pub(super) held: &'a mut Option<Permit>,
}

impl Room<'_> {
    /// Checks the size of the image and waits for memory: `bytes` is the most that the decoder needs, pixels
    /// included, file excluded.
    pub(super) fn ask(&mut self, width: u64, height: u64, bytes: u64) -> Outcome<()> {
        if width == 0 || height == 0 {
            return Err(format!("{width} x {height} pixels: nothing to see"));
        }
        if width.saturating_mul(height) > MAX_PIXELS {
            return Err(format!("{width} x {height} pixels, more than the {MAX_PIXELS} allowed"));
        }
        let bytes = bytes.saturating_add(self.file as u64);
        if bytes > MOST_BYTES {
            return Err(format!(
                "{width} x {height} pixels of this kind need {} MiB to decode, more than the {} allowed; make the \
                 image smaller or save it as an 8-bit PNG",
                bytes >> 20,
                MOST_BYTES >> 20
            ));
        }
        if self.held.is_none() {
            *self.held = Some(budget::take(bytes));
        }
        Ok(())
    }
}

/// Keeps the first `keep` of every `of` bytes, in place.
pub(super) fn keep_first(bytes: &mut Vec<u8>, of: usize, keep: usize) {
    let count = bytes.len() / of;
    for i in 1..count {
        bytes.copy_within(i * of..i * of + keep, i * keep);
    }
    bytes.truncate(count * keep);
    bytes.shrink_to_fit();
}

/// RGB of one pixel of CMYK, as Pillow converts it: 0 is no ink.
pub(super) fn cmyk_to_rgb(c: &[u8]) -> [u8; 3] {
    let paper = 255 - u32::from(c[3]);
    [0, 1, 2].map(|i| {
        let product = u32::from(c[i]) * paper + 128;
        (paper - (((product >> 8) + product) >> 8).min(paper)) as u8
    })
}
