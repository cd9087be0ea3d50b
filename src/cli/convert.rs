//! `defrost convert`: converts a file of weights to another format or other names.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::Session;
use super::network::load_with;
use super::output::{count, escaped};
use crate::models::{HeadPolicy, Naming, refuse_foreign_config};
use crate::nn::{TensorFile, convert, first_of};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost convert resnet50-0676ba61.pth resnet50.safetensors
  defrost convert checkpoint.pth.tar best.safetensors --half
  defrost convert resnet50.pth timm/model.safetensors --model resnet50 --names timm
  defrost train photos/ --model resnet50 --weights resnet50-0676ba61.pth

PyTorch's files are read as data: a file that would call a function of Python is refused. All commands read them
directly, too. With --model every tensor is checked against the network, and what Defrost knows of it (classes,
preprocessing) travels along; --names timm writes timm's config.json beside the file.";

/// Convert weights: PyTorch's .pth to safetensors, torchvision's names to timm's
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Convert {
    /// PyTorch's .pth, .pt or .bin, or safetensors
    from: PathBuf,
    /// The safetensors file to write
    to: PathBuf,
    /// The network of the weights: its names and shapes are checked
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Whose tensor names to write
    #[arg(long, value_enum, default_value = "torchvision", value_name = "LIBRARY", requires = "model")]
    names: Names,
    /// Write half-precision numbers (f16): half the size
    #[arg(long, conflicts_with = "model")]
    half: bool,
}

/// A library whose tensor names are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Names {
    Torchvision,
    Timm,
}

impl From<Names> for Naming {
    fn from(names: Names) -> Self {
        match names {
            Names::Torchvision => Naming::Torchvision,
            Names::Timm => Naming::Timm,
        }
    }
}

impl Convert {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let file = TensorFile::open(&self.from)?;
        let folder = || match self.to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))
            }
            None => Ok(()),
        };
        let (tensors, warnings) = match &self.model {
            Some(model) => {
                let (net, report) = load_with(session, model, &self.from, HeadPolicy::Keep)?;
                let (naming, config) = (self.names.into(), self.to.with_file_name("config.json"));
                if naming == Naming::Timm {
                    refuse_foreign_config(&config)?;
                }
                folder()?;
                net.save_as(&self.to, naming)?;
                if naming == Naming::Timm {
                    net.save_timm_config(config)?;
                }
                let ignored = Some(&report.ignored).filter(|ignored| !ignored.is_empty()).map(|ignored| {
                    let path = self.from.display();
                    format!(
                        "{path}: {} left out, having no place in {model}: {}",
                        count(ignored.len(), "tensor is", "tensors are"),
                        first_of(ignored)
                    )
                });
                (net.manifest(naming).len(), file.beside().into_iter().chain(ignored).collect())
            }
            None => {
                folder()?;
                let report = convert(&self.from, &self.to, self.half)?;
                (report.written, report.warnings)
            }
        };
        warnings.iter().for_each(|warning| out.warn(warning));
        if !file.prefix().is_empty() {
            out.note(format_args!("all names began with '{}', which is taken away", file.prefix()));
        }
        if out.json {
            out.event("converted", json!({ "from": self.from.to_string_lossy(), "to": self.to.to_string_lossy(), "tensors": tensors }));
        } else {
            out.line(format_args!("{}: {}", escaped(self.to.display()), count(tensors, "tensor", "tensors")));
        }
        Ok(())
    }
}
