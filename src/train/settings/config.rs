//! What the settings of a training imply: phases, learning rates, frozen layers.

use crate::data::{Augment, Manifest, OpenOptions, TargetKind};
use crate::nn::{Freeze, NormMode};
use crate::plan::Update;
use crate::task::{self, Ability, TaskRef};
use crate::train::optimizer::schedule::{Schedule, Standing};
use crate::train::settings::{self, Config, HeadSolver};
use crate::{Error, Result};

impl Config {
    /// The largest default batch.
    pub const BATCH: usize = 32;

    /// Options for opening the data, with the split of an earlier run or a new random split.
    pub fn open_options(&self, manifest: Option<Manifest>) -> OpenOptions {
        OpenOptions { val_fraction: self.val_fraction, seed: self.seed, manifest, data: self.open.clone() }
    }

    /// The task of a training on data with targets of this form.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, and for a task that reads targets of another form.
    pub fn task(&self, targets: TargetKind) -> Result<TaskRef> {
        let Some(name) = &self.task else { return Ok(task::for_targets(targets)) };
        let task = task::find(name)?;
        if task.targets() != targets {
            return Err(Error::Usage(format!(
                "the task {} is for images with {}, and these come with {targets}",
                task.name(),
                task.targets()
            )));
        }
        Ok(task)
    }

    /// Batch size for `images` training images.
    pub fn batch(&self, images: usize) -> usize {
        self.batch.unwrap_or_else(|| self.strategy.batch(images)).min(images).max(1)
    }

