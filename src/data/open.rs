//! From a path to training, validation and test sets.
//!
//! | what the folder holds | training | validation | test |
//! |---|---|---|---|
//! | `train/`, `val/` (or `valid/`, `validation/`, `dev/`), perhaps `test/` | `train/` | `val/` | `test/` |
//! | `train/`, perhaps `test/` | part of `train/` | the rest of it | `test/` |
//! | class folders | part of each | the rest of it | - |
//! | IDX files `train-*` and `t10k-*` | part of `train-*` | the rest of it | `t10k-*` |
//! | IDX files of one kind | part of it | the rest of it | - |
//! | CIFAR's binary files | part of `data_batch_*` or `train.bin` | the rest of it | `test_batch` or `test.bin` |
//! | a table, with a column `is_valid` or `split` | its lines for it | its lines for it | its lines for it |
//! | a table without, or without lines for validation | part of it | the rest of it | its lines for it |
//!
//! Parts may have other names, such as `Training/`, `seg_test/` or `val_images/`: see `layout.rs`. Names are compared
//! in Unicode's composed form.
//!
//! A table is a CSV file, given instead of the folder or with it: see [`super::table`].
//!
//! The name of a [`DrawnSet`] stands for images that Defrost draws itself.
//!
//! `test/` never replaces a missing validation set: the set that selects the best epoch cannot also evaluate it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::cifar;
use super::columns::Known;
use super::dataset::{Dataset, Sample, Skipped, Source};
use super::folder::{Listing, list, name_of, nfc, walk};
use super::group::{self, GroupBy};
use super::idx::{IdxPair, find_pairs, read_pair};
use super::layout::{self, Layout};
use super::options::{DataOptions, TableFile};
use super::scenes::DrawnSet;
pub use super::split::Splits;
use super::split::{self, Manifest, Part};
use super::table::{self, Table};
use super::target::{Target, TargetKind};
use crate::{Error, Result, did_you_mean};

/// How to open a folder or table for training.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Share of each class for validation where the folder has no validation set; between 0 and 1.
    pub val_fraction: f64,
    /// Seed of the split.
    pub seed: u64,
    /// The split of an earlier run, used instead of a new one.
    pub manifest: Option<Manifest>,
    /// The form of the data.
    pub data: DataOptions,
}

options!(OpenOptions);

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { val_fraction: 0.2, seed: 0, manifest: None, data: DataOptions::default() }
    }
}

/// Content of a path, before the validation images are drawn.
struct Opened {
    all: Dataset,
    val: Option<Dataset>,
    test: Option<Dataset>,
    /// Group of each image of `all`, where images belong together.
    groups: Option<Vec<String>>,
    warnings: Vec<String>,
}

/// Opens a folder or a table for training; see the module's documentation.
///
/// # Errors
/// [`Error::Data`] with the way out: no folder, no class folders, a class without images, a single class,
/// a validation class unknown to training, too few images to split, a line of a table that cannot be.
/// [`Error::Io`], [`Error::Usage`].
pub fn open(path: &Path, options: &OpenOptions) -> Result<Splits> {
    if let Some(set) = DrawnSet::named(path) {
        options.data.suit_drawn(path)?;
        return set.map(|set| set.splits());
    }
    let table = options.data.table(path)?;
    let root = table.as_ref().map_or(path, |table| &table.root);
    let Opened { all, val, test, groups, warnings } = match &table {
        Some(table) => open_table(table, &options.data)?,
        None => open_folder(path, options.data.group_by.as_ref())?,
    };
    if all.targets == TargetKind::Class && all.classes.len() < 2 {
        let second = if table.is_some() { "images of a second class" } else { "a folder for a second class" };
        return Err(Error::Data(format!(
            "{}: a single class, '{}': there is nothing to tell apart; add {second}",
            path.display(),
            all.classes.join("")
        )));
    }
    match (val, &options.manifest) {
        (Some(_), Some(_)) => Err(Error::Data(format!(
            "{}: the earlier run split this data itself, but now it has a validation part of its own; \
             take that away or begin a new run",
            path.display()
        ))),
        (Some(val), None) => Ok(Splits { train: all, val, test, manifest: None, warnings }),
        (None, manifest) => {
            let manifest = match manifest {
                Some(manifest) => manifest.clone(),
                None => split::draw(&all, root, options.seed, options.val_fraction, groups.as_deref())?,
            };
            let (train, val) = split::apply(&manifest, all, root)?;
            Ok(Splits { train, val, test, manifest: Some(manifest), warnings })
        }
    }
}

