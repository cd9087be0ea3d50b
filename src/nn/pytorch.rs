//! PyTorch's own files (`.pth`, `.pt`): the zip archives that `torch.save` writes since 1.6, and the stream of
//! pickles that it wrote before. Tensors are found in the mapped file; nothing is copied and nothing is called.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use safetensors::tensor::Dtype;

use super::pickle::{Machine, Tensor, Value};
use super::weights::TensorInfo;

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, TensorInfo>;

type Outcome<T> = Result<T, String>;

/// Keys under which checkpoints hold their state dict.
const NESTED: &[&str] = &["state_dict", "model_state_dict", "model", "module", "net", "state_dict_ema"];

/// Prefixes that wrappers put before every name.
const PREFIXES: &[&str] = &["module.", "_orig_mod.", "model."];

/// Whether a file is one of PyTorch's.
pub(super) fn is_pytorch(map: &[u8]) -> bool {
    map.starts_with(b"PK\x03\x04") || matches!(map, [0x80, 2..=5, ..])
}

/// The tensors of a file.
///
/// # Errors
/// A sentence saying what is wrong with it.
pub(super) fn tensors(map: &[u8]) -> Outcome<Tensors> {
    if map.starts_with(b"PK") { archive(map) } else { stream(map) }
}

/// A zip archive: `NAME/data.pkl`, `NAME/data/KEY`.
fn archive(map: &[u8]) -> Outcome<Tensors> {
    let damaged = |e: zip::result::ZipError| {
        format!(
            "it begins like a PyTorch checkpoint, but is damaged or truncated ({e}); copy or download it again"
        )
    };
    let mut archive = zip::ZipArchive::new(Cursor::new(map)).map_err(damaged)?;
    let mut entries: HashMap<String, Range<usize>> = HashMap::new();
    let mut order = None;
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        // The folder is the file's name when it was saved.
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
        if name == "byteorder" {
            order = map.get(range.clone());
        }
        entries.insert(name.to_string(), range);
    }
    if order.is_some_and(|order| order != b"little") {
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
    collect(&machine, top, |key| entries.get(&format!("data/{key}")).cloned())
}

/// The form before 1.6: magic number, version, machine, contents, keys of the storages; then the storages, each
/// behind its number of elements.
fn stream(map: &[u8]) -> Outcome<Tensors> {
    let (mut machine, mut at) = (Machine::default(), 0);
    let mut next = |machine: &mut Machine| {
        let (value, length) = machine.run(map.get(at..).unwrap_or_default())?;
        at += length;
        Ok::<_, String>((value, at))
    };
    for _ in 0..3 {
        next(&mut machine)?;
    }
    let (top, _) = next(&mut machine)?;
    let (keys, mut at) = next(&mut machine)?;
    let Value::List(keys) = keys else { return Err("its list of storages is missing".into()) };
    // How large an element is stands with those who use the storage.
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for tensor in all_tensors(&machine, &top) {
        sizes.insert(&tensor.key, element(&tensor.kind)?.1);
    }
    let mut storages: HashMap<&str, Range<usize>> = HashMap::new();
    for key in &machine.lists[keys] {
        let Value::Text(key) = key else { return Err("a storage has no name".into()) };
        let count = map.get(at..at + 8).and_then(|n| n.try_into().ok()).map(u64::from_le_bytes);
        let count = count.and_then(|n| usize::try_from(n).ok()).ok_or("the file is truncated")?;
        let Some(&size) = sizes.get(key.as_str()) else {
            return Err(format!("its storage '{key}' belongs to no tensor, so its size is unknown"));
        };
        let end = count.checked_mul(size).and_then(|bytes| (at + 8).checked_add(bytes));
        let range = end.map(|end| at + 8..end).filter(|range| map.get(range.clone()).is_some());
        let range = range.ok_or("the file is truncated")?;
        at = range.end;
        storages.insert(key, range);
    }
    collect(&machine, top.clone(), |key| storages.get(key).cloned())
}

/// Every tensor that can be reached.
fn all_tensors<'a>(machine: &'a Machine, top: &'a Value) -> Vec<&'a Tensor> {
    let mut found = Vec::new();
    let mut open = vec![top];
    let (mut lists, mut dicts) = (vec![false; machine.lists.len()], vec![false; machine.dicts.len()]);
    while let Some(value) = open.pop() {
        match value {
            Value::Tensor(tensor) => found.push(tensor),
            Value::Tuple(items) => open.extend(items),
            Value::List(list) if !std::mem::replace(&mut lists[*list], true) => {
                open.extend(&machine.lists[*list]);
            }
            Value::Dict(dict) if !std::mem::replace(&mut dicts[*dict], true) => {
                open.extend(machine.dicts[*dict].iter().map(|(_, value)| value));
            }
            _ => {}
        }
    }
    found
}

