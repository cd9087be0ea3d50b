//! The header of a safetensors file: a length in eight bytes, and JSON that names all tensors.
//!
//! Each entry becomes a [`TensorInfo`] as soon as it is parsed, so a header needs no more memory than its result.
//! Errors are sentences for people, with the tensor, the expected and the found value.

use std::fmt;

use safetensors::tensor::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use super::contents::{MOST_AXES, Metadata, TensorInfo, Tensors, take_in};

/// The format's own limit, in bytes.
const MOST_BYTES: usize = 100_000_000;

/// Entries of metadata that are read: files have a handful.
const MOST_METADATA: usize = 10_000;

/// Tensors and metadata of the JSON; byte positions count from the end of the header.
#[derive(Default)]
struct Header {
    tensors: Tensors,
    metadata: Metadata,
}

#[derive(serde::Deserialize)]
struct Described {
    dtype: Dtype,
    shape: Few<Vec<usize>>,
    data_offsets: (usize, usize),
}

/// A list or a map, refused as soon as it is too long.
struct Few<T>(T);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata =
                            map.next_value::<Option<Few<_>>>()?.map_or_else(Metadata::new, |few| few.0);
                        continue;
                    }
                    let Described { dtype, shape: Few(shape), data_offsets: (start, end) } =
                        map.next_value()?;
                    let info = TensorInfo { shape, dtype, bytes: start..end, strides: None };
                    if header.tensors.contains_key(&*name) {
                        return Err(A::Error::custom(format_args!("it names '{name}' twice")));
                    }
                    take_in(&mut header.tensors, &name, info).map_err(A::Error::custom)?;
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Few<Vec<usize>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Extents;
        impl<'de> Visitor<'de> for Extents {
            type Value = Vec<usize>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MOST_AXES} extents")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<usize>, A::Error> {
                let mut extents = Vec::new();
                while let Some(extent) = list.next_element()? {
                    if extents.len() == MOST_AXES {
                        return Err(A::Error::invalid_length(MOST_AXES + 1, &self));
                    }
                    extents.push(extent);
                }
                Ok(extents)
            }
        }
        deserializer.deserialize_seq(Extents).map(Few)
    }
}

impl<'de> Deserialize<'de> for Few<Metadata> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MOST_METADATA} texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut texts = Metadata::new();
                while let Some((key, text)) = map.next_entry()? {
                    if texts.len() == MOST_METADATA {
                        return Err(A::Error::invalid_length(MOST_METADATA + 1, &self));
                    }
                    texts.insert(key, text);
                }
                Ok(texts)
            }
        }
        deserializer.deserialize_map(Texts).map(Few)
    }
}

/// Tensors and metadata of a file.
///
/// # Errors
/// A sentence naming the problem.
pub(super) fn read(map: &[u8]) -> Result<(Tensors, Metadata), String> {
    let length = map.first_chunk().map(|n| u64::from_le_bytes(*n)).and_then(|n| usize::try_from(n).ok());
    let length = length.filter(|_| map.get(8) == Some(&b'{')).ok_or_else(|| not_safetensors(map))?;
    if length > MOST_BYTES {
        return Err(format!(
            "its header has {length} bytes, more than the {MOST_BYTES} that the format allows"
        ));
    }
    let json =
        map.get(8..8 + length).ok_or("the file is truncated inside its header; copy or download it again")?;
    let Header { mut tensors, metadata } = serde_json::from_slice(json)
        .map_err(|e| format!("the header cannot be understood ({e}); the file is damaged"))?;
    let mut order: Vec<(&String, &TensorInfo)> = tensors.iter().collect();
    order.sort_by_key(|(_, info)| (info.bytes.start, info.bytes.end));
    let mut end = 0;
    for (name, info) in &order {
        let bytes = &info.bytes;
        if bytes.start != end || bytes.end < bytes.start {
            return Err(format!(
                "tensor '{name}' (bytes {} to {}) overlaps another tensor or leaves a gap; the file is damaged",
                bytes.start, bytes.end
            ));
        }
        let count = info.shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let bits = count.and_then(|n| n.checked_mul(info.dtype.bitsize()));
        if bits.is_none_or(|bits| !bits.is_multiple_of(8) || bits / 8 != bytes.len()) {
            return Err(format!(
                "tensor '{name}': shape {} of {} does not fit its bytes {}; the file is damaged",
                json!(info.shape),
                info.dtype,
                json!([bytes.start, bytes.end])
            ));
        }
        end = bytes.end;
    }
    let (start, found) = (8 + length, map.len() - 8 - length);
    if found > end {
        return Err(format!("{} bytes lie behind the last tensor; the file is damaged", found - end));
    }
    if let Some((name, _)) = order.iter().find(|(_, info)| info.bytes.end > found) {
        return Err(format!(
            "the file is truncated: {} bytes expected, {} found, tensor '{name}' is incomplete; copy or download it again",
            start.saturating_add(end),
            map.len()
        ));
    }
    for info in tensors.values_mut() {
        info.bytes = start + info.bytes.start..start + info.bytes.end;
    }
    Ok((tensors, metadata))
}

fn not_safetensors(map: &[u8]) -> String {
    let kind = match map {
        [0x89, b'H', b'D', b'F', ..] => {
            "it looks like Keras' HDF5 (.h5), which Defrost does not read: save the same network from timm or \
             torchvision, or rename its tensors in Python and save them with safetensors.numpy.save_file"
        }
        [b'<', ..] => "it looks like a web page: the download went wrong",
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "it looks like a Git LFS pointer: fetch the file itself with git lfs pull"
        }
        _ => "its first bytes are no safetensors header",
    };
    format!("not a safetensors file: {kind}")
}
