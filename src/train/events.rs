//! What a training tells whoever watches.

use std::path::PathBuf;

use serde::Serialize;

use crate::data::Skipped;
use crate::nn::FreezeSummary;
use crate::task::{Score, TaskRef};
use crate::train::settings::Strategy;

/// Figures of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochMetrics {
    /// Which, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// Mean loss over the training images, as they were seen.
    pub train_loss: f64,
    /// The task's metric on them ([`crate::task::Task::metric`]): accuracy, 0 to 1.
    pub train_accuracy: f64,
    /// Mean loss over the validation images.
    pub val_loss: f64,
    /// The task's metric on them.
    pub val_accuracy: f64,
    /// The head's learning rate at the end of the epoch.
    pub lr: f64,
    /// Wall time since training began.
    pub seconds: f64,
}

/// One trial and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// What was tried.
    pub strategy: Strategy,
    /// The head's learning rate in the last phase.
    pub lr: f64,
    /// What the weights are worth on the validation images.
    pub score: Score,
    /// Wall time.
    pub seconds: f64,
    /// Parameters that learned at the end.
    pub parameters: usize,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run has this folder.
    Folder(PathBuf),
    /// The data was opened.
    Data {
        /// Training images.
        train: usize,
        /// Validation images.
        val: usize,
        /// Class names, or those of the numbers.
        classes: Vec<String>,
        /// What is trained.
        task: TaskRef,
        /// Files that are not used, with reasons.
        skipped: Vec<Skipped>,
    },
    /// Images that proved unreadable, with reasons.
    Skipped(Vec<Skipped>),
    /// What learns was settled.
    Frozen(FreezeSummary),
    /// Work goes on.
    Progress {
        /// `reading`, `features`, `train`, `evaluate`, `head`, `trials`, `adapt`, `sweep`.
        what: &'static str,
        /// Images done; steps of `head`, `trials` and `sweep`.
        done: usize,
        /// Of how many.
        total: usize,
        /// In which epoch, from 1.
        epoch: Option<usize>,
        /// Loss of the last step.
        loss: Option<f64>,
        /// Mean of what the metric is made of in this epoch so far: accuracy, 0 to 1.
        accuracy: Option<f64>,
    },
    /// An epoch is over.
    Epoch(EpochMetrics),
    /// A trial of strategy `auto` is over.
    Trial(Trial),
    /// Something is not as one would expect; counted, not fatal.
    Warning(String),
    /// Something worth knowing.
    Note(String),
}

impl Event {
    /// Progress without loss and accuracy.
    pub(crate) fn progress(what: &'static str, done: usize, total: usize) -> Self {
        Event::Progress { what, done, total, epoch: None, loss: None, accuracy: None }
    }
}

/// Whoever watches a training.
pub trait Observer {
    /// Called for everything that happens, on the training's thread.
    fn event(&mut self, event: &Event);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: &Event) {}
}
