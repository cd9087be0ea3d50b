//! A reproducible split of one set of pictures into training and validation.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Sample, Skipped};
use crate::rng::{Stream, key_of};
use crate::{Error, Result};

/// What a picture is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The network learns from it.
    Train,
    /// It measures the network while it learns.
    Val,
    /// It is looked at once, at the end.
    Test,
}

/// Which picture went where. Written into the run's folder and read back on resuming; files are never moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The seed of the split.
    pub seed: u64,
    /// The share of each class that was asked for.
    pub val_fraction: f64,
    /// Path relative to the data folder, with `/` between folders, to what the picture is used for.
    pub files: BTreeMap<String, Part>,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Data`] when the file is no manifest.
    pub fn read(path: &Path) -> Result<Manifest> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Data(format!("{}: not a split manifest: {e}", path.display())))
    }

    /// Writes it as JSON, one picture a line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Data(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|e| Error::io(path, "write", e))
    }
}

/// Draws a split: of each class, `round(n * val_fraction)` pictures, at least one and not all, go to
/// validation. Each picture's rank is a hash of seed and relative path, so the split depends neither on the
/// machine nor on the order of files, and adding a picture moves at most one other.
///
/// # Errors
/// [`Error::Usage`] for a fraction outside 0..1, [`Error::Data`] for a class with a single picture.
pub(crate) fn draw(all: &Dataset, root: &Path, seed: u64, val_fraction: f64) -> Result<Manifest> {
    if !(val_fraction > 0.0 && val_fraction < 1.0) {
        return Err(Error::Usage(format!("validation share {val_fraction}: it lies between 0 and 1")));
    }
    let mut files = BTreeMap::new();
    for (label, class) in all.classes.iter().enumerate() {
        let mut ranked: Vec<(u64, String)> = all
            .samples
            .iter()
            .filter(|s| s.label as usize == label)
            .map(|s| relative(s, root))
            .map(|name| (Stream::new(&[seed, key_of(&name)]).next_u64(), name))
            .collect();
        if ranked.len() == 1 {
            return Err(Error::Data(format!(
                "class '{class}' has a single picture ({}), too few to split: \
                 it needs one to learn from and one to measure with",
                all.samples
                    .iter()
                    .find(|s| s.label as usize == label)
                    .map_or_else(Default::default, Sample::name)
                    .display()
            )));
        }
        ranked.sort();
        let val = ((ranked.len() as f64 * val_fraction).round() as usize).clamp(1, ranked.len().max(2) - 1);
        for (rank, (_, name)) in ranked.into_iter().enumerate() {
            files.insert(name, if rank < val { Part::Val } else { Part::Train });
        }
    }
    Ok(Manifest { seed, val_fraction, files })
}

/// Deals the pictures out as the manifest says. Pictures that it does not know are skipped, with a reason.
///
/// # Errors
/// [`Error::Data`] when a picture of the manifest is gone, or a part would be empty.
pub(crate) fn apply(manifest: &Manifest, all: Dataset, root: &Path) -> Result<(Dataset, Dataset)> {
    let mut val = all.like();
    let mut train = all.like();
    train.skipped = all.skipped;
    let mut missing: BTreeMap<&str, Part> = manifest.files.iter().map(|(k, &v)| (k.as_str(), v)).collect();
    for sample in all.samples {
        match missing.remove(relative(&sample, root).as_str()) {
            Some(Part::Train) => train.samples.push(sample),
            Some(Part::Val) => val.samples.push(sample),
            Some(Part::Test) | None => {
                train.skipped.push(Skipped::new(sample.name(), "not in the split this run began with"));
            }
        }
    }
    if let Some(name) = missing.keys().next() {
        return Err(Error::Data(format!(
            "{}: {} pictures of the recorded split are gone, '{name}' among them; \
             put them back, or begin a new run",
            root.display(),
            missing.len()
        )));
    }
    if train.is_empty() || val.is_empty() {
        return Err(Error::Data(format!("{}: the recorded split leaves a part empty", root.display())));
    }
    Ok((train, val))
}

/// Training, validation and test pictures, as `parts` says of each. What was skipped goes with the first.
pub(crate) fn deal(all: Dataset, parts: &[Part]) -> [Dataset; 3] {
    let mut dealt = [all.like(), all.like(), all.like()];
    dealt[0].skipped = all.skipped;
    for (sample, &part) in all.samples.into_iter().zip(parts) {
        dealt[part as usize].samples.push(sample);
    }
    dealt
}

/// A sample's name relative to the data folder, with `/` between folders on every system.
fn relative(sample: &Sample, root: &Path) -> String {
    let name = sample.name();
    let name = name.strip_prefix(root).unwrap_or(&name);
    name.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}
