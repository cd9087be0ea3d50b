//! What an epoch's weights are worth on the validation pictures, and which of two epochs is better.

use serde::{Deserialize, Serialize};

use super::calibration::{at_temperature, fit_temperature};
use super::measures::{MultiLabel, Regression, Tally};
use crate::Result;
use crate::data::Task;

/// What weights are worth on the validation pictures.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// Share of right answers; mean average precision where pictures have several labels; the share of the variance
    /// that is explained (R2) where they have numbers.
    pub accuracy: f64,
    /// Mean loss.
    pub loss: f64,
    /// What epochs are compared by: the mean loss of single labels at the temperature that suits the epoch best, so
    /// that an epoch is not preferred for being less sure of itself; else the mean loss.
    pub rank: f64,
    /// Validation images behind these figures.
    #[serde(default)]
    pub count: usize,
}

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

impl Score {
    /// Whether these weights are to be kept rather than `other`. Of a head's dozens of epochs the most accurate one is
    /// mostly luck, which flatters the figure and costs a point on pictures never seen (measured on the test part of ten
    /// kinds of clothing); so it is their loss that counts. Of the few epochs of a network (`by_accuracy`) it is how many
    /// pictures are right, and the loss where these are equal.
    pub(super) fn beats(&self, other: &Score, by_accuracy: bool) -> bool {
        match by_accuracy && self.accuracy != other.accuracy {
            true => self.accuracy > other.accuracy,
            false => self.rank <= other.rank,
        }
    }
}

/// All that a network said of the validation pictures, and what would have been right.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) logits: Vec<f32>,
    pub(super) labels: Vec<u32>,
    /// `[pictures, classes]`; empty for single labels.
    pub(super) targets: Vec<f32>,
}

impl Answers {
    pub(super) fn score(&self, task: Task, classes: usize) -> Result<Score> {
        let Answers { logits, labels, targets } = self;
        let count = labels.len();
        Ok(match task {
            Task::Classes => {
                let (mut plain, mut calibrated) = (Tally::default(), Tally::default());
                plain.add(logits, labels);
                let loss = plain.mean_loss();
                let rank = match fit_temperature(logits, labels) {
                    Ok(temperature) => {
                        calibrated.add(&at_temperature(logits, temperature), labels);
                        calibrated.mean_loss()
                    }
                    Err(_) => loss,
                };
                Score { accuracy: plain.top1(), loss, rank, count }
            }
            Task::MultiLabel => {
                let found = MultiLabel::new(logits, targets, classes)?;
                Score { accuracy: found.mean_average_precision, loss: found.loss, rank: found.loss, count }
            }
            Task::Regression => {
                let found = Regression::new(logits, targets, classes)?;
                let errors = logits.iter().zip(targets).map(|(x, t)| f64::from(x - t).powi(2));
                let loss = errors.sum::<f64>() / logits.len().max(1) as f64;
                Score { accuracy: found.average.r2, loss, rank: loss, count }
            }
        })
    }
}
