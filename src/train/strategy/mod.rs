//! Strategies: the phases of a training, and what it takes where the settings do not say. A strategy is a file here with
//! its [`Rule`], and a line of the list in [`crate::train::settings`].

mod auto;
mod features;
mod finetune;
mod gradual;
mod scratch;
mod two_phase;

use crate::data::Augment;
use crate::nn::{Freeze, NormMode};
use crate::train::optimizer::schedule::Schedule;
use crate::train::settings::{Config, Strategy, strategies};

pub(super) use auto::candidates;
pub(super) use features::STRATEGY as FEATURES;
pub(super) use scratch::STRATEGY as SCRATCH;

/// What a strategy does.
trait Rule: Sync {
    /// Passes over the training images: on cached features, of each stage, or of all that is not the head's.
    fn epochs(&self) -> usize;

    /// The phases of a training of a network with these layer groups.
    fn phases(&self, config: &Config, _groups: &[String]) -> Vec<Config> {
        vec![config.clone()]
    }

    /// The learning rate of each of so many layer groups; the last is the head.
    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        config.spread(groups)
    }

    /// Images a step for so many training images: the power of two that gives about thirty steps an epoch.
    fn batch(&self, images: usize) -> usize {
        (images / 30).next_power_of_two().clamp(8, Config::BATCH)
    }

    /// How the learning rate goes: one-cycle's warm-up keeps a fresh head from spoiling the layers below.
    fn schedule(&self) -> Schedule {
        Schedule::OneCycle
    }

    /// How batch norms in layers that learn take part. The pretrained statistics stay: batches of a small data set
    /// estimate them badly (hymenoptera, two epochs from `features.14` on: 94.8-96.1% against 90.9% with the batch's
    /// own).
    fn batch_norm(&self) -> NormMode {
        NormMode::FrozenStats
    }

    /// Whether the head alone learns, on features that are computed once for each image as it is.
    fn head_only(&self) -> bool {
        false
    }

    /// Whether the first weights are pretrained ones, not random ones.
    fn pretrained(&self) -> bool {
        true
    }

    /// Of a strategy that chooses another one by trials: the one that stands for it where none are made.
    fn without_trials(&self) -> Option<Strategy> {
        None
    }
}

macro_rules! rules {
    ($($(#[$about:meta])* $name:ident = $text:literal $(or $alias:literal)?, $module:ident, $help:literal;)*) => {
        fn rule(strategy: Strategy) -> &'static dyn Rule {
            match strategy {
                $(Strategy::$name => &$module::$name,)*
            }
        }
    };
}

strategies!(rules);

impl Strategy {
    /// What is taken where nobody asks for one: for a network of which the user freezes something, and else.
    pub fn usual(freezes: bool) -> Self {
        if freezes { Strategy::Finetune } else { Strategy::default() }
    }

    /// Passes over the training images of each, in words.
    pub(super) fn epochs_in_words() -> String {
        let each = Self::ALL.iter().map(|strategy| format!("{} for {}", strategy.epochs(), strategy.name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Passes over the training images.
    pub(super) fn epochs(self) -> usize {
        rule(self).epochs()
    }

    /// The phases of a training of a network with these layer groups.
    pub(super) fn phases(self, config: &Config, groups: &[String]) -> Vec<Config> {
        rule(self).phases(config, groups)
    }

    /// The learning rate of each of so many layer groups.
    pub(super) fn rates(self, config: &Config, groups: usize) -> Vec<f64> {
        rule(self).rates(config, groups)
    }

    /// Images a step for so many training images.
    pub(super) fn batch(self, images: usize) -> usize {
        rule(self).batch(images)
    }

    /// How the learning rate goes.
    pub(super) fn schedule(self) -> Schedule {
        rule(self).schedule()
    }

    /// How batch norms in layers that learn take part.
    pub(super) fn batch_norm(self) -> NormMode {
        rule(self).batch_norm()
    }

    /// What is frozen whatever the settings say.
    pub(super) fn freeze(self) -> Freeze {
        if self.head_only() { Freeze::all_but_head() } else { Freeze::none() }
    }

    /// Whether the head alone learns, on features that are computed once for each image as it is.
    pub fn head_only(self) -> bool {
        rule(self).head_only()
    }

    /// Whether a phase of a training is the head's alone.
    pub(super) fn begins_with_head(self, config: &Config) -> bool {
        self.phases(config, &[]).iter().any(|phase| phase.strategy.head_only())
    }

    /// Whether the first weights are pretrained ones, not random ones.
    pub fn pretrained(self) -> bool {
        rule(self).pretrained()
    }

    /// Whether short trials choose another strategy.
    pub(super) fn tries(self) -> bool {
        rule(self).without_trials().is_some()
    }

    /// Itself, or what stands for it where no trials are made.
    pub(super) fn without_trials(self) -> Strategy {
        rule(self).without_trials().unwrap_or(self)
    }
}

/// The settings of a phase in which the head alone learns. What is said of rates, augmentation and memory is meant for
/// the network.
pub(super) fn head(config: &Config) -> Config {
    Config {
        strategy: FEATURES,
        lr: Vec::new(),
        lr_range: None,
        layer_decay: None,
        warmup: 0.0,
        accumulate: 1,
        copies: 0,
        augment: Augment::none(),
        ema: None,
        schedule: None,
        freeze_through: None,
        freeze: Vec::new(),
        freeze_groups: Vec::new(),
        epochs: None,
        batch: None,
        ..config.clone()
    }
}

/// The settings of a phase under a head that has learned already, in which so many layer groups from below are frozen.
fn body(config: &Config, frozen: usize, groups: usize) -> Config {
    let mut own = Config { strategy: Strategy::Finetune, epochs: Some(config.epochs()), ..config.clone() };
    own.freeze_groups.extend(0..frozen);
    if own.lr.is_empty() && own.lr_range.is_none() {
        own.lr = config.spread(groups);
    }
    own
}
