//! PyTorch's own files (`.pth`, `.pt`): the zip archives that `torch.save` writes since 1.6, and the stream of
//! pickles that it wrote before. Tensors are located in the mapped file; nothing is copied and no function is called.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;

use safetensors::tensor::Dtype;

use super::contents::{Contents, TensorInfo, shortened, take_in};
use super::pickle::{Machine, Tensor, Value};
use super::state_dict::Found;

type Outcome<T> = Result<T, String>;

/// Bytes of tensors allowed for each byte of the file. With strides of 0, and where tensors share a storage, tensors
/// have more bytes than the file stores. Small files may have [`LEAST`].
const MOST_SHARED: usize = 8;
const LEAST: usize = 64 << 20;

/// Whether a file is a PyTorch file.
pub(super) fn is_pytorch(map: &[u8]) -> bool {
    map.starts_with(b"PK\x03\x04") || matches!(map, [0x80, 2..=5, ..])
}

/// The tensors of a file.
///
/// # Errors
/// A sentence naming the problem.
pub(super) fn contents(map: &[u8]) -> Outcome<Contents> {
    if map.starts_with(b"PK") { archive(map) } else { stream(map) }
}

#[cfg(not(feature = "pth"))]
fn archive(_: &[u8]) -> Outcome<Contents> {
    Err("it is an archive of PyTorch's, which this program was built without (feature `pth`); save the weights as \
         safetensors"
        .into())
}

/// A zip archive: `NAME/data.pkl`, `NAME/data/KEY`.
#[cfg(feature = "pth")]
fn archive(map: &[u8]) -> Outcome<Contents> {
    use zip::read::{ArchiveOffset, Config, ZipArchive};
    let damaged = |e: zip::result::ZipError| {
        format!(
            "it begins like a PyTorch checkpoint, but is damaged or truncated ({e}); copy or download it again"
        )
    };
    // The archive begins at the start of the file. Without this, the crate searches for its beginning. Where the
    // archive's name has 21 letters, the crate then takes the second entry of the directory for the first, since the
    // first has the 76 bytes of the ZIP64 records that torch.save always writes.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, Cursor::new(map)).map_err(damaged)?;
    let mut entries: HashMap<String, Range<usize>> = HashMap::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        // The folder is named after the file at the time of saving.
        let path = entry.name().map_err(damaged)?.into_owned();
        let Some((_, name)) = path.split_once('/') else { continue };
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(format!("'{name}' in it is compressed, which torch.save never does"));
        }
        let start = entry.data_start().and_then(|at| usize::try_from(at).ok());
        let range =
            start.and_then(|start| Some(start..start.checked_add(usize::try_from(entry.size()).ok()?)?));
        let range = range.filter(|range| map.get(range.clone()).is_some());
        let range = range.ok_or_else(|| format!("'{name}' in it lies outside the file"))?;
        if entries.insert(name.to_string(), range).is_some() {
            return Err(format!("'{name}' is in it twice"));
        }
    }
    if entries.get("byteorder").is_some_and(|order| &map[order.clone()] != b"little") {
        return Err("its numbers have the big end first; save it again on the machine that wrote it".into());
    }
    let Some(pickle) = entries.get("data.pkl") else {
        return Err(
            "there is no data.pkl in the archive: it is no checkpoint of PyTorch's (a TorchScript model \
                    is none: save model.state_dict())"
                .into(),
        );
    };
    let mut machine = Machine::default();
    let (top, _) = machine.run(&map[pickle.clone()])?;
    collect(&machine, top, map.len(), |key| entries.get(&format!("data/{key}")).cloned())
}

/// The form before 1.6: magic number, version, machine, contents, keys of the storages; then each storage after its
/// number of elements.
fn stream(map: &[u8]) -> Outcome<Contents> {
    let (mut machine, mut at) = (Machine::default(), 0);
    let mut values = [Value::Other; 5];
    for value in &mut values {
        let (found, length) = machine.run(map.get(at..).unwrap_or_default())?;
        (*value, at) = (found, at + length);
    }
    let [.., top, keys] = values;
    let Value::List(_) = keys else { return Err("its list of storages is missing".into()) };
    // The size of an element is known only from the tensors that use the storage.
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for storage in &machine.storages {
        sizes.insert(storage.key, element(storage.kind)?.1);
    }
    let mut storages: HashMap<&str, Range<usize>> = HashMap::new();
    for key in machine.items(keys) {
        let Value::Text(key) = key else { return Err("a storage has no name".into()) };
        let count = map.get(at..).and_then(<[u8]>::first_chunk).map(|n| u64::from_le_bytes(*n));
        let count = count.and_then(|n| usize::try_from(n).ok()).ok_or("the file is truncated")?;
        let Some(&size) = sizes.get(key) else {
            return Err(format!(
                "its storage '{}' belongs to no tensor, so its size is unknown",
                shortened(key)
            ));
        };
        let end = count.checked_mul(size).and_then(|bytes| (at + 8).checked_add(bytes));
        let range = end.map(|end| at + 8..end).filter(|range| map.get(range.clone()).is_some());
        let range = range.ok_or("the file is truncated")?;
        at = range.end;
        storages.insert(key, range);
    }
    collect(&machine, top, map.len(), |key| storages.get(key).cloned())
}

