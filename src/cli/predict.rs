//! `defrost predict`: predicts the classes of images.

use std::io::{BufRead, stdin};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::network::NetworkOptions;
use super::output::{Output, Style, count, escaped};
use super::{Session, positive, usage_error};
use crate::data::{self, Skipped, list_images};
use crate::models::{Network, imagenet};
use crate::task;
use crate::train::Predictor;
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost predict runs/photos image.jpg
  defrost predict runs/photos holidays/ --top 3 --json
  defrost predict runs/photos holidays/ --csv > holidays.csv
  find . -name '*.jpg' -print0 | defrost predict runs/photos - --null
  defrost predict --model resnet50 --weights resnet50.safetensors image.jpg

- reads paths from standard input, one a line, and answers by groups of --batch. --csv writes a line an image: path, class,
  probability, then class_2, probability_2 and so on up to --top; the values of a regression under their names.
Images that cannot be read are reported on stderr and, with --json, as events 'unreadable' with path and reason. The
command fails only where none can be read; with --strict, where any cannot.";

/// Predict the classes of images
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Predict {
    /// A run folder or checkpoint (not with --weights), then images and folders of images, or - for a list of paths
    /// on standard input
    #[arg(required = true, value_names = ["RUN", "IMAGES"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
    /// Number of classes to print for each image
    #[arg(long, value_name = "K", default_value = "5", value_parser = positive)]
    top: usize,
    /// Images at a time
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    batch: usize,
    /// Also predict each image mirrored, and average the logits
    #[arg(long)]
    flips: bool,
    /// Write a table of comma-separated values instead of text
    #[arg(long)]
    csv: bool,
    /// Paths on standard input end with a zero byte, not with a line, as find -print0 writes them
    #[arg(short = '0', long)]
    null: bool,
    /// Fail where any image cannot be read; the others are predicted all the same
    #[arg(long)]
    strict: bool,
}

