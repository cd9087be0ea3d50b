//! `defrost eval`: what a network is worth on a folder of pictures.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::network::NetworkOptions;
use super::output::{Output, Style, duration, escaped, grouped, percent, table};
use super::progress::Progress;
use super::settings::{About, Given};
use super::{Session, positive, usage_error};
use crate::Result;
use crate::data::{by_name, open_labelled_with};
use crate::models::imagenet;
use crate::train::{
    Evaluation, Measures, MultiLabel, OutputErrors, Predictor, Regression, Scores, SingleLabel,
};

const EXAMPLES: &str = "\
Examples:
  defrost eval runs/photos test/
  defrost eval runs/photos/model.safetensors photos/val --json
  defrost eval imagenet/val --model mobilenet_v2 --weights mobilenet_v2.safetensors

Tells how many are right and how sure that figure is, whether probabilities mean what they say (ECE, the expected
calibration error), and for each class: precision, of those called so the share that is; recall, of those that are so
the share that is called so; F1, their harmonic mean. --json has the whole confusion matrix, too.

DATA holds a folder of pictures for each class, or some of the classes, or is a table of labels (.csv). For a network
of ImageNet's 1000 classes the folders bear their WordNet ids (n01440764).";

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
    about: Given<About>,
    /// Pictures at a time
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    batch: usize,
    /// Look at each picture in the mirror, too, and average the logits: slower by half, often a little better
    #[arg(long)]
    flips: bool,
}

/// Classes that are shown without -v: those with the lowest F1.
const SHOWN: usize = 10;
/// Pairs of classes that are shown.
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
        if out.json {
            out.event("done", as_json(&result, net.classes(), skipped.len()));
            return Ok(());
        }
        let count = match &result.measures {
            Measures::SingleLabel(measures) => show_classes(out, &result, measures, net.classes()),
            Measures::MultiLabel(measures) => show_labels(out, measures, net.classes()),
            Measures::Regression(measures) => show_numbers(out, measures, net.classes()),
        };
        let left_out =
            if skipped.is_empty() { String::new() } else { format!(", {} not used", skipped.len()) };
        out.line(format_args!("{} pictures{left_out}, {}", grouped(count), duration(result.seconds)));
        Ok(())
    }
}

/// All measures, with names of the classes.
fn as_json(result: &Evaluation, classes: &[String], skipped: usize) -> Value {
    let mut fields = serde_json::to_value(&result.measures).unwrap_or(Value::Null);
    for key in ["classes", "outputs"] {
        for (scores, class) in fields[key].as_array_mut().into_iter().flatten().zip(classes) {
            scores["class"] = class.as_str().into();
        }
    }
    if let Measures::SingleLabel(measures) = &result.measures {
        let pair = |(class, answer, count): (usize, usize, usize)| json!({ "class": classes[class], "predicted": classes[answer], "count": count });
        fields["most_confused"] = measures.most_confused().into_iter().take(PAIRS).map(pair).collect();
    }
    fields["uncalibrated"] = json!(result.uncalibrated);
    fields["skipped"] = skipped.into();
    fields["seconds"] = result.seconds.into();
    fields
}

/// Returns how many pictures counted.
fn show_classes(out: &Output, result: &Evaluation, measures: &SingleLabel, classes: &[String]) -> usize {
    let (low, high) = measures.top1_interval;
    out.line(format_args!(
        "top-1  {}  ({} of {} right, 95% interval {} to {})",
        out.style(Style::Bold, percent(measures.top1)),
        grouped(measures.right()),
        grouped(measures.count),
        percent(low),
        percent(high)
    ));
    if classes.len() > 5 {
        out.line(format_args!("top-5  {}", percent(measures.top5)));
    }
    let before = |text: String| match &result.uncalibrated {
        Some(before) => format!("  ({text} before the temperature of {:.3})", before.temperature),
        None => String::new(),
    };
    let without = result.uncalibrated.unwrap_or_default();
    out.line(format_args!("loss   {:.4}{}", measures.loss, before(format!("{:.4}", without.loss))));
    out.line(format_args!("ECE    {}{}", percent(measures.calibration.ece), before(percent(without.ece))));
    let rows = measures.classes.iter().map(|c| (c.support, c.predicted, c.scores, None)).collect();
    show_table(out, rows, classes, &[("mean", measures.macro_average)]);
    let pairs = measures.most_confused();
    if !pairs.is_empty() {
        out.line("most confused:");
        for &(class, answer, count) in pairs.iter().take(PAIRS) {
            let (class, answer) = (escaped(&classes[class]), escaped(&classes[answer]));
            out.line(format_args!("  {class} taken for {answer}: {}", grouped(count)));
        }
        out.line("");
    }
    measures.count
}

