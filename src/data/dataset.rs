//! A labelled set of images, on disk or in memory.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::decode::{Image, load, load_and};
use super::records::Records;
use super::scenes::Scenes;
use super::target::{Target, TargetKind};
use crate::{Error, Result};

/// The source of an image.
#[derive(Debug, Clone)]
pub enum Source {
    /// An image file. Files of one folder share its path, which saves memory for a million files.
    File {
        /// Folder of the file.
        folder: Arc<Path>,
        /// Name of the file in its folder.
        name: Box<OsStr>,
    },
    /// An image in a file of many images.
    Record {
        /// All images of the file, held in memory.
        records: Arc<Records>,
        /// Index of the image.
        index: usize,
    },
    /// An image that Defrost draws itself.
    Drawn {
        /// The set of classes.
        scenes: Scenes,
        /// Seed of the set.
        seed: u64,
        /// Class of the image.
        class: u32,
        /// Number of the image within its class.
        number: u32,
        /// Width and height, pixels.
        side: u32,
    },
}

impl Source {
    /// An image file.
    pub fn file(path: impl AsRef<Path>) -> Source {
        let (folder, name) = divide(path.as_ref());
        Source::File { folder: folder.into(), name }
    }

    /// Sources of image files in this order; neighbours in one folder share its path.
    pub(crate) fn files(paths: impl IntoIterator<Item = PathBuf>) -> impl Iterator<Item = Source> {
        let mut shared: Option<Arc<Path>> = None;
        paths.into_iter().map(move |path| {
            let (folder, name) = divide(&path);
            let folder = shared.take().filter(|last| **last == *folder).unwrap_or_else(|| folder.into());
            shared = Some(Arc::clone(&folder));
            Source::File { folder, name }
        })
    }
}

/// Splits a path into folder and name.
fn divide(path: &Path) -> (&Path, Box<OsStr>) {
    match path.file_name() {
        Some(name) => (path.parent().unwrap_or(Path::new("")), name.into()),
        None => (path, OsStr::new("").into()),
    }
}

/// One image and its target.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The image's source.
    pub source: Source,
    /// The image's target.
    pub target: Target,
}

impl Sample {
    /// An image of one class.
    pub fn new(source: Source, class: u32) -> Self {
        Sample { source, target: Target::Class(class) }
    }

    /// Name of the image for messages: its path, or `file#index` for an image in an IDX file.
    pub fn name(&self) -> PathBuf {
        match &self.source {
            Source::File { folder, name } => folder.join(&**name),
            Source::Record { records, index } => format!("{}#{index}", records.path().display()).into(),
            Source::Drawn { class, number, .. } => format!("drawn {class}#{number}").into(),
        }
    }

    /// The decoded image.
    ///
    /// # Errors
    /// As [`load`].
    pub fn image(&self) -> Result<Image> {
        match &self.source {
            Source::File { folder, name } => load(&folder.join(&**name)),
            Source::Record { records, index } => Ok(records.image(*index)),
            Source::Drawn { scenes, seed, class, number, side } => {
                Ok(scenes.draw(*seed, *class as usize, *number, *side as usize))
            }
        }
    }

    /// The decoded image and its [`content_key`], reading the file once.
    ///
    /// # Errors
    /// As [`load`].
    pub fn image_and_key(&self) -> Result<(Image, [u8; 32])> {
        match &self.source {
            Source::File { folder, name } => {
                load_and(&folder.join(&**name), |bytes| Sha256::digest(bytes).into())
            }
            Source::Record { records, index } => Ok((records.image(*index), records.key(*index))),
            Source::Drawn { .. } => {
                let image = self.image()?;
                let key = image_key(&image);
                Ok((image, key))
            }
        }
    }
}

/// The key of an image that has no file.
fn image_key(image: &Image) -> [u8; 32] {
    let size = format!("drawn {} x {}:", image.width, image.height);
    Sha256::new().chain_update(size).chain_update(&image.rgb).finalize().into()
}

