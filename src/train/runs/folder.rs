//! The folder of a run: which process may write into it, and which files belong to the run.
//!
//! A training process holds a lock on `.defrost.lock`. The system releases the lock when the process ends, however it
//! ends. `config.json` is the first file of a run, so a folder without it holds no run, and files with a run's names
//! in it have another origin. `last.safetensors` is written before the first step: from then on the run can be
//! resumed; until then the same command may begin it again.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::quoted;
use crate::train::runs::checkpoint::last_checkpoint;
use crate::train::runs::description::RunFile;
use crate::train::runs::tensorboard;
use crate::{Error, Result};

/// The lock file.
const LOCK: &str = ".defrost.lock";

/// Files of a run, besides `phaseN.safetensors` and TensorBoard's event files.
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

/// Destination of a new run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// This folder, which must not hold a run.
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
    /// Checks early whether the folder can be claimed; writes nothing.
    ///
    /// # Errors
    /// As for [`RunFolder::claim`].
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Destination::Folder(path) if path.is_dir() => {
                if path.join(LOCK).exists() {
                    // A process that trains there now is the more important error: report it first.
                    drop(lock(path)?);
                }
                check_free(path)
            }
            _ => Ok(()),
        }
    }

    /// Creates the folder; also returns whether the folder is new.
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

/// A run folder. While this value lives, no other process trains in the folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// None where the file system has no locks.
    lock: Option<File>,
    /// Whether this run created the folder.
    created: bool,
}

impl RunFolder {
    /// Claims a folder for a new run: it must hold no file that the run would write.
    ///
    /// # Errors
    /// [`Error::Usage`] where the folder holds a run, where another process trains in it, or where a file of another
    /// origin is in the way; [`Error::Io`].
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

    /// Claims the folder of a run that resumes, and removes temporary files of a killed process.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no run or another process trains in it.
    pub(crate) fn reopen(path: &Path) -> Result<(RunFolder, RunFile)> {
        // Read before the lock, so that nothing is written where there is no run; and again after it, since the file
        // may have changed.
        RunFile::read(path)?;
        let folder = RunFolder { lock: lock(path)?, path: path.into(), created: false };
        folder.remove(is_temporary);
        Ok((folder, RunFile::read(path)?))
    }

    /// Locks a run's folder, so that no other process trains in it while something else changes its files.
    ///
    /// # Errors
    /// [`Error::Usage`] where another process trains in it.
    pub fn hold(path: &Path) -> Result<RunFolder> {
        Ok(RunFolder { lock: lock(path)?, path: path.into(), created: false })
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the files of this run, and the folder if the run created it.
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
        // Removed while locked: a process that opened the file before detects the removal in `lock`.
        if cfg!(unix) && self.lock.is_some() {
            let _ = std::fs::remove_file(self.path.join(LOCK));
        }
        // Only an empty folder can be removed.
        if self.created {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// Fails unless every file of a run's names in a folder belongs to a run that has not begun.
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

/// Whether a folder holds results of its run that would be lost if the run began again.
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

/// Locks a folder until the file is closed; none where the file system has no locks.
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
                // The process id, for the message of a process that is refused. A full disk is no reason to stop
                // here.
                let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
                return Ok(Some(file));
            }
            // The process that held the lock has removed the file meanwhile: try again.
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

/// Whether an open file is the one at `path` now.
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

/// Whether [`crate::nn::write_atomically`] gives its temporary files such a name.
fn is_temporary(name: &str) -> bool {
    name.starts_with(crate::nn::TEMPORARY)
}
