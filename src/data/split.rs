//! The sets of a training run, and a reproducible split of one set of images into training and validation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Sample, Skipped};
use super::target::{Target, TargetKind};
use crate::rng::{Stream, key_of};
use crate::{Error, Result};

/// The part of the data that an image belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Training: the network is trained on the image.
    Train,
    /// Validation: the image evaluates the network during training.
    Val,
    /// Test: the image evaluates the network once, at the end.
    Test,
}

/// The part of each image. Written into the run's folder and read when the run resumes; files are never moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The seed of the split.
    pub seed: u64,
    /// The requested share of each class for validation.
    pub val_fraction: f64,
    /// From path relative to the data folder, with `/` between folders, to the image's part.
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

    /// Writes it as JSON, one image a line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Data(e.to_string()))?;
        crate::nn::write_atomically(path, |file| std::io::Write::write_all(file, (text + "\n").as_bytes()))
    }
}

/// The sets of a training run, with the same classes in the same order.
#[derive(Debug, Clone)]
pub struct Splits {
    /// Training set. Its `skipped` also lists the files skipped in a folder that was split.
    pub train: Dataset,
    /// Validation set, evaluated during training.
    pub val: Dataset,
    /// Test set, evaluated once, at the end.
    pub test: Option<Dataset>,
    /// The part of each image, where the split was drawn or read back and is not the folder's own.
    pub manifest: Option<Manifest>,
    /// Warnings: a class without validation images, a folder that is not used.
    pub warnings: Vec<String>,
}

/// Draws a split: of each class, `round(n * val_fraction)` images, at least one and not all, go to
/// validation. Each image's rank is a hash of seed and relative path, so the split depends neither on the
/// machine nor on the order of files, and adding an image moves at most one other.
///
/// With `groups` (one name an image), whole groups go to one side, by the hash of their name: each is taken for
/// validation where that brings the classes' shares nearer to what was asked for. A single image is a group of one.
///
/// Images of several classes are divided by the rarest of them, and those with numbers all together.
///
/// # Errors
/// [`Error::Usage`] for a fraction outside 0..1, [`Error::Data`] for a class with a single image or group.
pub(crate) fn draw(
    all: &Dataset,
    root: &Path,
    seed: u64,
    val_fraction: f64,
    groups: Option<&[String]>,
) -> Result<Manifest> {
    if !(val_fraction > 0.0 && val_fraction < 1.0) {
        return Err(Error::Usage(format!("validation share {val_fraction}: it lies between 0 and 1")));
    }
    let names: Vec<String> = all.samples.par_iter().map(|sample| relative(sample, root)).collect();
    let groups = groups.unwrap_or(&names);
    let strata = Strata::of(all, val_fraction)?;

    // Members of each group, groups in order of rank.
    let mut order: Vec<usize> = (0..groups.len()).collect();
    let ranks: Vec<u64> = groups.par_iter().map(|g| Stream::new(&[seed, key_of(g)]).next_u64()).collect();
    order.par_sort_by(|&a, &b| (ranks[a], &groups[a], a).cmp(&(ranks[b], &groups[b], b)));
    let members: Vec<&[usize]> = order.chunk_by(|&a, &b| groups[a] == groups[b]).collect();

    let mut have = vec![0; strata.total.len()];
    let mut is_val = vec![false; members.len()];
    for (group, is_val) in members.iter().zip(&mut is_val) {
        let counts = strata.counts(group);
        if strata.leaves_some(&have, &counts) && strata.change(&have, &counts) < 0.0 {
            counts.iter().for_each(|(&stratum, n)| have[stratum] += n);
            *is_val = true;
        }
    }
    // A class without validation images gets the group that harms the shares least.
    for stratum in 0..have.len() {
        if have[stratum] > 0 || strata.wanted[stratum] == 0 {
            continue;
        }
        let counted = members.iter().enumerate().map(|(at, group)| (at, strata.counts(group)));
        let fits = |(at, counts): &(usize, BTreeMap<usize, usize>)| {
            !is_val[*at] && counts.contains_key(&stratum) && strata.leaves_some(&have, counts)
        };
        let cost = |counts: &BTreeMap<usize, usize>| strata.change(&have, counts);
        let best = counted.filter(fits).min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)));
        let Some((at, counts)) = best else {
            return Err(too_few_groups(all, &strata, stratum, groups));
        };
        counts.iter().for_each(|(&stratum, n)| have[stratum] += n);
        is_val[at] = true;
    }
    let mut parts = vec![Part::Train; groups.len()];
    for (group, _) in members.iter().zip(is_val).filter(|(_, is_val)| *is_val) {
        group.iter().for_each(|&image| parts[image] = Part::Val);
    }
    Ok(Manifest { seed, val_fraction, files: names.into_iter().zip(parts).collect() })
}

/// The strata that a split divides evenly: the images of each class, or all images where there are no classes.
struct Strata {
    /// Stratum of each image.
    of: Vec<usize>,
    total: Vec<usize>,
    /// Number of validation images wanted in each stratum.
    wanted: Vec<usize>,
}

