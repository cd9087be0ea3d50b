//! Trains all layers from random weights.

use super::Rule;
use crate::nn::NormMode;
use crate::train::settings::{Config, Strategy};

/// The strategy.
pub(crate) const STRATEGY: Strategy = Strategy::Scratch;

pub(super) struct Scratch;

impl Rule for Scratch {
    fn epochs(&self) -> usize {
        100
    }

    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        vec![config.optimizer.rates().scratch; groups]
    }

    /// The batch's own statistics: there are no pretrained ones.
    fn batch_norm(&self) -> NormMode {
        NormMode::Train
    }

    fn pretrained(&self) -> bool {
        false
    }
}