/// dtype and bytes of the elements of a storage or a type; no dtype for types that only PyTorch knows.
fn element(kind: &str) -> Outcome<(Option<Dtype>, usize)> {
    let dtype = match kind.strip_suffix("Storage").unwrap_or(kind) {
        "Float" | "float32" => Dtype::F32,
        "Double" | "float64" => Dtype::F64,
        "Half" | "float16" => Dtype::F16,
        "BFloat16" | "bfloat16" => Dtype::BF16,
        "Long" | "int64" => Dtype::I64,
        "Int" | "int32" => Dtype::I32,
        "Short" | "int16" => Dtype::I16,
        "Char" | "int8" => Dtype::I8,
        "Byte" | "Untyped" | "uint8" => Dtype::U8,
        "Bool" | "bool" => Dtype::BOOL,
        "ComplexFloat" | "complex64" => Dtype::C64,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e4m3fnuz" => Dtype::F8_E4M3FNUZ,
        "float8_e5m2fnuz" => Dtype::F8_E5M2FNUZ,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        "ComplexDouble" | "complex128" => return Ok((None, 16)),
        "complex32" | "QInt32" | "qint32" => return Ok((None, 4)),
        "QInt8" | "qint8" | "QUInt8" | "quint8" | "QUInt4x2" | "QUInt2x4" => return Ok((None, 1)),
        _ => return Err(format!("it holds numbers of type {kind}, which cannot be read")),
    };
    Ok((Some(dtype), dtype.bitsize() / 8))
}

fn collect(
    machine: &Machine<'_>,
    top: Value<'_>,
    length: usize,
    storage: impl Fn(&str) -> Option<Range<usize>>,
) -> Outcome<Contents> {
    let found = Found::of(machine, top)?;
    let mut contents = Contents { left_out: found.others, under: found.under, ..Contents::default() };
    let mut room = length.saturating_mul(MOST_SHARED).max(LEAST);
    for &(key, value) in &machine.dicts[found.dict] {
        let (Value::Text(name), Value::Tensor(tensor)) = (key, value) else { continue };
        let named = |e: String| format!("tensor '{}': {e}", shortened(name));
        let tensor = machine.tensors[tensor].as_ref().map_err(|e| named(e.clone()))?;
        match element(tensor.kind).map_err(named)? {
            (None, _) => {
                contents.left_out.push((format!("{} of type {}", shortened(name), tensor.kind), 1));
            }
            (Some(dtype), _) => {
                let info = place(tensor, dtype, &storage, &mut room).map_err(named)?;
                take_in(&mut contents.tensors, name, info)?;
            }
        }
    }
    Ok(contents)
}

/// The position of a tensor in the file; its bytes are subtracted from the remaining budget of all tensors.
fn place(
    tensor: &Tensor<'_>,
    dtype: Dtype,
    storage: impl Fn(&str) -> Option<Range<usize>>,
    room: &mut usize,
) -> Outcome<TensorInfo> {
    let (shape, size) = (tensor.shape.clone(), dtype.bitsize() / 8);
    let numel = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
    let Some(left) = numel.and_then(|n| room.checked_sub(n.checked_mul(size)?)) else {
        return Err(format!(
            "its shape {shape:?} asks for far more numbers than the file holds; the file is damaged"
        ));
    };
    *room = left;
    if numel == Some(0) {
        return Ok(TensorInfo { shape, dtype, bytes: 0..0, strides: None });
    }
    let storage = storage(tensor.key).ok_or("its storage is missing; the file is damaged")?;
    let steps = shape.iter().zip(&tensor.strides).map(|(&n, &stride)| (n - 1).checked_mul(stride));
    let reach = steps.into_iter().try_fold(0usize, |sum, step| sum.checked_add(step?));
    let start = tensor.offset.checked_mul(size).and_then(|at| storage.start.checked_add(at));
    let bytes = reach.and_then(|reach| reach.checked_add(1)?.checked_mul(size));
    let range = start.zip(bytes).and_then(|(start, bytes)| Some(start..start.checked_add(bytes)?));
    let bytes = range.filter(|range| range.end <= storage.end).ok_or_else(|| {
        let stored = storage.len() / size;
        format!("its shape {shape:?} reaches beyond its storage of {stored} numbers; the file is damaged")
    })?;
    // Contiguous, as nearly all are; axes of one element may have any stride.
    let mut expected = 1;
    let packed = shape.iter().zip(&tensor.strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n;
        fits
    });
    let strides = (!packed).then(|| tensor.strides.clone());
    Ok(TensorInfo { shape, dtype, bytes, strides })
}
