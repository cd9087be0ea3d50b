//! `defrost eval`: metrics of a network on a folder of labelled images.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::network::NetworkOptions;
use super::output::{Output, Style, count, duration, escaped, grouped, table};
use super::progress::Progress;
use super::settings::{About, Given};
use super::{Session, positive, usage_error};
use crate::Result;
use crate::data::{by_name, open_labelled_with};
use crate::models::imagenet;
use crate::task::{Figure, Table, most_confused};
use crate::train::Predictor;

const EXAMPLES: &str = "\
Examples:
  defrost eval runs/photos test/
  defrost eval runs/photos/model.safetensors photos/val --json
  defrost eval imagenet/val --model mobilenet_v2 --weights mobilenet_v2.safetensors

Shows the accuracy and its 95% interval, the expected calibration error (ECE: how far confidence and accuracy are apart),
and for each class: precision, the share of the images predicted as the class that is of it; recall, the share of the
images of the class that is predicted as it; F1, their harmonic mean. --json has the whole confusion matrix, too.

DATA holds a folder of images for each class, or some of the classes, or is a table of labels (.csv). For a network
of ImageNet's 1000 classes the folders bear their WordNet ids (n01440764).";

/// Measure a network on labelled images
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Eval {
    /// A run folder or checkpoint (not with --weights), then the folder of class folders
    #[arg(required = true, num_args = 1..=2, value_names = ["RUN", "DATA"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    about: Given<About>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    batch: usize,
    /// Also predict each image mirrored, and average the logits: slower by half, often slightly more accurate
    #[arg(long)]
    flips: bool,
}

/// Number of classes shown without -v: those with the lowest F1.
const SHOWN: usize = 10;
/// Number of confused pairs shown.
const PAIRS: usize = 5;

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
        let options = self.about.options()?;
        let dataset = if net.knows_imagenet() {
            let lookup = |wnid: &str| imagenet::index_of(wnid).map(|index| index as u32);
            open_labelled_with(data, &options, net.classes(), lookup)?
        } else {
            open_labelled_with(data, &options, net.classes(), by_name(net.classes()))?
        };
        let mut skipped = dataset.skipped.clone();
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let batch = self.batch.min(dataset.len().max(1));
        let mut predictor = Predictor::new(&device, &net, batch)?.flips(self.flips);
        let result = predictor.evaluate(Arc::new(dataset), &mut progress)?;
        drop(progress);
        skipped.extend(result.skipped.iter().cloned());
        out.skipped(&skipped);
        let metrics = result.metrics.as_ref();
        if out.json {
            let mut fields = metrics.json(net.classes());
            fields["skipped"] = skipped.len().into();
            fields["seconds"] = result.seconds.into();
            out.event("done", fields);
            return Ok(());
        }
        show_figures(out, &metrics.figures());
        show_table(out, &metrics.table(net.classes()));
        if let Some(confusion) = metrics.confusion() {
            show_confused(out, confusion, net.classes());
        }
        let left_out =
            if skipped.is_empty() { String::new() } else { format!(", {} not used", skipped.len()) };
        out.line(format_args!(
            "{}{left_out}, {}",
            count(metrics.count(), "image", "images"),
            duration(result.seconds)
        ));
        Ok(())
    }
}

/// A line each, values under one another.
fn show_figures(out: &Output, figures: &[Figure]) {
    let width = figures.iter().map(|figure| figure.name.len()).max().unwrap_or(0);
    for (i, figure) in figures.iter().enumerate() {
        let value = if i == 0 { out.style(Style::Bold, &figure.value) } else { figure.value.clone() };
        let note = if figure.note.is_empty() { String::new() } else { format!("  ({})", figure.note) };
        out.line(format_args!("{:<width$}  {value}{note}", figure.name));
    }
}

/// A line for each class or value: all with -v or where they are few, else those of the lowest score.
fn show_table(out: &Output, found: &Table) {
    let rows = &found.rows;
    let mut order: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].occurs).collect();
    let few = out.verbose || order.len() <= SHOWN;
    if !few {
        order.sort_by(|&a, &b| rows[a].score.total_cmp(&rows[b].score));
        order.truncate(SHOWN);
    }
    let heading = std::iter::once(found.of).chain(found.head.iter().copied()).map(String::from);
    let mut lines: Vec<Vec<String>> = vec![heading.collect()];
    for row in order.iter().map(|&row| &rows[row]) {
        let cells = row.cells.iter().map(|(text, _)| text.clone());
        lines.push(std::iter::once(row.name.clone()).chain(cells).collect());
    }
    for (name, cells) in &found.means {
        lines.push(std::iter::once(name.to_string()).chain(cells.iter().cloned()).collect());
    }
    let right: Vec<bool> = (0..=found.head.len()).map(|column| column > 0).collect();
    out.line("");
    table(&lines, &right).iter().for_each(|line| out.line(line));
    if !few {
        let (of, score) = (found.of, found.score);
        out.line(format_args!(
            "({SHOWN} of {} rows, one for each {of}: those with the lowest {score}; -v shows all)",
            rows.len()
        ));
    }
    out.line("");
}

/// Pairs of a class and the class that its images are predicted as, the most frequent first.
fn show_confused(out: &Output, confusion: &[Vec<usize>], classes: &[String]) {
    let pairs = most_confused(confusion);
    if pairs.is_empty() {
        return;
    }
    out.line("most confused:");
    for &(class, predicted, count) in pairs.iter().take(PAIRS) {
        let (class, predicted) = (escaped(&classes[class]), escaped(&classes[predicted]));
        out.line(format_args!("  {class} predicted as {predicted}: {}", grouped(count)));
    }
    out.line("");
}
