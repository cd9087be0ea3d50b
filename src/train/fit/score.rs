//! Comparison of two epochs.

use serde::{Deserialize, Serialize};

use crate::task::Score;

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Best {
    /// Its score.
    pub score: Score,
    /// Its number over all phases, from 1.
    pub epoch: usize,
    /// Number of updates of the current phase that its weights had.
    pub updates: u64,
}

/// Whether weights with this score replace those with `other`. Where `by_metric` is true
/// ([`crate::task::Task::metric_first`]), the better metric wins and equal metrics are decided by the smaller loss;
/// else the smaller loss wins.
pub(crate) fn beats(score: &Score, other: &Score, by_metric: bool) -> bool {
    match by_metric && score.accuracy != other.accuracy {
        true => score.accuracy > other.accuracy,
        false => score.selection_loss <= other.selection_loss,
    }
}
