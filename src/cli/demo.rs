//! `defrost demo`: transfer learning in half a minute, without any files.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Style, duration, escaped, grouped, mib, percent, table};
use super::progress::Progress;
use super::train::on_interrupt;
use super::{Session, cache_folder};
use crate::data::Scenes;
use crate::error::quoted;
use crate::train::{Context, Demo, Destination, Event, Observer, demo};
use crate::{Result, report};

const EXAMPLES: &str = "\
Examples:
  defrost demo
  defrost demo --seed 7 --out elsewhere/

Needs neither network nor GPU. Everything that it draws and trains stays in the folder, to be looked at.";

/// Show transfer learning in half a minute, without any files
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoCommand {
    /// Folder for images and runs [default: demo, numbered where that exists]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seed of everything random, the images included
    #[arg(long, default_value = "0")]
    seed: u64,
}

impl DemoCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let stop = on_interrupt()?;
        let device = session.device()?;
        let mut brief = Brief { progress: Progress::new(out), all: out.verbose || out.json };
        let context = Context { device: &device, cache: cache_folder(), observer: &mut brief, stop };
        let folder = self.out.as_ref().map_or(Destination::Numbered("demo".into()), Destination::from);
        let shown = demo(folder, self.seed, context)?;
        let test = shown.images.join("test");
        let mut page = None;
        for row in &shown.rows {
            page = report::write(&row.run, Some(&test), &device, &mut brief)
                .inspect_err(|e| out.warn(format_args!("no report was written: {e}")))
                .ok();
        }
        drop(brief);
        if out.json {
            let mut fields = serde_json::to_value(&shown).unwrap_or_default();
            fields["report"] = json!(page.as_ref().map(|page| page.to_string_lossy()));
            out.event("done", fields);
            return Ok(());
        }
        let number = |share: f64| format!("{:.1}%", 100.0 * share);
        let mut rows = vec![
            ["", "test accuracy", "95% interval", "training", "memory", "trainable"]
                .map(String::from)
                .to_vec(),
        ];
        rows.extend(shown.rows.iter().map(|row| {
            vec![
                row.name.to_string(),
                number(row.right as f64 / row.count.max(1) as f64),
                format!("{} to {}", number(row.interval.0), number(row.interval.1)),
                duration(row.seconds),
                mib(row.memory),
                grouped(row.learning),
            ]
        }));
        out.line("");
        for (i, line) in table(&rows, &[false, true, true, true, true, true]).into_iter().enumerate() {
            out.line(if i == 0 { out.style(Style::Bold, line) } else { line });
        }
        out.line("");
        tell(session, &shown);
        if let Some(page) = page {
            out.line(format_args!("The report, for a browser: {}", escaped(page.display())));
        }
        Ok(())
    }
}

/// Three trainings in few lines: bars, notes and warnings; everything with -v.
struct Brief<'a> {
    progress: Progress<'a>,
    all: bool,
}

impl Observer for Brief<'_> {
    fn event(&mut self, event: &Event) {
        if self.all || matches!(event, Event::Progress { .. } | Event::Note(_) | Event::Warning(_)) {
            self.progress.event(event);
        }
    }
}

/// Explains the results in plain words, and names the next commands.
fn tell(session: &Session, shown: &Demo) {
    let out = &session.out;
    let share = |i: usize| shown.rows.get(i).map_or(0.0, |row| row.right as f64 / row.count.max(1) as f64);
    let set = &shown.set;
    let classes = set.scenes.classes();
    let folder = shown.images.parent().unwrap_or(&shown.images);
    let (run, fish) = (quoted(&folder.join("fine-tuned")), shown.images.join("test/fish"));
    let lines = [
        format!(
            "Each of the three saw the same {} images: {} of each of {} things ({}).",
            grouped((set.train + set.val) as usize * classes.len()),
            set.train + set.val,
            classes.len(),
            classes.join(", ")
        ),
        format!(
            "They were tested on {} others, all drawn by Defrost: {}",
            grouped(set.test as usize * classes.len()),
            escaped(shown.images.display())
        ),
        format!(
            "From scratch the network learned from these images alone: {} right, where guessing gives {}.",
            percent(share(0)),
            percent(1.0 / classes.len() as f64)
        ),
        format!(
            "The other two began with a network that had learned to tell {} drawn signs apart and had",
            Scenes::Signs.classes().len()
        ),
        "never seen any of these things. What it knows was kept:".to_string(),
        format!(
            "  features:   all of it frozen, only a new last layer learned: {} right.",
            percent(share(1))
        ),
        format!(
            "  fine-tuned: then everything learned on, carefully:           {} right.",
            percent(share(2))
        ),
        String::new(),
        "Now with your own images: photos/ being a folder with one folder for each class in it (pretrained"
            .to_string(),
        "weights are fetched once):".to_string(),
        "  defrost train photos/ --model mobilenet_v2".to_string(),
        "Or look closer at what was made here:".to_string(),
        format!("  defrost predict {run} {}", quoted(&fish)),
        format!("  defrost explain {run} {} -o why.png", quoted(&fish.join("0000.png"))),
    ];
    lines.iter().for_each(|line| out.line(line));
}
