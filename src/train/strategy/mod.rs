//! Strategies: the phases of a training, and what it takes where the settings do not say. A strategy is a file with its
//! [`Rule`] and what the help says of it, and a line of the registry below.

mod auto;
mod features;
mod finetune;
mod gradual;
mod scratch;
mod two_phase;

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use super::settings::Config;
use crate::data::Augment;
use crate::nn::{Freeze, NormMode};

pub use auto::Trial;
pub(super) use auto::choose;
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
    fn batch(&self, pictures: usize) -> usize {
        (pictures / 30).next_power_of_two().clamp(8, Config::BATCH)
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

macro_rules! strategies {
    ($($(#[$about:meta])* $name:ident = $text:literal, $module:ident $(, or $alias:literal)?;)*) => {
        /// What is trained, and in which order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum Strategy {
            $($(#[$about])* #[serde(rename = $text $(, alias = $alias)?)] $name,)*
        }

        impl Strategy {
            /// Their names, other names behind their own.
            pub const NAMES: &[&str] = &[$($text, $($alias,)?)*];
            /// All of them.
            pub const ALL: &[Strategy] = &[$(Strategy::$name),*];
            /// What the help says of them.
            pub(super) const HELP: &[&str] = &[$($module::ABOUT),*];

            fn rule(self) -> &'static dyn Rule {
                match self {
                    $(Strategy::$name => &$module::$name,)*
                }
            }

            /// As `config.json` has it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Strategy::$name => $text,)*
                }
            }

            /// What it does, behind its name.
            pub fn about(self) -> &'static str {
                match self {
                    $(Strategy::$name => $module::ABOUT.trim_end_matches([';', '.']),)*
                }
            }
        }
    };
}

strategies! {
    /// The frozen network runs once an image, its features are cached, and the head is trained on them.
    Features = "features", features;
    /// Everything that is not frozen learns, on augmented images.
    Finetune = "finetune", finetune, or "partial";
    /// First the head on cached features, then everything that is not frozen, lower layers at lower rates (Kumar et al.
    /// 2022, arXiv:2202.10054: a fresh head would spoil the features).
    #[default]
    TwoPhase = "two-phase", two_phase;
    /// First the head on cached features, then one layer group after the other from the top (Howard and Ruder 2018,
    /// arXiv:1801.06146).
    Gradual = "gradual", gradual;
    /// Everything learns from initial weights: what pre-training is worth, and how it is made.
    Scratch = "scratch", scratch;
    /// Short trials of the others on the images at hand, then the best of them.
    Auto = "auto", auto;
}

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
        self.rule().epochs()
    }

    /// The phases of a training of a network with these layer groups.
    pub(super) fn phases(self, config: &Config, groups: &[String]) -> Vec<Config> {
        self.rule().phases(config, groups)
    }

    /// The learning rate of each of so many layer groups.
    pub(super) fn rates(self, config: &Config, groups: usize) -> Vec<f64> {
        self.rule().rates(config, groups)
    }

    /// Images a step for so many training images.
    pub(super) fn batch(self, pictures: usize) -> usize {
        self.rule().batch(pictures)
    }

    /// How the learning rate goes.
    pub(super) fn schedule(self) -> Schedule {
        self.rule().schedule()
    }

    /// How batch norms in layers that learn take part.
    pub(super) fn batch_norm(self) -> NormMode {
        self.rule().batch_norm()
    }

    /// What is frozen whatever the settings say.
    pub(super) fn freeze(self) -> Freeze {
        if self.head_only() { Freeze::all_but_head() } else { Freeze::none() }
    }

    /// Whether the head alone learns, on features that are computed once for each image as it is.
    pub fn head_only(self) -> bool {
        self.rule().head_only()
    }

    /// Whether a phase of a training is the head's alone.
    pub(super) fn begins_with_head(self, config: &Config) -> bool {
        self.phases(config, &[]).iter().any(|phase| phase.strategy.head_only())
    }

    /// Whether the first weights are pretrained ones, not random ones.
    pub fn pretrained(self) -> bool {
        self.rule().pretrained()
    }

    /// Whether short trials choose another strategy.
    pub(super) fn tries(self) -> bool {
        self.rule().without_trials().is_some()
    }

    /// Itself, or what stands for it where no trials are made.
    pub(super) fn without_trials(self) -> Strategy {
        self.rule().without_trials().unwrap_or(self)
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
