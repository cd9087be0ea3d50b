//! `defrost train`: from a folder of pictures to a run folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::Value;

use super::data_options::DataArgs;
use super::network::is_model;
use super::options::{Freezing, Optimizing, one_of};
use super::output::{Style, duration, percent};
use super::progress::Progress;
use super::tune::tune_for;
use super::{Session, cache_folder, positive, usage_error, weights};
use crate::models::Network;
use crate::train::{Config, Context, Report, Schedule, Strategy, interval, resume, run};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost train photos/ --model resnet50
  defrost train photos/ --model resnet50 --strategy two-phase
  defrost train photos/ --model resnet50 --weights resnet50.safetensors \\
      --strategy finetune --freeze-through layer3 --epochs 8 --lr 1e-4,2e-3
  defrost train photos/ --weights runs/animals/model.safetensors --out runs/photos
  defrost train photos/ --labels labels.csv --model resnet50
  defrost train --resume runs/photos

DATA holds a folder of pictures for each class (part of them validates), or train/ and val/ with such
folders, or MNIST's IDX files; or it is a table (.csv) that names pictures and labels. Ctrl-C saves the run, which --resume then goes on with; once more ends at once.";

/// Teach a pretrained network your own classes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Train {
    /// Folder of pictures, or a table of labels (.csv)
    #[arg(required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// The network: resnet50, mobilenet_v2, ... Not needed for a checkpoint of Defrost's
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Its pretrained weights: torchvision's, timm's or Defrost's, as safetensors or PyTorch's .pth [default: published
    /// weights of the model, fetched once]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The run folder [default: runs/DATA-MODEL, numbered where that exists]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with this run, with its own settings, as if it had not stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "data", "model", "weights", "out", "strategy", "freeze_through", "freeze", "freeze_groups", "batch_norm",
        "epochs", "batch", "head_hidden", "auxiliary", "optimizer", "lr", "momentum", "nesterov", "weight_decay", "schedule",
        "label_smoothing", "val_fraction", "seed", "stop_after",
        "labels", "image_column", "label_column", "label_separator", "task", "group_by",
    ])]
    resume: Option<PathBuf>,
    /// Where features are kept between runs [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "DEFROST_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
    /// First find the fastest kernels for this device, for so many seconds (see `defrost tune`)
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume", value_parser = clap::value_parser!(u64).range(1..))]
    tune: Option<u64>,
    #[command(flatten)]
    about: DataArgs,
    #[command(flatten)]
    freezing: Freezing,
    #[command(flatten)]
    teaching: Teaching,
}

/// How it is taught.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is taught")]
struct Teaching {
    /// Passes over the pictures [default: 40 for features, 5 for finetune]
    #[arg(long, value_name = "N", value_parser = positive)]
    epochs: Option<usize>,
    /// Pictures a step [default: 32 on kept features, else 8 to 32 by the number of pictures]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    #[command(flatten)]
    optimizing: Optimizing,
    /// A hidden layer of so many features in the head: linear, ReLU, dropout, linear [default: none]
    #[arg(long, value_name = "FEATURES", value_parser = positive)]
    head_hidden: Option<usize>,
    /// Let the auxiliary heads of googlenet and inception_v3 learn, too
    #[arg(long)]
    auxiliary: bool,
    /// Learning rate: one, or body,head, or one for each layer group [default: by strategy]
    #[arg(long, value_name = "RATES", value_delimiter = ',', allow_negative_numbers = true)]
    lr: Vec<f64>,
    /// Decay of weights; norms and biases do not decay [default: 0.1 with adamw, 1e-4 with sgd]
    #[arg(long)]
    weight_decay: Option<f64>,
    /// How the rate goes over the training [default: cosine for features, one-cycle for finetune]
    #[arg(long, value_parser = one_of::<Schedule>(&["constant", "step", "cosine", "one-cycle"]))]
    schedule: Option<Schedule>,
    /// Share of the target that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f32>,
    /// Share of the pictures that validates where DATA has no val/ [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f64>,
    /// Of everything random: the same seed on the same device gives the same run [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this epoch; --resume goes on
    #[arg(long, value_name = "EPOCH", value_parser = positive)]
    stop_after: Option<usize>,
}

impl Teaching {
    fn apply(&self, config: &mut Config) {
        (config.epochs, config.batch, config.stop_after) = (self.epochs, self.batch, self.stop_after);
        (config.head_hidden, config.auxiliary) = (self.head_hidden, self.auxiliary);
        self.optimizing.apply(config);
        config.lr.clone_from(&self.lr);
        config.weight_decay = self.weight_decay.or(config.weight_decay);
        config.schedule = self.schedule.or(config.schedule);
        config.smoothing = self.label_smoothing.unwrap_or(config.smoothing);
        config.val_fraction = self.val_fraction.unwrap_or(config.val_fraction);
        config.seed = self.seed.unwrap_or(config.seed);
    }
}

