//! Options that say how a network is taught.

use std::path::PathBuf;

use clap::Args;

use super::options::{Optimizing, one_of};
use super::positive;
use crate::train::{Config, HeadSolver, Schedule};

/// Learning rates as they are given.
#[derive(Debug, Clone, PartialEq)]
enum Rates {
    Each(Vec<f64>),
    Range(f64, f64),
}

fn rates(text: &str) -> Result<Rates, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| format!("'{text}' is no number"));
    match text.split_once("..") {
        Some((low, high)) => Ok(Rates::Range(number(low)?, number(high)?)),
        None => text.split(',').map(number).collect::<Result<_, _>>().map(Rates::Each),
    }
}

/// How it is taught.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is taught")]
pub(super) struct Teaching {
    /// Passes over the pictures [default: 40 for features, 5 for finetune, 6 for two-phase, 2 a stage for gradual, 100
    /// for scratch]
    #[arg(long, value_name = "N", value_parser = positive)]
    epochs: Option<usize>,
    /// Pictures a step [default: 32 on kept features, else 8 to 32 by the number of pictures]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    #[command(flatten)]
    optimizing: Optimizing,
    /// A hidden layer of so many features in the head: linear, ReLU, dropout, linear [default: none]
    #[arg(long, value_name = "FEATURES", value_parser = positive)]
    head_hidden: Option<usize>,
    /// Let the auxiliary heads of googlenet and inception_v3 learn, too
    #[arg(long)]
    auxiliary: bool,
    /// Learning rate: one, or body,head, or one for each layer group, or LOW..HIGH spread over the groups [default: by
    /// strategy; see defrost lr-find]
    #[arg(long, value_name = "RATES", value_parser = rates, allow_negative_numbers = true)]
    lr: Option<Rates>,
    /// Each layer group learns at this share of the rate of the one above
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    layer_decay: Option<f64>,
    /// Epochs over which the rate climbs from 0 at the beginning [default: 0; one-cycle climbs by itself]
    #[arg(long, value_name = "EPOCHS", allow_negative_numbers = true)]
    warmup: Option<f64>,
    /// Decay of weights; norms and biases do not decay [default: 0.1 with adamw, 1e-4 with sgd]
    #[arg(long)]
    weight_decay: Option<f64>,
    /// How the rate goes over the training [default: cosine for features, else one-cycle]
    #[arg(long, value_parser = one_of::<Schedule>(&["constant", "step", "cosine", "one-cycle", "plateau"]))]
    schedule: Option<Schedule>,
    /// Scale gradients down to this norm where they are larger
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    clip: Option<f64>,
    /// So many batches make one update: their gradients add up
    #[arg(long, value_name = "BATCHES", value_parser = positive)]
    accumulate: Option<usize>,
    /// Evaluate and keep a moving average of the weights with this decay; 0 for none [default: 0.98 for two-phase, else
    /// none]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    ema: Option<f64>,
    /// End a phase once the validation loss has not fallen for so many epochs
    #[arg(long, value_name = "EPOCHS", value_parser = positive)]
    patience: Option<usize>,
    /// Let each class count as much as any other in the loss, however many pictures it has
    #[arg(long)]
    class_weights: bool,
    /// Draw pictures of each class equally often
    #[arg(long)]
    balanced: bool,
    /// How the head is taught on kept features: steps of the optimizer, or logistic regression by L-BFGS with its
    /// penalty from cross-validation [default: steps]
    #[arg(long, value_parser = one_of::<HeadSolver>(&["steps", "lbfgs"]))]
    head_solver: Option<HeadSolver>,
    /// So many varied copies of each picture are all that is ever seen; what is frozen runs once for each
    #[arg(long, value_name = "N", value_parser = positive)]
    copies: Option<usize>,
    /// Learn from the answers of this run or checkpoint, too: a larger network that has been taught the same classes
    #[arg(long, value_name = "RUN")]
    teacher: Option<PathBuf>,
    /// The teacher's share in the loss [default: 0.5]
    #[arg(long, value_name = "SHARE", requires = "teacher")]
    distill_share: Option<f32>,
    /// Temperature of the teacher's answers [default: 4]
    #[arg(long, value_name = "T", requires = "teacher")]
    distill_temperature: Option<f32>,
    /// Share of the target that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f32>,
    /// Share of the pictures that validates where DATA has no val/ [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f64>,
    /// Of everything random: the same seed on the same device gives the same run [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after this epoch; --resume goes on
    #[arg(long, value_name = "EPOCH", value_parser = positive)]
    stop_after: Option<usize>,
    /// Seconds between two checkpoints, within an epoch too: what a killed run loses at most [default: 45]
    #[arg(long, value_name = "SECONDS")]
    checkpoint_every: Option<f64>,
    /// End with an error where any image cannot be read, at the beginning or later; without, a tenth may be missing
    #[arg(long)]
    strict: bool,
}

impl Teaching {
    /// Into the settings.
    pub(super) fn apply(&self, config: &mut Config) {
        (config.epochs, config.batch, config.stop_after) = (self.epochs, self.batch, self.stop_after);
        (config.head_hidden, config.auxiliary) = (self.head_hidden, self.auxiliary);
        self.optimizing.apply(config);
        match &self.lr {
            Some(Rates::Each(each)) => config.lr.clone_from(each),
            Some(Rates::Range(low, high)) => config.lr_range = Some((*low, *high)),
            None => {}
        }
        (config.layer_decay, config.clip, config.ema) = (self.layer_decay, self.clip, self.ema);
        config.warmup = self.warmup.unwrap_or(config.warmup);
        config.accumulate = self.accumulate.unwrap_or(config.accumulate);
        (config.patience, config.copies) = (self.patience, self.copies.unwrap_or(config.copies));
        (config.class_weights, config.balanced) = (self.class_weights, self.balanced);
        config.head_solver = self.head_solver.unwrap_or(config.head_solver);
        config.teacher.clone_from(&self.teacher);
        config.distill.share = self.distill_share.unwrap_or(config.distill.share);
        config.distill.temperature = self.distill_temperature.unwrap_or(config.distill.temperature);
        config.weight_decay = self.weight_decay.or(config.weight_decay);
        config.schedule = self.schedule.or(config.schedule);
        config.smoothing = self.label_smoothing.unwrap_or(config.smoothing);
        config.val_fraction = self.val_fraction.unwrap_or(config.val_fraction);
        config.seed = self.seed.unwrap_or(config.seed);
        config.checkpoint_every = self.checkpoint_every.unwrap_or(config.checkpoint_every);
        config.strict = self.strict;
    }
}
