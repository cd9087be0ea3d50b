//! The roles of a data set's folders: its parts, and folders that look like parts.
//!
//! A folder that holds folders and no images is a part where its name says so, in any case: `train`, `training`,
//! `trn`; `val`, `valid`, `validation`, `dev`, `eval`; `test`, `testing`, `tst`. Where no folder has a training name,
//! names that contain such a word count, too (`seg_train`, `train_images`, `TestSet`), if each is the only one of its
//! kind and there are training and another part.
//!
//! Folders that all hold subfolders of the same names look like parts, whatever they are called: an error where their
//! names mention training and test, else a warning.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::folder::{Listing, list, name_of, nfc};
use super::split::Part;
use crate::{Error, Result};

const TRAIN: [&str; 3] = ["train", "training", "trn"];
const VAL: [&str; 6] = ["val", "valid", "validation", "dev", "eval", "evaluation"];
const TEST: [&str; 3] = ["test", "testing", "tst"];
/// Words that may be added to a part's name, or be the name of the only folder within it.
const NEUTRAL: [&str; 12] = [
    "set", "data", "dataset", "images", "image", "img", "imgs", "pictures", "photos", "classes", "split",
    "seg",
];

/// The roles of the folders.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) train: PathBuf,
    pub(super) val: Option<PathBuf>,
    pub(super) test: Option<PathBuf>,
    pub(super) warnings: Vec<String>,
}

impl Layout {
    /// Determines the layout of a folder from its listing.
    ///
    /// # Errors
    /// [`Error::Data`]: two folders for one part, none for training, or folders that look like parts.
    pub(super) fn of(path: &Path, listing: &Listing) -> Result<Layout> {
        // A class may be called `train`: its folder holds images.
        let nested: Vec<&PathBuf> =
            listing.folders.iter().filter(|folder| holds_folders_only(folder)).collect();
        let parts = Parts::exact(path, &nested)?;
        let parts = if parts.train.is_some() { parts } else { Parts::by_words(&nested).unwrap_or(parts) };
        let Some(train) = parts.train else {
            if let Some(part) = parts.val.or(parts.test) {
                return Err(Error::Data(format!(
                    "{}: there is {}/ but no train/ to learn from",
                    path.display(),
                    name_of(part)
                )));
            }
            let warnings = if nested.len() == listing.folders.len() { alike(path, &nested)? } else { None };
            let warnings = warnings.into_iter().collect();
            return Ok(Layout { train: path.to_path_buf(), val: None, test: None, warnings });
        };
        let used = [Some(train), parts.val, parts.test];
        let unused = listing.folders.iter().filter(|f| !used.contains(&Some(f)));
        let beside = name_of(train);
        let warning =
            |folder: &PathBuf| format!("{}: not used, because it lies beside {beside}/", folder.display());
        let warnings = unused.map(warning).collect();
        let inner = |part: Option<&PathBuf>| part.map(|part| inner(part)).transpose();
        let train = inner(Some(train))?.unwrap_or_default();
        Ok(Layout { train, val: inner(parts.val)?, test: inner(parts.test)?, warnings })
    }
}

/// The folders of a data set that are parts of it.
#[derive(Default)]
struct Parts<'a> {
    train: Option<&'a PathBuf>,
    val: Option<&'a PathBuf>,
    test: Option<&'a PathBuf>,
}

impl<'a> Parts<'a> {
    fn of(&mut self, part: Part) -> &mut Option<&'a PathBuf> {
        match part {
            Part::Train => &mut self.train,
            Part::Val => &mut self.val,
            Part::Test => &mut self.test,
        }
    }

    /// Parts by names that are exactly a part's name.
    fn exact(path: &Path, nested: &[&'a PathBuf]) -> Result<Parts<'a>> {
        let mut parts = Parts::default();
        for folder in nested {
            let Some(part) = word(&name_of(folder).to_lowercase()) else { continue };
            if let Some(other) = parts.of(part).replace(folder) {
                return Err(Error::Data(format!(
                    "{}: holds both {}/ and {}/; keep one",
                    path.display(),
                    name_of(other),
                    name_of(folder)
                )));
            }
        }
        Ok(parts)
    }

    /// Parts by names that contain a part's word: training and another part, each once.
    fn by_words(nested: &[&'a PathBuf]) -> Option<Parts<'a>> {
        let mut parts = Parts::default();
        for folder in nested {
            if let Some(part) = part_of(&name_of(folder))
                && parts.of(part).replace(folder).is_some()
            {
                return None;
            }
        }
        Some(parts).filter(|parts| parts.train.is_some() && (parts.val.is_some() || parts.test.is_some()))
    }
}

/// The folder to evaluate on: a validation folder, else a test folder, that holds folders and no images.
///
/// # Errors
/// [`Error::Data`] for two folders of one part.
pub(super) fn to_evaluate(path: &Path, listing: &Listing) -> Result<Option<PathBuf>> {
    let nested: Vec<&PathBuf> = listing.folders.iter().filter(|folder| holds_folders_only(folder)).collect();
    let parts = Parts::exact(path, &nested)?;
    let parts = match parts {
        Parts { val: None, test: None, .. } => Parts::by_words(&nested).unwrap_or_default(),
        parts => parts,
    };
    parts.val.or(parts.test).map(|part| inner(part)).transpose()
}

/// The part that a word denotes.
fn word(word: &str) -> Option<Part> {
    let means = |words: &[&str]| words.contains(&word);
    match () {
        () if means(&TRAIN) => Some(Part::Train),
        () if means(&VAL) => Some(Part::Val),
        () if means(&TEST) => Some(Part::Test),
        () => None,
    }
}

/// The one part that a name mentions. Words are separated by non-letters or by a capital; `set` and similar words may
/// be appended to them.
fn part_of(name: &str) -> Option<Part> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphabetic() || c.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if let (true, Some(last)) = (c.is_alphabetic(), words.last_mut()) {
            last.extend(c.to_lowercase());
        }
        before = c;
    }
    let joined = |text: &String| {
        let plain = NEUTRAL.iter().find_map(|n| text.strip_suffix(n).or_else(|| text.strip_prefix(n)));
        word(text).or_else(|| word(plain?))
    };
    let mut parts = words.iter().filter_map(joined);
    parts.next().filter(|_| parts.next().is_none())
}

/// Whether a folder holds folders and no images. The search ends at the first image, so that large class folders take
/// no time.
fn holds_folders_only(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let mut folders = false;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if super::folder::is_clutter(&name.to_string_lossy()) {
            continue;
        }
        if path.is_dir() {
            folders = true;
        } else if super::folder::has_image_extension(&path) {
            return false;
        }
    }
    folders
}

