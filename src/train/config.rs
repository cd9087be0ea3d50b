//! All settings of a training: what `config.json` keeps and a resumed run reads back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::schedule::{Schedule, Standing};
use crate::data::{Augment, DataOptions, Manifest, OpenOptions, TargetKind};
use crate::models::Network;
use crate::nn::{Freeze, Kind, NormMode};
use crate::ops::{AdamW, Sgd};
use crate::plan::{Optimizer, Trainable, Update};
use crate::tape::Shape;
use crate::task::{self, Ability, TaskRef};
use crate::{Error, Result};

/// What is taught, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The frozen network runs once a picture, its features are kept, and the head is taught on them.
    Features,
    /// Everything that is not frozen learns, on augmented pictures.
    #[serde(alias = "partial")]
    Finetune,
    /// First the head on kept features, then everything that is not frozen, lower layers at lower rates (Kumar et al.
    /// 2022, arXiv:2202.10054: a fresh head would spoil the features).
    #[default]
    TwoPhase,
    /// First the head on kept features, then one layer group after the other from the top (Howard and Ruder 2018,
    /// arXiv:1801.06146).
    Gradual,
    /// Everything learns from first weights: what pre-training is worth, and how it is made.
    Scratch,
    /// Short trials of the others on the pictures at hand, then the best of them.
    Auto,
}

/// How parameters are updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// SGD with momentum.
    Sgd,
    /// Adam with decoupled weight decay.
    #[default]
    Adamw,
}

/// How the head is taught on kept features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadSolver {
    /// Steps of the optimizer.
    #[default]
    Steps,
    /// Logistic regression by L-BFGS, its penalty by cross-validation.
    Lbfgs,
}

/// How a teacher's answers are learned from (Hinton, Vinyals, Dean 2015, arXiv:1503.02531): the loss is
/// `(1 - share) * loss + share * T^2 * cross-entropy of the logits / T with the teacher's`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distill {
    /// T.
    pub temperature: f32,
    /// Share of the teacher's answers in the loss, 0 to 1.
    pub share: f32,
}

impl Default for Distill {
    fn default() -> Self {
        Distill { temperature: 4.0, share: 0.5 }
    }
}

