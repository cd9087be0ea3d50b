//! The description of a run, written before training: settings, network, split, trials.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::{DrawnSet, Splits};
use crate::gpu::Host;
use crate::models::{self, Network};
use crate::plan::Device;
use crate::train::events::Trial;
use crate::train::settings::Config;
use crate::{Error, Result};

/// `config.json` of a run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Version of this description: 1.
    pub schema_version: u32,
    /// The version of Defrost that wrote it.
    pub defrost: String,
    /// The device that the run began on.
    pub device: String,
    /// System, architecture and processor of the machine.
    #[serde(default)]
    pub system: String,
    /// All settings.
    pub arguments: Config,
    /// The network.
    pub model: models::Config,
    /// Number of training images.
    #[serde(alias = "train_pictures")]
    pub train_images: usize,
    /// Number of validation images.
    #[serde(alias = "val_pictures")]
    pub val_images: usize,
}

impl RunFile {
    /// Reads the description of the run in `folder`.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is no run, [`Error::Data`] where the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::Usage(format!("{}: no run: there is no config.json in it", folder.display())));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, "read", e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Data(format!("{}: damaged: {e}; begin a new run", path.display())))
    }
}

/// Writes `trials.json`: the trials of strategy `auto`.
pub(crate) fn write_trials(out: &Path, trials: &[Trial]) -> Result<()> {
    let text = serde_json::to_string_pretty(trials).map_err(|e| Error::Data(e.to_string()))? + "\n";
    crate::nn::write_atomically(out.join("trials.json"), |file| {
        std::io::Write::write_all(file, text.as_bytes())
    })
}

/// Writes `config.json` and `split.json`.
pub(crate) fn write_description(
    out: &Path,
    config: &Config,
    net: &Network,
    splits: &Splits,
    device: &Device,
) -> Result<()> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let drawn = DrawnSet::named(&config.data).is_some();
    let arguments = Config {
        data: if drawn { config.data.clone() } else { absolute(&config.data) },
        open: config.open.absolute(&config.data),
        weights: config.weights.as_ref().map(absolute),
        teacher: config.teacher.as_ref().map(absolute),
        ..config.clone()
    };
    let file = RunFile {
        schema_version: 1,
        defrost: env!("CARGO_PKG_VERSION").into(),
        device: device.describe(),
        system: format!("{} {}, {}", std::env::consts::OS, std::env::consts::ARCH, Host::new().name),
        arguments,
        model: net.config().clone(),
        train_images: splits.train.len(),
        val_images: splits.val.len(),
    };
    let text = serde_json::to_string_pretty(&file).map_err(|e| Error::Data(e.to_string()))? + "\n";
    crate::nn::write_atomically(out.join("config.json"), |file| {
        std::io::Write::write_all(file, text.as_bytes())
    })?;
    if let Some(manifest) = &splits.manifest {
        manifest.write(&out.join("split.json"))?;
    }
    Ok(())
}
