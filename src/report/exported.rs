//! A file that was exported.

use std::path::Path;

use crate::models::{Naming, Precision};

/// A file that was exported.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// Where it lies.
    pub file: &'a Path,
    /// Whose names its tensors bear.
    pub naming: Naming,
    /// How exactly it caches numbers.
    pub precision: Precision,
}

impl Exported<'_> {
    pub(super) fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
