//! The state of a training, and its report.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::task::TaskRef;
use crate::train::fit::score::Best;

/// The report of a training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The task, which defines the metric in `val_accuracy`.
    pub task: TaskRef,
    /// The task's metric on the validation images, with the weights of the best epoch: accuracy, 0 to 1; mean average
    /// precision; R2 ([`crate::task::Task::metric`]).
    pub val_accuracy: f64,
    /// Mean loss on the validation images.
    pub val_loss: f64,
    /// Number of validation images that could be read.
    pub val_images: usize,
    /// The best epoch, whose weights are saved, from 1 ([`Best`]).
    pub best_epoch: usize,
    /// Number of epochs done.
    pub epochs: usize,
    /// Wall time, seconds.
    pub seconds: f64,
    /// The run folder.
    pub run: Option<PathBuf>,
    /// Whether the training was stopped before its end; [`crate::train::resume`] continues it.
    pub interrupted: bool,
}

/// The state of a training: everything in a checkpoint besides the tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// The current phase, from 0.
    #[serde(default)]
    pub phase: usize,
    /// Number of completed epochs of the phase.
    pub epoch: usize,
    /// Number of updates in the current epoch.
    pub step: usize,
    /// Number of optimizer updates of the phase.
    pub updates: u64,
    /// Number of updates in earlier phases, by layer group.
    #[serde(default)]
    pub updates_before: Vec<u64>,
    /// Images that go through the network at once; 0 before the first step.
    pub batch: usize,
    /// Batches per update; 0 means 1.
    #[serde(default)]
    pub parts: usize,
    /// The lowest validation loss of the phase, and the number of epochs since then.
    #[serde(default)]
    pub least: Option<(f64, usize)>,
    /// Number of plateaus of the validation loss so far.
    #[serde(default)]
    pub plateaus: usize,
    /// Sums over the current epoch: loss times images, correct predictions, images.
    pub sums: [f64; 3],
    /// The best epoch of all phases so far.
    pub best: Option<Best>,
}

impl State {
    /// Early stopping: whether the phase ends because its validation loss has not fallen for `patience` epochs.
    pub(crate) fn is_enough(&self, patience: Option<usize>) -> bool {
        let stale = self.least.map_or(0, |(_, since)| since);
        patience.is_some_and(|patience| stale >= patience)
    }
}
