//! `defrost lr-find`: a learning rate from one sweep.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Style, escaped};
use super::progress::Progress;
use super::train::{Train, on_interrupt};
use super::{Session, cache_folder, positive, usage_error};
use crate::train::{Context, Sweep, SweepPoint, find_rate};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost lr-find photos/ --model resnet50
  defrost lr-find photos/ --model resnet50 --strategy finetune --freeze-through layer3 --svg rate.svg

Teaches as `defrost train` would with the same options, while the rate grows from step to step until the loss explodes,
and suggests the rate of the head in the middle of the steepest stretch (fastai's valley rule). Nothing is kept.";

/// Options of `defrost train` that do not apply here: they are refused.
const BEYOND: [&str; 6] = ["no_report", "resume", "out", "dry_run", "tune", "tensorboard"];

/// Find a learning rate
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, mut_args(|arg| if BEYOND.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg }))]
pub(super) struct LrFind {
    #[command(flatten)]
    train: Train,
    /// Updates of the sweep
    #[arg(long, value_name = "N", default_value = "100", value_parser = positive)]
    steps: usize,
    /// First and last learning rate of the sweep
    #[arg(long, value_name = "FROM..TO", default_value = "1e-7..1", value_parser = range)]
    sweep: (f64, f64),
    /// Draw the curve into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn range(text: &str) -> std::result::Result<(f64, f64), String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    ends.filter(|(from, to)| 0.0 < *from && from < to && f64::is_finite(*to))
        .ok_or_else(|| format!("'{text}': give two rates above 0 such as 1e-7..1, the smaller first"))
}

impl LrFind {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        if let Some(option) = self.train.beyond_a_sweep() {
            return Err(usage_error(format!(
                "lr-find only sweeps the rate and keeps nothing: leave {option} away"
            )));
        }
        let config = self.train.config(session)?;
        let cache = self.train.cache.clone().unwrap_or_else(cache_folder);
        let (device, stop) = (session.device()?, on_interrupt()?);
        let mut progress = Progress::new(out);
        let context = Context { device: &device, cache, observer: &mut progress, stop };
        let found = find_rate(&config, (self.sweep.0, self.sweep.1, self.steps), context)?;
        drop(progress);
        if let Some(path) = &self.svg {
            std::fs::write(path, svg(&found)).map_err(|e| Error::io(path, "write", e))?;
        }
        if out.json {
            out.event("done", serde_json::to_value(&found).unwrap_or_default());
            return Ok(());
        }
        plot(&found).iter().for_each(|line| out.line(line));
        let rate = |rate: f64| format!("{rate:.1e}");
        let rates: Vec<String> = found.rates.iter().copied().map(rate).collect();
        out.line(format_args!("suggested: {}", out.style(Style::Bold, rate(found.suggestion))));
        out.line(format_args!("  defrost train ... --lr {}", rates.join(",")));
        if let Some(path) = self.svg.as_deref().map(Path::display) {
            out.line(escaped(path));
        }
        Ok(())
    }
}

/// The plotted region: learning rates in their logarithm, smoothed losses up to twice the first.
struct Frame {
    x: [f64; 2],
    y: [f64; 2],
}

impl Frame {
    fn of(sweep: &Sweep) -> Self {
        let log = |p: Option<&SweepPoint>| p.map_or(0.0, |p| p.lr.log10());
        let losses = || sweep.points.iter().map(|p| p.smoothed);
        let least = losses().fold(f64::INFINITY, f64::min);
        let first = losses().next().unwrap_or(1.0);
        let most = losses().fold(0.0, f64::max).min(2.0 * first);
        let x = [log(sweep.points.first()), log(sweep.points.last())];
        Frame { x, y: [least, most.max(least * 1.01)] }
    }