impl Train {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let cache = self.cache.clone().unwrap_or_else(cache_folder);
        let stop = on_interrupt()?;
        let mut progress = Progress::new(out);
        let report = match &self.resume {
            Some(folder) => {
                let device = session.device()?;
                resume(folder, Context { device: &device, cache, observer: &mut progress, stop })?
            }
            None => {
                let config = self.config(session)?;
                let folder = self.out.clone().unwrap_or_else(|| default_out(&config));
                let device = session.device()?;
                if let Some(seconds) = self.tune {
                    tune_for(out, &device, &config, seconds)?;
                }
                run(&config, &folder, Context { device: &device, cache, observer: &mut progress, stop })?
            }
        };
        let (val, skipped) = (progress.val, progress.skipped);
        drop(progress);
        let pressed = report.interrupted && stop.load(Ordering::SeqCst);
        if out.json {
            let name = if pressed { "interrupted" } else { "done" };
            let mut fields = serde_json::to_value(&report).unwrap_or(Value::Null);
            fields["skipped"] = skipped.into();
            out.event(name, fields);
        } else {
            show(session, &report, val);
        }
        if pressed {
            let folder = report.run.unwrap_or_default();
            return Err(Error::Interrupted(format!(
                "interrupted; the run is saved: go on with defrost train --resume {}",
                folder.display()
            )));
        }
        Ok(())
    }

    fn config(&self, session: &Session) -> Result<Config> {
        let data = self.data.clone().unwrap_or_default();
        if !data.exists() && is_model(&data) {
            let name = data.display();
            return Err(usage_error(format!(
                "'{name}' stands where the pictures' folder belongs: --model {name}"
            )));
        }
        let (model, weights) = match (&self.model, &self.weights) {
            (Some(model), Some(weights)) => (model.clone(), weights.clone()),
            (Some(model), None) => weights::usual(session, model)?,
            (None, Some(weights)) => (Network::open(weights)?.config().model.clone(), weights.clone()),
            (None, None) => {
                return Err(usage_error(
                    "--model is missing: name a pretrained network, such as --model resnet50, or a checkpoint of \
                     Defrost's with --weights",
                ));
            }
        };
        let open = self.about.options();
        let mut config = Config { data, open, model, weights: Some(weights), ..Config::default() };
        self.freezing.apply(&mut config, Strategy::Features);
        self.teaching.apply(&mut config);
        Ok(config)
    }
}

fn show(session: &Session, report: &Report, val: usize) {
    let out = &session.out;
    let right = (report.val_accuracy * val as f64).round() as usize;
    let (low, high) = interval(right, val);
    let Report { best_epoch, epochs, .. } = report;
    out.line(format_args!(
        "{} of {val} validation pictures right (95% interval {} to {}), epoch {best_epoch} of {epochs}, {}",
        out.style(Style::Bold, percent(report.val_accuracy)),
        percent(low),
        percent(high),
        duration(report.seconds)
    ));
    if let Some(folder) = &report.run {
        let state = if report.interrupted { "stopped; to go on: defrost train --resume " } else { "" };
        out.line(format_args!("{state}{}", folder.display()));
    }
}

/// `runs/DATA-MODEL`, or the first of `-2`, `-3`, ... that does not exist.
fn default_out(config: &Config) -> PathBuf {
    let data = config.data.canonicalize().unwrap_or_else(|_| config.data.clone());
    // A table is named without its extension.
    let name = if data.is_file() { data.file_stem() } else { data.file_name() };
    let name = name.map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
    // A tag of weights or a path in the model's name must not lead anywhere else.
    let model: String = config.model.chars().map(|c| if c == '/' || c == '\\' { '-' } else { c }).collect();
    let base = format!("{name}-{model}");
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    let mut names = std::iter::once(base.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    names.find(|folder| !folder.exists()).unwrap_or_else(|| Path::new("runs").join(&base))
}

/// A flag that Ctrl-C sets; the second Ctrl-C ends the process.
fn on_interrupt() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        let _ = writeln!(std::io::stderr(), "interrupted: saving the run; once more ends at once");
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::io("Ctrl-C", "watch for", std::io::Error::other(e.to_string())))?;
    Ok(&STOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_folders_are_named_after_data_and_model() {
        let config =
            Config { data: "no/such/flowers".into(), model: "timm/resnet50".into(), ..Config::default() };
        assert_eq!(default_out(&config), Path::new("runs/flowers-timm-resnet50"));
    }
}