fn open_folder(path: &Path, group_by: Option<&GroupBy>) -> Result<Opened> {
    let listing = list_root(path)?;
    let pairs = find_pairs(&listing.others)?;
    let (mut warnings, mut groups) = (Vec::new(), None);
    let records = match cifar::find(&listing.others)? {
        Some(files) => {
            warnings.extend(files.missing());
            Some(cifar::read(&files)?)
        }
        None if pairs.is_empty() => None,
        None => Some(read_idx_parts(&pairs)?),
    };
    let (all, val, test) = if let Some((all, test)) = records {
        groups = group_by.map(|by| group::by_path(by, &all, path, 0)).transpose()?;
        (all, None, test)
    } else {
        let layout = Layout::of(path, &listing)?;
        if layout.train == path
            && let Some(below) = layout::meant(&listing)?
        {
            return Err(too_high(path, &below));
        }
        warnings.extend(layout.warnings);
        let all = scan_training(&layout.train)?;
        let mut other = |folder: Option<&PathBuf>| {
            folder.map(|folder| scan_like(folder, &all.classes, &mut warnings)).transpose()
        };
        let (val, test) = (other(layout.val.as_ref())?, other(layout.test.as_ref())?);
        if let Some(by) = group_by {
            let own = group::by_path(by, &all, &layout.train, 1)?;
            if let (Some(val), Some(folder)) = (&val, &layout.val) {
                warnings.extend(group::divided(&own, &group::by_path(by, val, folder, 1)?));
            }
            groups = Some(own);
        }
        (all, val, test)
    };
    Ok(Opened { all, val, test, groups, warnings })
}

fn open_table(file: &TableFile, options: &DataOptions) -> Result<Opened> {
    let Table { all, parts, groups, mut warnings } = table::read(file, options, None)?;
    let name = file.file.display();
    let parts = parts.unwrap_or_else(|| vec![Part::Train; all.len()]);
    let groups = match (&options.group_by, groups) {
        (Some(by), None) => Some(group::by_path(by, &all, &file.root, 0)?),
        (_, groups) => groups,
    };
    let groups = groups.map(|groups| {
        let of = |wanted| {
            let own = groups.iter().zip(&parts).filter(move |(_, part)| **part == wanted);
            own.map(|(group, _)| group.clone()).collect::<Vec<_>>()
        };
        warnings.extend(group::divided(&of(Part::Train), &of(Part::Val)));
        of(Part::Train)
    });
    let [all, val, test] = split::deal(all, &parts);
    if all.is_empty() {
        return Err(Error::Data(format!("{name}: no image that is there is for training; mark some so")));
    }
    let lacking = without_images(&all);
    if let (TargetKind::Class, Some(class)) = (all.targets, lacking.first()) {
        return Err(Error::Data(format!(
            "{name}: class '{class}' has no image for training: all are for validation or test, or missing; \
             give it some or take it out"
        )));
    }
    if !lacking.is_empty() {
        warnings.push(format!("{name}: no training images of {}", lacking.join(", ")));
    }
    let part = |part: Dataset, what: &str, warnings: &mut Vec<String>| {
        let lacking = without_images(&part);
        if !part.is_empty() && !lacking.is_empty() {
            warnings.push(format!("{name}: no {what} images of {}", lacking.join(", ")));
        }
        Some(part).filter(|part| !part.is_empty())
    };
    let val = part(val, "validation", &mut warnings);
    let test = part(test, "test", &mut warnings);
    Ok(Opened { all, val, test, groups, warnings })
}

/// The classes that no image shows.
fn without_images(dataset: &Dataset) -> Vec<&str> {
    let counted = dataset.classes.iter().zip(dataset.counts());
    counted.filter(|(_, n)| *n == 0).map(|(class, _)| class.as_str()).collect()
}

/// Looks class names up by position, for [`open_labelled`]; their Unicode form does not matter.
pub fn by_name(classes: &[String]) -> impl Fn(&str) -> Option<u32> + '_ {
    |name| classes.iter().position(|class| class == name || nfc(class) == nfc(name)).map(|at| at as u32)
}

