//! Where a training stands, and how it ended.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::task::TaskRef;
use crate::train::fit::score::Best;

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What `val_accuracy` is a figure of.
    pub task: TaskRef,
    /// The task's metric on the validation images with the weights that are kept: accuracy, 0 to 1, mean average
    /// precision, R2 ([`crate::task::Task::metric`]).
    pub val_accuracy: f64,
    /// Their mean loss.
    pub val_loss: f64,
    /// How many they are: those that could be read.
    pub val_images: usize,
    /// The epoch whose weights are kept, from 1 ([`Best`]).
    pub best_epoch: usize,
    /// Epochs done.
    pub epochs: usize,
    /// Wall time.
    pub seconds: f64,
    /// The run folder.
    pub run: Option<PathBuf>,
    /// Whether it was stopped before its end; [`crate::train::resume`] goes on.
    pub interrupted: bool,
}

/// Where a training stands: all that a checkpoint needs beside the tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// The phase under way, from 0.
    #[serde(default)]
    pub phase: usize,
    /// Epochs of it that are over.
    pub epoch: usize,
    /// Updates done in the epoch under way.
    pub step: usize,
    /// Optimizer steps of the phase.
    pub updates: u64,
    /// Those of earlier phases, by layer group.
    #[serde(default)]
    pub updates_before: Vec<u64>,
    /// Images that go through the network at once; 0 before the first step.
    pub batch: usize,
    /// How many such batches make one update; 0 is 1.
    #[serde(default)]
    pub parts: usize,
    /// The least validation loss of the phase, and the epochs since then.
    #[serde(default)]
    pub least: Option<(f64, usize)>,
    /// How often the validation loss has come to rest.
    #[serde(default)]
    pub plateaus: usize,
    /// Sums of the epoch under way: loss times images, right answers, images.
    pub sums: [f64; 3],
    /// The best epoch of all phases so far.
    pub best: Option<Best>,
}

impl State {
    /// Whether the phase ends here since its validation loss has not fallen for `patience` epochs.
    pub(crate) fn is_enough(&self, patience: Option<usize>) -> bool {
        let stale = self.least.map_or(0, |(_, since)| since);
        patience.is_some_and(|patience| stale >= patience)
    }
}
