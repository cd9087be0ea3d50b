//! `defrost calibrate`: calibrates a network's probabilities by a temperature.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::network::open_source;
use super::output::{Style, escaped, grouped, percent};
use super::progress::Progress;
use super::{Session, positive, usage_error};
use crate::Result;
use crate::data::{by_name, open_labelled};
use crate::train::{RunFolder, calibrate, reopen};

const EXAMPLES: &str = "\
Examples:
  defrost calibrate runs/photos
  defrost calibrate runs/photos held-out/

A network is often surer than it is right. One number, the temperature, that all logits are divided by makes
probabilities fit the shares of right answers (Guo et al. 2017); which class is the likeliest stays as it is. It is
fitted to the run's validation images, or to DATA, a folder of class folders that the network has not learned
from, and kept in the checkpoint, where predict and eval find it. What learns on starts without.";

/// Fit a temperature, so that the network's confidence agrees with its accuracy
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Calibrate {
    /// A run folder, or a checkpoint written by Defrost with DATA
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Folder of class folders [default: the validation images of the run]
    data: Option<PathBuf>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    batch: usize,
}

impl Calibrate {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        // A training in progress would overwrite the temperature.
        let _held = if self.run.is_dir() { Some(RunFolder::hold(&self.run)?) } else { None };
        let mut net = open_source(&self.run)?;
        let dataset = match &self.data {
            Some(data) => open_labelled(data, net.classes(), by_name(net.classes()))?,
            None if self.run.is_dir() => reopen(&self.run)?.2.val,
            None => {
                return Err(usage_error(format!(
                    "{}: a checkpoint without its run; give a folder of class folders, too: defrost calibrate RUN DATA",
                    self.run.display()
                )));
            }
        };
        let mut skipped = dataset.skipped.clone();
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let done = calibrate(&mut net, &device, Arc::new(dataset), self.batch, &mut progress)?;
        drop(progress);
        let file = if self.run.is_dir() { self.run.join("model.safetensors") } else { self.run.clone() };
        net.save(&file)?;
        skipped.extend(done.skipped);
        out.skipped(&skipped);
        if out.json {
            out.event(
                "done",
                json!({
                    "temperature": done.temperature,
                    "loss": { "before": done.loss[0], "after": done.loss[1] },
                    "ece": { "before": done.ece[0], "after": done.ece[1] },
                    "count": done.count,
                    "skipped": skipped.len(),
                    "file": file.to_string_lossy(),
                }),
            );
            return Ok(());
        }
        let temperature = out.style(Style::Bold, format_args!("{:.3}", done.temperature));
        out.line(format_args!("temperature  {temperature}  (fitted to {} images)", grouped(done.count)));
        out.line(format_args!("loss         {:.4}, was {:.4}", done.loss[1], done.loss[0]));
        out.line(format_args!("ECE          {}, was {}", percent(done.ece[1]), percent(done.ece[0])));
        out.line(escaped(file.display()));
        Ok(())
    }
}