/// The folder itself, or the one within it that holds its class folders: `seg_train/seg_train`, `train/images`.
fn inner(part: &Path) -> Result<PathBuf> {
    let mut folder = part.to_path_buf();
    loop {
        let listing = list(&folder)?;
        let [only] = listing.folders.as_slice() else { return Ok(folder) };
        let name = name_of(only).to_lowercase();
        let same = name == name_of(part).to_lowercase() || part_of(&name).is_some();
        if !(same || NEUTRAL.contains(&name.as_str())) || !holds_folders_only(only) {
            return Ok(folder);
        }
        folder.clone_from(only);
    }
}

/// A warning where all folders hold folders of the same names.
///
/// # Errors
/// [`Error::Data`] where their names speak of different parts besides.
fn alike(path: &Path, folders: &[&PathBuf]) -> Result<Option<String>> {
    if folders.len() < 2 {
        return Ok(None);
    }
    let names = |folder: &&PathBuf| -> Result<BTreeSet<String>> {
        Ok(list(folder)?.folders.iter().map(|inner| nfc(&name_of(inner))).collect())
    };
    let names = folders.iter().map(names).collect::<Result<Vec<_>>>()?;
    let (first, rest) = names.split_at(1);
    let shared = rest.iter().fold(first[0].clone(), |shared, own| &shared & own);
    let most = names.iter().map(BTreeSet::len).max().unwrap_or(0);
    let parts: BTreeSet<Part> = folders.iter().filter_map(|folder| part_of(&name_of(folder))).collect();
    // At least half of the names: a part may lack a class.
    if shared.len() < 2 || 2 * shared.len() < most {
        return Ok(None);
    }
    let join = |names: Vec<String>, end: &str| {
        let more = names.len().saturating_sub(5);
        let names: Vec<String> = names.into_iter().take(5).map(|name| name + end).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        names.join(", ") + &more
    };
    let folders = join(folders.iter().map(|folder| name_of(folder)).collect(), "/");
    let shared = join(shared.into_iter().collect(), "");
    let way_out = "call the parts train/, val/ and test/";
    if parts.len() > 1 {
        return Err(Error::Data(format!(
            "{}: {folders} look like parts of the data, not classes: each holds folders of the same names ({shared}); \
             {way_out}",
            path.display()
        )));
    }
    Ok(Some(format!(
        "{}: {folders} count as classes, yet each holds folders of the same names ({shared}); if they are parts of \
         the data, {way_out}",
        path.display()
    )))
}

/// The intended folder, where a data set is one or more levels below this folder: a folder with parts, or the only
/// folder, if it holds class folders.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn meant(listing: &Listing) -> Result<Option<PathBuf>> {
    let is_train = |folder: &PathBuf| word(&name_of(folder).to_lowercase()) == Some(Part::Train);
    let has_train = |folder: &&PathBuf| {
        let listed = || list(folder).is_ok_and(|below| below.folders.iter().any(is_train));
        folder.join("train").is_dir() || holds_folders_only(folder) && listed()
    };
    if let Some(below) = listing.folders.iter().find(has_train) {
        return Ok(Some(below.clone()));
    }
    let (mut found, mut listing) = (None, listing);
    let mut below;
    while let ([only], []) = (listing.folders.as_slice(), listing.images.as_slice()) {
        if !holds_folders_only(only) {
            break;
        }
        found = Some(only.clone());
        below = list(only)?;
        listing = &below;
    }
    Ok(found)
}
