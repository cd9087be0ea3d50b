//! Images of one size, concatenated in a file that is held in memory.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::decode::Image;

/// Layout of an image's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planes {
    /// Grey levels `[height, width]`.
    Grey,
    /// Planes of red, green and blue: `[3, height, width]`.
    Rgb,
}

/// The images of one file.
#[derive(Debug)]
pub struct Records {
    path: PathBuf,
    width: usize,
    height: usize,
    planes: Planes,
    /// Bytes before each image's pixels.
    before: usize,
    bytes: Vec<u8>,
}

impl Records {
    /// `bytes` holds whole records: `before` other bytes, then the pixels.
    pub(super) fn new(
        path: &Path,
        (width, height): (usize, usize),
        planes: Planes,
        before: usize,
        bytes: Vec<u8>,
    ) -> Self {
        Records { path: path.to_path_buf(), width, height, planes, before, bytes }
    }

    /// The file of the images.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Width and height of every image, pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Bytes of one image, laid out as in [`Planes`].
    pub fn pixels(&self, index: usize) -> &[u8] {
        let length = match self.planes {
            Planes::Grey => self.width * self.height,
            Planes::Rgb => 3 * self.width * self.height,
        };
        &self.bytes[index * (self.before + length) + self.before..][..length]
    }

    /// One image in RGB.
    pub fn image(&self, index: usize) -> Image {
        let pixels = self.pixels(index);
        let rgb = match self.planes {
            Planes::Grey => pixels.iter().flat_map(|&v| [v; 3]).collect(),
            Planes::Rgb => {
                let plane = self.width * self.height;
                (0..plane).flat_map(|i| [0, 1, 2].map(|channel| pixels[channel * plane + i])).collect()
            }
        };
        Image { width: self.width, height: self.height, rgb }
    }

    /// SHA-256 of kind, size and pixels.
    pub(super) fn key(&self, index: usize) -> [u8; 32] {
        let kind = match self.planes {
            Planes::Grey => "idx",
            Planes::Rgb => "rgb planes",
        };
        let size = format!("{kind} {} x {}:", self.width, self.height);
        Sha256::new().chain_update(size).chain_update(self.pixels(index)).finalize().into()
    }
}
