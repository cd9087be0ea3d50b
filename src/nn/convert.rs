//! Converts one file of tensors into another.

use std::collections::BTreeMap;
use std::path::Path;

use super::contents::first_of;
use super::weights::{SavedTensor, TensorFile, save_tensors};
use crate::Result;

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Converted {
    /// Number of tensors written.
    pub written: usize,
    /// Tensors of the network that hold no floats, and are no counters.
    pub left_out: Vec<String>,
    /// Tensors that were read and not written, and their place: sentences for people.
    pub warnings: Vec<String>,
}

/// Writes the tensors of `from`, which may be a PyTorch file, as safetensors under the names of [`TensorFile::open`],
/// in f32 or, with `half`, in f16. Scalar counters (`num_batches_tracked`) are copied.
///
/// # Errors
/// As for [`TensorFile::open`], [`TensorFile::read_f32`] and [`save_tensors`]; then no file is written.
pub fn convert(from: impl AsRef<Path>, to: impl AsRef<Path>, half: bool) -> Result<Converted> {
    let file = TensorFile::open(from)?;
    let mut report = Converted { warnings: Vec::from_iter(file.beside()), ..Converted::default() };
    let (mut floats, mut counters) = (BTreeMap::new(), BTreeMap::new());
    for (name, info) in file.tensors() {
        if let Some(counter) = file.read_i64(name).filter(|_| info.shape.is_empty()) {
            counters.insert(name, counter);
        } else if info.is_float() {
            floats.insert(name, file.read_f32(name)?);
        } else {
            report.left_out.push(name.clone());
        }
    }
    if !report.left_out.is_empty() {
        let (path, names) = (file.path().display(), first_of(&report.left_out));
        let count = match report.left_out.len() {
            1 => "a tensor that holds no floats is".into(),
            n => format!("{n} tensors that hold no floats are"),
        };
        report.warnings.push(format!("{path}: {count} left out: {names}"));
    }
    let mut tensors = BTreeMap::new();
    for (name, numbers) in &floats {
        let shape = &file.tensors()[*name].shape;
        let saved = if half { SavedTensor::F16(shape, numbers) } else { SavedTensor::F32(shape, numbers) };
        tensors.insert((*name).clone(), saved);
    }
    for (name, counter) in counters {
        tensors.insert(name.clone(), SavedTensor::I64(counter));
    }
    report.written = tensors.len();
    save_tensors(to, &tensors, file.metadata())?;
    Ok(report)
}