/// SHA-256 of the image's content: a file's bytes, or kind, size and pixels of a record. The key identifies the image
/// in the feature cache: the features of a changed file are computed again, and those of a moved file are found
/// again.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read.
pub fn content_key(sample: &Sample) -> Result<[u8; 32]> {
    match &sample.source {
        Source::File { folder, name } => {
            let path = folder.join(&**name);
            let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read", e))?;
            Ok(Sha256::digest(&bytes).into())
        }
        Source::Record { records, index } => Ok(records.key(*index)),
        Source::Drawn { .. } => Ok(image_key(&sample.image()?)),
    }
}

/// A file that was skipped, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The reason, for people.
    pub reason: String,
}

impl Skipped {
    pub(crate) fn new(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Skipped { path: path.into(), reason: reason.into() }
    }

    /// From an error about `path`, whose message begins with that path.
    pub(crate) fn from_error(path: &Path, error: &Error) -> Self {
        let text = error.to_string();
        let reason = text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text);
        Skipped::new(path, reason)
    }
}

/// Images with their targets.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// Form of the images' targets.
    pub targets: TargetKind,
    /// Class names; a sample's label is an index into them. They are sorted by code point, as by Python's `sorted()`
    /// and torchvision: `1, 10, 2`, and capitals before small letters. For [`TargetKind::Values`] the names of the
    /// values, in the order in which they were requested.
    pub classes: Vec<String>,
    /// The images: from folders class by class, within a class by path; from a table by its lines.
    pub samples: Vec<Sample>,
    /// Skipped files.
    pub skipped: Vec<Skipped>,
}

impl Dataset {
    /// Image files without labels: all of one class, `images`.
    pub fn unlabelled(files: Vec<PathBuf>) -> Dataset {
        let samples = files.into_iter().map(|file| Sample::new(Source::file(file), 0)).collect();
        Dataset { classes: vec!["images".into()], samples, ..Dataset::default() }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// An empty set with the same targets' form and classes.
    pub(crate) fn like(&self) -> Dataset {
        Dataset { targets: self.targets, classes: self.classes.clone(), ..Dataset::default() }
    }

    /// Number of images of each class, in class order. An image of several classes counts for each of them; for
    /// [`TargetKind::Values`] every image counts for each value.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for sample in &self.samples {
            sample.target.classes().for_each(|class| counts[class] += 1);
        }
        counts
    }

    /// Decodes every image once, on all cores, and moves those that fail into `skipped`.
    /// `on_progress(done, total)` is called after each image, from many threads.
    ///
    /// # Errors
    /// [`Error::Data`] when a class that had images has none left.
    pub fn verify(self, on_progress: impl Fn(usize, usize) + Sync) -> Result<Dataset> {
        self.verify_with_keys(on_progress).map(|(dataset, _)| dataset)
    }

    /// As [`Dataset::verify`]; also returns the [`content_key`] of each remaining image.
    ///
    /// # Errors
    /// As for [`Dataset::verify`].
    pub fn verify_with_keys(
        mut self,
        on_progress: impl Fn(usize, usize) + Sync,
    ) -> Result<(Dataset, Vec<[u8; 32]>)> {
        let (before, total, done) = (self.counts(), self.len(), AtomicUsize::new(0));
        let outcomes: Vec<Result<(Sample, [u8; 32]), Skipped>> = std::mem::take(&mut self.samples)
            .into_par_iter()
            .map(|sample| {
                let outcome = sample.image_and_key();
                on_progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
                match outcome {
                    Ok((_, key)) => Ok((sample, key)),
                    Err(error) => Err(Skipped::from_error(&sample.name(), &error)),
                }
            })
            .collect();
        let mut keys = Vec::with_capacity(total);
        for outcome in outcomes {
            match outcome {
                Ok((sample, key)) => {
                    self.samples.push(sample);
                    keys.push(key);
                }
                Err(skipped) => self.skipped.push(skipped),
            }
        }
        for ((class, before), after) in self.classes.iter().zip(before).zip(self.counts()) {
            if before > 0 && after == 0 {
                let example = self.skipped.last().map_or(String::new(), |s| {
                    format!(" (the last one met: {}: {})", s.path.display(), s.reason)
                });
                return Err(Error::Data(format!(
                    "class '{class}': none of its {before} images can be read{example}; replace them or remove the class"
                )));
            }
        }
        Ok((self, keys))
    }
}