/// The same where pictures have several labels.
fn show_labels(out: &Output, measures: &MultiLabel, classes: &[String]) -> usize {
    out.line(format_args!("mAP    {}", out.style(Style::Bold, percent(measures.mean_average_precision))));
    out.line(format_args!("exact  {}  (all labels of a picture right)", percent(measures.exact)));
    out.line(format_args!("loss   {:.4}", measures.loss));
    let rows = measures.classes.iter();
    let rows = rows.map(|l| (l.class.support, l.class.predicted, l.class.scores, Some(l.average_precision)));
    let means = [("mean", measures.macro_average), ("all together", measures.micro_average)];
    show_table(out, rows.collect(), classes, &means);
    measures.count
}

/// The same for numbers.
fn show_numbers(out: &Output, measures: &Regression, names: &[String]) -> usize {
    let row = |name: &str, e: &OutputErrors| {
        vec![name.to_string(), format!("{:.4}", e.mae), format!("{:.4}", e.rmse), format!("{:.4}", e.r2)]
    };
    let mut rows = vec![["output", "MAE", "RMSE", "R2"].map(String::from).to_vec()];
    rows.extend(names.iter().zip(&measures.outputs).map(|(name, errors)| row(name, errors)));
    rows.push(row("mean", &measures.average));
    table(&rows, &[false, true, true, true]).iter().for_each(|line| out.line(line));
    measures.count
}

/// Support, times predicted, scores and perhaps average precision of a class.
type Row = (usize, usize, Scores, Option<Option<f64>>);

/// A line for each class: all where there are few or all are wanted, else those of the lowest F1.
fn show_table(out: &Output, rows: Vec<Row>, classes: &[String], means: &[(&str, Scores)]) {
    let mut order: Vec<usize> = (0..rows.len()).filter(|&c| rows[c].0 + rows[c].1 > 0).collect();
    let few = out.verbose || order.len() <= SHOWN;
    if !few {
        order.sort_by(|&a, &b| rows[a].2.f1.total_cmp(&rows[b].2.f1));
        order.truncate(SHOWN);
    }
    let scores = |s: &Scores| [s.precision, s.recall, s.f1].map(percent);
    let line = |&c: &usize| {
        let (support, _, s, precision) = &rows[c];
        let precision = precision.map(|p| p.map_or("-".into(), percent));
        let cells = [classes[c].clone(), grouped(*support)].into_iter().chain(scores(s)).chain(precision);
        cells.collect::<Vec<String>>()
    };
    let mut heading = ["class", "pictures", "precision", "recall", "F1"].map(String::from).to_vec();
    if rows.iter().any(|row| row.3.is_some()) {
        heading.push("AP".into());
    }
    let right: Vec<bool> = (0..heading.len()).map(|column| column > 0).collect();
    let mut lines = vec![heading];
    lines.extend(order.iter().map(line));
    let mean = |(name, s): &(&str, Scores)| {
        [name.to_string(), String::new()].into_iter().chain(scores(s)).collect::<Vec<String>>()
    };
    lines.extend(means.iter().map(mean));
    out.line("");
    table(&lines, &right).iter().for_each(|line| out.line(line));
    if !few {
        out.line(format_args!("({SHOWN} of {} classes, those with the lowest F1; -v shows all)", rows.len()));
    }
    out.line("");
}
