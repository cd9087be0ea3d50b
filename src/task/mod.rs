//! What a network is trained to predict: one folder a task, one line in [`TASKS`].
//!
//! A task defines the form of its targets, the number of outputs of the head, the loss, and the meaning of the
//! outputs: metrics, predictions, and the tables and texts of `defrost eval` and the report. Trainer, report and
//! command know only the trait [`Task`]; none of them asks which task it is. A task declares optional features as
//! [`Ability`].
//!
//! | task | reads | outputs | loss |
//! |---|---|---|---|
//! | `single-label` | [`Target::Class`] | a logit a class | softmax cross-entropy |
//! | `multi-label` | [`Target::Labels`] | a logit a label | binary cross-entropy |
//! | `regression` | [`Target::Values`] | the values | mean squared error |
//!
//! A program can add a task of its own by [`register`]; `examples/own_task.rs` does.

mod calibration;
mod metrics;
mod multi_label;
mod regression;
pub(crate) mod scores;
mod single_label;
mod wording;

use std::fmt;
use std::sync::{PoisonError, RwLock};

pub(crate) use calibration::temperature_is_at_an_end;
pub use calibration::{Bin, Calibration, at_temperature, fit_temperature};
pub use metrics::{Figure, Metrics, Row, Score, Table, most_confused};
pub use multi_label::{LabelScores, MultiLabel};
pub use regression::{OutputErrors, Regression};
pub use scores::{ClassScores, Scores, interval};
pub use single_label::{SingleLabel, Uncalibrated};
pub use wording::{Card, MetricNames, Mistake, Unit};

use serde::{Serialize, Serializer};

use crate::data::{Dataset, Target, TargetKind};
use crate::models::Network;
use crate::ops::{Agreement, LossKind, TargetLoss};
use crate::tape::{Tape, Type, ValueId};
use crate::{Error, Result, did_you_mean};

/// A task that lives as long as the program.
pub type TaskRef = &'static dyn Task;

macro_rules! tasks {
    ($($module:ident::$task:ident),*) => {
        /// The tasks of Defrost. Where no task is named, the first task that fits the targets of a data set is
        /// trained.
        pub static TASKS: &[TaskRef] = &[$(&$module::$task),*];
        /// Their names, and the former name of the first task.
        pub const NAMES: &[&str] = &[$($module::NAME,)* OLD];
        /// The text on tasks in an option's help.
        pub(crate) const HELP: &[&str] = &[$($module::HELP),*];
    };
}

tasks!(single_label::SingleLabelTask, multi_label::MultiLabelTask, regression::RegressionTask);

/// The former name of the first task, when tasks were named after the form of their targets.
const OLD: &str = "classes";

/// Tasks that the host program registered.
static OWN: RwLock<Vec<TaskRef>> = RwLock::new(Vec::new());

/// Optional features of a task or its networks, beyond training and evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ability {
    /// MixUp and CutMix: targets can be mixed as images are.
    Mixing,
    /// Label smoothing.
    Smoothing,
    /// Weights of classes in the loss.
    ClassWeights,
    /// A linear head, solved on features by L-BFGS.
    SolvedHead,
    /// A temperature, fitted to labelled examples.
    Calibration,
    /// A teacher's probabilities as a part of the target.
    Teacher,
    /// Alignment of features with those of another domain.
    Alignment,
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ability::Mixing => "mixing images",
            Ability::Smoothing => "label smoothing",
            Ability::ClassWeights => "weights of classes",
            Ability::SolvedHead => "a head that is solved for",
            Ability::Calibration => "a temperature",
            Ability::Teacher => "a teacher",
            Ability::Alignment => "alignment of features",
        })
    }
}

/// The settings that a loss depends on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossOptions {
    /// Share of a label that is spread over all classes, 0 to 1.
    pub smoothing: f32,
    /// Whether batches are mixed.
    pub mixed: bool,
    /// Whether classes have weights.
    pub class_weights: bool,
}

/// The targets of a batch, on their way to the device.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// One target a row.
    pub rows: &'a [Target],
    /// Where images are mixed: for each row the row mixed into it, and the weight of its own target.
    pub mix: Option<(&'a [usize], f32)>,
    /// The weight of each class in the loss.
    pub class_weights: &'a [f32],
}

/// The result of [`Task::collate`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collated {
    /// Bytes by the names of [`Task::inputs`], row after row.
    pub inputs: Vec<(&'static str, Vec<u8>)>,
    /// The weight of each row in the loss.
    pub weights: Vec<f32>,
}

impl Collated {
    /// Collates numeric targets as `targets`; all rows have the same weight.
    pub fn numbers(rows: &[Target]) -> Self {
        let numbers: Vec<f32> = rows.iter().flat_map(Target::numbers).copied().collect();
        Collated {
            inputs: vec![("targets", bytemuck::cast_slice(&numbers).to_vec())],
            weights: vec![1.0; rows.len()],
        }
    }
}