/// All settings of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Folder of class folders, or of `train/` and `val/`, or of IDX files, or a table of labels.
    pub data: PathBuf,
    /// How it is read: its table, its task, what a split keeps together.
    pub open: DataOptions,
    /// What is trained, by the name of a task ([`crate::task::find`]); where absent, the usual task for the form of the
    /// targets that the data has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The registry's name of the network.
    pub model: String,
    /// Its pretrained weights.
    pub weights: Option<PathBuf>,
    /// Side of the pictures that the network sees, pixels; its weights' own where absent.
    pub size: Option<usize>,
    /// Features of a hidden layer before the last one: linear, ReLU, dropout, linear.
    pub head_hidden: Option<usize>,
    /// Whether the auxiliary heads of GoogLeNet and Inception v3 learn, too, with their share in the loss.
    pub auxiliary: bool,
    /// What is taught, and in which order.
    pub strategy: Strategy,
    /// Freeze up to and including this layer.
    pub freeze_through: Option<String>,
    /// Freeze these layers or parameters.
    pub freeze: Vec<String>,
    /// Freeze these layer groups.
    pub freeze_groups: Vec<usize>,
    /// How batch norms in layers that learn take part. The default keeps the pretrained statistics: batches
    /// of a small data set estimate them badly (hymenoptera, two epochs from `features.14` on: 94.8-96.1%
    /// against 90.9% with the batch's own).
    /// `scratch` takes the batch's own: there are no others.
    pub batch_norm: Option<NormMode>,
    /// Passes over the training pictures; by strategy where absent.
    pub epochs: Option<usize>,
    /// Pictures a step. Where absent, 32 on kept features; else the power of two from 8 to 32 that gives
    /// about thirty steps an epoch, or fewer where the device cannot hold as many.
    pub batch: Option<usize>,
    /// How parameters are updated.
    pub optimizer: OptimizerKind,
    /// Learning rate: none (by strategy), one for all, two (all but the head, the head), or one a group.
    pub lr: Vec<f64>,
    /// Least and greatest rate, of the first group and of the head; those between lie evenly in their logarithms.
    pub lr_range: Option<(f64, f64)>,
    /// Rate of a layer group as a share of that of the group above.
    pub layer_decay: Option<f64>,
    /// Epochs over which the rate climbs from 0 at the beginning; `one-cycle` climbs by itself.
    pub warmup: f64,
    /// SGD's momentum.
    pub momentum: f32,
    /// SGD looks ahead.
    pub nesterov: bool,
    /// Decay of weights; norms and biases do not decay. By optimizer where absent: 0.1 for AdamW, 1e-4 for
    /// SGD.
    pub weight_decay: Option<f64>,
    /// How the rate goes over the training. Where absent, cosine for `features`, one-cycle for `finetune`: its
    /// warm-up keeps a fresh head from spoiling the layers below.
    pub schedule: Option<Schedule>,
    /// Greatest norm of all gradients together; larger ones are scaled down to it.
    pub clip: Option<f64>,
    /// Batches whose gradients add up to one update.
    pub accumulate: usize,
    /// Few activations are kept for the gradients, the others are computed again: less memory, more time, the same
    /// numbers (Chen et al. 2016, arXiv:1604.06174). Done by itself where a GPU's memory does not suffice.
    pub grad_checkpointing: bool,
    /// Decay of the moving average of the weights that is evaluated and kept, in [0, 1): less at the beginning,
    /// `min(decay, (1 + n) / (10 + n))` at update n.
    pub ema: Option<f64>,
    /// Epochs without a lower validation loss after which a phase ends.
    pub patience: Option<usize>,
    /// Each class counts as much as any other in the loss, however many pictures it has.
    pub class_weights: bool,
    /// Each class is drawn as often as any other.
    pub balanced: bool,
    /// A network that has learned this task already: its answers are part of the target.
    pub teacher: Option<PathBuf>,
    /// How the teacher is listened to.
    pub distill: Distill,
    /// How the head is taught on kept features.
    pub head_solver: HeadSolver,
    /// Varied copies of each training picture whose frozen part is computed once and kept.
    pub copies: usize,
    /// Share of the target spread over all classes.
    pub smoothing: f32,
    /// Probability of all dropout layers; the architecture's own where absent.
    pub dropout: Option<f32>,
    /// Random changes of training pictures.
    pub augment: Augment,
    /// Share of pictures held out where the data has no validation part.
    pub val_fraction: f64,
    /// Of everything random.
    pub seed: u64,
    /// Stop after this epoch, to be resumed.
    pub stop_after: Option<usize>,
    /// Seconds between two checkpoints, within an epoch too, or a hundred times those that the training waits for one; 0
    /// is after every step. A finished phase always has one.
    pub checkpoint_every: f64,
    /// Whether any image that cannot be read ends the run.
    pub strict: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data: PathBuf::new(),
            open: DataOptions::default(),
            task: None,
            model: String::new(),
            weights: None,
            size: None,
            head_hidden: None,
            auxiliary: false,
            strategy: Strategy::default(),
            freeze_through: None,
            freeze: Vec::new(),
            freeze_groups: Vec::new(),
            batch_norm: None,
            epochs: None,
            batch: None,
            optimizer: OptimizerKind::default(),
            lr: Vec::new(),
            lr_range: None,
            layer_decay: None,
            warmup: 0.0,
            clip: None,
            accumulate: 1,
            grad_checkpointing: false,
            ema: None,
            patience: None,
            class_weights: false,
            balanced: false,
            teacher: None,
            distill: Distill::default(),
            head_solver: HeadSolver::default(),
            copies: 0,
            momentum: 0.9,
            nesterov: false,
            weight_decay: None,
            schedule: None,
            smoothing: 0.0,
            dropout: None,
            augment: Augment::default(),
            val_fraction: 0.2,
            seed: 0,
            stop_after: None,
            checkpoint_every: 45.0,
            strict: false,
        }
    }
}

impl Config {
    /// The largest batch that is chosen where none is asked for.
    pub const BATCH: usize = 32;

    /// How to open the data, with the split of an earlier run or one to be drawn.
    pub fn open_options(&self, manifest: Option<Manifest>) -> OpenOptions {
        OpenOptions { val_fraction: self.val_fraction, seed: self.seed, manifest, data: self.open.clone() }
    }

    /// The task that is trained on data with targets of this form.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name, and for a task that reads another form.
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

    /// Decay of the averaged weights of `two-phase`: over some fifty updates. On a few hundred pictures the weights swing
    /// from epoch to epoch by more than an epoch teaches.
    pub const EMA: f64 = 0.98;

