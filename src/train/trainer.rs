//! A training from its settings to its report: phases one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::checkpoint::{Saver, beginning, forget_beginnings};
use super::events::{Event, Observer, Silent};
use super::images::Known;
use super::lost::Lost;
use super::phase::{Handed, Phase};
use super::prepare::warm;
use super::score::Best;
use super::settings::Config;
use super::teacher::Teacher;
use crate::data::Dataset;
use crate::models::{HeadPolicy, Network};
use crate::plan::Device;
use crate::task::{self, TaskRef};
use crate::{Error, Result};

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
    /// Whether it was stopped before its end; [`super::resume`] goes on.
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
    /// Sums of the epoch under way: loss times pictures, right answers, pictures.
    pub sums: [f64; 3],
    /// The best epoch of all phases so far.
    pub best: Option<Best>,
}

impl State {
    /// Whether the phase ends here since its validation loss has not fallen for `patience` epochs.
    pub(super) fn is_enough(&self, patience: Option<usize>) -> bool {
        let stale = self.least.map_or(0, |(_, since)| since);
        patience.is_some_and(|patience| stale >= patience)
    }
}

/// Teaches a network. Build it, then [`Trainer::fit`].
///
/// ```
/// use std::sync::Arc;
///
/// use defrost::data::{DrawnSet, Scenes};
/// use defrost::models;
/// use defrost::nn::Freeze;
/// use defrost::plan::Device;
/// use defrost::train::{Config, Strategy, Trainer};
///
/// # fn main() -> defrost::Result<()> {
/// let set = DrawnSet { side: 32, train: 2, val: 1, ..DrawnSet::new(Scenes::Things) }.splits();
/// let mut net = models::create("resnet20", 8)?;
/// net.freeze(Freeze::through("layer2"))?;
/// let frozen = net.tensor("conv1.weight")?.to_vec();
///
/// let config = Config { strategy: Strategy::Finetune, epochs: Some(1), ..Config::default() };
/// let report = Trainer::new(&Device::Cpu, config).fit(&mut net, &Arc::new(set.train), &Arc::new(set.val))?;
/// assert_eq!(report.epochs, 1);
/// assert_eq!(net.tensor("conv1.weight")?, frozen);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'a> {
    pub(super) device: &'a Device,
    pub(super) config: Config,
    pub(super) observer: Option<&'a mut dyn Observer>,
    pub(super) stop: Option<&'a AtomicBool>,
    pub(super) folder: Option<PathBuf>,
    pub(super) cache: Option<PathBuf>,
    pub(super) resumed: bool,
    pub(super) teacher: Option<Teacher>,
    /// Writes checkpoints.
    pub(super) saver: Saver,
    /// What is known of the run's images from before it was resumed.
    pub(super) images: Option<Known>,
    /// Training and validation images that were read at the beginning.
    pub(super) sets: Option<[Arc<Dataset>; 2]>,
    /// Those that could not be read later.
    pub(super) lost: Lost,
}

impl<'a> Trainer<'a> {
    /// A trainer with these settings.
    pub fn new(device: &'a Device, config: Config) -> Self {
        Trainer {
            device,
            config,
            observer: None,
            stop: None,
            folder: None,
            cache: None,
            resumed: false,
            teacher: None,
            saver: Saver::default(),
            images: None,
            sets: None,
            lost: Lost::default(),
        }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Stops after the step at hand, saving, once `stop` is true.
    #[must_use]
    pub fn stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Writes checkpoints and metrics into this folder, which exists.
    #[must_use]
    pub fn run_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps features below this folder.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Goes on from the run folder's last checkpoint.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resumed = true;
        self
    }

