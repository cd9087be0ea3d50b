//! Pre-training on images that Defrost draws itself: the source of the network in `weights/`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::data::{self, Augment, DrawnSet, Scenes};
use crate::gpu::Host;
use crate::models::Network;
use crate::nn::{convert, write_atomically};
use crate::train::evaluate::predictor::evaluate;
use crate::train::runs::checkpoint::{last_checkpoint, read_metrics};
use crate::train::runs::context::Context;
use crate::train::runs::description::RunFile;
use crate::train::runs::run::{resume, run};
use crate::train::settings::Config;
use crate::train::strategy::SCRATCH;
use crate::{Error, Result};

/// The record of a pre-training, written beside the weights file.
#[derive(Debug, Clone, Serialize)]
pub struct Pretrained {
    /// Version of this record: 1.
    pub schema_version: u32,
    /// Defrost's version.
    pub defrost: String,
    /// Accuracy on the validation images of the network in the file, 0 to 1.
    pub accuracy: f64,
    /// 95% confidence interval of the accuracy.
    pub interval: (f64, f64),
    /// Mean loss on the validation images.
    pub loss: f64,
    /// Number of validation images.
    pub images: usize,
    /// Number of classes.
    pub classes: usize,
    /// Number of epochs done.
    pub epochs: usize,
    /// Wall time of the training, seconds.
    pub seconds: f64,
    /// The device of the training.
    pub device: String,
    /// The machine's processor and its number of threads.
    pub processor: (String, usize),
    /// Size of the weights file.
    pub bytes: u64,
    /// SHA-256 of the weights file.
    pub sha256: String,
    /// All settings.
    pub arguments: Config,
}

/// The settings that trained the network in `weights/`.
pub fn pretraining() -> Config {
    let set = DrawnSet { side: 64, train: 400, ..DrawnSet::new(Scenes::Signs) };
    Config {
        data: set.to_string().into(),
        model: "mobilenet_v2_050".into(),
        size: Some(64),
        strategy: SCRATCH,
        epochs: Some(10),
        batch: Some(64),
        lr: vec![3e-3],
        weight_decay: Some(0.05),
        smoothing: 0.1,
        augment: Augment { scale: (0.6, 1.0), ..Augment::default() },
        ..Config::default()
    }
}

/// Trains a network as `config` says in the run folder `folder`, or resumes a training there. Then writes the network
/// in half precision to `file` and the record beside it, as `.json`. Nothing is written where the training is
/// interrupted.
///
/// # Errors
/// As for [`run`] and [`resume`]; [`Error::Interrupted`].
pub fn pretrain(config: &Config, folder: &Path, file: &Path, context: Context<'_>) -> Result<Pretrained> {
    if file.extension().is_none_or(|extension| extension != "safetensors") {
        return Err(Error::Usage(format!(
            "{}: weights are written as .safetensors: name it so",
            file.display()
        )));
    }
    if file.is_dir() {
        return Err(Error::Usage(format!("{}: a folder: name the file of weights in it", file.display())));
    }
    if let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create folder", e))?;
    }
    let Context { device, cache, observer, stop } = context;
    let goes_on = last_checkpoint(folder).exists();
    let whole = |config: &Config| Config { stop_after: None, ..config.clone() };
    if goes_on && whole(&RunFile::read(folder)?.arguments) != whole(config) {
        return Err(Error::Usage(format!(
            "{}: there is a run with other settings in it; name another folder with `out`",
            folder.display()
        )));
    }
    let inner = Context { device, cache, observer: &mut *observer, stop };
    let report = match goes_on {
        true => resume(folder, inner)?,
        false => run(config, folder, inner)?,
    };
    if report.interrupted {
        return Err(Error::Interrupted(format!(
            "interrupted; the training is saved in {}: the same command goes on with it",
            folder.display()
        )));
    }
    convert(folder.join("model.safetensors"), file, true).map_err(|e| match e {
        Error::Weights(message) => Error::Diverged(format!(
            "the training in {} diverged: {message}; remove the folder, and choose a smaller `lr`",
            folder.display()
        )),
        e => e,
    })?;
    let val = Arc::new(data::open(&config.data, &config.open_options(None))?.val);
    let images = val.len();
    let net = Network::open(file)?;
    let found = evaluate(&net, device, val, 64, observer)?;
    let (count, numbers) = (found.metrics.count(), found.metrics.json(net.classes()));
    let ((right, interval), loss) = (found.correct().zip(numbers["loss"].as_f64()))
        .ok_or_else(|| Error::Data("drawn images have classes, and these were not classified".into()))?;
    let bytes = std::fs::read(file).map_err(|e| Error::io(file, "read", e))?;
    let host = Host::new();
    let digest = Sha256::digest(&bytes);
    let record = Pretrained {
        schema_version: 1,
        defrost: env!("CARGO_PKG_VERSION").into(),
        accuracy: right as f64 / count.max(1) as f64,
        interval,
        loss,
        images,
        classes: net.classes().len(),
        epochs: report.epochs,
        seconds: read_metrics(folder)?.last().map_or(report.seconds, |m| m.seconds),
        device: device.describe(),
        processor: (host.name, host.threads),
        bytes: bytes.len() as u64,
        sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        arguments: config.clone(),
    };
    let text = serde_json::to_string_pretty(&record).map_err(|e| Error::Data(e.to_string()))? + "\n";
    write_atomically(file.with_extension("json"), |out| out.write_all(text.as_bytes()))?;
    Ok(record)
}