    /// Pictures a step for `pictures` training pictures.
    pub fn batch(&self, pictures: usize) -> usize {
        let chosen = match self.strategy {
            Strategy::Features => Self::BATCH,
            _ => (pictures / 30).next_power_of_two().clamp(8, Self::BATCH),
        };
        self.batch.unwrap_or(chosen).min(pictures).max(1)
    }

    /// Passes over the training pictures: on kept features for `features`, of each stage for `gradual`, else of all
    /// that is not the head's.
    pub fn epochs(&self) -> usize {
        self.epochs.unwrap_or(match self.strategy {
            Strategy::Features if self.head_solver == HeadSolver::Lbfgs => 1,
            Strategy::Features => 40,
            Strategy::Finetune => 5,
            Strategy::TwoPhase | Strategy::Auto => 6,
            Strategy::Gradual => 2,
            Strategy::Scratch => 100,
        })
    }

    /// The phases of a training of a network with these layer groups: settings of strategy `features` or `finetune`.
    pub fn phases(&self, groups: &[String]) -> Vec<Config> {
        let none = || (None, Vec::new(), Vec::new());
        let head = || {
            let (freeze_through, freeze, freeze_groups) = none();
            let (epochs, batch, lr) = (None, None, Vec::new());
            let (lr_range, layer_decay, warmup, accumulate, copies) = (None, None, 0.0, 1, 0);
            // What is said of the rates and of memory is meant for the network.
            Config {
                lr_range,
                layer_decay,
                warmup,
                accumulate,
                copies,
                augment: Augment::none(),
                ema: None,
                schedule: None,
                strategy: Strategy::Features,
                freeze_through,
                freeze,
                freeze_groups,
                epochs,
                batch,
                lr,
                ..self.clone()
            }
        };
        let body = |frozen: usize| {
            let mut own =
                Config { strategy: Strategy::Finetune, epochs: Some(self.epochs()), ..self.clone() };
            own.freeze_groups.extend(0..frozen);
            if self.strategy == Strategy::TwoPhase && own.ema.is_none() {
                own.ema = Some(Self::EMA);
            }
            if own.lr.is_empty() && own.lr_range.is_none() {
                own.lr = self.spread(groups.len());
            }
            own
        };
        match self.strategy {
            Strategy::Features | Strategy::Finetune | Strategy::Scratch | Strategy::Auto => {
                vec![self.clone()]
            }
            Strategy::TwoPhase => vec![head(), body(0)],
            Strategy::Gradual => {
                let stages = (0..groups.len().saturating_sub(1)).rev().map(body);
                std::iter::once(head()).chain(stages).collect()
            }
        }
    }

    /// Rates of layer groups under a head that has learned already: each a fifth of the one above, or what share was
    /// asked for.
    fn spread(&self, groups: usize) -> Vec<f64> {
        let top = match self.optimizer {
            OptimizerKind::Adamw => 5e-4,
            OptimizerKind::Sgd => 5e-3,
        };
        decayed(top, self.layer_decay.unwrap_or(0.2), groups)
    }

    /// How batch norms in layers that learn take part.
    pub fn batch_norm(&self) -> NormMode {
        self.batch_norm.unwrap_or(match self.strategy {
            Strategy::Scratch => NormMode::Train,
            _ => NormMode::FrozenStats,
        })
    }

    /// The factor on the learning rate.
    pub fn factor(&self, at: Standing) -> f64 {
        let schedule = self.schedule();
        let warmup = self.warmup * at.steps as f64 / at.epochs.max(1) as f64;
        let climb = ((at.step + 1) as f64 / warmup.max(1.0)).min(1.0);
        schedule.factor(at) * if schedule == Schedule::OneCycle { 1.0 } else { climb }
    }

    /// Whether what a frozen front makes of a picture is computed once and kept: where a picture always looks the
    /// same, or like one of so many copies.
    pub fn keeps(&self) -> bool {
        !self.varies() || self.copies > 0
    }

    /// Whether training pictures are varied: not for `features`, unless so many copies of each are asked for.
    pub fn varies(&self) -> bool {
        (self.strategy != Strategy::Features || self.copies > 0) && self.augment != Augment::none()
    }