/// A network's outputs on examples, and the targets of these examples.
#[derive(Debug, Clone, Copy)]
pub struct Raw<'a> {
    /// Outputs of the last layer: `[rows, outputs]`.
    pub outputs: &'a [f32],
    /// One target a row.
    pub targets: &'a [Target],
    /// Names of the classes or values.
    pub classes: &'a [String],
}

impl<'a> Raw<'a> {
    /// The classes of rows that have a single class each.
    ///
    /// # Errors
    /// [`Error::Data`] where a row has another form of target.
    pub fn labels(&self) -> Result<Vec<u32>> {
        self.targets.iter().map(class_of).collect()
    }

    /// The numbers `[rows, classes]` of rows that have one for each class or value.
    pub fn numbers(&self) -> Vec<f32> {
        self.targets.iter().flat_map(|target| target.numbers()).copied().collect()
    }
}

/// The class of a target.
pub(crate) fn class_of(target: &Target) -> Result<u32> {
    target.class().ok_or_else(|| {
        Error::Data(format!("a class is needed for each image, and one comes with {}", target.kind()))
    })
}

/// A task; see the [module documentation](self).
///
/// The loss is a weighted mean over the batch. The recorded value is `sum over rows of weight * loss of the row`,
/// with weights that add up to 1 over the whole update. So batches of unequal size and accumulated batches give the
/// same result.
pub trait Task: fmt::Debug + Send + Sync {
    /// Its name in checkpoints, settings and options: `single-label`.
    fn name(&self) -> &'static str;

    /// Describes the task in a line: "each image shows one class".
    fn about(&self) -> &'static str;

    /// The form of its targets.
    fn targets(&self) -> TargetKind;

    /// Number of outputs of the last layer for so many classes.
    fn outputs(&self, classes: usize) -> usize {
        classes
    }

    /// Whether the task has this ability: none by default.
    fn can(&self, ability: Ability) -> bool {
        let _ = ability;
        false
    }

    /// The loss between outputs and numbers of the same shape, the input `targets`, from which the default [`Task::inputs`],
    /// [`Task::loss`], [`Task::hits`] and [`Task::collate`] follow. A task with another loss has its own of these four.
    fn target_loss(&self) -> Option<LossKind> {
        None
    }

    /// The initial bias of a new head, `[outputs]`. None for PyTorch's initial weights.
    fn initial_outputs(&self, set: &Dataset) -> Option<Vec<f32>> {
        let _ = set;
        None
    }

    /// Inputs of a training step besides the images and the weights of the rows.
    fn inputs(&self, options: LossOptions, batch: usize, outputs: usize) -> Vec<(&'static str, Type)> {
        let _ = options;
        vec![("targets", Type::f32(&[batch, outputs]))]
    }

    /// Records the loss `[1]` of the outputs `[batch, outputs]`; `inputs` are those of [`Task::inputs`], `weights` are
    /// `[batch]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where they do not fit together.
    fn loss(
        &self,
        tape: &mut Tape,
        outputs: ValueId,
        inputs: &[ValueId],
        weights: ValueId,
        options: LossOptions,
    ) -> Result<ValueId> {
        let _ = options;
        let kind = target_loss(self)?;
        tape.apply(TargetLoss { kind, temperature: 1.0 }, &[outputs, inputs[0], weights])
    }

    /// Records the sum `[1]` over the rows that [`Task::training_metric`] uses: a row counts where its weight is not
    /// 0.
    ///
    /// # Errors
    /// As for [`Task::loss`].
    fn hits(
        &self,
        tape: &mut Tape,
        outputs: ValueId,
        inputs: &[ValueId],
        weights: ValueId,
        options: LossOptions,
    ) -> Result<ValueId> {
        let _ = options;
        tape.apply(Agreement(target_loss(self)?), &[outputs, inputs[0], weights])
    }

    /// The data of [`Task::inputs`] for a batch.
    ///
    /// # Errors
    /// [`Error::Data`] where a target has another form.
    fn collate(&self, targets: Targets<'_>, options: LossOptions) -> Result<Collated> {
        let _ = options;
        Ok(Collated::numbers(targets.rows))
    }

    /// The metric on training examples, from the mean of [`Task::hits`] over the rows.
    fn training_metric(&self, hits: f64, set: &Dataset) -> f64 {
        let _ = set;
        hits
    }

    /// Names of the metric that is printed for each epoch.
    fn metric(&self) -> MetricNames;

    /// Whether fine-tuning, which has few epochs, chooses the epoch with the best metric, and among equal metrics the
    /// lowest loss; else the loss alone decides.
    fn metric_first(&self) -> bool {
        false
    }

