//! The folder of a run: who writes into it, and which of its files are the run's own.
//!
//! A process that trains holds a lock on `.defrost.lock`, which the system releases when the process ends, however it
//! ends. `config.json` is the first file that a run writes, so a folder without it holds nothing of a run, and files
//! of these names in it are somebody else's. `last.safetensors` is written before the first step: from then on the
//! run can be resumed; until then the same command may begin it again.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::quoted;
use crate::train::runs::checkpoint::last_checkpoint;
use crate::train::runs::description::RunFile;
use crate::train::runs::tensorboard;
use crate::{Error, Result};

/// The file that is locked.
const LOCK: &str = ".defrost.lock";

/// Files that a run writes, beside `phaseN.safetensors` and TensorBoard's event files.
const OWN: [&str; 11] = [
    "config.json",
    "images.csv",
    "split.json",
    "trials.json",
    "metrics.csv",
    "metrics.jsonl",
    "model.safetensors",
    "last.safetensors",
    "report.html",
    "confusion.csv",
    "augmented.png",
];

/// Where a new run goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// This folder, which must not hold a run yet.
    Folder(PathBuf),
    /// This folder, or the first of FOLDER-2, FOLDER-3, ... that does not exist.
    Numbered(PathBuf),
}

impl From<&Path> for Destination {
    fn from(folder: &Path) -> Self {
        Destination::Folder(folder.into())
    }
}

impl From<&PathBuf> for Destination {
    fn from(folder: &PathBuf) -> Self {
        Destination::Folder(folder.clone())
    }
}

impl Destination {
    /// An early answer where the folder cannot be had; nothing is written.
    ///
    /// # Errors
    /// As for [`RunFolder::claim`].
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Destination::Folder(path) if path.is_dir() => {
                if path.join(LOCK).exists() {
                    // Whoever trains there now is told of first.
                    drop(lock(path)?);
                }
                check_free(path)
            }
            _ => Ok(()),
        }
    }

    /// Makes the folder; whether it was not there before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn make(&self) -> Result<(PathBuf, bool)> {
        let failed = |path: &Path, e| Error::io(path, "create folder", e);
        let (Destination::Folder(base) | Destination::Numbered(base)) = self;
        if let Some(parent) = base.parent() {
            std::fs::create_dir_all(parent).map_err(|e| failed(base, e))?;
        }
        let names = std::iter::once(base.clone()).chain((2..10_000).map(|n| {
            let mut name = base.as_os_str().to_os_string();
            name.push(format!("-{n}"));
            PathBuf::from(name)
        }));
        for path in names {
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok((path, true)),
                Err(_) if path.is_dir() && matches!(self, Destination::Folder(_)) => {
                    return Ok((path, false));
                }
                Err(e)
                    if e.kind() == ErrorKind::AlreadyExists && matches!(self, Destination::Numbered(_)) => {}
                Err(e) => return Err(failed(&path, e)),
            }
        }
        Err(Error::Usage(format!("{}: every number is taken; name a folder with `out`", base.display())))
    }
}

/// A run folder in which no other process trains as long as this value lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// None where the file system has no locks.
    lock: Option<File>,
    /// Whether the folder was made for this run.
    created: bool,
}

impl RunFolder {
    /// A folder for a new run: it holds no file that the run would write.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is a run, where another process trains, or where a file of another origin is in
    /// the way; [`Error::Io`].
    pub(crate) fn claim(to: &Destination) -> Result<RunFolder> {
        let (path, created) = to.make()?;
        Self::own(path, created)
    }

    fn own(path: PathBuf, created: bool) -> Result<RunFolder> {
        let folder = RunFolder { lock: lock(&path)?, path, created };
        check_free(&folder.path)?;
        folder.clear();
        Ok(folder)
    }

    /// The folder of a run that goes on, without what a killed process left half-written.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no run or another process trains in it.
    pub(crate) fn reopen(path: &Path) -> Result<(RunFolder, RunFile)> {
        // Before the lock, so that nothing is written where there is no run; and after it, since it may have changed.
        RunFile::read(path)?;
        let folder = RunFolder { lock: lock(path)?, path: path.into(), created: false };
        folder.remove(is_temporary);
        Ok((folder, RunFile::read(path)?))
    }

    /// Keeps other processes from training in a run's folder while its files are changed by other means.
    ///
    /// # Errors
    /// [`Error::Usage`] where another process trains in it.
    pub fn hold(path: &Path) -> Result<RunFolder> {
        Ok(RunFolder { lock: lock(path)?, path: path.into(), created: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what this run wrote, and the folder where it was made for the run.
    pub(crate) fn clear(&self) {
        self.remove(|name| is_own(name) || is_temporary(name));
    }

    fn remove(&self, wanted: impl Fn(&str) -> bool) {
        for name in names(&self.path).unwrap_or_default().iter().filter(|name| wanted(name)) {
            let _ = std::fs::remove_file(self.path.join(name));
        }
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // While it is locked still: whoever opened it before finds out in `lock` that it is gone.
        if cfg!(unix) && self.lock.is_some() {
            let _ = std::fs::remove_file(self.path.join(LOCK));
        }
        // Only an empty folder can be removed.
        if self.created {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// An error unless everything in a folder that a run would write belongs to a run that has not begun.
fn check_free(path: &Path) -> Result<()> {
    if RunFile::read(path).is_ok() {
        return match has_begun(path) {
            true => Err(Error::Usage(format!(
                "{}: there is a run in it; go on with `resume` {}, or name another folder with `out`",
                path.display(),
                quoted(path)
            ))),
            false => Ok(()),
        };
    }
    match names(path)?.into_iter().find(|name| is_own(name)) {
        Some(name) => Err(Error::Usage(format!(
            "{}: the file exists and belongs to no run; a run would overwrite it: name another folder with `out`",
            path.join(name).display()
        ))),
        None => Ok(()),
    }
}

/// Whether there is anything of the run in a folder that would be lost if it began anew.
pub(crate) fn has_begun(folder: &Path) -> bool {
    last_checkpoint(folder).exists() || folder.join("model.safetensors").exists()
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let failed = |e| Error::io(folder, "list", e);
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let names = std::fs::read_dir(folder).map_err(failed)?.map(name);
    let mut names = names.collect::<std::io::Result<Vec<String>>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

/// Locks a folder until the file is closed; nothing where the file system has no locks.
pub(crate) fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    loop {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| Error::io(&path, "create", e))?;
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => {
                // For whoever is refused. A full disk is no reason to stop here.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                return Ok(Some(file));
            }
            // The process that held it has removed it meanwhile.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut id = String::new();
                let _ = file.take(20).read_to_string(&mut id);
                let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
                return Err(Error::Usage(format!(
                    "{}: another process{} trains in this folder; wait until it ends, or name another folder with `out`",
                    folder.display(),
                    if digits { format!(" ({id})") } else { String::new() }
                )));
            }
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

/// Whether an open file is the one at `path`.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata().map(id), std::fs::metadata(path).map(id)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Whether a run writes a file of this name.
fn is_own(name: &str) -> bool {
    let phase = |name: &str| name.strip_prefix("phase")?.strip_suffix(".safetensors")?.parse::<u16>().ok();
    OWN.contains(&name) || phase(name).is_some() || tensorboard::is_event_file(name)
}

/// Whether [`crate::nn::write_atomically`] names its files so before they are whole.
fn is_temporary(name: &str) -> bool {
    name.starts_with(crate::nn::TEMPORARY)
}