    /// Within 0 to 1 from the left and from below.
    fn at(&self, lr: f64, loss: f64) -> [f64; 2] {
        let share = |v: f64, [from, to]: [f64; 2]| ((v - from) / (to - from).max(1e-9)).clamp(0.0, 1.0);
        [share(lr.log10(), self.x), share(loss, self.y)]
    }
}

/// The curve in characters; the suggestion is marked below.
fn plot(sweep: &Sweep) -> Vec<String> {
    const COLUMNS: usize = 64;
    const LINES: usize = 14;
    let frame = Frame::of(sweep);
    let mut cells = vec![vec![' '; COLUMNS]; LINES];
    let column = |x: f64| (x * (COLUMNS - 1) as f64).round() as usize;
    for p in &sweep.points {
        let [x, y] = frame.at(p.lr, p.smoothed);
        cells[LINES - 1 - (y * (LINES - 1) as f64).round() as usize][column(x)] = '*';
    }
    let label = |line: usize| match line {
        0 => format!("{:>8.3} ", frame.y[1]),
        _ if line == LINES - 1 => format!("{:>8.3} ", frame.y[0]),
        _ => " ".repeat(9),
    };
    let rows = cells.iter().enumerate();
    let mut lines: Vec<String> =
        rows.map(|(line, row)| format!("{}|{}", label(line), String::from_iter(row).trim_end())).collect();
    let mark = column(frame.at(sweep.suggestion, 0.0)[0]);
    let mut axis: Vec<char> = vec!['-'; COLUMNS];
    axis[mark] = '^';
    lines.push(format!("    loss +{}", String::from_iter(axis)));
    let [from, to] = frame.x.map(|x| format!("{:.0e}", 10f64.powf(x)));
    lines.push(format!("{:10}{from}{to:>width$}", "", width = COLUMNS - from.len()));
    lines
}

fn svg(sweep: &Sweep) -> String {
    const SIZE: [f64; 2] = [720.0, 420.0];
    const MARGIN: f64 = 60.0;
    let frame = Frame::of(sweep);
    let place = |lr: f64, loss: f64| {
        let [x, y] = frame.at(lr, loss);
        [MARGIN + x * (SIZE[0] - 2.0 * MARGIN), SIZE[1] - MARGIN - y * (SIZE[1] - 2.0 * MARGIN)]
    };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let (bottom, right) = (SIZE[1] - MARGIN, SIZE[0] - MARGIN);
    for decade in frame.x[0].ceil() as i32..=frame.x[1].floor() as i32 {
        let [x, _] = place(10f64.powi(decade), 0.0);
        let _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"{MARGIN}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#dddddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">1e{decade}</text>",
            bottom + 18.0
        );
    }
    for loss in frame.y {
        let [_, y] = place(1.0, loss);
        let _ = writeln!(
            text,
            "<line x1=\"{MARGIN}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.3}</text>",
            MARGIN - 6.0,
            y + 4.0
        );
    }
    let points = |f: fn(&SweepPoint) -> f64| -> String {
        let at = sweep.points.iter().map(|p| place(p.lr, f(p)));
        at.map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
    };
    let line =
        |points: String, style: &str| format!("<polyline points=\"{points}\" fill=\"none\" {style}/>\n");
    text += &line(points(|p| p.loss), "stroke=\"#bbbbbb\"");
    text += &line(points(|p| p.smoothed), "stroke=\"#1f77b4\" stroke-width=\"2\"");
    let [x, _] = place(sweep.suggestion, 0.0);
    let _ = writeln!(
        text,
        "<line x1=\"{x:.1}\" y1=\"{MARGIN}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#d62728\" stroke-dasharray=\"4\"/>\
         <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.1e}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">learning rate of the head</text>\
         <text x=\"{MARGIN}\" y=\"24\" font-size=\"16\">loss while the rate grows</text>\n</svg>",
        MARGIN - 8.0,
        sweep.suggestion,
        SIZE[0] / 2.0,
        SIZE[1] - 18.0
    );
    text
}
