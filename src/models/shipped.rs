//! The small network that comes with Defrost: trained on drawn signs by `defrost pretrain`, which reproduces the same
//! file.

use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::nn::write_atomically;

/// Its model's name in the registry.
pub const MODEL: &str = "mobilenet_v2_050";
/// The file's name.
pub const FILE: &str = "signs.safetensors";
/// The file's bytes: half precision, with classes and preprocessing.
pub const WEIGHTS: &[u8] = include_bytes!("../../weights/signs.safetensors");

/// Writes the file.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write(path: &Path) -> Result<()> {
    write_atomically(path, |file| file.write_all(WEIGHTS))
}
