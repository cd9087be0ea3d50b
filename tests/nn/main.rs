//! Names, shapes, freezing and weight files, on every architecture.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod files;
mod freeze;
mod names;

use std::path::PathBuf;

/// The folder of real weights; tests that need it say so where it is not there.
pub fn material() -> Option<PathBuf> {
    let folder = std::env::var_os("DEFROST_MATERIAL").map(PathBuf::from).filter(|p| p.is_dir());
    if folder.is_none() {
        eprintln!("SKIPPED: DEFROST_MATERIAL does not name a folder");
    }
    folder
}