impl Strata {
    fn of(all: &Dataset, val_fraction: f64) -> Result<Strata> {
        let counts = all.counts();
        let of = |sample: &Sample| match &sample.target {
            Target::Class(class) => *class as usize,
            Target::Values(_) => 0,
            // The rarest of its classes.
            target @ Target::Labels(_) => {
                target.classes().min_by_key(|&class| counts[class]).unwrap_or(counts.len())
            }
        };
        let of: Vec<usize> = all.samples.iter().map(of).collect();
        let mut total = vec![0; of.iter().max().map_or(0, |most| most + 1)];
        of.iter().for_each(|&stratum| total[stratum] += 1);
        let single =
            |&stratum: &usize| total[stratum] == 1 && (all.targets == TargetKind::Class || all.len() == 1);
        if let Some(stratum) = (0..total.len()).find(single) {
            let image = of.iter().position(|&s| s == stratum).map(|at| all.samples[at].name());
            let what = match all.targets {
                TargetKind::Class => format!("class '{}' has", all.classes[stratum]),
                _ => "there is".into(),
            };
            return Err(Error::Data(format!(
                "{what} a single image ({}), too few to split: it needs one to learn from and one to measure with",
                image.unwrap_or_default().display()
            )));
        }
        let wanted = |&n: &usize| ((n as f64 * val_fraction).round() as usize).clamp(1, n.max(2) - 1);
        let wanted = total.iter().map(|n| if *n < 2 { 0 } else { wanted(n) }).collect();
        Ok(Strata { of, total, wanted })
    }

    /// Images of a group in each stratum.
    fn counts(&self, group: &[usize]) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        group.iter().for_each(|&image| *counts.entry(self.of[image]).or_insert(0) += 1);
        counts
    }

    /// Whether each stratum keeps a training image when these images also go to validation.
    fn leaves_some(&self, have: &[usize], counts: &BTreeMap<usize, usize>) -> bool {
        counts.iter().all(|(&stratum, n)| have[stratum] + n < self.total[stratum])
    }

    /// The change in the distance from the wanted numbers if these images went to validation, summed over strata as
    /// shares of each.
    fn change(&self, have: &[usize], counts: &BTreeMap<usize, usize>) -> f64 {
        let share = |(&stratum, n): (&usize, &usize)| {
            let distance = |have: usize| have.abs_diff(self.wanted[stratum]) as f64;
            (distance(have[stratum] + n) - distance(have[stratum])) / self.total[stratum] as f64
        };
        counts.iter().map(share).sum()
    }
}

/// No group of this stratum can validate without taking a class's last images.
fn too_few_groups(all: &Dataset, strata: &Strata, stratum: usize, groups: &[String]) -> Error {
    let own = strata.of.iter().zip(groups).filter(|(of, _)| **of == stratum).map(|(_, group)| group);
    let own: BTreeSet<&String> = own.collect();
    let what = all.classes.get(stratum).filter(|_| all.targets != TargetKind::Values);
    Error::Data(format!(
        "{}: its {} images make up {} ('{}'{}), too few to divide by `group_by`: some must validate and some be \
         learned from; add groups, name a finer rule, or bring a validation set",
        what.map_or("the data".into(), |class| format!("class '{class}'")),
        strata.total[stratum],
        if own.len() == 1 { "one group".into() } else { format!("{} groups", own.len()) },
        own.first().map_or("", |first| first.as_str()),
        if own.len() > 1 { ", ..." } else { "" },
    ))
}

/// Assigns the images to their parts in the manifest. Images that the manifest does not contain are skipped, with a
/// reason.
///
/// # Errors
/// [`Error::Data`] when an image of the manifest is gone, or a part would be empty.
pub(crate) fn apply(manifest: &Manifest, all: Dataset, root: &Path) -> Result<(Dataset, Dataset)> {
    let mut val = all.like();
    let mut train = all.like();
    train.skipped = all.skipped;
    let part = |sample: &Sample| manifest.files.get(&relative(sample, root)).copied();
    let parts: Vec<Option<Part>> = all.samples.par_iter().map(part).collect();
    if parts.iter().flatten().count() < manifest.files.len() {
        let there: BTreeSet<String> = all.samples.iter().map(|sample| relative(sample, root)).collect();
        let gone: Vec<&String> = manifest.files.keys().filter(|name| !there.contains(*name)).collect();
        return Err(Error::Data(format!(
            "{}: {} images of the recorded split are gone, '{}' among them; \
             put them back, or begin a new run",
            root.display(),
            gone.len(),
            gone.first().map_or("", |name| name.as_str())
        )));
    }
    for (sample, part) in all.samples.into_iter().zip(parts) {
        match part {
            Some(Part::Train) => train.samples.push(sample),
            Some(Part::Val) => val.samples.push(sample),
            Some(Part::Test) | None => {
                train.skipped.push(Skipped::new(sample.name(), "not in the split this run began with"));
            }
        }
    }
    if train.is_empty() || val.is_empty() {
        return Err(Error::Data(format!("{}: the recorded split leaves a part empty", root.display())));
    }
    Ok((train, val))
}

/// Training, validation and test images, according to `parts`. Skipped files go with the training set.
pub(crate) fn deal(all: Dataset, parts: &[Part]) -> [Dataset; 3] {
    let mut dealt = [all.like(), all.like(), all.like()];
    dealt[0].skipped = all.skipped;
    for (sample, &part) in all.samples.into_iter().zip(parts) {
        dealt[part as usize].samples.push(sample);
    }
    dealt
}

/// A sample's name relative to the data folder, with `/` between folders on every system.
pub(crate) fn relative(sample: &Sample, root: &Path) -> String {
    let name = sample.name();
    let mut text = String::with_capacity(name.as_os_str().len());
    for part in name.strip_prefix(root).unwrap_or(&name) {
        if !text.is_empty() {
            text.push('/');
        }
        text.push_str(&part.to_string_lossy());
    }
    text
}