    /// Number of passes over the training images: on cached features for `features`, of each stage for `gradual`,
    /// else of all layers but the head.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or_else(|| if self.solves() { 1 } else { self.strategy.epochs() })
    }

    /// The phases of a training of a network with these layer groups. The settings of each phase have a strategy of
    /// one phase.
    pub fn phases(&self, groups: &[String]) -> Vec<Config> {
        self.strategy.phases(self, groups)
    }

    /// Whether the head is the only trainable layer and a solver replaces its training.
    pub(crate) fn solves(&self) -> bool {
        self.strategy.head_only() && self.head_solver == HeadSolver::Lbfgs
    }

    /// Learning rates of the layer groups under a trained head: each is a fifth of the one above, or the share in the
    /// settings.
    pub(crate) fn spread(&self, groups: usize) -> Vec<f64> {
        decayed(self.optimizer.rates().learned, self.layer_decay.unwrap_or(0.2), groups)
    }

    /// One learning rate for the head, which is the last of the layer groups, and one for all others.
    pub(crate) fn body_and_head(body: f64, head: f64, groups: usize) -> Vec<f64> {
        let mut rates = vec![body; groups];
        if let Some(last) = rates.last_mut() {
            *last = head;
        }
        rates
    }

    /// Mode of the batch norms in trainable layers.
    pub fn batch_norm(&self) -> NormMode {
        self.batch_norm.unwrap_or_else(|| self.strategy.batch_norm())
    }

    /// The schedule's factor on the learning rate.
    pub fn factor(&self, at: Standing) -> f64 {
        let schedule = self.schedule();
        let warmup = self.warmup * at.steps as f64 / at.epochs.max(1) as f64;
        let climb = ((at.step + 1) as f64 / warmup.max(1.0)).min(1.0);
        schedule.factor(at) * if schedule == Schedule::OneCycle { 1.0 } else { climb }
    }

    /// Whether the frozen backbone's features are computed once and cached: an image always looks alike, or has a
    /// fixed number of augmented views.
    pub fn caches(&self) -> bool {
        !self.augments() || self.copies > 0
    }

    /// Whether training images are augmented: not for `features`, unless the settings ask for a number of augmented
    /// views.
    pub fn augments(&self) -> bool {
        (!self.strategy.head_only() || self.copies > 0) && self.augment != Augment::none()
    }

    /// The frozen layers: for `features` everything but the head, else as in the settings.
    pub fn freeze(&self) -> Freeze {
        let mut freeze = self.strategy.freeze();
        if let Some(layer) = &self.freeze_through {
            freeze = freeze.and(Freeze::through(layer));
        }
        for name in &self.freeze {
            freeze = freeze.and(Freeze::prefix(name));
        }
        if !self.freeze_groups.is_empty() {
            freeze = freeze.and(Freeze::groups(self.freeze_groups.iter().copied()));
        }
        freeze.norm(self.batch_norm())
    }

    /// Weight decay.
    pub fn weight_decay(&self) -> f64 {
        self.weight_decay.unwrap_or_else(|| self.optimizer.weight_decay())
    }

    /// The learning rate schedule.
    pub fn schedule(&self) -> Schedule {
        self.schedule.unwrap_or_else(|| self.strategy.schedule())
    }

    /// The update of the parameters: optimizer, clipping, averaging.
    pub fn update(&self) -> Update {
        let clip = self.clip.map(|max| max as f32);
        let (accumulate, average) = (self.accumulate > 1, self.ema.is_some_and(|decay| decay > 0.0));
        Update { clip, accumulate, average, ..Update::plain(self.optimizer.update(self)) }
    }

    /// Checks that every number is within its limits and that the settings are compatible.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that fails.
    pub fn check(&self) -> Result<()> {
        settings::check(self)?;
        self.augment.check()?;
        self.check_together()
    }

    /// Checks that a task supports these settings.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the setting that the task does not support.
    pub(crate) fn check_task(&self, task: TaskRef) -> Result<()> {
        let mixing = if self.augment.mixup > 0.0 { "mixup" } else { "cutmix" };
        let asked = [
            ("class_weights", Ability::ClassWeights, self.class_weights),
            ("smoothing", Ability::Smoothing, self.smoothing > 0.0),
            ("head_solver", Ability::SolvedHead, self.head_solver == HeadSolver::Lbfgs),
            ("teacher", Ability::Teacher, self.teacher.is_some()),
            (mixing, Ability::Mixing, self.augment.mixes()),
        ];
        if let Some((field, ability, _)) =
            asked.iter().find(|(_, ability, given)| *given && !task.can(*ability))
        {
            let (name, about) = (task.name(), task.about());
            let reason = format!("{ability} is not for the task {name} ({about}); leave it or `task` away");
            return Err(Error::setting(field, "", reason));
        }
        Ok(())
    }

    fn check_together(&self) -> Result<()> {
        let refuse = |field, reason: &str| Err(Error::setting(field, "", reason));
        let lbfgs = |reason: &str| Err(Error::setting("head_solver", "lbfgs", reason));
        let solves = self.head_solver == HeadSolver::Lbfgs;
        if solves && !self.strategy.begins_with_head(self) {
            return lbfgs("the strategy has no phase of the head alone; leave it away");
        }
        let ignored = [
            ("class_weights", self.class_weights),
            ("balanced", self.balanced),
            ("smoothing", self.smoothing > 0.0),
            ("teacher", self.teacher.is_some()),
            ("copies", self.copies > 0),
            ("ema", self.ema.is_some()),
            ("clip", self.clip.is_some()),
            ("lr", !self.lr.is_empty() || self.lr_range.is_some()),
        ];
        if let Some((field, _)) = ignored.iter().find(|(_, given)| *given)
            && self.solves()
        {
            return refuse(field, "a head that is solved for (`head_solver` lbfgs) takes no notice of it");
        }
        self.check_task(self.task(self.open.targets)?)?;
        if let Some((low, high)) = self.lr_range
            && !(low > 0.0 && high > 0.0 && low.is_finite() && high.is_finite())
        {
            return Err(Error::setting("lr", format!("{low}..{high}"), "both ends are numbers above 0"));
        }
        if self.lr_range.is_some() && !self.lr.is_empty() {
            return refuse("lr", "give a range, or one rate or several, not both");
        }
        if self.layer_decay.is_some() && (self.lr.len() > 1 || self.lr_range.is_some()) {
            return refuse("layer_decay", "give one `lr`, the head's, or none");
        }
        if solves && self.head_hidden.is_some() {
            return lbfgs("it solves for one linear layer; leave `head_hidden` away");
        }
        if self.copies > 0 && self.augment.mixes() {
            return refuse("copies", "a copy shows one image; leave `mixup` and `cutmix` away");
        }
        if self.copies > 0 && self.teacher.is_some() {
            return refuse("copies", "answers of a `teacher` to copies are not kept; leave one away");
        }
        Ok(())
    }

    /// The learning rate of each of `groups` layer groups; the last is the head.
    ///
    /// # Errors
    /// [`Error::Setting`] where the number of rates is neither one, two, nor the number of groups.
    pub fn rates(&self, groups: &[String]) -> Result<Vec<f64>> {
        let n = groups.len();
        if let Some((low, high)) = self.lr_range {
            let step = |g: usize| g as f64 / n.saturating_sub(1).max(1) as f64;
            return Ok((0..n).map(|g| low * (high / low).powf(step(g))).collect());
        }
        if let (Some(decay), [top]) = (self.layer_decay, &self.lr[..]) {
            return Ok(decayed(*top, decay, n));
        }
        Ok(match self.lr.len() {
            0 => self.strategy.rates(self, n),
            1 => vec![self.lr[0]; n],
            given if given == n => self.lr.clone(),
            2 => Self::body_and_head(self.lr[0], self.lr[1], n),
            given => {
                let reason = format!(
                    "{given} rates; give one, two (body, head), or one for each of the {n} layer groups, which \
                     begin at {}",
                    groups.join(", ")
                );
                return Err(Error::setting("lr", "", reason));
            }
        })
    }
}

/// Learning rates of the layer groups: `top` for the last group, and for each other group the share `decay` of the
/// one above.
fn decayed(top: f64, decay: f64, groups: usize) -> Vec<f64> {
    (0..groups).rev().map(|below| top * decay.powi(below as i32)).collect()
}