    pub(super) fn tell(&mut self, event: &Event) {
        match &mut self.observer {
            Some(observer) => observer.event(event),
            None => Silent.event(event),
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Teaches `net`, whose head already has the data's classes and whose mask says what learns (in a training of
    /// several phases, each has its own), and leaves it with the weights of its best epoch.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for settings that do not fit, [`crate::Error::Data`] about pictures,
    /// [`crate::Error::Diverged`] where the loss is no number any more, and from the device and the disk.
    pub fn fit(&mut self, net: &mut Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Report> {
        self.fit_best(net, train, val).map(|(report, _)| report)
    }

    /// The task that was asked for, else the network's where it suits the data, else the usual one for the data.
    fn task(&self, net: &Network, train: &Dataset) -> Result<TaskRef> {
        let own = task::of(net).ok().filter(|task| task.targets() == train.targets);
        let task = match (&self.config.task, own) {
            (None, Some(own)) => own,
            _ => self.config.task(train.targets)?,
        };
        let (outputs, found) = (task.outputs(net.classes().len()), net.outputs());
        if found != outputs {
            return Err(Error::Usage(format!(
                "the task {} needs a last layer of {outputs} outputs for {} classes, and the network's has {found}: \
                 replace it (task::replace_head)",
                task.name(),
                net.classes().len()
            )));
        }
        self.config.check_task(task)?;
        Ok(task)
    }

    /// The same, with all that is known of the best epoch.
    pub(super) fn fit_best(
        &mut self,
        net: &mut Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
    ) -> Result<(Report, Best)> {
        let began = Instant::now();
        self.config.check()?;
        let task = self.task(net, train)?;
        net.set_task(task.name());
        self.hire(net)?;
        let phases = self.config.phases(&net.structure().groups);
        let epochs = phases.iter().map(Config::epochs).sum();
        let whole = self.config.clone();
        let mut handed = Handed::default();
        (self.sets, self.lost) = (None, Lost::default());
        let mut begin = 0;
        if let Some(folder) = self.folder.clone() {
            if self.resumed {
                let state = self.state()?;
                begin = state.phase.min(phases.len() - 1);
                net.load_weights(beginning(&folder, begin), HeadPolicy::Keep)?;
                self.resumed = state.batch > 0;
            } else {
                net.save(beginning(&folder, 0))?;
                self.save_beginning()?;
            }
            if !self.resumed {
                self.trim_metrics(0)?;
            }
        }
        let mut interrupted = false;
        for (number, config) in phases.iter().enumerate().skip(begin) {
            let before = phases[..number].iter().map(Config::epochs).sum();
            let phase = Phase { number, last: number + 1 == phases.len(), before, epochs, began };
            if phases.len() > 1 {
                let summary = net.freeze(config.freeze())?;
                let what = summary.to_string().lines().next().unwrap_or_default().to_string();
                self.tell(&Event::Note(format!("phase {} of {}: {what}", number + 1, phases.len())));
            }
            if let Some(folder) = self.folder.as_ref().filter(|_| number > begin) {
                net.save(beginning(folder, number))?;
            }
            self.config = config.clone();
            let next = phases.get(number + 1);
            let warming = next.and_then(|next| warm(self.device, net, next, train.len()));
            let outcome = self.phase(net, train, val, phase, handed);
            let saved = self.saver.finish();
            if let Some(warming) = warming {
                let _ = warming.join();
            }
            (self.config, self.resumed) = (whole.clone(), false);
            (handed, interrupted) = outcome?;
            saved?;
            if interrupted {
                break;
            }
        }
        if let Some(folder) = self.folder.as_ref().filter(|_| !interrupted) {
            forget_beginnings(folder, phases.len());
        }
        let best = handed.best.unwrap_or_default();
        let report = Report {
            task,
            val_accuracy: best.score.accuracy,
            val_loss: best.score.loss,
            val_images: best.score.count,
            best_epoch: best.epoch,
            epochs: handed.epochs,
            seconds: began.elapsed().as_secs_f64(),
            run: self.folder.clone(),
            interrupted,
        };
        Ok((report, best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DrawnSet, Scenes, Target, TargetKind};
    use crate::models;

    /// Whoever calls the library need not say what the data is: its form decides, and the settings must suit it.
    #[test]
    fn settings_that_the_task_of_the_data_cannot_are_refused() -> Result<()> {
        let mut set = DrawnSet { side: 32, train: 2, val: 1, ..DrawnSet::new(Scenes::Things) }.splits().train;
        set.targets = TargetKind::Labels;
        set.samples.iter_mut().for_each(|sample| sample.target = Target::Labels([0.0; 8].into()));
        let (mut net, set) = (models::create("resnet20", 8)?, Arc::new(set));
        let config = Config { class_weights: true, ..Config::default() };
        let refused = Trainer::new(&Device::Cpu, config).fit(&mut net, &set, &set);
        assert!(matches!(refused, Err(Error::Setting { field: "class_weights", .. })), "{refused:?}");
        Ok(())
    }
}
