//! `defrost eval`: what a network is worth on a folder of pictures.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::data_options::DataArgs;
use super::network::NetworkOptions;
use super::output::{Style, duration, grouped, percent};
use super::progress::Progress;
use super::{Session, positive, usage_error};
use crate::Result;
use crate::data::{by_name, open_labelled_with};
use crate::models::imagenet;
use crate::train::{evaluate, interval};

const EXAMPLES: &str = "\
Examples:
  defrost eval runs/photos test/
  defrost eval runs/photos/model.safetensors photos/val --json
  defrost eval imagenet/val --model mobilenet_v2 --weights mobilenet_v2.safetensors

DATA holds a folder of pictures for each class, or some of the classes, or is a table of labels (.csv). For a network of ImageNet's 1000
classes the folders bear their WordNet ids (n01440764).";

/// Measure a network on labelled pictures
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Eval {
    /// A run folder or checkpoint (not with --weights), then the folder of class folders
    #[arg(required = true, num_args = 1..=2, value_names = ["RUN", "DATA"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    about: DataArgs,
    /// Pictures at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    batch: usize,
}

impl Eval {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let (net, rest) = self.network.open(session, &self.paths)?;
        let [data] = rest else {
            let wanted = "give the folder of class folders to measure on: defrost eval RUN DATA";
            return Err(usage_error(if rest.is_empty() {
                wanted.into()
            } else {
                format!("{} paths where one is wanted; {wanted}", rest.len())
            }));
        };
        let options = self.about.options();
        let dataset = if net.knows_imagenet() {
            let lookup = |wnid: &str| imagenet::index_of(wnid).map(|index| index as u32);
            open_labelled_with(data, &options, net.classes(), lookup)?
        } else {
            open_labelled_with(data, &options, net.classes(), by_name(net.classes()))?
        };
        let mut skipped = dataset.skipped.clone();
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let result = evaluate(&net, &device, Arc::new(dataset), self.batch, &mut progress)?;
        drop(progress);
        skipped.extend(result.skipped.iter().cloned());
        let right = (result.top1 * result.count as f64).round() as usize;
        let (low, high) = interval(right, result.count);
        out.skipped(&skipped);
        if out.json {
            out.event(
                "done",
                json!({
                    "top1": result.top1,
                    "top1_interval": [low, high],
                    "top5": result.top5,
                    "loss": result.loss,
                    "count": result.count,
                    "skipped": skipped.len(),
                    "seconds": result.seconds,
                }),
            );
            return Ok(());
        }
        out.line(format_args!(
            "top-1  {}  ({} of {} right, 95% interval {} to {})",
            out.style(Style::Bold, percent(result.top1)),
            grouped(right),
            grouped(result.count),
            percent(low),
            percent(high)
        ));
        if net.classes().len() > 5 {
            out.line(format_args!("top-5  {}", percent(result.top5)));
        }
        out.line(format_args!("loss   {:.4}", result.loss));
        let left_out =
            if skipped.is_empty() { String::new() } else { format!(", {} not used", skipped.len()) };
        out.line(format_args!("{} pictures{left_out}, {}", grouped(result.count), duration(result.seconds)));
        Ok(())
    }
}
