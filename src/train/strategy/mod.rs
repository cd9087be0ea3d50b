//! Strategies: the phases of a training and their defaults. A strategy is a file here with its [`Rule`], and a line
//! of the list in [`crate::train::settings`].

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

/// The properties of a strategy.
trait Rule: Sync {
    /// Default number of passes over the training images: on cached features, of each stage, or of all layers but the
    /// head.
    fn epochs(&self) -> usize;

    /// The phases of a training of a network with these layer groups.
    fn phases(&self, config: &Config, _groups: &[String]) -> Vec<Config> {
        vec![config.clone()]
    }

    /// The learning rate of each of `groups` layer groups; the last group is the head.
    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        config.spread(groups)
    }

    /// Default batch size for `images` training images: the power of two that gives about thirty steps per epoch.
    fn batch(&self, images: usize) -> usize {
        (images / 30).next_power_of_two().clamp(8, Config::BATCH)
    }

    /// The learning rate schedule. One-cycle's warm-up keeps a new head from spoiling the layers below.
    fn schedule(&self) -> Schedule {
        Schedule::OneCycle
    }

    /// Mode of the batch norms in trainable layers. The default keeps the pretrained statistics, because batches of a
    /// small data set give poor estimates (hymenoptera, two epochs from `features.14` on: 94.8-96.1% against 90.9%
    /// with the batch's own statistics).
    fn batch_norm(&self) -> NormMode {
        NormMode::FrozenStats
    }

    /// Whether only the head is trained, on features that are computed once per image without augmentation.
    fn head_only(&self) -> bool {
        false
    }

    /// Whether the initial weights are pretrained, not random.
    fn pretrained(&self) -> bool {
        true
    }

    /// For a strategy that chooses another one by trials: the strategy that replaces it where no trials are made.
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
    /// The default strategy: for a network in which the user freezes layers, and for other networks.
    pub fn usual(freezes: bool) -> Self {
        if freezes { Strategy::Finetune } else { Strategy::default() }
    }

    /// The default number of epochs of each strategy, in words.
    pub(super) fn epochs_in_words() -> String {
        let each = Self::ALL.iter().map(|strategy| format!("{} for {}", strategy.epochs(), strategy.name()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Default number of passes over the training images.
    pub(super) fn epochs(self) -> usize {
        rule(self).epochs()
    }

    /// The phases of a training of a network with these layer groups.
    pub(super) fn phases(self, config: &Config, groups: &[String]) -> Vec<Config> {
        rule(self).phases(config, groups)
    }

    /// The learning rate of each of `groups` layer groups.
    pub(super) fn rates(self, config: &Config, groups: usize) -> Vec<f64> {
        rule(self).rates(config, groups)
    }

    /// Default batch size for `images` training images.
    pub(super) fn batch(self, images: usize) -> usize {
        rule(self).batch(images)
    }

    /// The learning rate schedule.
    pub(super) fn schedule(self) -> Schedule {
        rule(self).schedule()
    }

    /// Mode of the batch norms in trainable layers.
    pub(super) fn batch_norm(self) -> NormMode {
        rule(self).batch_norm()
    }

    /// The layers that the strategy freezes whatever the settings say.
    pub(super) fn freeze(self) -> Freeze {
        if self.head_only() { Freeze::all_but_head() } else { Freeze::none() }
    }

    /// Whether only the head is trained, on features that are computed once per image without augmentation.
    pub fn head_only(self) -> bool {
        rule(self).head_only()
    }

    /// Whether the first phase trains the head alone.
    pub(super) fn begins_with_head(self, config: &Config) -> bool {
        self.phases(config, &[]).iter().any(|phase| phase.strategy.head_only())
    }

    /// Whether the initial weights are pretrained, not random.
    pub fn pretrained(self) -> bool {
        rule(self).pretrained()
    }

    /// Whether short trials choose another strategy.
    pub(super) fn tries(self) -> bool {
        rule(self).without_trials().is_some()
    }

    /// The strategy itself, or its replacement where no trials are made.
    pub(super) fn without_trials(self) -> Strategy {
        rule(self).without_trials().unwrap_or(self)
    }
}

/// The settings of a phase that trains only the head. Learning rates, augmentation and memory options in the settings
/// are meant for the whole network and do not apply here.
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

/// The settings of a phase under a trained head; the lowest `frozen` layer groups are frozen.
fn body(config: &Config, frozen: usize, groups: usize) -> Config {
    let mut own = Config { strategy: Strategy::Finetune, epochs: Some(config.epochs()), ..config.clone() };
    own.freeze_groups.extend(0..frozen);
    if own.lr.is_empty() && own.lr_range.is_none() {
        own.lr = config.spread(groups);
    }
    own
}
