//! The fastest kernels of a device, where an op offers several.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Kernels by the op and operands that they were chosen for, as `defrost tune` measured them. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices(Arc<BTreeMap<String, String>>);

/// The file of stored choices.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Kernels change with the version.
    version: String,
    /// Adapter and driver.
    device: String,
    kernels: BTreeMap<String, String>,
}

impl Choices {
    /// The kernel for an op on operands, where one was chosen.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The choices with this one added; it replaces an earlier choice with the same key.
    #[must_use]
    pub fn with(mut self, key: String, kernel: String) -> Self {
        Arc::make_mut(&mut self.0).insert(key, kernel);
        self
    }

    /// A hash of all choices: equal where the choices are.
    pub fn fingerprint(&self) -> u64 {
        let lines: String = self.0.iter().map(|(key, kernel)| format!("{key}={kernel}\n")).collect();
        crate::rng::key_of(&lines)
    }

    /// The choices that a file holds for `device` and this version of Defrost; empty where there is no such file, or
    /// the file is of another device or version.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read or is no such file.
    pub fn load(path: &Path, device: &str) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::io(path, "read", e)),
        };
        let kept: Kept = serde_json::from_str(&text)
            .map_err(|e| Error::io(path, "read", std::io::Error::other(format!("{e}; delete it"))))?;
        let same = kept.device == device && kept.version == env!("CARGO_PKG_VERSION");
        Ok(if same { Choices(Arc::new(kept.kernels)) } else { Self::default() })
    }

    /// Writes the choices as those of `device`, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn save(&self, path: &Path, device: &str) -> Result<()> {
        let kept = Kept {
            version: env!("CARGO_PKG_VERSION").into(),
            device: device.into(),
            kernels: (*self.0).clone(),
        };
        let text = serde_json::to_string_pretty(&kept).unwrap_or_default();
        let aside = path.with_extension("new");
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create", e))?;
        std::fs::write(&aside, text).map_err(|e| Error::io(&aside, "write", e))?;
        std::fs::rename(&aside, path).map_err(|e| Error::io(path, "write", e))
    }
}
