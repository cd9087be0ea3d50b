//! What a file of tensors holds: the form that the readers of all formats give it.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::tensor::Dtype;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Extents.
    pub shape: Vec<usize>,
    pub(super) dtype: Dtype,
    /// Bytes in the file: from the first number to the last.
    pub(super) bytes: Range<usize>,
    /// Distances between neighbours along each axis, in numbers, where they do not lie in rows one behind the other.
    pub(super) strides: Option<Vec<usize>>,
}

impl TensorInfo {
    /// Whether it holds floats.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}

/// The first of many names, and how many more there are.
pub(crate) fn first_of(names: &[String]) -> String {
    const SHOWN: usize = 10;
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, TensorInfo>;
/// What a file says of itself.
pub(super) type Metadata = BTreeMap<String, String>;

/// Tensors of a file at most: the largest networks have some 100,000.
const MOST_TENSORS: usize = 1 << 18;

/// Takes a tensor in; what no network has is refused, so that nothing that is done with all names takes long, and
/// messages can hold any name.
///
/// # Errors
/// A sentence saying what is wrong.
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

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The tensors of its state dict.
    pub(super) tensors: Tensors,
    /// What else in it holds tensors: where, and how many.
    pub(super) left_out: Vec<(String, usize)>,
    /// The key that the state dict lies under: `state_dict`.
    pub(super) under: String,
}

/// Axes of a tensor: NumPy's limit, and that of PyTorch's own loops.
pub(super) const MOST_AXES: usize = 64;

/// A name for a message, which has its beginning where it is long.
pub(super) fn shortened(name: &str) -> String {
    const MOST: usize = 80;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.into(),
    }
}
