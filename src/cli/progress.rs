//! Progress of a training, for people and for programs: bars on a terminal, lines elsewhere, or JSON.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use serde_json::{Value, json};

use super::output::{Output, count, duration, grouped, percent};
use crate::task::{MetricNames, Unit};
use crate::train::{EpochMetrics, Event, Observer, Trial};

/// On a narrow terminal the bar gives way to the figures.
const TEMPLATE: &str = "{prefix}  [{wide_bar}] {pos}/{len}  {rate}  {left} left  {msg}";
/// Work that is counted in steps; all other work is counted in images.
const STEPS: [&str; 3] = ["head", "trials", "sweep"];

/// Watches a training or an evaluation.
pub(super) struct Progress<'a> {
    out: &'a Output,
    bars: bool,
    bar: Option<(String, ProgressBar)>,
    /// The metric of the task.
    metric: MetricNames,
    /// Number of validation images.
    pub(super) val: usize,
    /// Number of files that are not used.
    pub(super) skipped: usize,
}

impl<'a> Progress<'a> {
    pub(super) fn new(out: &'a Output) -> Self {
        let bars = stderr().is_terminal() && !out.quiet && !out.json;
        Progress {
            out,
            bars,
            bar: None,
            metric: MetricNames::both("metric", Unit::Number),
            val: 0,
            skipped: 0,
        }
    }

    /// Writes lines without disturbing the bar.
    fn aside(&self, write: impl FnOnce(&Output)) {
        match &self.bar {
            Some((_, bar)) => bar.suspend(|| write(self.out)),
            None => write(self.out),
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// The bar of the work called `name`, at `done` of `total`; a bar of other work is removed.
    fn bar(&mut self, name: String, things: &'static str, done: u64, total: u64) -> &ProgressBar {
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != name) {
            self.clear();
        }
        let (_, bar) = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
            // The rate since this bar began. A closed terminal is no reason to stop.
            let rate = move |s: &ProgressState| {
                s.pos().saturating_sub(done) as f64 / s.elapsed().as_secs_f64().max(0.1)
            };
            let speed = move |s: &ProgressState, text: &mut dyn Write| {
                let _ = write!(text, "{:.1} {things}/s", rate(s));
            };
            let left = move |s: &ProgressState, text: &mut dyn Write| {
                let seconds = s.len().unwrap_or(0).saturating_sub(s.pos()) as f64 / rate(s);
                let _ = if seconds.is_finite() {
                    write!(text, "{}", duration(seconds))
                } else {
                    write!(text, "?")
                };
            };
            let style = style.with_key("rate", speed).with_key("left", left).progress_chars("=> ");
            let bar = ProgressBar::new(total).with_style(style).with_prefix(name.clone());
            (name, bar)
        });
        bar.set_position(done);
        bar
    }

    fn trial(&mut self, trial: &Trial) {
        self.clear();
        if self.out.json {
            self.out.event("trial", serde_json::to_value(trial).unwrap_or(Value::Null));
        } else if !self.out.quiet {
            let strategy = serde_json::to_value(trial.strategy).unwrap_or(Value::Null);
            self.out.aside(format_args!(
                "tried {:<10} rate {:.1e}  {:>10} parameters  val loss {:.4}  val {}  {}",
                strategy.as_str().unwrap_or_default(),
                trial.lr,
                grouped(trial.parameters),
                trial.score.loss,
                self.metric.val_text(trial.score.accuracy),
                duration(trial.seconds)
            ));
        }
    }

    fn epoch(&mut self, m: &EpochMetrics) {
        self.clear();
        if self.out.json {
            self.out.event("epoch", serde_json::to_value(m).unwrap_or(Value::Null));
        } else if !self.out.quiet {
            let width = m.epochs.to_string().len();
            self.out.aside(format_args!(
                "epoch {:>width$}/{}  loss {:.4}  {}  val loss {:.4}  val {}  lr {:.2e}  {}",
                m.epoch,
                m.epochs,
                m.train_loss,
                self.metric.train_text(m.train_accuracy),
                m.val_loss,
                self.metric.val_text(m.val_accuracy),
                m.lr,
                duration(m.seconds)
            ));
        }
    }
}

impl Observer for Progress<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Data { train, val, classes, task, skipped } => {
                (self.val, self.skipped, self.metric) = (*val, skipped.len(), task.metric());
                if self.out.json {
                    let skipped = skipped.len();
                    let fields =
                        json!({ "train": train, "val": val, "classes": classes, "skipped": skipped });
                    self.out.event("data", fields);
                }
                self.aside(|out| {
                    if !out.json {
                        out.note(format_args!(
                            "{} to learn from, {val} to validate with, {}: {}",
                            count(*train, "image", "images"),
                            count(classes.len(), "class", "classes"),
                            listed(classes)
                        ));
                    }
                    out.skipped(skipped);
                });
            }
            Event::Folder(_) => {}
            Event::Skipped(skipped) => {
                self.skipped += skipped.len();
                self.aside(|out| out.skipped(skipped));
            }
            Event::Frozen(summary) if self.out.json => {
                let total = summary.total;
                self.out.event(
                    "frozen",
                    json!({ "tensors": total.tensors, "learning": total.parameters, "parameters": total.of }),
                );
            }
            // A line for each part.
            Event::Frozen(summary) => {
                self.aside(|out| summary.to_string().lines().for_each(|line| out.note(line)));
            }
            Event::Progress { what, done, total, epoch, loss, accuracy } => {
                if !self.bars {
                    return;
                }
                let name = match (epoch, *what) {
                    (Some(epoch), "train") => format!("epoch {epoch}"),
                    (Some(epoch), what) => format!("epoch {epoch} {what}"),
                    (None, what) => what.to_string(),
                };
                let things = if STEPS.contains(what) { "steps" } else { "images" };
                let (done, total) = (*done as u64, *total as u64);
                let accuracy = accuracy.filter(|_| self.metric.unit == Unit::Proportion);
                let bar = self.bar(name, things, done, total);
                if let Some(loss) = loss {
                    let accuracy = accuracy.map_or(String::new(), |a| format!("  accuracy {}", percent(a)));
                    bar.set_message(format!("loss {loss:.4}{accuracy}"));
                }
                if done >= total {
                    self.clear();
                }
            }
            Event::Epoch(metrics) => self.epoch(metrics),
            Event::Trial(trial) => self.trial(trial),
            Event::Warning(text) => self.aside(|out| out.warn(text)),
            Event::Note(text) => self.aside(|out| out.note(text)),
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The first few of many names.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}
