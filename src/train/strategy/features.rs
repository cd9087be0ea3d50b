//! Trains the head alone.

use super::Rule;
use crate::train::optimizer::schedule::Schedule;
use crate::train::settings::{Config, Strategy};

/// The strategy.
pub(crate) const STRATEGY: Strategy = Strategy::Features;

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
