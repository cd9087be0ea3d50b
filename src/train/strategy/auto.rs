//! Strategy `auto`: the experiment that the literature recommends. Short trials of strategies and learning rates on
//! the user's images (Li et al. 2020, arXiv:2002.11770; Kornblith et al. 2019, arXiv:1805.08974), then the best of
//! them.

use super::Rule;
use crate::Result;
use crate::train::settings::{Config, Strategy};

pub(super) struct Auto;

impl Rule for Auto {
    /// Default epochs of the chosen strategy, where that strategy has none of its own.
    fn epochs(&self) -> usize {
        6
    }

    fn without_trials(&self) -> Option<Strategy> {
        Some(Strategy::TwoPhase)
    }
}

/// Epochs of the whole network in a trial.
const EPOCHS: usize = 2;

/// Settings of the trials: the head alone, then everything at a third, once and three times the default learning
/// rates.
pub(crate) fn candidates(config: &Config, groups: &[String]) -> Result<Vec<Config>> {
    let two_phase = Config { strategy: Strategy::TwoPhase, stop_after: None, ..config.clone() };
    let last = two_phase.phases(groups).pop().unwrap_or_else(|| two_phase.clone());
    let usual = last.rates(groups)?;
    let (lr, lr_range, layer_decay) = (Vec::new(), None, None);
    let head = Config { strategy: Strategy::Features, lr, lr_range, layer_decay, ..two_phase.clone() };
    let whole = |factor: f64| Config {
        epochs: Some(EPOCHS),
        lr: usual.iter().map(|rate| factor * rate).collect(),
        lr_range: None,
        layer_decay: None,
        ..two_phase.clone()
    };
    Ok(std::iter::once(head).chain([1.0 / 3.0, 1.0, 3.0].map(whole)).collect())
}
