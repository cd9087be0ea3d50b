//! Trains the head, then unfreezes one layer group after the other.

use super::{Rule, body, head};
use crate::train::settings::Config;

pub(super) struct Gradual;

impl Rule for Gradual {
    /// Epochs of each stage.
    fn epochs(&self) -> usize {
        2
    }

    fn phases(&self, config: &Config, groups: &[String]) -> Vec<Config> {
        let stages = (0..groups.len().saturating_sub(1)).rev();
        std::iter::once(head(config)).chain(stages.map(|frozen| body(config, frozen, groups.len()))).collect()
    }
}
