//! Finding images in folders.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::dataset::Skipped;
use crate::{Error, Result};

/// Extensions of image files, in any case: all that Pillow knows for the supported formats.
pub const EXTENSIONS: [&str; 16] = [
    "jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp", "jfif", "jpe", "mpo", "apng", "dib",
    "pbm", "pnm",
];

/// Files left by file managers and archives; skipped like names that start with a dot.
const CLUTTER: [&str; 3] = ["Thumbs.db", "desktop.ini", "__MACOSX"];

/// Content of one folder: each list sorted, hidden names left out. Links are followed.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) folders: Vec<PathBuf>,
    /// Files with an image's extension.
    pub(crate) images: Vec<PathBuf>,
    /// All other files, and links to nothing.
    pub(crate) others: Vec<PathBuf>,
}

/// Lists one folder. The directory entry is enough for most files; only links need a further look.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn list(folder: &Path) -> Result<Listing> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), entry.file_type()?))
    };
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.map(entry).collect::<std::io::Result<Vec<_>>>())
        .map_err(|e| Error::io(folder, "list", e))?;
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut listing = Listing::default();
    for (name, kind) in entries {
        let path = folder.join(&name);
        if is_clutter(&name.to_string_lossy()) {
            continue;
        }
        let kind = if kind.is_symlink() {
            fs::metadata(&path).map(|meta| meta.file_type()).ok()
        } else {
            Some(kind)
        };
        match kind {
            Some(kind) if kind.is_dir() => listing.folders.push(path),
            Some(kind) if kind.is_file() && has_image_extension(&path) => listing.images.push(path),
            _ => listing.others.push(path),
        }
    }
    Ok(listing)
}

/// Whether a name is hidden or in [`CLUTTER`].
pub(crate) fn is_clutter(name: &str) -> bool {
    name.starts_with('.') || CLUTTER.contains(&name)
}

/// A name in Unicode's composed form (NFC). macOS and some archives write `é` as `e` and an accent (NFD), which looks
/// the same but has other bytes.
pub(crate) fn nfc(name: &str) -> String {
    name.nfc().collect()
}

/// The file or folder at this path, or at a path that differs only in its Unicode form.
pub(crate) fn existing(path: &Path) -> Option<PathBuf> {
    if path.exists() {
        return Some(path.to_path_buf());
    }
    let mut found = PathBuf::new();
    for part in path.components() {
        let next = found.join(part);
        let text = part.as_os_str().to_str().filter(|text| !text.is_ascii());
        let Some(text) = text.filter(|_| !next.exists()) else {
            found = next;
            continue;
        };
        let forms = [text.nfc().collect::<String>(), text.nfd().collect()];
        found = forms.iter().map(|form| found.join(form)).find(|next| next.exists())?;
    }
    Some(found).filter(|found| found.exists())
}

/// A path's last component, for matching and messages.
pub(crate) fn name_of(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// Whether a file's name says that it is an image.
pub(crate) fn has_image_extension(path: &Path) -> bool {
    path.extension().is_some_and(|own| EXTENSIONS.iter().any(|e| own.eq_ignore_ascii_case(e)))
}

/// All images in a folder and its subfolders, sorted by path, and the other files.
///
/// Each folder is entered once, and never one of its own parents, so that loops of links end. `inside` is the parent
/// of this folder, where the caller knows it.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be listed.
pub(crate) fn walk(folder: &Path, inside: Option<&Path>) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
    let canonical = |path: &Path| fs::canonicalize(path).map_err(|e| Error::io(path, "open", e));
    let origin = canonical(inside.unwrap_or(folder))?;
    let above = origin.ancestors().skip(usize::from(inside.is_none()));
    let mut entered: BTreeSet<PathBuf> = above.map(Path::to_path_buf).collect();
    let (mut images, mut skipped) = (Vec::new(), Vec::new());
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        if !entered.insert(canonical(&folder)?) {
            skipped.push(Skipped::new(folder, "a link to a folder that is read already"));
            continue;
        }
        let listing = list(&folder)?;
        pending.extend(listing.folders);
        images.extend(listing.images);
        skipped.extend(listing.others.into_iter().map(|path| {
            let reason = match path.extension() {
                _ if !path.exists() => "a link to nothing".to_string(),
                Some(e) => format!("not an image format that is read (.{})", e.to_string_lossy()),
                None => "no image's extension".to_string(),
            };
            Skipped::new(path, reason)
        }));
    }
    images.sort();
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((images, skipped))
}

/// The images that a command line names: files in any case, whatever their extension, and for a folder all images
/// within, sorted by path.
///
/// # Errors
/// [`Error::Io`] for a path that is not there, [`Error::Data`] for a folder without an image.
pub fn list_images(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.is_dir() {
            let (images, _) = walk(path, None)?;
            if images.is_empty() {
                return Err(Error::Data(format!(
                    "{}: holds no image (.{})",
                    path.display(),
                    EXTENSIONS.join(", .")
                )));
            }
            found.extend(images);
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}
