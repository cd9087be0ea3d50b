//! `defrost train`: trains a network on a folder of images, into a run folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::{Value, json};

use super::network::is_model;
use super::output::{Style, duration, escaped};
use super::progress::Progress;
use super::settings::{Everything, Given, check_varied, refused_with_resume};
use super::tune::tune_for;
use super::{Session, cache_folder, usage_error, weights};
use crate::data::DrawnSet;
use crate::error::quoted;
use crate::models::Network;
use crate::report::write as write_report;
use crate::train::{
    Config, Context, Destination, Observer, Report, Section, Strategy, TensorBoard, dry_run, resume, run,
};
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

DATA holds a folder of images for each class (part of them validates), or train/ and val/ with such
folders, or MNIST's IDX files; or it is a table (.csv) that names images and labels; or drawn:things or drawn:signs,
images that Defrost draws itself (drawn:signs,side=64,train=200,val=20). Ctrl-C saves the run, which --resume then goes on with; once more ends at once.";

/// Train a pretrained network on your own classes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Train {
    /// Folder of images, or a table of labels (.csv)
    #[arg(required_unless_present = "resume")]
    data: Option<PathBuf>,
    /// The run folder [default: runs/DATA-MODEL, numbered where that exists]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Resume this run, with its own settings, as if it had not stopped
    #[arg(long, value_name = "RUN", conflicts_with_all = refused_with_resume())]
    resume: Option<PathBuf>,
    /// Train nothing: print what would be trained, and write a PNG of augmented images to --out or
    /// runs/DATA-MODEL-augmented.png
    #[arg(long, conflicts_with = "tune")]
    dry_run: bool,
    /// Write no report.html into the run folder at the end
    #[arg(long, conflicts_with = "dry_run")]
    no_report: bool,
    /// Also write the figures of each epoch for TensorBoard: an event file in the run folder. A resumed run continues
    /// it without this option
    #[arg(long, conflicts_with = "dry_run")]
    tensorboard: bool,
    /// Where features are cached between runs [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "DEFROST_CACHE", hide_env_values = true)]
    pub(super) cache: Option<PathBuf>,
    /// First find the fastest kernels for this device, for at most this many seconds (see `defrost tune`)
    #[arg(long, value_name = "SECONDS", conflicts_with = "resume", value_parser = clap::value_parser!(u64).range(1..))]
    tune: Option<u64>,
    #[command(flatten)]
    settings: Given<Everything>,
}

