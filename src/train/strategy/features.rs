//! The head alone.

use super::super::schedule::Schedule;
use super::super::settings::Config;
use super::{Rule, Strategy};

pub(super) const ABOUT: &str =
    "features: the frozen network runs once an image and its head is trained on its features;";

/// Its name.
pub(in super::super) const STRATEGY: Strategy = Strategy::Features;

pub(super) struct Features;

impl Rule for Features {
    fn epochs(&self) -> usize {
        40
    }

    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        match config.layer_decay {
            Some(_) => config.spread(groups),
            None => vec![config.optimizer.rates().head_alone; groups],
        }
    }

    fn batch(&self, _: usize) -> usize {
        Config::BATCH
    }

    fn schedule(&self) -> Schedule {
        Schedule::Cosine
    }

    fn head_only(&self) -> bool {
        true
    }
}
