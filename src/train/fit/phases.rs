//! A training from its settings to its report: the phases in order.

use std::sync::Arc;
use std::time::Instant;

use crate::data::Dataset;
use crate::models::{HeadPolicy, Network};
use crate::task::{self, TaskRef};
use crate::train::events::Event;
use crate::train::fit::lost::Lost;
use crate::train::fit::phase::{Handed, Phase};
use crate::train::fit::prepare::warm;
use crate::train::fit::score::Best;
use crate::train::fit::state::Report;
use crate::train::fit::trainer::Trainer;
use crate::train::runs::checkpoint::{beginning, forget_beginnings};
use crate::train::settings::Config;
use crate::{Error, Result};

impl Trainer<'_> {
    /// Trains `net` and leaves it with the weights of its best epoch. The head of `net` must have the data's classes,
    /// and its mask says which parameters are trainable; in a training of several phases, each phase has its own
    /// mask.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for settings that do not fit, [`crate::Error::Data`] about images,
    /// [`crate::Error::Diverged`] where the loss becomes NaN or infinite, and from the device and the disk.
    pub fn fit(&mut self, net: &mut Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Report> {
        self.fit_best(net, train, val).map(|(report, _)| report)
    }

    /// The task from the settings; else the network's task if it suits the data; else the usual task for the data.
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

    /// As [`Trainer::fit`], and also returns the record of the best epoch.
    pub(crate) fn fit_best(
        &mut self,
        net: &mut Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
    ) -> Result<(Report, Best)> {
        let began = Instant::now();
        self.config.check()?;
        let task = self.task(net, train)?;
        net.set_task(task.name());
        self.load_teacher(net)?;
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
    use crate::plan::Device;

    /// A caller of the library need not name the kind of data: the form of the targets decides, and the settings must
    /// suit it.
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
