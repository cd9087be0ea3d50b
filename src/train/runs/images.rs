//! The images of a run: `images.csv` in its folder. A resumed run continues with the same images, or reports which
//! ones differ.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Sample, Skipped, relative};
use crate::nn::write_atomically;
use crate::{Error, Result};

/// The file's name in the run folder.
const FILE: &str = "images.csv";
/// The two parts of the data, as the file names them.
const PARTS: [&str; 2] = ["train", "val"];

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Image {
    /// `train` or `val`.
    part: String,
    /// Path relative to the data, with `/` between folders.
    file: String,
    /// Names of classes, or numbers, separated by `;`.
    label: String,
    /// The first 16 hexadecimal digits of the SHA-256 of the file; empty where it has not been read.
    sha256: String,
}

/// Training images, then validation images, in the order of their indices in the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Images(Vec<Image>);

/// A trainer's record of its run's images.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The folder that file names are relative to.
    pub(crate) root: PathBuf,
    /// The images that a resumed run began with.
    pub(crate) begun: Option<Images>,
}

impl Images {
    /// The images of a training and a validation set. `contents` holds the content key of each image, or is empty.
    pub(crate) fn of(root: &Path, sets: [&Dataset; 2], contents: [&[[u8; 32]]; 2]) -> Self {
        let mut images = Vec::with_capacity(sets[0].len() + sets[1].len());
        for ((part, set), contents) in PARTS.into_iter().zip(sets).zip(contents) {
            images.extend(
                set.samples.iter().enumerate().map(|(i, sample)| Image {
                    part: part.into(),
                    file: relative(sample, root),
                    label: sample.target.text(&set.classes),
                    sha256: contents
                        .get(i)
                        .map_or(String::new(), |key| crate::train::cache::features::hex(&key[..8])),
                }),
            );
        }
        Images(images)
    }

    /// Reads the images that the run in a folder began with; none where the run had not read its data yet.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`] where the file is damaged.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let damaged =
            |e: csv::Error| Error::Data(format!("{}: damaged: {e}; begin a new run", path.display()));
        let rows = csv::Reader::from_path(&path).map_err(damaged)?.into_deserialize();
        rows.collect::<Result<Vec<Image>, _>>().map(|images| Some(Images(images))).map_err(damaged)
    }

    /// Whether the run in a folder had read its data.
    pub(crate) fn are_in(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        write_atomically(folder.join(FILE), |file| {
            let mut writer = csv::Writer::from_writer(file);
            self.0.iter().try_for_each(|image| writer.serialize(image)).map_err(std::io::Error::other)?;
            writer.flush()
        })
    }

    /// Fails if any of these images is missing from `found`, has changed, or has another label, and lists these
    /// images.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub(crate) fn compare(&self, found: &Images, root: &Path) -> Result<()> {
        let there: HashMap<(&str, &str), &Image> =
            found.0.iter().map(|image| ((&*image.part, &*image.file), image)).collect();
        let (mut gone, mut changed, mut relabelled) = (Vec::new(), Vec::new(), Vec::new());
        for image in &self.0 {
            match there.get(&(&*image.part, &*image.file)) {
                None => gone.push(image),
                Some(now) if now.label != image.label => relabelled.push(image),
                Some(now) if !now.sha256.is_empty() && now.sha256 != image.sha256 => changed.push(image),
                Some(_) => {}
            }
        }
        let tell = |images: &[&Image], one: &str, more: &str| {
            let first = images.first()?;
            let (what, others) = if images.len() == 1 { (one, "") } else { (more, ", ...") };
            Some(format!("{} {what} ({}{others})", images.len(), first.file))
        };
        let told = [
            tell(&gone, "is gone or cannot be read", "are gone or cannot be read"),
            tell(&changed, "holds another image", "hold other images"),
            tell(&relabelled, "has another label", "have other labels"),
        ];
        let told: Vec<String> = told.into_iter().flatten().collect();
        if told.is_empty() {
            return Ok(());
        }
        Err(Error::Data(format!(
            "{}: the images are no longer those that the run began with: {}; put them back, or begin a new run",
            root.display(),
            told.join(", ")
        )))
    }

    /// The two sets with these images in this order; other images are skipped.
    ///
    /// # Errors
    /// As for [`Images::compare`].
    pub(crate) fn align(&self, root: &Path, sets: [Dataset; 2]) -> Result<[Dataset; 2]> {
        self.compare(&Images::of(root, [&sets[0], &sets[1]], [&[], &[]]), root)?;
        let [train, val] = sets;
        let mut place: HashMap<(&str, &str), usize> = HashMap::with_capacity(self.0.len());
        for (i, image) in self.0.iter().enumerate() {
            place.entry((&image.part, &image.file)).or_insert(i);
        }
        let part = |part: &'static str, mut set: Dataset| {
            let mut placed: Vec<(usize, Sample)> = Vec::with_capacity(set.len());
            for sample in std::mem::take(&mut set.samples) {
                match place.get(&(part, relative(&sample, root).as_str())) {
                    Some(&at) => placed.push((at, sample)),
                    None => {
                        let reason = "not among the images that the run began with";
                        set.skipped.push(Skipped::new(sample.name(), reason));
                    }
                }
            }
            placed.sort_by_key(|(at, _)| *at);
            set.samples = placed.into_iter().map(|(_, sample)| sample).collect();
            set
        };
        Ok([part(PARTS[0], train), part(PARTS[1], val)])
    }
}