/// Opens a folder with known classes for evaluation. The folder holds folders of all or some of the classes, matched
/// by `lookup` ([`by_name`], or a table of wnids). Where none of its folders is a class and there is a `val/`
/// (`valid/`, `validation/`, ...) or else a `test/`, that folder is opened. Of IDX files, tables and drawn sets the
/// test part is preferred, then the validation part; of CIFAR's files, the test part.
///
/// # Errors
/// [`Error::Data`] names a folder or label that is no class (and a similar class), or says that there is no image.
pub fn open_labelled(
    path: &Path,
    classes: &[String],
    lookup: impl Fn(&str) -> Option<u32>,
) -> Result<Dataset> {
    open_labelled_with(path, &DataOptions::default(), classes, lookup)
}

/// As [`open_labelled`], for data whose form the options describe. For [`TargetKind::Values`] the table's columns are
/// those with the names of the classes, unless the options name others.
///
/// # Errors
/// As for [`open_labelled`]; also for invalid lines of a table.
pub fn open_labelled_with(
    path: &Path,
    options: &DataOptions,
    classes: &[String],
    lookup: impl Fn(&str) -> Option<u32>,
) -> Result<Dataset> {
    if let Some(set) = DrawnSet::named(path) {
        options.suit_drawn(path)?;
        let Splits { val, test, .. } = set?.splits();
        return relabel(test.unwrap_or(val), path, classes, &lookup);
    }
    if let Some(table) = options.table(path)? {
        let known = Known { classes, lookup: &lookup };
        let Table { all, parts, .. } = table::read(&table, options, Some(&known))?;
        let Some(parts) = parts else { return Ok(all) };
        let skipped = all.skipped.clone();
        let [train, val, test] = split::deal(all, &parts);
        let found = [test, val].into_iter().find(|part| !part.is_empty()).unwrap_or(train);
        return Ok(Dataset { skipped, ..found });
    }
    let listing = list_root(path)?;
    if let Some(pair) = find_pairs(&listing.others)?.pop() {
        return relabel(read_pair(&pair)?, path, classes, &lookup);
    }
    if let Some(files) = cifar::find(&listing.others)? {
        let (train, test) = cifar::read(&files)?;
        return relabel(test.unwrap_or(train), path, classes, &lookup);
    }
    let is_class = |folder: &PathBuf| lookup(&nfc(&name_of(folder))).is_some();
    if !listing.folders.iter().any(is_class) {
        if let Some(part) = layout::to_evaluate(path, &listing)? {
            return open_labelled_with(&part, options, classes, lookup);
        }
        if let Some(below) = layout::meant(&listing)? {
            return Err(too_high(path, &below));
        }
    }
    let dataset = relabel(scan(path)?, path, classes, &lookup)?;
    if dataset.is_empty() {
        return Err(Error::Data(format!("{}: its class folders hold no image", path.display())));
    }
    Ok(dataset)
}

/// The error for a folder one or several levels above the intended one.
fn too_high(path: &Path, meant: &Path) -> Error {
    let inside = meant.strip_prefix(path).unwrap_or(meant);
    let has_parts = meant.join("train").is_dir();
    let what = if has_parts { "train/" } else { "the folders of the classes" };
    Error::Data(format!(
        "{}: {} in it holds {what}: did you mean {}?",
        path.display(),
        inside.display(),
        meant.display()
    ))
}

/// Lists a data folder, with helpful errors for paths that are not folders.
fn list_root(path: &Path) -> Result<Listing> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => list(path),
        Ok(_) => Err(Error::Data(format!(
            "{}: a file; give the folder that holds a folder of images for each class, or a table (.csv)",
            path.display()
        ))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Data(format!(
            "{}: there is no such folder; give the one that holds a folder of images for each class",
            path.display()
        ))),
        Err(e) => Err(Error::io(path, "open", e)),
    }
}

/// The class folders of a folder, which may be empty, in sorted order.
fn scan(folder: &Path) -> Result<Dataset> {
    let listing = list(folder)?;
    if listing.folders.is_empty() {
        let loose = match listing.images.len() {
            0 => String::new(),
            n => format!("; the {n} images in it have no class"),
        };
        let csv = |path: &&PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
        let table =
            listing.others.iter().find(csv).map_or(String::new(), |table| {
                format!(", or name their labels: `labels` {}", table.display())
            });
        return Err(Error::Data(format!(
            "{}: no class folders{loose}; put the images of each class into a folder with its name{table}",
            folder.display()
        )));
    }
    let mut dataset = Dataset::default();
    for path in listing.images {
        dataset.skipped.push(Skipped::new(path, "lies outside the class folders"));
    }
    let named = class_folders(folder, listing.folders)?;
    let walked = named.par_iter().map(|(_, class)| {
        let (images, skipped) = walk(class, Some(folder))?;
        Ok((Source::files(images).collect::<Vec<_>>(), skipped))
    });
    let walked: Vec<Result<_>> = walked.collect();
    dataset.samples.reserve_exact(walked.iter().flatten().map(|(sources, _)| sources.len()).sum());
    for (label, ((name, _), found)) in named.into_iter().zip(walked).enumerate() {
        dataset.classes.push(name);
        let (sources, skipped) = found?;
        dataset.samples.extend(sources.into_iter().map(|source| Sample::new(source, label as u32)));
        dataset.skipped.extend(skipped);
    }
    Ok(dataset)
}

