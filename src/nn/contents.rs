//! The contents of a file of tensors, in the same form for all file formats.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Dtype;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its shape.
    pub shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// Bytes in the file: from the first number to the last.
    pub(super) bytes: Range<usize>,
    /// Strides along each axis, in numbers, where the tensor is not contiguous.
    pub(super) strides: Option<Vec<usize>>,
}

impl TensorInfo {
    /// Whether it holds floats.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}

/// The first of many names, and the number of the others.
pub(crate) fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, TensorInfo>;
/// The metadata of a file.
pub(super) type Metadata = BTreeMap<String, String>;

/// Tensors of a file at most: the largest networks have some 100,000.
const MOST_TENSORS: usize = 1 << 18;

/// Adds a tensor. Names and shapes that no network has are refused, so that work on all names stays fast, and
/// messages can contain any name.
///
/// # Errors
/// A sentence naming the problem.
pub(super) fn take_in(tensors: &mut Tensors, name: &str, info: TensorInfo) -> Result<(), String> {
    const LONGEST: usize = 1024;
    if name.len() > LONGEST {
        return Err(format!("a tensor's name has {} bytes, more than {LONGEST}", name.len()));
    }
    if tensors.len() == MOST_TENSORS && !tensors.contains_key(name) {
        return Err(format!("it holds more than {MOST_TENSORS} tensors"));
    }
    tensors.insert(name.into(), info);
    Ok(())
}

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The tensors of its state dict.
    pub(super) tensors: Tensors,
    /// Other tensors of the file: their place, and how many.
    pub(super) left_out: Vec<(String, usize)>,
    /// The key of the state dict: `state_dict`.
    pub(super) under: String,
}

/// Axes of a tensor: NumPy's limit, and that of PyTorch's own loops.
pub(super) const MOST_AXES: usize = 64;

/// A name for a message; only the beginning of a long one.
pub(super) fn shortened(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.into(),
    }
}
