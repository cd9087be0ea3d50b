//! Options that several commands share.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;

use crate::nn::NormMode;
use crate::train::{Config, OptimizerKind, Strategy};

/// One of the names that a settings type has in `config.json`.
pub(super) fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(name.into()))
}

/// What learns.
#[derive(Debug, Args)]
#[command(next_help_heading = "What learns")]
pub(super) struct Freezing {
    /// features: the frozen network runs once a picture and its head is taught on what it saw;
    /// finetune (or partial): all that is not frozen learns, on varied pictures; two-phase: features, then finetune
    /// with lower rates for lower layers; gradual: features, then one layer group after the other from the top;
    /// scratch: everything, from first weights; auto: short trials of these, then the best of them.
    /// [default: finetune where anything of this section is given, else two-phase]
    #[arg(long, value_parser = one_of::<Strategy>(&["features", "finetune", "partial", "two-phase", "gradual", "scratch", "auto"]))]
    strategy: Option<Strategy>,
    /// Freeze everything up to and including this layer
    #[arg(long, value_name = "LAYER")]
    freeze_through: Option<String>,
    /// Freeze this layer or parameter; may be given several times
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    freeze: Vec<String>,
    /// Freeze these layer groups, counted from 0; the last is the head
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    freeze_groups: Vec<usize>,
    /// Batch norms in layers that learn: train; frozen-stats: scale and shift learn, the running
    /// statistics stay; frozen. In frozen layers they are frozen [default: frozen-stats]
    #[arg(long, value_name = "MODE", value_parser = one_of::<NormMode>(&["train", "frozen-stats", "frozen"]))]
    batch_norm: Option<NormMode>,
}

impl Freezing {
    /// Whether no weights are wanted.
    pub(super) fn scratch(&self) -> bool {
        self.strategy == Some(Strategy::Scratch)
    }

    /// Into the settings; `otherwise` is the strategy where the options do not say.
    pub(super) fn apply(&self, config: &mut Config, otherwise: Strategy) {
        let asked = self.freeze_through.is_some()
            || !self.freeze.is_empty()
            || !self.freeze_groups.is_empty()
            || self.batch_norm.is_some();
        config.strategy = self.strategy.unwrap_or(if asked { Strategy::Finetune } else { otherwise });
        config.freeze_through.clone_from(&self.freeze_through);
        config.freeze.clone_from(&self.freeze);
        config.freeze_groups.clone_from(&self.freeze_groups);
        config.batch_norm = self.batch_norm.or(config.batch_norm);
    }
}

/// How a training step is made.
#[derive(Debug, Args)]
pub(super) struct Optimizing {
    /// Update rule [default: adamw]
    #[arg(long, value_parser = one_of::<OptimizerKind>(&["sgd", "adamw"]))]
    optimizer: Option<OptimizerKind>,
    /// SGD's momentum [default: 0.9]
    #[arg(long)]
    momentum: Option<f32>,
    /// SGD looks ahead (Nesterov)
    #[arg(long)]
    nesterov: bool,
    /// Keep few activations for the gradients and compute the others again: less memory, about a quarter more work, the
    /// same numbers; done by itself where a GPU's memory does not suffice
    #[arg(long)]
    grad_checkpointing: bool,
}

impl Optimizing {
    /// Into the settings.
    pub(super) fn apply(&self, config: &mut Config) {
        config.optimizer = self.optimizer.unwrap_or(config.optimizer);
        config.momentum = self.momentum.unwrap_or(config.momentum);
        config.nesterov = self.nesterov;
        config.grad_checkpointing = self.grad_checkpointing;
    }
}
