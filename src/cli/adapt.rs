//! `defrost adapt`: adapts a network to images that look different from its training images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::network::open_source;
use super::output::{Style, duration, escaped, grouped};
use super::progress::Progress;
use super::{Session, cache_folder, positive, usage_error};
use crate::data::{Dataset, list_images};
use crate::models::Network;
use crate::train::{AdaptOptions, Adapted, Aligned, SolverOptions, adapt, align_head, reopen};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost adapt runs/photos night/
  defrost adapt runs/photos night/ --method both --out night.safetensors
  defrost adapt runs/photos a.jpg b.jpg c.jpg --mix 0.8
  defrost eval night.safetensors labelled-night/

IMAGES come from where the network is to be used: another camera, other light. They need no labels.

  batch-norm  statistics of all batch norms are estimated anew on them (Li et al. 2016). The head of a run is solved
              for anew on the run's training images, with statistics of their own: one that learned with others
              does not fit. With --keep-head, or given a checkpoint, statistics alone change: right for a network that
              learned with its own (--batch-norm train)
  coral       the head is solved for anew on the training images, whose features are first given the mean and
              covariance of those of IMAGES (CORAL, Sun et al. 2016)
  both        as batch-norm, and the features are aligned as for coral

The statistics of few images are uncertain: of n, take a --mix of about 16 / (16 + n) (Schneider et al. 2020).
All classes should be among IMAGES, about as often as they will be met. Where these look like the training
images, there is nothing to win.";

/// Adapt a network to images that look different from its training images, without labels
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Adapt {
    /// A run folder; for batch-norm also a checkpoint written by Defrost
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Images and folders of images
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Method of adaptation
    #[arg(long, value_enum, default_value = "batch-norm")]
    method: Method,
    /// Leave the head as it is
    #[arg(long)]
    keep_head: bool,
    /// The checkpoint to write [default: adapted.safetensors in the run folder]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Weight of the network's own statistics, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0")]
    mix: f64,
    /// Images at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    batch: usize,
    /// Seed of the order of the images, and of the cross-validation that chooses the head's penalty
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Where features are cached between runs [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "DEFROST_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    BatchNorm,
    Coral,
    Both,
}

impl Adapt {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        let (mut net, source) = self.open()?;
        let file = self.file()?;
        let target = Dataset::unlabelled(list_images(&self.images)?);
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let (mut skipped, mut norms, mut head) = (Vec::new(), None, None);
        let mut home = net.clone();
        if self.method != Method::Coral {
            let options = AdaptOptions { mix: self.mix, batch: self.batch, seed: self.seed };
            let mut renorm = |net: &mut Network, images: &Dataset| {
                adapt(net, &device, Arc::new(images.clone()), &options, &mut progress)
            };
            let done = renorm(&mut net, &target)?;
            if let Some(source) = &source {
                renorm(&mut home, source)?;
            }
            skipped.extend(done.skipped.iter().cloned());
            norms = Some(done);
        }
        if let Some(source) = &source {
            let cache = self.cache.clone().unwrap_or_else(cache_folder);
            let options = SolverOptions { seed: self.seed, ..SolverOptions::default() };
            let sets = (source, (self.method != Method::BatchNorm).then_some(&target));
            let done = align_head(&mut net, &home, &device, sets, Some(&cache), &options, &mut progress)?;
            skipped.extend(done.skipped.iter().filter(|s| !skipped.contains(s)).cloned().collect::<Vec<_>>());
            head = Some(done);
        }
        drop(progress);
        // The temperature was fitted to the source domain, with other logits.
        net.set_temperature(None)?;
        net.save(&file)?;
        out.skipped(&skipped);
        let seconds = began.elapsed().as_secs_f64();
        if out.json {
            let norms = norms.map(|Adapted { images, norms, shift, .. }| {
                json!({ "images": images, "pictures": images, "norms": norms, "shift": shift })
            });
            let head = head.map(|Aligned { source, target, solved, .. }| {
                json!({ "source": source, "target": target, "penalty": solved.penalty, "loss": solved.loss })
            });
            out.event(
                "done",
                json!({
                    "batch_norm": norms,
                    "head": head,
                    "skipped": skipped.len(),
                    "file": file.to_string_lossy(),
                    "seconds": seconds,
                }),
            );
            return Ok(());
        }
        if let Some(Adapted { images, norms, shift, .. }) = norms {
            let norms = out.style(Style::Bold, grouped(norms));
            out.line(format_args!(
                "batch norms  {norms}, on {} images; means moved by {shift:.2} deviations",
                grouped(images)
            ));
        }
        if let Some(Aligned { source, target, .. }) = head {
            let with = match target {
                0 => String::new(),
                n => format!(", aligned with {}", grouped(n)),
            };
            out.line(format_args!("head         solved for on {} training images{with}", grouped(source)));
        }
        out.line(format_args!("{}, {}", escaped(file.display()), duration(seconds)));
        Ok(())
    }

    /// The network, and its training images where they are needed.
    fn open(&self) -> Result<(Network, Option<Dataset>)> {
        if self.keep_head && self.method != Method::BatchNorm {
            return Err(usage_error("--keep-head: coral is nothing but another head; leave one away"));
        }
        if self.method == Method::BatchNorm && (self.keep_head || self.run.is_file()) {
            return Ok((open_source(&self.run)?, None));
        }
        if self.run.is_file() {
            return Err(usage_error(format!(
                "{}: a checkpoint without its run; coral needs the images that it was trained on: give the run \
                 folder, or take --method batch-norm",
                self.run.display()
            )));
        }
        let (_, net, splits) = reopen(&self.run)?;
        Ok((net, Some(splits.train)))
    }

    /// The path of the new checkpoint: never that of the old one.
    fn file(&self) -> Result<PathBuf> {
        let file = match &self.out {
            Some(file) => file.clone(),
            None if self.run.is_dir() => self.run.join("adapted.safetensors"),
            None => return Err(usage_error("--out is missing: name the checkpoint to write")),
        };
        let from = if self.run.is_dir() { self.run.join("model.safetensors") } else { self.run.clone() };
        let same =
            |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
        if same(&file, &from) {
            return Err(usage_error(format!(
                "--out {}: the network that is adapted; its own statistics would be lost: name another file",
                file.display()
            )));
        }
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        }
        Ok(file)
    }
}
