//! The binary files of CIFAR-10 and CIFAR-100 (<https://www.cs.toronto.edu/~kriz/cifar.html>).
//!
//! A record is a label byte (CIFAR-100: coarse, then fine label, of which the fine one counts) and 3072 bytes of a
//! image of 32 x 32 pixels: red, green and blue planes. Names of the classes lie beside them, a line each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::{Dataset, Sample, Source};
use super::folder::name_of;
use super::records::{Planes, Records};
use crate::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// The CIFAR files of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CifarFiles {
    /// `data_batch_*.bin`, or `train.bin`.
    pub train: Vec<PathBuf>,
    /// `test_batch.bin`, or `test.bin`.
    pub test: Option<PathBuf>,
    /// `batches.meta.txt`, or `fine_label_names.txt`.
    pub names: Option<PathBuf>,
    /// 10 or 100.
    pub classes: usize,
}

impl CifarFiles {
    /// A warning if training files are missing.
    pub(crate) fn missing(&self) -> Option<String> {
        let first = self.train.first().filter(|_| self.classes == 10 && self.train.len() != 5)?;
        let folder = first.parent().unwrap_or(Path::new("")).display();
        Some(format!("{folder}: {} of CIFAR-10's five files data_batch_*.bin", self.train.len()))
    }

    /// Bytes before the pixels; the last of them is the label.
    fn before(&self) -> usize {
        if self.classes == 10 { 1 } else { 2 }
    }
}

/// The CIFAR files among `files` (of one folder), if there are any.
///
/// # Errors
/// [`Error::Data`] for files of both kinds.
pub fn find(files: &[PathBuf]) -> Result<Option<CifarFiles>> {
    let named = |wanted: &str| files.iter().find(|f| name_of(f) == wanted).cloned();
    let is_batch = |f: &&PathBuf| {
        let number =
            name_of(f).strip_prefix("data_batch_").and_then(|n| n.strip_suffix(".bin")?.parse::<u8>().ok());
        number.is_some()
    };
    let ten = CifarFiles {
        train: files.iter().filter(is_batch).cloned().collect(),
        test: named("test_batch.bin"),
        names: named("batches.meta.txt"),
        classes: 10,
    };
    let hundred = CifarFiles {
        train: named("train.bin").into_iter().collect(),
        test: named("test.bin"),
        names: named("fine_label_names.txt"),
        classes: 100,
    };
    let is_there = |found: &CifarFiles| !found.train.is_empty() || found.test.is_some();
    match (is_there(&ten), is_there(&hundred)) {
        (true, true) => Err(Error::Data(format!(
            "{}: CIFAR-10 and CIFAR-100 in one folder; give each its own",
            files[0].parent().unwrap_or(Path::new("")).display()
        ))),
        (true, false) => Ok(Some(ten)),
        (false, true) => Ok(Some(hundred)),
        (false, false) => Ok(None),
    }
}

/// Training images and test images; where there are only test files, they are returned as the training images.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] for a file of another length, a label beyond the classes, too few names.
pub fn read(files: &CifarFiles) -> Result<(Dataset, Option<Dataset>)> {
    let classes = match &files.names {
        Some(path) => read_names(path, files.classes)?,
        None => (0..files.classes).map(|class| class.to_string()).collect(),
    };
    let part = |paths: &[PathBuf]| {
        let mut part = Dataset { classes: classes.clone(), ..Dataset::default() };
        for path in paths {
            read_records(path, files, &mut part.samples)?;
        }
        Ok::<_, Error>(part)
    };
    let test = files.test.as_ref().map(|path| part(std::slice::from_ref(path))).transpose()?;
    match test {
        Some(test) if files.train.is_empty() => Ok((test, None)),
        test => Ok((part(&files.train)?, test)),
    }
}

fn read_names(path: &Path, classes: usize) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() != classes {
        return Err(Error::Data(format!(
            "{}: {} names where {classes} belong, one a line; mend it, or take it away to call the classes by number",
            path.display(),
            names.len()
        )));
    }
    Ok(names)
}

fn read_records(path: &Path, files: &CifarFiles, samples: &mut Vec<Sample>) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let (before, record) = (files.before(), files.before() + PIXELS);
    if bytes.is_empty() || bytes.len() % record != 0 {
        return Err(Error::Data(format!(
            "{}: {} bytes, no multiple of {record} as the records of CIFAR-{} have; fetch the file again (the binary \
             version)",
            path.display(),
            bytes.len(),
            files.classes
        )));
    }
    let labels: Vec<u8> = bytes.chunks_exact(record).map(|record| record[before - 1]).collect();
    if let Some(at) = labels.iter().position(|&label| usize::from(label) >= files.classes) {
        return Err(Error::Data(format!(
            "{}: image {at} has label {}, but there are {} classes, 0 to {}; fetch the file again",
            path.display(),
            labels[at],
            files.classes,
            files.classes - 1
        )));
    }
    let records = Arc::new(Records::new(path, (SIDE, SIDE), Planes::Rgb, before, bytes));
    samples.extend(labels.into_iter().enumerate().map(|(index, label)| {
        Sample::new(Source::Record { records: Arc::clone(&records), index }, u32::from(label))
    }));
    Ok(())
}
