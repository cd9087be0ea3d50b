//! Which of two epochs is better.

use serde::{Deserialize, Serialize};

use crate::task::Score;

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Best {
    /// What it is worth.
    pub score: Score,
    /// Which it is, of all phases, from 1.
    pub epoch: usize,
    /// Updates of the phase at hand that it had.
    pub updates: u64,
}

/// Whether weights with this score are to be kept rather than those with `other`: those of the better metric where
/// `by_metric` asks for it ([`crate::task::Task::metric_first`]), and of the smaller loss where metrics are equal.
pub(crate) fn beats(score: &Score, other: &Score, by_metric: bool) -> bool {
    match by_metric && score.accuracy != other.accuracy {
        true => score.accuracy > other.accuracy,
        false => score.selection_loss <= other.selection_loss,
    }
}
