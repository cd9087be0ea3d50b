//! The small network that comes with Defrost: taught on drawn signs by `defrost pretrain`, which makes the same file again.

use std::io::Write;
use std::path::Path;

use crate::Result;
use crate::nn::write_atomically;

/// The registry's name of it.
pub const MODEL: &str = "mobilenet_v2_050";
/// The file's name.
pub const FILE: &str = "signs.safetensors";
/// The file: half precision, with classes and preprocessing.
pub const WEIGHTS: &[u8] = include_bytes!("../../weights/signs.safetensors");

/// Writes the file.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write(path: &Path) -> Result<()> {
    write_atomically(path, |file| file.write_all(WEIGHTS))
}