/// The state dict: the value itself, or what lies in it under one of the usual keys.
fn state_dict(machine: &Machine, top: &Value) -> Outcome<usize> {
    let tensors =
        |dict: usize| machine.dicts[dict].iter().filter(|(_, v)| matches!(v, Value::Tensor(_))).count();
    let Value::Dict(mut dict) = *top else {
        return Err("it holds no dictionary of tensors: save model.state_dict()".into());
    };
    for _ in 0..3 {
        if tensors(dict) > 0 {
            return Ok(dict);
        }
        let inner = |wanted: &&str| {
            machine.dicts[dict].iter().find_map(|(key, value)| match (key, value) {
                (Value::Text(key), Value::Dict(inner)) if key == wanted => Some(*inner),
                _ => None,
            })
        };
        let Some(inner) = NESTED.iter().find_map(inner) else { break };
        dict = inner;
    }
    let keys = machine.dicts[dict].iter().filter_map(|(key, _)| match key {
        Value::Text(key) => Some(key.as_str()),
        _ => None,
    });
    let keys: Vec<&str> = keys.take(8).collect();
    Err(format!(
        "no tensors were found in it; its keys are {}. Save model.state_dict(), or a dictionary with it under \
         'state_dict'",
        keys.join(", ")
    ))
}

/// dtype and bytes of a storage's elements.
fn element(kind: &str) -> Outcome<(Dtype, usize)> {
    let name = kind.rsplit('.').next().unwrap_or_default().trim_end_matches("Storage");
    Ok(match name {
        "Float" => (Dtype::F32, 4),
        "Double" => (Dtype::F64, 8),
        "Half" => (Dtype::F16, 2),
        "BFloat16" => (Dtype::BF16, 2),
        "Long" => (Dtype::I64, 8),
        "Int" => (Dtype::I32, 4),
        "Short" => (Dtype::I16, 2),
        "Char" => (Dtype::I8, 1),
        "Byte" => (Dtype::U8, 1),
        "Bool" => (Dtype::BOOL, 1),
        _ => return Err(format!("it holds numbers of type {kind}, which cannot be read")),
    })
}

fn collect(
    machine: &Machine,
    top: Value,
    storage: impl Fn(&str) -> Option<Range<usize>>,
) -> Outcome<Tensors> {
    let mut found = Tensors::new();
    for (key, value) in &machine.dicts[state_dict(machine, &top)?] {
        if let (Value::Text(name), Value::Tensor(tensor)) = (key, value) {
            let range =
                storage(&tensor.key).ok_or_else(|| format!("tensor '{name}': its storage is missing"))?;
            found.insert(name.clone(), place(tensor, range).map_err(|e| format!("tensor '{name}': {e}"))?);
        }
    }
    for prefix in PREFIXES {
        if found.keys().all(|name| name.starts_with(prefix)) {
            found = found.into_iter().map(|(name, info)| (name[prefix.len()..].to_string(), info)).collect();
        }
    }
    Ok(found)
}

/// Where a tensor lies in the file.
fn place(tensor: &Tensor, storage: Range<usize>) -> Outcome<TensorInfo> {
    let (dtype, size) = element(&tensor.kind)?;
    let empty = tensor.shape.contains(&0);
    let steps =
        tensor.shape.iter().zip(&tensor.strides).map(|(&n, &stride)| (n.max(1) - 1).checked_mul(stride));
    let reach = steps.into_iter().try_fold(0usize, |sum, step| sum.checked_add(step?));
    let count = reach.and_then(|reach| reach.checked_add(usize::from(!empty)));
    let start = tensor.offset.checked_mul(size).and_then(|at| storage.start.checked_add(at));
    let end = count.and_then(|n| n.checked_mul(size)).and_then(|bytes| start?.checked_add(bytes));
    let range = start.zip(end).map(|(start, end)| start..end).filter(|range| range.end <= storage.end);
    let bytes = range.ok_or_else(|| {
        format!("shape {:?} reaches beyond its storage of {} numbers", tensor.shape, tensor.stored)
    })?;
    // In rows one behind the other, as nearly all are; axes of one element may have any stride.
    let mut expected = 1;
    let packed = tensor.shape.iter().zip(&tensor.strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n.max(1);
        fits
    });
    let strides = (!packed && !empty).then(|| tensor.strides.clone());
    Ok(TensorInfo { shape: tensor.shape.clone(), dtype, bytes, strides })
}
