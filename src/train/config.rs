//! All settings of a training: what `config.json` keeps and `--resume` reads back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{Augment, DataOptions, Manifest, OpenOptions};
use crate::models::Network;
use crate::nn::{Freeze, Kind, NormMode};
use crate::ops::{AdamW, Sgd};
use crate::plan::{Optimizer, Trainable};
use crate::tape::Shape;
use crate::{Error, Result};

/// What is taught, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The frozen network runs once a picture, its features are kept, and the head is taught on them.
    #[default]
    Features,
    /// Everything that is not frozen learns, on augmented pictures.
    Finetune,
    /// First the head on kept features, then everything that is not frozen, lower layers at lower rates.
    TwoPhase,
    /// First the head on kept features, then one layer group after the other from the top (Howard and Ruder 2018,
    /// arXiv:1801.06146).
    Gradual,
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

/// How the learning rate goes over the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// A tenth after each third of the epochs.
    Step,
    /// Half a cosine, down to 0.
    Cosine,
    /// Up from a 25th during the first 30%, then down to a 250 000th, both along a cosine (Smith 2018,
    /// with PyTorch's constants; the momentum stays).
    OneCycle,
}

impl Schedule {
    /// The factor on the learning rate at `step` of `steps`, in epoch `epoch` (from 0) of `epochs`.
    pub fn factor(self, step: usize, steps: usize, epoch: usize, epochs: usize) -> f64 {
        let cosine = |from: f64, to: f64, share: f64| {
            to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
        };
        let steps = steps.max(1) as f64;
        match self {
            Schedule::Constant => 1.0,
            Schedule::Step => 0.1f64.powi((epoch / epochs.div_ceil(3).max(1)) as i32),
            Schedule::Cosine => cosine(1.0, 0.0, step as f64 / steps),
            Schedule::OneCycle => {
                let peak = (0.3 * steps - 1.0).max(1.0);
                let at = step as f64;
                if at <= peak {
                    cosine(1.0 / 25.0, 1.0, at / peak)
                } else {
                    cosine(1.0, 1.0 / 250_000.0, (at - peak) / (steps - 1.0 - peak).max(1.0))
                }
            }
        }
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
    /// The registry's name of the network.
    pub model: String,
    /// Its pretrained weights.
    pub weights: Option<PathBuf>,
    /// Features of a hidden layer before the last one: linear, ReLU, dropout, linear.
    pub head_hidden: Option<usize>,
    /// Whether the auxiliary heads of GoogLeNet and Inception v3 learn, too, with their share in the loss.
    pub auxiliary: bool,
    /// What is taught.
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
    pub batch_norm: NormMode,
    /// Passes over the training pictures; by strategy where absent.
    pub epochs: Option<usize>,
    /// Pictures a step. Where absent, 32 on kept features; else the power of two from 8 to 32 that gives
    /// about thirty steps an epoch, or fewer where the device cannot hold as many.
    pub batch: Option<usize>,
    /// How parameters are updated.
    pub optimizer: OptimizerKind,
    /// Learning rate: none (by strategy), one for all, two (all but the head, the head), or one a group.
    pub lr: Vec<f64>,
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
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data: PathBuf::new(),
            open: DataOptions::default(),
            model: String::new(),
            weights: None,
            head_hidden: None,
            auxiliary: false,
            strategy: Strategy::default(),
            freeze_through: None,
            freeze: Vec::new(),
            freeze_groups: Vec::new(),
            batch_norm: NormMode::FrozenStats,
            epochs: None,
            batch: None,
            optimizer: OptimizerKind::default(),
            lr: Vec::new(),
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
            Strategy::Features => 40,
            Strategy::Finetune | Strategy::TwoPhase => 5,
            Strategy::Gradual => 2,
        })
    }

    /// The phases of a training of a network with these layer groups: settings of strategy `features` or `finetune`.
    pub fn phases(&self, groups: &[String]) -> Vec<Config> {
        let none = || (None, Vec::new(), Vec::new());
        let head = || {
            let (freeze_through, freeze, freeze_groups) = none();
            let (epochs, batch, lr) = (None, None, Vec::new());
            Config {
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
            if own.lr.is_empty() {
                own.lr = self.spread(groups.len());
            }
            own
        };
        match self.strategy {
            Strategy::Features | Strategy::Finetune => vec![self.clone()],
            Strategy::TwoPhase => vec![head(), body(0)],
            Strategy::Gradual => {
                let stages = (0..groups.len().saturating_sub(1)).rev().map(body);
                std::iter::once(head()).chain(stages).collect()
            }
        }
    }

    /// Rates of layer groups under a head that has learned already: each a fifth of the one above.
    fn spread(&self, groups: usize) -> Vec<f64> {
        let top = match self.optimizer {
            OptimizerKind::Adamw => 5e-4,
            OptimizerKind::Sgd => 5e-3,
        };
        (0..groups).rev().map(|below| top / 5f64.powi(below as i32)).collect()
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
        freeze.norm(self.batch_norm)
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

    /// The update rule.
    pub fn optimizer(&self) -> Optimizer {
        match self.optimizer {
            OptimizerKind::Sgd => Optimizer::Sgd(Sgd { momentum: self.momentum, nesterov: self.nesterov }),
            OptimizerKind::Adamw => Optimizer::AdamW(AdamW::default()),
        }
    }

    /// Whether every number lies where it means something.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the option that does not.
    pub fn check(&self) -> Result<()> {
        let usage = |message: String| Err(Error::Usage(message));
        if self.batch == Some(0) {
            return usage("--batch 0: a batch holds at least one picture".into());
        }
        if self.epochs() == 0 {
            return usage("--epochs 0: nothing would be learned".into());
        }
        if let Some(lr) = self.lr.iter().find(|lr| !(lr.is_finite() && **lr >= 0.0)) {
            return usage(format!("--lr {lr}: a learning rate is a number from 0 up"));
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            return usage(format!("--label-smoothing {}: it lies in [0, 1)", self.smoothing));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return usage(format!("--momentum {}: it lies in [0, 1)", self.momentum));
        }
        if !(self.weight_decay().is_finite() && self.weight_decay() >= 0.0) {
            return usage(format!("--weight-decay {}: it is a number from 0 up", self.weight_decay()));
        }
        self.augment.check()
    }

    /// The learning rate of each of `groups` layer groups; the last is the head.
    ///
    /// # Errors
    /// [`Error::Usage`] where the number of rates fits neither one, two, nor the groups.
    pub fn rates(&self, groups: &[String]) -> Result<Vec<f64>> {
        let n = groups.len();
        let body_and_head = |body: f64, head: f64| {
            let mut rates = vec![body; n];
            if let Some(last) = rates.last_mut() {
                *last = head;
            }
            rates
        };
        Ok(match (self.lr[..].len(), self.strategy, self.optimizer) {
            (0, Strategy::Features, OptimizerKind::Adamw) => vec![1e-3; n],
            (0, Strategy::Features, OptimizerKind::Sgd) => vec![1e-2; n],
            (0, Strategy::Finetune, OptimizerKind::Adamw) => body_and_head(1e-4, 5e-3),
            (0, Strategy::Finetune, OptimizerKind::Sgd) => body_and_head(1e-3, 1e-2),
            (0, ..) => self.spread(n),
            (1, ..) => vec![self.lr[0]; n],
            (given, ..) if given == n => self.lr.clone(),
            (2, ..) => body_and_head(self.lr[0], self.lr[1]),
            (given, ..) => {
                return Err(Error::Usage(format!(
                    "--lr has {given} rates; give one, two (body, head), or one for each of the {n} layer \
                     groups, which begin at {}",
                    groups.join(", ")
                )));
            }
        })
    }
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