/// Names of classes in the composed form, with their folders, sorted by name.
fn class_folders(folder: &Path, folders: Vec<PathBuf>) -> Result<Vec<(String, PathBuf)>> {
    let named = folders.into_iter().map(|class| {
        let name = class.file_name().and_then(|n| n.to_str()).map(nfc).ok_or_else(|| {
            Error::Data(format!("{}: the folder's name is not Unicode; rename it", class.display()))
        })?;
        Ok((name, class))
    });
    let mut named = named.collect::<Result<Vec<_>>>()?;
    // UTF-8 sorts as its code points do: Python's `sorted()`.
    named.sort();
    if let Some([a, b]) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let bytes = |class: &(String, PathBuf)| name_of(&class.1).escape_unicode().to_string();
        return Err(Error::Data(format!(
            "{}: two folders are called '{}', which differ in their Unicode form only ({} and {}); join them",
            folder.display(),
            a.0,
            bytes(a),
            bytes(b)
        )));
    }
    Ok(named)
}

/// As [`scan`]; every class must have an image.
fn scan_training(folder: &Path) -> Result<Dataset> {
    let dataset = scan(folder)?;
    if let Some(empty) = dataset.counts().iter().position(|&n| n == 0) {
        return Err(Error::Data(format!(
            "{}: the class folder holds no image; fill it or remove it",
            folder.join(&dataset.classes[empty]).display()
        )));
    }
    Ok(dataset)
}

/// A validation or test folder with the classes of training. A missing class is a warning.
fn scan_like(folder: &Path, classes: &[String], warnings: &mut Vec<String>) -> Result<Dataset> {
    let dataset = relabel(scan(folder)?, folder, classes, &by_name(classes))?;
    if dataset.is_empty() {
        return Err(Error::Data(format!("{}: its class folders hold no image", folder.display())));
    }
    let lacking = without_images(&dataset);
    if !lacking.is_empty() {
        warnings.push(format!("{}: no images of {}", folder.display(), lacking.join(", ")));
    }
    Ok(dataset)
}

/// The same images with labels that index `classes`. Classes without an image need not be known.
fn relabel(
    mut dataset: Dataset,
    path: &Path,
    classes: &[String],
    lookup: &impl Fn(&str) -> Option<u32>,
) -> Result<Dataset> {
    let counts = dataset.counts();
    let mut labels = Vec::new();
    for (class, count) in dataset.classes.iter().zip(counts) {
        let label = lookup(class).filter(|&label| (label as usize) < classes.len());
        if label.is_none() && count > 0 {
            let near = did_you_mean(class, classes.iter().map(String::as_str));
            return Err(Error::Data(format!(
                "{}: '{class}' is none of the {} known classes{near}; rename or remove the folder",
                path.display(),
                classes.len()
            )));
        }
        labels.push(label.unwrap_or(u32::MAX));
    }
    for sample in &mut dataset.samples {
        if let Target::Class(class) = &mut sample.target {
            *class = labels[*class as usize];
        }
    }
    dataset.classes = classes.to_vec();
    Ok(dataset)
}

/// Training images and, where there are two pairs, test images, with the same classes.
fn read_idx_parts(pairs: &[IdxPair]) -> Result<(Dataset, Option<Dataset>)> {
    let mut parts = pairs.iter().map(read_pair).collect::<Result<Vec<_>>>()?;
    let most = parts.iter().map(|d| d.classes.len()).max().unwrap_or(0);
    for part in &mut parts {
        part.classes = (0..most).map(|class| class.to_string()).collect();
    }
    let test = if pairs.len() > 1 && pairs[1].part == Part::Test { parts.pop() } else { None };
    let train = parts.pop().ok_or_else(|| Error::Data("no IDX files".into()))?;
    Ok((train, test))
}