    /// Metrics of an epoch's weights.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Shape`] where outputs and targets do not fit together.
    fn score(&self, raw: Raw<'_>) -> Result<Score>;

    /// All metrics, at the network's temperature where it has one.
    ///
    /// # Errors
    /// As for [`Task::score`].
    fn measure(&self, raw: Raw<'_>, temperature: Option<f64>) -> Result<Box<dyn Metrics>>;

    /// The prediction from the outputs of one example: a number for each class or value.
    fn predict(&self, outputs: &[f32], temperature: Option<f64>) -> Vec<f32>;

    /// Whether predictions are probabilities, of which the largest are of interest; else all are shown, as numbers.
    fn ranks(&self) -> bool {
        true
    }

    /// The mistake in the prediction of one example, if there is any, at the network's temperature where it has one.
    fn mistake(&self, outputs: &[f32], target: &Target, temperature: Option<f64>) -> Option<Mistake>;

    /// The target that the outputs of one example predict.
    fn predicted(&self, outputs: &[f32]) -> Target;

    /// The texts of a model card.
    fn card(&self, classes: &[String]) -> Card;

    /// Names of the classes or values in a sentence: "3 classes".
    fn count_text(&self, classes: usize) -> String;

    /// Python that turns `net(image)[0]`, divided by a temperature where there is one, into the result of
    /// [`Task::predict`].
    fn python(&self, temperature: Option<f64>) -> String;
}

impl PartialEq for dyn Task {
    /// Names are unique.
    fn eq(&self, other: &dyn Task) -> bool {
        self.name() == other.name()
    }
}

/// The loss of a task that has no [`Task::loss`] of its own.
fn target_loss<T: Task + ?Sized>(task: &T) -> Result<LossKind> {
    let missing =
        || format!("the task {} records no loss: it needs a `target_loss`, or its own `loss`", task.name());
    task.target_loss().ok_or_else(|| Error::Usage(missing()))
}

impl Serialize for dyn Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Adds a task of the host program: networks whose checkpoints name it are trained, evaluated and reported like all
/// others.
///
/// # Errors
/// [`Error::Usage`] where another task has its name.
pub fn register(task: TaskRef) -> Result<()> {
    let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
    if TASKS.iter().chain(own.iter()).any(|known| known.name() == task.name()) {
        return Err(Error::Usage(format!(
            "there is a task '{}' already: give yours another name",
            task.name()
        )));
    }
    own.push(task);
    Ok(())
}

/// All tasks, registered ones last.
pub fn all() -> Vec<TaskRef> {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    TASKS.iter().chain(own.iter()).copied().collect()
}

/// The task of this name; the first of [`TASKS`] for an empty name.
///
/// # Errors
/// [`Error::Usage`] for a name that no task has.
pub fn find(name: &str) -> Result<TaskRef> {
    // Checkpoints of versions before tasks had names have no task.
    if matches!(name, "" | OLD) {
        return Ok(TASKS[0]);
    }
    let is = |task: &&TaskRef| task.name() == name;
    let own = || OWN.read().unwrap_or_else(PoisonError::into_inner).iter().find(is).copied();
    TASKS.iter().find(is).copied().or_else(own).ok_or_else(|| {
        let all = all();
        let names: Vec<&str> = all.iter().map(|task| task.name()).collect();
        Error::Usage(format!(
            "unknown task '{name}'{}; there are {}; a program registers its own before it opens networks",
            did_you_mean(name, names.iter().copied()),
            names.join(", ")
        ))
    })
}

/// The task for data with targets of this form, where none is named.
pub fn for_targets(kind: TargetKind) -> TaskRef {
    TASKS.iter().copied().find(|task| task.targets() == kind).unwrap_or(TASKS[0])
}

/// The task of a network.
///
/// # Errors
/// As for [`find`].
pub fn of(net: &Network) -> Result<TaskRef> {
    find(&net.config().task)
}

/// Replaces the last layer of `net` by one for this task and these classes, with initial weights; see
/// [`Network::replace_head_with`].
///
/// # Errors
/// As there.
pub fn replace_head(
    net: &mut Network,
    task: TaskRef,
    classes: Vec<String>,
    hidden: Option<usize>,
    seed: u64,
) -> Result<()> {
    let outputs = task.outputs(classes.len());
    net.replace_head_for_task(task.name(), outputs, classes, hidden, seed)
}

/// Fails unless a network's task can do this.
///
/// # Errors
/// [`Error::Usage`] naming both.
pub fn require(net: &Network, ability: Ability) -> Result<TaskRef> {
    let task = of(net)?;
    match task.can(ability) {
        true => Ok(task),
        false => Err(Error::Usage(format!(
            "{ability}: not for a network that was trained for the task {} ({})",
            task.name(),
            task.about()
        ))),
    }
}
