//! `defrost pretrain`: trains a network from scratch on images that Defrost draws itself.

use std::path::PathBuf;

use clap::Args;

use super::output::{Style, duration, escaped, grouped, percent};
use super::progress::Progress;
use super::train::on_interrupt;
use super::{Session, cache_folder, positive};
use crate::Result;
use crate::data::DrawnSet;
use crate::train::{Context, pretrain, pretraining};

const EXAMPLES: &str = "\
Examples:
  defrost pretrain
  defrost pretrain weights/signs.safetensors
  defrost pretrain larger.safetensors --model mobilenet_v2 --size 96 --images 2000 --epochs 30
  defrost train photos/ --weights signs.safetensors

Without options it makes the file again that Defrost ships, on the same device byte for byte, in some twenty minutes on two
cores. The same command goes on where an interrupted one stopped.";

/// Pretrain a network from scratch, on images that Defrost draws
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PretrainCommand {
    /// The weights to write, as f16; a record of the training is written beside them as .json
    #[arg(default_value = "signs.safetensors")]
    file: PathBuf,
    /// The network [default: mobilenet_v2_050]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Side of the images, pixels [default: 64]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=1024))]
    size: Option<u32>,
    /// Training images of each of the 108 classes [default: 400]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    images: Option<u32>,
    /// Passes over them [default: 10]
    #[arg(long, value_name = "N", value_parser = positive)]
    epochs: Option<usize>,
    /// Images a step [default: 64]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Learning rate [default: 3e-3]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Seed of everything random, the images included [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// The run folder [default: runs/signs-MODEL]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl PretrainCommand {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let mut config = pretraining();
        let mut set =
            DrawnSet::named(&config.data).transpose()?.unwrap_or(DrawnSet::new(crate::data::Scenes::Signs));
        config.model = self.model.clone().unwrap_or(config.model);
        config.size = self.size.map(|size| size as usize).or(config.size);
        set.side = config.size.unwrap_or(set.side);
        set.train = self.images.unwrap_or(set.train);
        (config.epochs, config.batch) = (self.epochs.or(config.epochs), self.batch.or(config.batch));
        config.lr = self.lr.map_or(config.lr, |lr| vec![lr]);
        config.seed = self.seed.unwrap_or(config.seed);
        set.seed = config.seed;
        config.data = set.to_string().into();
        let folder = self
            .out
            .clone()
            .unwrap_or_else(|| format!("runs/signs-{}", config.model.replace(['/', '\\'], "-")).into());
        let stop = on_interrupt()?;
        let device = session.device()?;
        let mut progress = Progress::new(out);
        let context = Context { device: &device, cache: cache_folder(), observer: &mut progress, stop };
        let record = pretrain(&config, &folder, &self.file, context)?;
        drop(progress);
        if out.json {
            let mut fields = serde_json::to_value(&record).unwrap_or_default();
            fields["file"] = self.file.to_string_lossy().into();
            out.event("done", fields);
            return Ok(());
        }
        out.line(format_args!(
            "{} of {} validation images right (95% interval {} to {}), {} classes, {}",
            out.style(Style::Bold, percent(record.accuracy)),
            grouped(record.images),
            percent(record.interval.0),
            percent(record.interval.1),
            record.classes,
            duration(record.seconds)
        ));
        out.line(format_args!(
            "{}: {} bytes, sha256 {}",
            escaped(self.file.display()),
            grouped(record.bytes as usize),
            record.sha256
        ));
        Ok(())
    }
}
