//! Everything, from random weights.

use super::super::settings::Config;
use super::{Rule, Strategy};
use crate::nn::NormMode;

pub(super) const ABOUT: &str = "scratch: everything, from initial weights;";

/// Its name.
pub(in super::super) const STRATEGY: Strategy = Strategy::Scratch;

pub(super) struct Scratch;

impl Rule for Scratch {
    fn epochs(&self) -> usize {
        100
    }

    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        vec![config.optimizer.rates().scratch; groups]
    }

    /// The batch's own statistics: there are no others.
    fn batch_norm(&self) -> NormMode {
        NormMode::Train
    }

    fn pretrained(&self) -> bool {
        false
    }
}
