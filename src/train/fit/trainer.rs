//! A trainer: a device, settings, and an observer.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::data::{Dataset, Part, Skipped};
use crate::plan::Device;
use crate::train::events::{Event, Observer, Silent};
use crate::train::fit::lost::Lost;
use crate::train::fit::teacher::Teacher;
use crate::train::runs::checkpoint::Saver;
use crate::train::runs::images::Known;
use crate::train::settings::Config;

/// Trains a network. Build a trainer, then call [`Trainer::fit`].
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
/// let set = DrawnSet::new(Scenes::Things).with(|set| (set.side, set.train, set.val) = (32, 2, 1)).splits();
/// let mut net = models::create("resnet20", 8)?;
/// net.freeze(Freeze::through("layer2"))?;
/// let frozen = net.tensor("conv1.weight")?.to_vec();
///
/// let config = Config::default().with(|c| {
///     c.strategy = Strategy::Finetune;
///     c.epochs = Some(1);
/// });
/// let report = Trainer::new(&Device::Cpu, config).fit(&mut net, &Arc::new(set.train), &Arc::new(set.val))?;
/// assert_eq!(report.epochs, 1);
/// assert_eq!(net.tensor("conv1.weight")?, frozen);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'a> {
    pub(crate) device: &'a Device,
    pub(crate) config: Config,
    pub(crate) observer: Option<&'a mut dyn Observer>,
    pub(crate) stop: Option<&'a AtomicBool>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) resumed: bool,
    pub(crate) teacher: Option<Teacher>,
    /// Writes checkpoints.
    pub(crate) saver: Saver,
    /// Record of the run's images from before it was resumed.
    pub(crate) images: Option<Known>,
    /// Training and validation images that could be read at the beginning.
    pub(crate) sets: Option<[Arc<Dataset>; 2]>,
    /// Images that became unreadable later.
    pub(crate) lost: Lost,
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

    /// Sets the observer of events.
    #[must_use]
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Stops after the current step and saves a checkpoint, once `stop` is true.
    #[must_use]
    pub fn stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Writes checkpoints and metrics into this folder, which must exist.
    #[must_use]
    pub fn run_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the folder of the feature cache.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Resumes from the run folder's last checkpoint.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resumed = true;
        self
    }

    pub(crate) fn tell(&mut self, event: &Event) {
        match &mut self.observer {
            Some(observer) => observer.event(event),
            None => Silent.event(event),
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Counts images that could not be read when a batch was made, and reports each once.
    ///
    /// # Errors
    /// As for [`Lost::count`].
    pub(crate) fn miss(
        &mut self,
        sets: [&Arc<Dataset>; 2],
        part: Part,
        failed: Vec<(usize, Skipped)>,
    ) -> Result<()> {
        if let Some((told, skipped)) =
            self.lost.count(sets, part, failed, self.config.strict, self.folder.as_deref())?
        {
            self.tell(&Event::Warning(told));
            self.tell(&Event::Skipped(skipped));
        }
        Ok(())
    }
}
