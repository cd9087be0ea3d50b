//! Files of tensors: reads safetensors and PyTorch's own files, writes safetensors.
//!
//! Files come from anywhere, so every number in them is checked: a damaged file is refused with an error that names
//! the file, the tensor, the expected and the found value. A file is written under a temporary name in the same
//! folder and then renamed, so that a full disk or a crash leaves the old file as it was.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};

use super::contents::{Contents, Metadata, TensorInfo, first_of};
use super::state_dict::is_usual;
use super::{header, pytorch, wrapper};
use crate::{Error, Result};

/// An open file of tensors, safetensors or PyTorch's; each tensor is read on request.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: memmap2::Mmap,
    metadata: Metadata,
    contents: Contents,
    prefix: String,
}

impl TensorFile {
    /// Maps a file and checks its header. Prefixes that wrappers put before all names (`module.`, `_orig_mod.`) are
    /// removed, except in files written by Defrost, whose names are the network's own.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::Weights`] where it is no valid file of tensors, or one that
    /// would call functions of Python.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let mut file = Self::open_as_it_is(path)?;
        if !file.metadata.contains_key("defrost") {
            file.prefix = wrapper::unwrap(&mut file.contents.tensors);
        }
        Ok(file)
    }

    /// The same, with all names as they are in the file.
    fn open_as_it_is(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let read = |e| Error::io(&path, "read", e);
        let found = std::fs::metadata(&path).map_err(read)?;
        if found.is_dir() {
            return Err(read(io::ErrorKind::IsADirectory.into()));
        }
        let wrong = |what: String| Error::Weights(format!("{}: {what}", path.display()));
        // Opening a pipe would wait for its writer.
        if !found.is_file() {
            return Err(wrong("it is not a regular file; copy its contents into one".into()));
        }
        if found.len() == 0 {
            return Err(wrong("the file is empty".into()));
        }
        let file = File::open(&path).map_err(read)?;
        // SAFETY: the map is only read, and every number in it is checked before use. If another
        // process shortens the file meanwhile, the system ends this one: no wrong data is seen.
        #[allow(unsafe_code)]
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(read)?;
        let (contents, metadata) = match pytorch::is_pytorch(&map) {
            true => (pytorch::contents(&map).map_err(wrong)?, Metadata::new()),
            false => {
                let (tensors, metadata) = header::read(&map).map_err(wrong)?;
                (Contents { tensors, ..Contents::default() }, metadata)
            }
        };
        Ok(TensorFile { path, map, metadata, contents, prefix: String::new() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.contents.tensors
    }

    /// The prefix that was removed from all names: `module._orig_mod.`; empty where there was none.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Parts of a checkpoint that are not among the tensors: the optimizer's state, a second network, tensors of a
    /// type that cannot be read. Their place, and the number of tensors.
    pub fn left_out(&self) -> &[(String, usize)] {
        &self.contents.left_out
    }

    /// Names the chosen network, where a checkpoint holds several.
    pub(crate) fn choice(&self) -> Option<String> {
        let others =
            self.left_out().iter().filter(|(key, _)| is_usual(key)).map(|(key, _)| format!("'{key}'"));
        let others: Vec<String> = others.collect();
        (!others.is_empty()).then(|| {
            let (path, others) = (self.path.display(), others.join(" or "));
            format!("{path}: the network under '{}' is taken, not that under {others}", self.contents.under)
        })
    }

    /// Lists the parts of a checkpoint that are not among the tensors.
    pub(crate) fn beside(&self) -> Option<String> {
        let named = |(key, count): &(String, usize)| match count {
            1 => key.clone(),
            _ => format!("{key} ({count})"),
        };
        let beside: Vec<String> = self.left_out().iter().map(named).collect();
        let others = match self.left_out().iter().map(|(_, count)| count).sum() {
            0 => return None,
            1 => "1 other tensor is".into(),
            count => format!("{count} other tensors are"),
        };
        let (path, under) = (self.path.display(), &self.contents.under);
        let taken =
            if under.is_empty() { "" } else { &format!("the network under '{under}' is taken, and ") };
        Some(format!("{path}: {taken}{others} left out: {}", first_of(&beside)))
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// An error about a tensor of this file.
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::Weights(format!("{}: {message}", self.path.display()))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors().get(name).ok_or_else(|| self.error(format!("tensor '{name}' is missing")))
    }

    /// A tensor of numbers, widened to f32.
    ///
    /// # Errors
    /// [`Error::Weights`] where it is missing, of another type, or holds NaN or infinity.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let info = self.info(name)?;
        let bytes = &self.map[info.bytes.clone()];
        let bytes = match &info.strides {
            None => Cow::Borrowed(bytes),
            Some(strides) => Cow::Owned(gathered(bytes, info.dtype.bitsize() / 8, &info.shape, strides)),
        };
        let numbers: Vec<f32> = match info.dtype {
            Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => {
                let halves = bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b));
                halves.collect::<Vec<f16>>().to_f32_vec()
            }
            Dtype::BF16 => {
                let halves = bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b));
                halves.collect::<Vec<bf16>>().to_f32_vec()
            }
            other => {
                return Err(self.error(format!(
                    "tensor '{name}' is of type {other}; F64, F32, F16 and BF16 can be read"
                )));
            }
        };
        // The sum is zero unless a number is not finite: this form is vectorised.
        if numbers.iter().fold(0.0, |sum, x| sum + x * 0.0) != 0.0 {
            let bad = numbers.iter().filter(|x| !x.is_finite()).count();
            let first = numbers.iter().position(|x| !x.is_finite()).unwrap_or(0);
            return Err(self.error(format!(
                "tensor '{name}' holds {bad} numbers that are NaN or infinite, the first at {first}; \
                 the file is damaged or its training diverged"
            )));
        }
        Ok(numbers)
    }

    /// A scalar integer, such as `num_batches_tracked`; none where it is not one.
    pub fn read_i64(&self, name: &str) -> Option<i64> {
        let info = self.tensors().get(name).filter(|i| i.dtype == Dtype::I64)?;
        let bytes: [u8; 8] = self.map[info.bytes.clone()].try_into().ok()?;
        Some(i64::from_le_bytes(bytes))
    }
}