    /// What is frozen: for `features` everything but the head, else what was asked for.
    pub fn freeze(&self) -> Freeze {
        let mut freeze = match self.strategy {
            Strategy::Features => Freeze::all_but_head(),
            _ => Freeze::none(),
        };
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

    /// Decay of weights.
    pub fn weight_decay(&self) -> f64 {
        self.weight_decay.unwrap_or(match self.optimizer {
            OptimizerKind::Sgd => 1e-4,
            OptimizerKind::Adamw => 0.1,
        })
    }

    /// How the rate goes over the training.
    pub fn schedule(&self) -> Schedule {
        self.schedule.unwrap_or(match self.strategy {
            Strategy::Features => Schedule::Cosine,
            _ => Schedule::OneCycle,
        })
    }

    /// What is done with gradients.
    pub fn update(&self) -> Update {
        let clip = self.clip.map(|max| max as f32);
        let (accumulate, average) = (self.accumulate > 1, self.ema.is_some_and(|decay| decay > 0.0));
        Update { clip, accumulate, average, ..Update::plain(self.rule()) }
    }

    fn rule(&self) -> Optimizer {
        match self.optimizer {
            OptimizerKind::Sgd => Optimizer::Sgd(Sgd { momentum: self.momentum, nesterov: self.nesterov }),
            OptimizerKind::Adamw => Optimizer::AdamW(AdamW::default()),
        }
    }

    /// Whether every number lies where it means something, and the settings go together.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the one that does not.
    pub fn check(&self) -> Result<()> {
        self.check_numbers()?;
        self.augment.check()?;
        self.check_together()
    }

    fn check_numbers(&self) -> Result<()> {
        let within = |field, value: Option<f64>, holds: &dyn Fn(f64) -> bool, reason: &str| match value {
            Some(value) if !holds(value) => Err(Error::setting(field, value, reason)),
            _ => Ok(()),
        };
        let count = |n: Option<usize>| n.map(|n| n as f64);
        let from_0_up = |x: f64| x.is_finite() && x >= 0.0;
        let above_0 = |x: f64| x.is_finite() && x > 0.0;
        let below_1 = |x: f64| (0.0..1.0).contains(&x);
        let share = |x: f64| (0.0..=1.0).contains(&x);
        within("batch", count(self.batch), &above_0, "a batch holds at least one picture")?;
        within("epochs", count(Some(self.epochs())), &above_0, "nothing would be learned")?;
        for lr in &self.lr {
            within("lr", Some(*lr), &from_0_up, "a learning rate is a number from 0 up")?;
        }
        if let Some((low, high)) = self.lr_range.filter(|(low, high)| !(above_0(*low) && above_0(*high))) {
            return Err(Error::setting("lr", format!("{low}..{high}"), "both ends are numbers above 0"));
        }
        within("smoothing", Some(self.smoothing.into()), &below_1, "it lies in [0, 1)")?;
        within("momentum", Some(self.momentum.into()), &below_1, "it lies in [0, 1)")?;
        within("weight_decay", self.weight_decay, &from_0_up, "it is a number from 0 up")?;
        within("layer_decay", self.layer_decay, &share, "it lies in [0, 1]")?;
        within("distill.share", Some(self.distill.share.into()), &share, "it lies in [0, 1]")?;
        let temperature = |x: f64| above_0(x) && x <= 1e3;
        let given = Some(self.distill.temperature.into());
        within("distill.temperature", given, &temperature, "it is above 0, and at most 1000")?;
        within("ema", self.ema, &below_1, "it lies in [0, 1)")?;
        within("clip", self.clip, &above_0, "a norm is a number above 0")?;
        within("clip", self.clip, &|x| x as f32 >= 1e-30, "no gradient would be left")?;
        let hidden = |x: f64| x <= f64::from(1 << 20);
        within("head_hidden", count(self.head_hidden), &hidden, "at most 1048576 features")?;
        let every = Some(self.checkpoint_every);
        within("checkpoint_every", every, &from_0_up, "seconds are a number from 0 up")?;
        within("copies", count(Some(self.copies)), &|x| x <= 1e4, "at most 10000")?;
        within("warmup", Some(self.warmup), &from_0_up, "epochs are a number from 0 up")?;
        within("accumulate", count(Some(self.accumulate)), &above_0, "an update takes at least one batch")?;
        within("patience", count(self.patience), &above_0, "give it at least one epoch")
    }

    fn check_together(&self) -> Result<()> {
        let refuse = |field, reason: &str| Err(Error::setting(field, "", reason));
        let lbfgs = |reason: &str| Err(Error::setting("head_solver", "lbfgs", reason));
        let solves = self.head_solver == HeadSolver::Lbfgs;
        if solves && !matches!(self.strategy, Strategy::Features | Strategy::TwoPhase | Strategy::Gradual) {
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
            && solves
            && self.strategy == Strategy::Features
        {
            return refuse(field, "a head that is solved for (`head_solver` lbfgs) takes no notice of it");
        }
        let task = self.task(self.open.targets)?;
        let mixing = if self.augment.mixup > 0.0 { "mixup" } else { "cutmix" };
        let asked = [
            ("class_weights", Ability::ClassWeights, self.class_weights),
            ("smoothing", Ability::Smoothing, self.smoothing > 0.0),
            ("head_solver", Ability::SolvedHead, solves),
            ("teacher", Ability::Teacher, self.teacher.is_some()),
            (mixing, Ability::Mixing, self.augment.mixes()),
        ];
        if let Some((field, ability, _)) =
            asked.iter().find(|(_, ability, given)| *given && !task.can(*ability))
        {
            let (name, about) = (task.name(), task.about());
            return refuse(
                field,
                &format!("{ability} is not for the task {name} ({about}); leave it or `task` away"),
            );
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
            return refuse("copies", "a copy shows one picture; leave `mixup` and `cutmix` away");
        }
        if self.copies > 0 && self.teacher.is_some() {
            return refuse("copies", "answers of a `teacher` to copies are not kept; leave one away");
        }
        Ok(())
    }

    /// The learning rate of each of `groups` layer groups; the last is the head.
    ///
    /// # Errors
    /// [`Error::Setting`] where the number of rates fits neither one, two, nor the groups.
    pub fn rates(&self, groups: &[String]) -> Result<Vec<f64>> {
        let n = groups.len();
        let body_and_head = |body: f64, head: f64| {
            let mut rates = vec![body; n];
            if let Some(last) = rates.last_mut() {
                *last = head;
            }
            rates
        };
        if let Some((low, high)) = self.lr_range {
            let step = |g: usize| g as f64 / n.saturating_sub(1).max(1) as f64;
            return Ok((0..n).map(|g| low * (high / low).powf(step(g))).collect());
        }
        if let (Some(decay), [top]) = (self.layer_decay, &self.lr[..]) {
            return Ok(decayed(*top, decay, n));
        }
        Ok(match (self.lr[..].len(), self.strategy, self.optimizer) {
            (0, Strategy::Scratch, OptimizerKind::Adamw) => vec![1e-3; n],
            (0, Strategy::Scratch, OptimizerKind::Sgd) => vec![0.1; n],
            (0, ..) if self.layer_decay.is_some() => self.spread(n),
            (0, Strategy::Features, OptimizerKind::Adamw) => vec![1e-3; n],
            (0, Strategy::Features, OptimizerKind::Sgd) => vec![1e-2; n],
            (0, Strategy::Finetune, OptimizerKind::Adamw) => body_and_head(1e-4, 5e-3),
            (0, Strategy::Finetune, OptimizerKind::Sgd) => body_and_head(1e-3, 1e-2),
            (0, ..) => self.spread(n),
            (1, ..) => vec![self.lr[0]; n],
            (given, ..) if given == n => self.lr.clone(),
            (2, ..) => body_and_head(self.lr[0], self.lr[1]),
            (given, ..) => {
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

/// Rates of layer groups: `top` for the last, and of each the share `decay` of the one above.
fn decayed(top: f64, decay: f64, groups: usize) -> Vec<f64> {
    (0..groups).rev().map(|below| top * decay.powi(below as i32)).collect()
}

/// Whether a parameter's weight decays: matrices do, norms and biases do not.
fn decays(kind: Kind) -> bool {
    kind == Kind::Weight
}

/// What learns, each parameter in its rate group: twice the layer group, plus one where nothing decays.
pub(super) fn trainable(net: &Network) -> Vec<Trainable> {
    let ranges = net.structure().group_ranges();
    let specs = net.specs().iter().enumerate().filter(|(_, s)| net.mask().learns(&s.path, s.kind));
    specs
        .map(|(i, s)| {
            let group = ranges.iter().position(|range| range.contains(&i)).unwrap_or(0);
            let group = 2 * group + usize::from(!decays(s.kind));
            Trainable { path: s.path.clone(), shape: Shape(s.device_shape()), group: group as u32 }
        })
        .collect()
}
