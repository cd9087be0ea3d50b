//! `defrost fewshot`: accuracy of a network's features with few images a class.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::network::load_with;
use super::output::{Style, count, duration, grouped, percent, table};
use super::progress::Progress;
use super::{Session, cache_folder, positive, usage_error, weights};
use crate::Result;
use crate::data::{self, OpenOptions};
use crate::models::{HeadPolicy, Network};
use crate::train::{Fewshot, FewshotOptions, Method, extract, fewshot};

const EXAMPLES: &str = "\
Examples:
  defrost fewshot photos/ --model mobilenet_v2
  defrost fewshot photos/ --model resnet50 --shots 1,5,20 --trials 50
  defrost fewshot photos/ --weights runs/animals/model.safetensors --shots 1,2

So many images of each class are drawn from the training part, learned from, and measured on all of the
validation part; again and again, since it matters which. Two ways to learn: the nearest class mean of centred
features of length 1 (CL2N in SimpleShot, Wang et al. 2019), and logistic regression with a penalty that is chosen by
cross-validation. Intervals are Student's for the mean over the draws; the validation images stay the same.";

/// Measure the accuracy with few images a class
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct FewshotCommand {
    /// Folder of images, as for train
    data: PathBuf,
    /// The network: resnet50, mobilenet_v2, ... Not needed for a checkpoint written by Defrost
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Its pretrained weights: torchvision's, timm's or Defrost's, as safetensors or PyTorch's .pth [default: published
    /// weights of the model, fetched once]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Images a class
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "1,2,5,10", value_parser = positive)]
    shots: Vec<usize>,
    /// How often they are drawn
    #[arg(long, value_name = "N", default_value = "20", value_parser = positive)]
    trials: usize,
    /// Share of the images for validation where DATA has no val/
    #[arg(long, value_name = "SHARE", default_value = "0.2")]
    val_fraction: f64,
    /// Seed of the draws, and of the split where DATA has no val/
    #[arg(long, default_value = "0")]
    seed: u64,
    /// Where features are cached between runs [default: the user's cache folder]
    #[arg(long, value_name = "DIR", env = "DEFROST_CACHE", hide_env_values = true)]
    cache: Option<PathBuf>,
}

impl FewshotCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        let net = self.network(session)?;
        let options =
            OpenOptions { val_fraction: self.val_fraction, seed: self.seed, ..OpenOptions::default() };
        let splits = data::open(&self.data, &options)?;
        splits.warnings.iter().for_each(|warning| out.warn(warning));
        let device = session.device()?;
        let cache = self.cache.clone().unwrap_or_else(cache_folder);
        let mut progress = Progress::new(out);
        let sets = extract(&net, &device, &[&splits.train, &splits.val], Some(&cache), &mut progress)?;
        let [train, val] = &sets[..] else { return Err(usage_error("no features")) };
        let (trials, seed) = (self.trials, self.seed);
        let options = FewshotOptions { shots: self.shots.clone(), trials, seed };
        let found = fewshot(
            &device,
            &train.vectors()?,
            &val.vectors()?,
            &splits.train.classes,
            &options,
            &mut progress,
        )?;
        drop(progress);
        let skipped = [&splits.train.skipped[..], &splits.val.skipped, &train.skipped, &val.skipped].concat();
        out.skipped(&skipped);
        let seconds = began.elapsed().as_secs_f64();
        if out.json {
            for result in &found {
                out.event("fewshot", serde_json::to_value(result).unwrap_or(Value::Null));
            }
            let (classes, val) = (splits.train.classes.len(), val.len());
            let skipped = skipped.len();
            out.event(
                "done",
                json!({ "classes": classes, "val": val, "skipped": skipped, "seconds": seconds }),
            );
            return Ok(());
        }
        let cell = |shots: usize, method: Method| {
            let result = found.iter().find(|r: &&Fewshot| (r.shots, r.method) == (shots, method));
            result.map_or(String::new(), |r| match r.interval {
                Some((low, high)) => format!("{} ({} to {})", percent(r.mean), percent(low), percent(high)),
                None => percent(r.mean),
            })
        };
        let mut lines =
            vec![["images a class", "nearest mean", "logistic regression"].map(String::from).to_vec()];
        for &shots in &self.shots {
            let [nearest, regression] =
                [Method::NearestMean, Method::LogisticRegression].map(|m| cell(shots, m));
            lines.push(vec![grouped(shots), nearest, regression]);
        }
        for (number, line) in table(&lines, &[true, false, false]).into_iter().enumerate() {
            out.line(if number == 0 { out.style(Style::Bold, line) } else { line });
        }
        out.line(format_args!(
            "{} classes, {} validation images; mean of {} and its 95% interval; {}",
            grouped(splits.train.classes.len()),
            grouped(val.len()),
            count(self.trials, "trial", "trials"),
            duration(seconds)
        ));
        Ok(())
    }

    fn network(&self, session: &Session) -> Result<Network> {
        let load =
            |model: &str, weights: &PathBuf| Ok(load_with(session, model, weights, HeadPolicy::Replace)?.0);
        match (&self.model, &self.weights) {
            (Some(model), Some(weights)) => load(model, weights),
            (Some(model), None) => {
                let (model, weights) = weights::usual(session, model)?;
                load(&model, &weights)
            }
            (None, Some(weights)) => Network::open(weights),
            (None, None) => Err(usage_error(
                "--model is missing: name a pretrained network, such as --model resnet50, or a checkpoint of \
                 Defrost's with --weights",
            )),
        }
    }
}
