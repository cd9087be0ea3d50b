//! Events that a training reports to an observer.

use std::path::PathBuf;

use serde::Serialize;

use crate::data::Skipped;
use crate::nn::FreezeSummary;
use crate::task::{Score, TaskRef};
use crate::train::settings::Strategy;

/// Metrics of one epoch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EpochMetrics {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Number of epochs in all.
    pub epochs: usize,
    /// Mean loss over the training images, as the network saw them.
    pub train_loss: f64,
    /// The task's metric on the training images ([`crate::task::Task::metric`]): accuracy, 0 to 1.
    pub train_accuracy: f64,
    /// Mean loss over the validation images.
    pub val_loss: f64,
    /// The task's metric on the validation images.
    pub val_accuracy: f64,
    /// The head's learning rate at the end of the epoch.
    pub lr: f64,
    /// Wall time since the training began, seconds.
    pub seconds: f64,
}

/// One trial and its result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The strategy that was tried.
    pub strategy: Strategy,
    /// The head's learning rate in the last phase.
    pub lr: f64,
    /// Validation loss and metric of the resulting weights.
    pub score: Score,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Number of trainable parameters in the last phase.
    pub parameters: usize,
}

/// An event of a training.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run folder was created.
    Folder(PathBuf),
    /// The data was opened.
    Data {
        /// Number of training images.
        train: usize,
        /// Number of validation images.
        val: usize,
        /// Names of the classes, or of the values.
        classes: Vec<String>,
        /// The task of the training.
        task: TaskRef,
        /// Files that are not used, with reasons.
        skipped: Vec<Skipped>,
    },
    /// Images that could not be decoded, with reasons.
    Skipped(Vec<Skipped>),
    /// The trainable parameters are settled.
    Frozen(FreezeSummary),
    /// Progress of the work.
    Progress {
        /// The activity: `reading`, `features`, `train`, `evaluate`, `head`, `trials`, `adapt`, `sweep`.
        what: &'static str,
        /// Number of images done; steps for `head`, `trials` and `sweep`.
        done: usize,
        /// Total number of images or steps.
        total: usize,
        /// The current epoch, from 1.
        epoch: Option<usize>,
        /// Loss of the last step.
        loss: Option<f64>,
        /// Running mean of the metric in this epoch: accuracy, 0 to 1.
        accuracy: Option<f64>,
    },
    /// An epoch is over.
    Epoch(EpochMetrics),
    /// A trial of strategy `auto` is done.
    Trial(Trial),
    /// A problem that does not stop the training.
    Warning(String),
    /// Information for the user.
    Note(String),
}

impl Event {
    /// Progress without loss and accuracy.
    pub(crate) fn progress(what: &'static str, done: usize, total: usize) -> Self {
        Event::Progress { what, done, total, epoch: None, loss: None, accuracy: None }
    }
}

/// Receives the events of a training.
pub trait Observer {
    /// Called for every event, on the training's thread.
    fn event(&mut self, event: &Event);
}

/// An observer that ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: &Event) {}
}
