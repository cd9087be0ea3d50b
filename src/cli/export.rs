//! `defrost export`: writes a network for other people, with its model card.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::convert::Names;
use super::network::open_source;
use super::output::{escaped, mib};
use super::{Session, usage_error};
use crate::models::{Naming, Precision};
use crate::nn::write_atomically;
use crate::report::{Card, Exported};
use crate::train::RunFile;
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost export runs/photos photos-net/
  defrost export runs/photos photos-net/ --names timm --half
  defrost export runs/photos photos.safetensors

Into a folder go model.safetensors, README.md, the model card, and with --names timm timm's config.json: a repository as
the Hugging Face hub wants it. The card of photos.safetensors is photos.md. Classes and preprocessing travel in the file,
and predict, eval and train --weights read it, half precision too. The card says what the network was trained on, how, and how
good it is, and has the lines of Python that load it. Read it before you give it away.";

/// Write a trained network for other people, with a model card
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Export {
    /// A run folder, or a checkpoint written by Defrost
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// A folder, or a .safetensors file
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Whose tensor names to write
    #[arg(long, value_enum, default_value = "torchvision", value_name = "LIBRARY")]
    names: Names,
    /// Write half-precision numbers (f16): half the size
    #[arg(long)]
    half: bool,
}

impl Export {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let net = open_source(&self.run)?;
        let naming = self.names.into();
        let precision = if self.half { Precision::Half } else { Precision::Single };
        if let Some(why) = net.obstacle(naming).filter(|_| naming == Naming::Timm) {
            return Err(usage_error(format!(
                "--names timm: {} does not load into timm: {why}; leave --names away",
                net.config().model
            )));
        }
        let files = self.files(naming)?;
        let [file, card, config] = &files;
        // An exported folder holds weights, and no files of a run.
        let run = match RunFile::read(&self.run) {
            Ok(_) => Some(self.run.as_path()),
            Err(e) if self.run.join("metrics.csv").exists() => return Err(e),
            Err(_) => None,
        };
        net.save_with(file, naming, precision)?;
        let mut written = vec![file];
        if naming == Naming::Timm {
            net.save_timm_config(config)?;
            written.push(config);
        }
        let text = Card::new(&net, run, Exported { file, naming, precision })?.markdown()?;
        write_atomically(card, |out| out.write_all(text.as_bytes()))?;
        written.push(card);
        let mut sizes = Vec::new();
        for path in written {
            let size = std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len();
            sizes.push((path, size));
        }
        if out.json {
            let files =
                sizes.iter().map(|(path, size)| json!({ "path": path.to_string_lossy(), "bytes": size }));
            out.event(
                "done",
                json!({ "from": self.run.to_string_lossy(), "files": files.collect::<Vec<_>>() }),
            );
        } else {
            sizes.iter().for_each(|(path, size)| {
                out.line(format_args!("{}  {}", escaped(path.display()), mib(*size)));
            });
        }
        Ok(())
    }

    /// The paths of weights, card and timm's description; existing files are never overwritten.
    fn files(&self, naming: Naming) -> Result<[PathBuf; 3]> {
        let is_file = self.to.extension().is_some_and(|e| e == "safetensors") && !self.to.is_dir();
        let folder = match is_file {
            true => {
                self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
            }
            false => &self.to,
        };
        let file = if is_file { self.to.clone() } else { self.to.join("model.safetensors") };
        let usual = file.file_name().is_some_and(|name| name == "model.safetensors");
        if naming == Naming::Timm && !usual {
            return Err(usage_error(format!(
                "{}: timm reads a folder with model.safetensors and config.json in it: name the folder",
                self.to.display()
            )));
        }
        let card = if usual { folder.join("README.md") } else { file.with_extension("md") };
        let config = folder.join("config.json");
        let wanted = [&file, &card, &config];
        let count = if naming == Naming::Timm { 3 } else { 2 };
        if let Some(there) = wanted[..count].iter().find(|path| path.exists()) {
            return Err(usage_error(format!(
                "{}: exists already; name another place, or remove it first",
                there.display()
            )));
        }
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        Ok([file, card, config])
    }
}
