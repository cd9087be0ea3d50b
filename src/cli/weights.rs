//! `defrost weights`: pretrained weights from the Hugging Face hub.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Session;
use super::output::{escaped, mib, table};
use crate::models::manifest::{self, Weights};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost weights list
  defrost weights fetch resnet50
  defrost weights path mobilenetv2_100.ra_in1k
  HF_ENDPOINT=https://mirror.example defrost weights fetch efficientnet_b0

Files lie in the cache that Python's huggingface_hub, timm and transformers use: HF_HUB_CACHE, HF_HOME/hub or
~/.cache/huggingface/hub. HF_TOKEN is sent to the hub; --offline or HF_HUB_OFFLINE=1 fetches nothing.";

/// List, fetch and find published pretrained weights
#[derive(Debug, Args)]
#[command(name = "weights", after_help = EXAMPLES)]
pub(super) struct WeightsCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the weights that can be downloaded, and those in the cache
    List,
    /// Download weights into the cache, and print their path; changed files are downloaded again
    Fetch {
        /// A model, or weights as the list names them
        name: String,
    },
    /// Print the path of weights in the cache; download nothing
    Path {
        /// A model, or weights as the list names them
        name: String,
    },
}

impl WeightsCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        match &self.action {
            Action::List => list(session),
            Action::Fetch { name } | Action::Path { name } => {
                let weights = manifest::find(name)?;
                let path = match &self.action {
                    Action::Fetch { .. } => {
                        if let Some(blob) =
                            session.hub().discard_damaged(&weights.repository, &weights.file)?
                        {
                            out.warn(format_args!(
                                "{}: its bytes were not those that had been fetched; the file is fetched again",
                                blob.display()
                            ));
                        }
                        fetch(session, weights)?
                    }
                    _ => session.hub().cached(&weights.repository, &weights.file).ok_or_else(|| {
                        Error::Weights(format!(
                            "{} is not in the cache: defrost weights fetch {}",
                            weights.repository, weights.name
                        ))
                    })?,
                };
                if out.json {
                    out.event(
                        "weights",
                        json!({ "name": weights.name, "model": weights.model, "path": path.to_string_lossy() }),
                    );
                } else {
                    out.line(escaped(path.display()));
                }
                Ok(())
            }
        }
    }
}

fn list(session: &Session) -> Result<()> {
    let (out, hub) = (&session.out, session.hub());
    let mut rows =
        vec![["weights", "model", "input", "licence", "repository", ""].map(String::from).to_vec()];
    for weights in manifest::all() {
        let path = hub.cached(&weights.repository, &weights.file);
        let side = weights.preprocess().size[0];
        if out.json {
            out.event(
                "weights",
                json!({
                    "name": weights.name,
                    "model": weights.model,
                    "repository": weights.repository,
                    "file": weights.file,
                    "licence": weights.licence,
                    "input": side,
                    "path": path.as_ref().map(|path| path.to_string_lossy()),
                }),
            );
        }
        let state = if path.is_some() { "in the cache" } else { "" };
        let (name, model, licence) = (weights.name.clone(), weights.model.clone(), weights.licence.clone());
        rows.push(vec![name, model, side.to_string(), licence, weights.repository.clone(), state.into()]);
    }
    if !out.json {
        table(&rows, &[false, false, true, false, false, false]).into_iter().for_each(|line| out.line(line));
    }
    Ok(())
}

/// The file of some weights, downloaded where it is not in the cache; prints source and size.
fn fetch(session: &Session, weights: &Weights) -> Result<PathBuf> {
    let (out, hub) = (&session.out, session.hub());
    let bars = stderr().is_terminal() && !out.quiet && !out.json;
    let mut bar: Option<ProgressBar> = None;
    let path = hub.fetch(&weights.repository, &weights.file, &mut |done, total| {
        let bar = bar.get_or_insert_with(|| {
            out.note(format_args!(
                "fetching {} ({}, licence {}) from {} into {}",
                weights.repository,
                mib(total),
                weights.licence,
                hub.endpoint,
                hub.cache.display()
            ));
            let template = "{bar:28} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            match bars {
                true => ProgressBar::new(total).with_style(style.progress_chars("=> ")),
                false => ProgressBar::hidden(),
            }
        });
        bar.set_position(done);
        Ok(())
    })?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(path)
}

/// The name and the file of a model's usual weights, fetched where they are not in the cache.
pub(super) fn usual(session: &Session, name: &str) -> Result<(String, PathBuf)> {
    let weights = manifest::find(name)?;
    Ok((weights.name.clone(), fetch(session, weights)?))
}
