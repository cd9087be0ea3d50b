//! `defrost data`: lists the data that a training would read, and its faults.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Session;
use super::output::{Output, Style, count, escaped, grouped, table};
use super::settings::{About, Given};
use crate::Result;
use crate::data::duplicates::Pair;
use crate::data::{self, Dataset, Duplicates, OpenOptions, Splits, TargetKind};
use crate::task;

const EXAMPLES: &str = "\
Examples:
  defrost data photos/
  defrost data photos/ --verify --duplicates
  defrost data scans/ --labels scans.csv --group-by column:patient

Opens DATA as train does and prints its parts and classes. Nothing is changed.";

/// Inspect a data set: parts, classes, unreadable images, duplicates
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DataCommand {
    /// Folder of images, or a table of labels (.csv), as for train
    data: PathBuf,
    #[command(flatten)]
    about: Given<About>,
    /// Share of the images for validation where DATA has no val/ [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f64>,
    /// Seed of the split where DATA has no val/ [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Decode every image and list those that cannot be read
    #[arg(long)]
    verify: bool,
    /// Find images that are in training and validation or in two classes: identical files, and the same image at
    /// another size or quality
    #[arg(long)]
    duplicates: bool,
}

impl DataCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let usual = OpenOptions::default();
        let options = OpenOptions {
            val_fraction: self.val_fraction.unwrap_or(usual.val_fraction),
            seed: self.seed.unwrap_or(usual.seed),
            manifest: None,
            data: self.about.options()?,
        };
        let Splits { mut train, mut val, mut test, manifest, warnings } = data::open(&self.data, &options)?;
        if self.verify {
            let watched = |set: Dataset, name| watch(out, name, |on| set.verify(on));
            train = watched(train, "verify train")?;
            val = watched(val, "verify val")?;
            test = test.map(|test| watched(test, "verify test")).transpose()?;
        }
        warnings.iter().for_each(|warning| out.warn(warning));
        let parts = [("train", Some(&train)), ("val", Some(&val)), ("test", test.as_ref())];
        let parts: Vec<(&str, &Dataset)> = parts.into_iter().filter_map(|(n, p)| Some((n, p?))).collect();
        let skipped: Vec<_> = parts.iter().flat_map(|(_, part)| part.skipped.clone()).collect();
        out.skipped(&skipped);
        if out.json {
            let part = |(name, part): &(&str, &Dataset)| {
                // `pictures` is the name of before; it goes with the next release.
                let counts: serde_json::Map<String, Value> =
                    part.classes.iter().cloned().zip(part.counts().into_iter().map(Value::from)).collect();
                (name.to_string(), json!({ "images": part.len(), "pictures": part.len(), "classes": counts }))
            };
            let parts: serde_json::Map<String, Value> = parts.iter().map(part).collect();
            out.event("data", json!({ "task": task::for_targets(train.targets), "drawn": manifest.is_some(), "parts": parts }));
        } else {
            show(out, &parts, manifest.is_some());
        }
        let mut pairs = [0, 0];
        if self.duplicates {
            let found =
                watch(out, "compare", |on_progress| data::duplicates_with(&train, &val, on_progress))?;
            pairs = [found.across.len(), found.contradictions.len()];
            report(out, &found);
        }
        if out.json {
            let images = parts.iter().map(|(_, part)| part.len()).sum::<usize>();
            out.event(
                "done",
                json!({
                    "images": images,
                    "pictures": images,
                    "skipped": skipped.len(),
                    "across": pairs[0],
                    "contradictions": pairs[1],
                }),
            );
        }
        Ok(())
    }
}

/// Runs slow work with a progress bar on a terminal.
fn watch<T>(out: &Output, name: &'static str, work: impl FnOnce(&(dyn Fn(usize, usize) + Sync)) -> T) -> T {
    if out.quiet || out.json {
        return work(&|_, _| ());
    }
    let style = ProgressStyle::with_template("{prefix:<18} [{bar:28}] {pos}/{len}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style).with_prefix(name);
    let result = work(&|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    result
}

/// A row a class, a column a part.
fn show(out: &Output, parts: &[(&str, &Dataset)], drawn: bool) {
    let Some((_, first)) = parts.first() else { return };
    let cells = |name: &str, numbers: Vec<usize>| -> Vec<String> {
        std::iter::once(name.to_string()).chain(numbers.into_iter().map(grouped)).collect()
    };
    let kind = match first.targets {
        TargetKind::Class | TargetKind::Labels => "class",
        TargetKind::Values => "value",
    };
    let mut rows =
        vec![std::iter::once(kind).chain(parts.iter().map(|(name, _)| *name)).map(String::from).collect()];
    let counts: Vec<Vec<usize>> = parts.iter().map(|(_, part)| part.counts()).collect();
    for (at, class) in first.classes.iter().enumerate() {
        rows.push(cells(class, counts.iter().map(|counts| counts[at]).collect()));
    }
    rows.push(cells("images", parts.iter().map(|(_, part)| part.len()).collect()));
    let right: Vec<bool> = (0..=parts.len()).map(|column| column > 0).collect();
    let lines = table(&rows, &right);
    for (at, line) in lines.iter().enumerate() {
        let bold = at == 0 || at + 1 == lines.len();
        out.line(if bold { out.style(Style::Bold, line) } else { line.clone() });
    }
    if drawn {
        out.note("val is drawn from the images by --val-fraction and --seed, as train does it");
    }
}

fn report(out: &Output, found: &Duplicates) {
    found.warnings().iter().for_each(|warning| out.warn(warning));
    if !found.unreadable.is_empty() {
        out.skipped(&found.unreadable);
    }
    if out.json {
        let pair = |pair: &Pair| {
            json!({
                "first": pair.first.to_string_lossy(), "first_class": pair.first_class,
                "second": pair.second.to_string_lossy(), "second_class": pair.second_class,
                "exact": pair.exact,
            })
        };
        let list = |pairs: &[Pair]| pairs.iter().map(pair).collect::<Vec<_>>();
        let (across, contradictions) = (list(&found.across), list(&found.contradictions));
        out.event("duplicates", json!({ "across": across, "contradictions": contradictions }));
        return;
    }
    for (what, pairs) in
        [("in training and validation", &found.across), ("in two classes", &found.contradictions)]
    {
        out.line(format_args!("{} {what}", count(pairs.len(), "image", "images")));
        for pair in pairs {
            let how = if pair.exact { "=" } else { "~" };
            out.line(format_args!(
                "  {} {how} {}",
                escaped(pair.first.display()),
                escaped(pair.second.display())
            ));
        }
    }
}
