//! The network of a command: a run folder, a checkpoint, or a model's name with weights.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Session, usage_error, weights};
use crate::models::{self, HeadPolicy, Network, registry};
use crate::nn::LoadReport;
use crate::{Error, Result, did_you_mean};

/// A network: a name with a file of weights, or a checkpoint written by Defrost.
#[derive(Debug, Args)]
pub(super) struct NetworkOptions {
    /// The model that the weights belong to: resnet50, mobilenet_v2, ...
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A file of weights: torchvision's, timm's or Defrost's, as safetensors or PyTorch's .pth [default: published
    /// weights of the model, fetched once]
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

impl NetworkOptions {
    /// The network, and the remaining paths.
    pub(super) fn open<'a>(
        &self,
        session: &Session,
        paths: &'a [PathBuf],
    ) -> Result<(Network, &'a [PathBuf])> {
        let named = paths.split_first().filter(|(first, _)| is_model(first));
        Ok(match (&self.model, &self.weights, named, paths.split_first()) {
            (Some(model), Some(weights), ..) => (load(session, model, weights)?, paths),
            (None, Some(weights), Some((name, rest)), _) => (load(session, &text(name), weights)?, rest),
            (None, Some(weights), ..) => (Network::open(weights)?, paths),
            (Some(model), None, ..) => (load_usual(session, model)?, paths),
            (None, None, Some((name, rest)), _) => (load_usual(session, &text(name))?, rest),
            (None, None, _, Some((source, rest))) => (open_source(source)?, rest),
            (None, None, _, None) => {
                return Err(usage_error(
                    "name a run folder or a checkpoint, or a model with --model and --weights",
                ));
            }
        })
    }
}

/// A network with weights from a file, and the list of loaded tensors; prints warnings.
pub(super) fn load_with(
    session: &Session,
    model: &str,
    weights: &Path,
    head: HeadPolicy,
) -> Result<(Network, LoadReport)> {
    let (net, report) = models::load_with(model, weights, head)?;
    report.warnings.iter().for_each(|warning| session.out.warn(warning));
    Ok((net, report))
}

/// The same, with the head of the file.
pub(super) fn load(session: &Session, model: &str, weights: &Path) -> Result<Network> {
    Ok(load_with(session, model, weights, HeadPolicy::Keep)?.0)
}

/// A network with its usual weights.
fn load_usual(session: &Session, name: &str) -> Result<Network> {
    let (name, path) = weights::usual(session, name)?;
    load(session, &name, &path)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Whether a word names a model and no file on the disk.
pub(super) fn is_model(word: &Path) -> bool {
    !word.exists() && registry::find(&text(word)).is_ok()
}

/// The network in a run folder or a checkpoint written by Defrost.
pub(super) fn open_source(source: &Path) -> Result<Network> {
    let path = source.display();
    if source.is_dir() {
        let file = source.join("model.safetensors");
        if !file.exists() {
            return Err(Error::Weights(format!(
                "{path}: no run folder: there is no model.safetensors in it"
            )));
        }
        return Network::open(file);
    }
    if source.exists() {
        return Network::open(source);
    }
    let hint = did_you_mean(&text(source), registry::all().into_iter().map(|m| m.name));
    Err(Error::Weights(format!("{path}: there is no such run folder, checkpoint or model{hint}")))
}
