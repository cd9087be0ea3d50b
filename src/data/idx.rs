//! The IDX files of MNIST and its kin (<http://yann.lecun.com/exdb/mnist/>), plain or gzipped.
//!
//! Big-endian: magic `00 00 08 D` with D dimensions of unsigned bytes, D sizes of 4 bytes, the bytes.
//! Images are `[count, rows, columns]` of grey levels, labels `[count]`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::{Dataset, Sample, Source};
use super::records::{Planes, Records};
use super::split::Part;
use crate::{Error, Result};

/// More than any known set (EMNIST has 640 MB), and little enough to hold in memory.
const MAX_BYTES: u64 = 4 << 30;

/// A file of images and the file of their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdxPair {
    /// [`Part::Train`] for names starting with `train`, [`Part::Test`] for `t10k` and `test`.
    pub part: Part,
    /// Such as `train-images-idx3-ubyte.gz`.
    pub images: PathBuf,
    /// Such as `train-labels-idx1-ubyte.gz`.
    pub labels: PathBuf,
}

/// The pairs among `files` (of one folder), training first. A file name has `images` before `idx3`;
/// the labels file has the same name with `labels` and `idx1`, and may differ in being gzipped.
///
/// # Errors
/// [`Error::Data`] when images have no labels file, or two files are of the same part.
pub fn find_pairs(files: &[PathBuf]) -> Result<Vec<IdxPair>> {
    let name = |path: &Path| path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    let stem = |path: &Path| name(path).trim_end_matches(".gz").to_string();
    let mut pairs: Vec<IdxPair> = Vec::new();
    for images in files {
        let own = stem(images);
        if !(own.contains("images-idx3") || own.contains("images.idx3")) {
            continue;
        }
        let part = match own.as_str() {
            n if n.starts_with("train") => Part::Train,
            n if n.starts_with("t10k") || n.starts_with("test") => Part::Test,
            _ => continue,
        };
        let wanted = own.replace("images", "labels").replace("idx3", "idx1");
        let labels = files.iter().find(|f| stem(f) == wanted).ok_or_else(|| {
            Error::Data(format!("{}: its labels file {wanted} (or .gz) is missing", images.display()))
        })?;
        if pairs.iter().any(|p| p.part == part) {
            return Err(Error::Data(format!(
                "{}: the folder holds several IDX files for the same part; keep one",
                images.display()
            )));
        }
        pairs.push(IdxPair { part, images: images.clone(), labels: labels.clone() });
    }
    pairs.sort_by_key(|p| p.part);
    Ok(pairs)
}

/// Reads a pair. The classes are the labels' numbers, `"0"` to the greatest present, and at least `"9"`.
///
/// # Errors
/// [`Error::Io`] and [`Error::Data`]: not IDX, too short or too long, unequal counts.
pub fn read_pair(pair: &IdxPair) -> Result<Dataset> {
    let (sizes, grey) = read_idx(&pair.images, 3)?;
    let (counts, labels) = read_idx(&pair.labels, 1)?;
    if sizes[0] != counts[0] {
        return Err(Error::Data(format!(
            "{} holds {} images, but {} holds {} labels",
            pair.images.display(),
            sizes[0],
            pair.labels.display(),
            counts[0]
        )));
    }
    if sizes.contains(&0) {
        return Err(Error::Data(format!("{}: holds no pixels: sizes {sizes:?}", pair.images.display())));
    }
    let records = Arc::new(Records::new(&pair.images, (sizes[2], sizes[1]), Planes::Grey, 0, grey));
    let classes = (0..=labels.iter().copied().max().unwrap_or(0).max(9)).map(|c| c.to_string()).collect();
    let sample = |(index, &label)| {
        Sample::new(Source::Record { records: Arc::clone(&records), index }, u32::from(label))
    };
    Ok(Dataset { classes, samples: labels.iter().enumerate().map(sample).collect(), ..Dataset::default() })
}

/// Sizes and bytes of an IDX file of `dimensions` dimensions.
fn read_idx(path: &Path, dimensions: u8) -> Result<(Vec<usize>, Vec<u8>)> {
    let fail = |source| Error::io(path, "read", source);
    let bad = |reason: String| Error::Data(format!("{}: {reason}", path.display()));
    let mut file = BufReader::new(File::open(path).map_err(fail)?);
    let zipped = file.fill_buf().map_err(fail)?.starts_with(&[0x1F, 0x8B]);
    let mut input: Box<dyn Read> =
        if zipped { Box::new(flate2::bufread::MultiGzDecoder::new(file)) } else { Box::new(file) };

    let mut head = vec![0; 4 + 4 * usize::from(dimensions)];
    input.read_exact(&mut head).map_err(|e| bad(format!("too short for an IDX file ({e})")))?;
    if head[..4] != [0, 0, 8, dimensions] {
        return Err(bad(format!(
            "not an IDX file of bytes in {dimensions} dimensions: it starts with {:02x?}",
            &head[..4]
        )));
    }
    let sizes: Vec<usize> =
        head[4..].chunks_exact(4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let total = sizes
        .iter()
        .try_fold(1u64, |product, &n| product.checked_mul(n as u64))
        .filter(|&n| n <= MAX_BYTES)
        .ok_or_else(|| bad(format!("sizes {sizes:?} are more than {MAX_BYTES} bytes")))?;
    let mut bytes = Vec::new();
    input
        .take(total + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(format!("cannot be read to its end ({e})")))?;
    if bytes.len() as u64 != total {
        let found = if bytes.len() as u64 > total { "more".to_string() } else { bytes.len().to_string() };
        return Err(bad(format!("sizes {sizes:?} announce {total} bytes, the file holds {found}")));
    }
    Ok((sizes, bytes))
}
