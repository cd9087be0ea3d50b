//! Trains all layers at once, under a new head.

use super::Rule;
use crate::train::settings::Config;

pub(super) struct Finetune;

impl Rule for Finetune {
    fn epochs(&self) -> usize {
        5
    }

    fn rates(&self, config: &Config, groups: usize) -> Vec<f64> {
        let usual = config.optimizer.rates();
        match config.layer_decay {
            Some(_) => config.spread(groups),
            None => Config::body_and_head(usual.body, usual.head, groups),
        }
    }
}
