//! The head, then everything.

use super::{Rule, body, head};
use crate::train::settings::Config;

/// Decay of the averaged weights: over some fifty updates. On a few hundred images the weights swing from epoch to epoch
/// by more than an epoch teaches.
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