impl Predict {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        if self.csv && out.json {
            return Err(usage_error("--csv and --json: two forms of one answer; leave one away"));
        }
        let (net, paths) = self.network.open(session, &self.paths)?;
        if paths.is_empty() {
            return Err(usage_error("give images, or folders of images: defrost predict RUN IMAGES..."));
        }
        let list = paths.iter().any(|path| is_list(path));
        if self.null && !list {
            return Err(usage_error(
                "--null says how a list on standard input is divided: name the list, too: defrost predict RUN - --null",
            ));
        }
        let mut named = self.images(paths);
        let mut predictor: Option<Predictor> = None;
        let (mut done, mut failed) = (0, 0);
        loop {
            let group: Vec<Result<PathBuf, Skipped>> = named.by_ref().take(self.batch).collect();
            if group.is_empty() {
                break;
            }
            // Only the last group may be incomplete.
            let batch = group.len();
            let (good, crops, unread) = decode(out, &net, group);
            failed += unread;
            if crops.is_empty() {
                continue;
            }
            let ready = match &mut predictor {
                Some(ready) => ready,
                none => none.insert(Predictor::new(&session.device()?, &net, batch)?.flips(self.flips)),
            };
            for (path, answer) in good.iter().zip(ready.predict_each(&crops)?) {
                let probabilities = match answer {
                    Ok(probabilities) => probabilities,
                    Err(reason) => {
                        out.unreadable(&Skipped { path: path.clone(), reason });
                        failed += 1;
                        continue;
                    }
                };
                match self.csv {
                    true => self.row(out, &net, path, &probabilities, done == 0)?,
                    false => self.show(out, &net, path, &probabilities),
                }
                done += 1;
            }
        }
        if list && done + failed == 0 {
            return Err(Error::Data(
                "the list on standard input is empty: write the path of an image or a folder on each line"
                    .into(),
            ));
        }
        if out.json {
            let seconds = began.elapsed().as_secs_f64();
            out.event("done", json!({ "count": done, "skipped": failed, "seconds": seconds }));
        }
        match failed {
            n if done == 0 => {
                Err(Error::Data(format!("none of the images could be read or predicted ({n} tried)")))
            }
            n if n > 0 && self.strict => Err(Error::Data(format!(
                "{} could not be read or predicted, {done} could; without --strict that is no failure",
                count(n, "image", "images")
            ))),
            _ => Ok(()),
        }
    }

    /// The images that paths name, one after the other: a list is read while it arrives.
    fn images<'a>(
        &'a self,
        paths: &'a [PathBuf],
    ) -> impl Iterator<Item = Result<PathBuf, Skipped>> + use<'a> {
        let end = if self.null { 0 } else { b'\n' };
        paths.iter().flat_map(move |path| -> Box<dyn Iterator<Item = Result<PathBuf, Skipped>>> {
            if !is_list(path) {
                return Box::new(expand(path).into_iter());
            }
            let mut broken = false;
            let lines = stdin().lock().split(end);
            let lines = lines.take_while(move |line| !std::mem::replace(&mut broken, line.is_err()));
            let read = move |line: std::io::Result<Vec<u8>>| match line {
                Ok(mut line) => {
                    // Windows ends lines with a carriage return.
                    if end == b'\n' && line.last() == Some(&b'\r') {
                        line.pop();
                    }
                    if line.is_empty() { Vec::new() } else { expand(&path_of(line)) }
                }
                Err(e) => {
                    let path = Path::new("standard input");
                    vec![Err(Skipped::from_error(path, &Error::io(path, "read", e)))]
                }
            };
            Box::new(lines.flat_map(read))
        })
    }

    /// A line of the table, and its head before the first.
    fn row(&self, out: &Output, net: &Network, path: &Path, answers: &[f32], first: bool) -> Result<()> {
        let numbers = !task::of(net)?.ranks();
        let mut rows = Vec::new();
        if first {
            let mut head = vec!["path".to_string()];
            match numbers {
                true => head.extend(net.classes().iter().cloned()),
                false => (1..=self.top.min(answers.len())).for_each(|k| {
                    let place = if k == 1 { String::new() } else { format!("_{k}") };
                    head.extend(["class", "probability"].map(|name| format!("{name}{place}")));
                }),
            }
            rows.push(head);
        }
        let mut row = vec![path.to_string_lossy().into_owned()];
        match numbers {
            true => row.extend(answers.iter().map(f32::to_string)),
            false => self
                .likeliest(answers)
                .into_iter()
                .for_each(|class| row.extend([net.classes()[class].clone(), answers[class].to_string()])),
        }
        rows.push(row);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written = rows.iter().try_for_each(|row| writer.write_record(row)).map_err(std::io::Error::other);
        let text = written.and_then(|()| writer.into_inner().map_err(|e| e.into_error()));
        let text = text.map_err(|e| Error::io("standard output", "write", e))?;
        let text = String::from_utf8_lossy(&text);
        out.raw(text.strip_suffix('\n').unwrap_or(&text));
        Ok(())
    }

    /// The classes to print for an image, the likeliest first.
    fn likeliest(&self, probabilities: &[f32]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        order.truncate(self.top);
        order
    }

    /// The most likely classes of one image.
    fn show(&self, out: &Output, net: &Network, path: &Path, probabilities: &[f32]) {
        if task::of(net).is_ok_and(|task| !task.ranks()) {
            let named = net.classes().iter().zip(probabilities);
            if out.json {
                let values: Vec<Value> =
                    named.map(|(name, value)| json!({ "name": name, "value": value })).collect();
                out.event("prediction", json!({ "path": path.to_string_lossy(), "values": values }));
            } else {
                out.line(out.style(Style::Bold, path.display()));
                named.for_each(|(name, value)| out.line(format_args!("  {value:>12.4}  {}", escaped(name))));
            }
            return;
        }
        let order = self.likeliest(probabilities);
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
            out.line(format_args!(
                "  {:6.2}%  {}",
                probabilities[class] * 100.0,
                escaped(&net.classes()[class])
            ));
        }
    }
}

/// The images of a file or folder, or why there are none.
pub(super) fn expand(path: &Path) -> Vec<Result<PathBuf, Skipped>> {
    match list_images(&[path.to_path_buf()]) {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(e) => vec![Err(Skipped::from_error(path, &e))],
    }
}

/// The readable images of a group, preprocessed for the network, and the number of unreadable ones, which are
/// reported.
pub(super) fn decode(
    out: &Output,
    net: &Network,
    group: Vec<Result<PathBuf, Skipped>>,
) -> (Vec<PathBuf>, Vec<Vec<u8>>, usize) {
    let decode = |path: Result<PathBuf, Skipped>| {
        let path = path?;
        match data::holding(|| Ok(data::eval(&data::load(&path)?, net.preprocess()))) {
            Ok(crop) => Ok((path, crop)),
            Err(e) => Err(Skipped::from_error(&path, &e)),
        }
    };
    let decoded: Vec<Result<(PathBuf, Vec<u8>), Skipped>> = group.into_par_iter().map(decode).collect();
    let (good, failed): (Vec<_>, Vec<_>) = decoded.into_iter().partition(Result::is_ok);
    failed.iter().flat_map(|failed| failed.as_ref().err()).for_each(|skipped| out.unreadable(skipped));
    let (paths, crops) = good.into_iter().flatten().unzip();
    (paths, crops, failed.len())
}

/// Whether a path stands for a list on standard input.
fn is_list(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A path as the system wrote it.
fn path_of(bytes: Vec<u8>) -> PathBuf {
    #[cfg(unix)]
    return PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes));
    #[cfg(not(unix))]
    return PathBuf::from(String::from_utf8_lossy(&bytes).into_owned());
}
