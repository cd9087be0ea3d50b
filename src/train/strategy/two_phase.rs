//! Trains the head, then all layers.

use super::{Rule, body, head};
use crate::train::settings::Config;

/// Decay of the averaged weights: an average over about fifty updates. On a few hundred images, the weights fluctuate
/// between epochs by more than one epoch of training changes them.
const EMA: f64 = 0.98;

pub(super) struct TwoPhase;

impl Rule for TwoPhase {
    fn epochs(&self) -> usize {
        6
    }

    fn phases(&self, config: &Config, groups: &[String]) -> Vec<Config> {
        let body = body(config, 0, groups.len());
        vec![head(config), Config { ema: body.ema.or(Some(EMA)), ..body }]
    }
}
