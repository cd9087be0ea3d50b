//! `defrost predict`: what is on these pictures.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::network::NetworkOptions;
use super::output::{Output, Style};
use super::{Session, positive, usage_error};
use crate::data::{self, list_pictures};
use crate::models::{Network, Task, imagenet};
use crate::train::Predictor;
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost predict runs/photos picture.jpg
  defrost predict runs/photos holidays/ --top 3 --json
  defrost predict --model resnet50 --weights resnet50.safetensors picture.jpg";

/// Say what is on pictures
///
/// Pictures that cannot be read are reported; the command fails only where none can be.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Predict {
    /// A run folder or checkpoint (not with --weights), then pictures and folders of pictures
    #[arg(required = true, value_names = ["RUN", "PICTURES"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
    /// How many classes to name for each picture
    #[arg(long, value_name = "K", default_value = "5", value_parser = positive)]
    top: usize,
    /// Pictures at a time
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    batch: usize,
    /// Look at each picture in the mirror, too, and average the logits
    #[arg(long)]
    flips: bool,
}

impl Predict {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        let (net, paths) = self.network.open(session, &self.paths)?;
        if paths.is_empty() {
            return Err(usage_error(
                "give pictures, or folders of pictures: defrost predict RUN PICTURES...",
            ));
        }
        let (pictures, mut failed) = listed(paths);
        failed.iter().for_each(|e| unreadable(out, e));
        let mut done = 0;
        if !pictures.is_empty() {
            let device = session.device()?;
            let batch = self.batch.min(pictures.len());
            let mut predictor = Predictor::new(&device, &net, batch)?.flips(self.flips);
            for group in pictures.chunks(self.batch) {
                let (good, crops) = decode(out, &net, group, &mut failed);
                for (path, probabilities) in good.iter().zip(predictor.predict(&crops)?) {
                    self.show(out, &net, path, &probabilities);
                    done += 1;
                }
            }
        }
        if out.json {
            let seconds = began.elapsed().as_secs_f64();
            out.event("done", json!({ "count": done, "skipped": failed.len(), "seconds": seconds }));
        }
        match failed.len() {
            n if done == 0 => Err(Error::Data(format!("none of the pictures could be read ({n} tried)"))),
            _ => Ok(()),
        }
    }

    /// The most likely classes of one picture.
    fn show(&self, out: &Output, net: &Network, path: &Path, probabilities: &[f32]) {
        if net.config().task == Task::Regression {
            let named = net.classes().iter().zip(probabilities);
            if out.json {
                let values: Vec<Value> =
                    named.map(|(name, value)| json!({ "name": name, "value": value })).collect();
                out.event("prediction", json!({ "path": path.to_string_lossy(), "values": values }));
            } else {
                out.line(out.style(Style::Bold, path.display()));
                named.for_each(|(name, value)| out.line(format_args!("  {value:>12.4}  {name}")));
            }
            return;
        }
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        order.truncate(self.top);
        if out.json {
            let guess = |&class: &usize| {
                let mut guess = json!({
                    "class": net.classes()[class],
                    "index": class,
                    "probability": probabilities[class],
                });
                if net.knows_imagenet() {
                    guess["wnid"] = imagenet::classes()[class].wnid.into();
                }
                guess
            };
            let predictions: Vec<Value> = order.iter().map(guess).collect();
            out.event("prediction", json!({ "path": path.to_string_lossy(), "predictions": predictions }));
            return;
        }
        out.line(out.style(Style::Bold, path.display()));
        for class in order {
            out.line(format_args!("  {:6.2}%  {}", probabilities[class] * 100.0, net.classes()[class]));
        }
    }
}

/// All pictures of files and folders, and what is none.
pub(super) fn listed(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<Error>) {
    let (mut pictures, mut failed) = (Vec::new(), Vec::new());
    for path in paths {
        match list_pictures(std::slice::from_ref(path)) {
            Ok(found) => pictures.extend(found),
            Err(e) => failed.push(e),
        }
    }
    (pictures, failed)
}

/// The pictures of a group that can be read, and what the network sees of each. The others are reported.
pub(super) fn decode<'a>(
    out: &Output,
    net: &Network,
    group: &'a [PathBuf],
    failed: &mut Vec<Error>,
) -> (Vec<&'a Path>, Vec<Vec<u8>>) {
    let decode = |path: &PathBuf| data::load(path).map(|p| data::eval(&p, net.preprocess()));
    let decoded: Vec<Result<Vec<u8>>> = group.par_iter().map(decode).collect();
    let (mut good, mut crops) = (Vec::new(), Vec::new());
    for (path, crop) in group.iter().zip(decoded) {
        match crop {
            Ok(crop) => {
                good.push(path.as_path());
                crops.push(crop);
            }
            Err(e) => {
                unreadable(out, &e);
                failed.push(e);
            }
        }
    }
    (good, crops)
}

/// A picture, or a path, that nothing can be said about.
pub(super) fn unreadable(out: &Output, error: &Error) {
    out.warn(format_args!("skipped {error}"));
}