impl Train {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        if self.dry_run {
            return self.dry_run(session);
        }
        let cache = self.cache.clone().unwrap_or_else(cache_folder);
        let stop = on_interrupt()?;
        let mut progress = Progress::new(out);
        let config = match &self.resume {
            Some(_) => None,
            None => Some(self.config(session)?),
        };
        let device = session.device()?;
        let mut board;
        let goes_on = self.resume.as_deref().is_some_and(TensorBoard::is_in);
        let observer: &mut dyn Observer = if self.tensorboard || goes_on {
            board = TensorBoard::new(&mut progress);
            &mut board
        } else {
            &mut progress
        };
        if let (Some(seconds), Some(config)) = (self.tune, &config) {
            tune_for(out, &device, config, seconds)?;
        }
        let context = Context { device: &device, cache, observer, stop };
        let report = match (config, &self.resume) {
            (Some(config), _) => {
                let out = self.out.as_ref().map(Destination::from);
                run(&config, out.unwrap_or_else(|| Destination::Numbered(default_out(&config))), context)?
            }
            (None, folder) => resume(folder.as_deref().unwrap_or(Path::new("")), context)?,
        };
        let skipped = progress.skipped;
        let folder = report.run.clone().unwrap_or_default();
        let page = match report.interrupted || self.no_report {
            true => None,
            // The trained network is complete all the same.
            false => write_report(&folder, None, &device, &mut progress)
                .inspect_err(|e| out.warn(format_args!("no report was written: {e}")))
                .ok(),
        };
        drop(progress);
        let pressed = report.interrupted && stop.load(Ordering::SeqCst);
        if out.json {
            let name = if pressed { "interrupted" } else { "done" };
            let mut fields = serde_json::to_value(&report).unwrap_or(Value::Null);
            fields["skipped"] = skipped.into();
            fields["report"] = json!(page.as_ref().map(|page| page.to_string_lossy()));
            out.event(name, fields);
        } else {
            show(session, &report);
            if let Some(page) = page {
                out.note(format_args!("report: {}", page.display()));
            }
        }
        if pressed {
            return Err(Error::Interrupted(format!(
                "interrupted; the run is saved: go on with defrost train --resume {}",
                quoted(&folder)
            )));
        }
        Ok(())
    }

    /// Prints what would be trained, and writes the contact sheet.
    fn dry_run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let config = self.config(session)?;
        let path = match &self.out {
            Some(path) if path.extension().is_some_and(|extension| extension == "png") => path.clone(),
            given => sheet_of(given.as_deref().unwrap_or(&default_out(&config))),
        };
        let mut progress = Progress::new(out);
        let sheet = dry_run(&config, &mut progress)?;
        drop(progress);
        sheet.write_png(&path)?;
        if config.strategy.head_only() {
            out.note("strategy features sees each image once, as in the first column");
        }
        if out.json {
            out.event("sheet", json!({ "path": path.to_string_lossy() }));
        } else {
            out.line(escaped(path.display()));
        }
        Ok(())
    }

    /// A given option that does not apply to a sweep of the learning rate.
    pub(super) fn beyond_a_sweep(&self) -> Option<&'static str> {
        let given = [
            ("--resume", self.resume.is_some()),
            ("--out", self.out.is_some()),
            ("--dry-run", self.dry_run),
            ("--no-report", self.no_report),
            ("--tune", self.tune.is_some()),
            ("--tensorboard", self.tensorboard),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    pub(super) fn config(&self, session: &Session) -> Result<Config> {
        let data = self.data.clone().unwrap_or_default();
        if !data.exists() && is_model(&data) {
            let name = data.display();
            return Err(usage_error(format!(
                "'{name}' stands where the images' folder belongs: --model {name}"
            )));
        }
        let mut config = Config { data, ..Config::default() };
        self.settings.apply(&mut config)?;
        if !self.settings.has("strategy") {
            config.strategy = Strategy::usual(self.settings.any(Section::Freezing, "strategy"));
        }
        let named = !config.model.is_empty();
        match &config.weights {
            None if named && !config.strategy.pretrained() => {}
            None if named => {
                let (model, file) = weights::usual(session, &config.model)?;
                (config.model, config.weights) = (model, Some(file));
            }
            Some(weights) if !named => config.model = Network::open(weights)?.config().model.clone(),
            Some(_) => {}
            None => {
                return Err(usage_error(
                    "--model is missing: name a pretrained network, such as --model resnet50, or a checkpoint of \
                     Defrost's with --weights",
                ));
            }
        }
        check_varied(&config)?;
        Ok(config)
    }
}

fn show(session: &Session, report: &Report) {
    let (out, val) = (&session.out, report.val_images);
    let (names, Report { best_epoch, epochs, .. }) = (report.task.metric(), report);
    out.line(format_args!(
        "{} {}, epoch {best_epoch} of {epochs}, {}",
        out.style(Style::Bold, format_args!("validation {}", names.val)),
        names.with_interval(report.val_accuracy, val),
        duration(report.seconds)
    ));
    if let Some(folder) = &report.run {
        match report.interrupted {
            true => out.line(format_args!("stopped; to go on: defrost train --resume {}", quoted(folder))),
            false => out.line(escaped(folder.display())),
        }
    }
}

/// `runs/DATA-MODEL`.
fn default_out(config: &Config) -> PathBuf {
    let drawn = DrawnSet::named(&config.data).and_then(Result::ok);
    let named = drawn.map_or_else(|| config.data.clone(), |set| set.scenes.name().into());
    let data = named.canonicalize().unwrap_or(named);
    // The name of a table, without its extension.
    let name = if data.is_file() { data.file_stem() } else { data.file_name() };
    let name = name.map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned());
    // A path in the model's name must not lead out of the folder.
    let model: String = config.model.chars().map(|c| if c == '/' || c == '\\' { '-' } else { c }).collect();
    Path::new("runs").join(format!("{name}-{model}"))
}

/// `RUN-augmented.png` beside a run folder.
fn sheet_of(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{name}-augmented.png"))
}

/// A flag that Ctrl-C sets; the second Ctrl-C ends the process.
pub(super) fn on_interrupt() -> Result<&'static AtomicBool> {
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