/// Elements of `size` bytes with `strides`, as contiguous rows.
fn gathered(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(shape.iter().product::<usize>() * size);
    let mut at = vec![0; shape.len()];
    loop {
        let from: usize = at.iter().zip(strides).map(|(i, stride)| i * stride).sum();
        out.extend_from_slice(&bytes[from * size..][..size]);
        // The next position, the last axis fastest.
        let Some(axis) = (0..shape.len()).rev().find(|&axis| at[axis] + 1 < shape[axis]) else { return out };
        at[axis] += 1;
        at[axis + 1..].fill(0);
    }
}

/// A tensor to be saved.
#[derive(Debug, Clone, Copy)]
pub enum SavedTensor<'a> {
    /// Numbers and their extents.
    F32(&'a [usize], &'a [f32]),
    /// The same, rounded to f16.
    F16(&'a [usize], &'a [f32]),
    /// A scalar integer.
    I64(i64),
}

/// Writes a safetensors file atomically. The same content always gives the same bytes: tensors lie
/// by type, then by name, and metadata by key. `{"format": "pt"}` is added for Python's loaders.
///
/// # Errors
/// [`Error::Io`] naming the file, [`Error::Weights`] naming a tensor that half precision cannot hold; an existing
/// file is then untouched.
pub fn save_tensors(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, SavedTensor<'_>>,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    for (name, tensor) in tensors {
        let SavedTensor::F16(_, data) = tensor else { continue };
        if let Some(wide) = data.iter().find(|x| x.is_finite() && f16::from_f32(**x).is_infinite()) {
            return Err(Error::Weights(format!(
                "tensor '{name}' holds {wide}, and half precision ends at 65504; write single precision, without `half`"
            )));
        }
    }
    let mut header = Map::new();
    let mut about: BTreeMap<&str, &str> = metadata.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    about.insert("format", "pt");
    header.insert("__metadata__".into(), json!(about));
    // Eight-byte numbers first, so that everything is aligned.
    let mut order: Vec<(&String, &SavedTensor<'_>)> = tensors.iter().collect();
    order.sort_by_key(|(_, t)| match t {
        SavedTensor::I64(_) => 0,
        SavedTensor::F32(..) => 1,
        SavedTensor::F16(..) => 2,
    });
    let mut end = 0;
    for (name, tensor) in &order {
        let (dtype, shape, bytes) = match tensor {
            SavedTensor::F32(shape, data) => ("F32", *shape, data.len() * 4),
            SavedTensor::F16(shape, data) => ("F16", *shape, data.len() * 2),
            SavedTensor::I64(_) => ("I64", &[][..], 8),
        };
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes] });
        header.insert((*name).clone(), info);
        end += bytes;
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut block = Vec::with_capacity(1 << 16);
        for (_, tensor) in &order {
            match tensor {
                SavedTensor::I64(number) => out.write_all(&number.to_le_bytes())?,
                SavedTensor::F32(_, data) => {
                    for numbers in data.chunks(1 << 14) {
                        block.clear();
                        block.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
                        out.write_all(&block)?;
                    }
                }
                SavedTensor::F16(_, data) => {
                    for numbers in data.chunks(1 << 14) {
                        block.clear();
                        block.extend(numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
                        out.write_all(&block)?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// Writes a file whole or not at all: into a temporary file in the same folder, to the disk, and then renamed over an
/// existing file.
///
/// # Errors
/// [`Error::Io`] naming `path`; an existing file is then untouched.
pub fn write_atomically(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let failed = |e| Error::io(path, "write", e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (mut file, temporary) = Temporary::create(folder).map_err(failed)?;
    let mut out = BufWriter::with_capacity(1 << 16, &mut file);
    write(&mut out).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    file.sync_all().map_err(failed)?;
    // A system that locks open files would not rename it.
    drop(file);
    temporary.persist(path).map_err(failed)?;
    // The rename itself is on the disk when the folder is.
    #[cfg(unix)]
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed)?;
    Ok(())
}

/// What the names of files begin with that are not whole yet.
pub(crate) const TEMPORARY: &str = ".defrost-";

/// A file that is removed unless it is renamed.
struct Temporary(PathBuf);

impl Temporary {
    /// A new file of this process in a folder.
    fn create(folder: &Path) -> io::Result<(File, Self)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{TEMPORARY}{}-{count}", std::process::id()));
            match File::create_new(&path) {
                Ok(file) => return Ok((file, Temporary(path))),
                // Left behind by a process of this number that was killed, or one in another container.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn persist(self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, path)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Tensors of a file by name, with their shapes, and the file's metadata.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorMap {
    /// Shape and numbers of each tensor.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// The metadata of the file.
    pub metadata: BTreeMap<String, String>,
}

/// Reads all tensors of a file under the names of the file: optimizer state, cached features.
///
/// # Errors
/// As for [`TensorFile::open`] and [`TensorFile::read_f32`].
pub fn load_tensors(path: impl AsRef<Path>) -> Result<TensorMap> {
    let file = TensorFile::open_as_it_is(path)?;
    let mut tensors = BTreeMap::new();
    for (name, info) in file.tensors() {
        tensors.insert(name.clone(), (info.shape.clone(), file.read_f32(name)?));
    }
    Ok(TensorMap { tensors, metadata: file.metadata })
}

/// The result of loading a weight file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// Tensors that were loaded, running statistics included.
    pub loaded: usize,
    /// Tensors of the head that were missing or of another size, and will be replaced.
    pub skipped_head: Vec<String>,
    /// Tensors of the file that are not used: batch counters of layers that have none here.
    pub ignored: Vec<String>,
    /// Whether the names were timm's.
    pub timm: bool,
    /// Warnings: values of timm's `config.json` that are not used, a second network in the file.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temp", "create", e))?;
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, b"old").map_err(|e| Error::io(&path, "write", e))?;
        let outcome = write_atomically(&path, |out| {
            out.write_all(b"half of the new one")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        let message = outcome.expect_err("must fail").to_string();
        assert!(message.contains("model.safetensors"), "{message}");
        assert_eq!(std::fs::read(&path).map_err(|e| Error::io(&path, "read", e))?, b"old");
        let left = std::fs::read_dir(folder.path()).map_err(|e| Error::io(&path, "list", e))?.count();
        assert_eq!(left, 1, "no temporary file stays behind");
        Ok(())
    }

    #[test]
    fn what_is_saved_is_loaded() -> Result<()> {
        let folder = tempfile::tempdir().map_err(|e| Error::io("temp", "create", e))?;
        let path = folder.path().join("state.safetensors");
        let numbers = [1.5, -0.0, f32::MIN_POSITIVE / 2.0, 3.0e38, 0.1, 7.0];
        let tensors = BTreeMap::from([
            ("a.momentum".to_string(), SavedTensor::F32(&[2, 3], &numbers)),
            ("empty".to_string(), SavedTensor::F32(&[0], &[])),
        ]);
        save_tensors(&path, &tensors, &BTreeMap::from([("step".into(), "12".into())]))?;
        let read = load_tensors(&path)?;
        assert_eq!(read.metadata["step"], "12");
        assert_eq!(read.metadata["format"], "pt");
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        assert_eq!(read.tensors["a.momentum"].0, [2, 3]);
        assert_eq!(bits(&read.tensors["a.momentum"].1), bits(&numbers));
        Ok(())
    }
}
