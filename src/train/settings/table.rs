//! The table. An entry of [`settings!`] is a field of [`Config`]: its doc comment, which is also the option's help;
//! its type and its default; and after `=>` its other properties. Backticks mark the names of other settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::choices::{Distill, HeadSolver};
use super::optimizers::OptimizerKind;
use super::strategies::Strategy;
use super::value::{Value, numbers, rates};
use super::{Access, Limits, Section, Setting};
use crate::data::{Augment, DataOptions, Preset};
use crate::nn::NormMode;
use crate::task;
use crate::train::optimizer::schedule::Schedule;

/// Access to the field at a path.
macro_rules! access {
    ($($path:ident).+) => {
        Access {
            set: |config, texts| {
                config.$($path).+ = Value::parse(texts)?;
                Ok(())
            },
            numbers: |config| Value::numbers(&config.$($path).+),
            shown: |config| Value::shown(&config.$($path).+),
        }
    };
}

/// The entry of a nested field.
macro_rules! nested {
    ($outer:ident.$inner:ident, $help:literal, $setting:expr) => {
        $setting.at(&[concat!(stringify!($outer), ".", stringify!($inner))], &[$help], access!($outer.$inner))
    };
}

/// The settings of an entry: one setting, or those of the nested fields.
macro_rules! entry {
    ($name:ident, [$($doc:literal),*], [$($setting:expr),* $(,)?]) => {
        &[$($setting),*]
    };
    ($name:ident, [$($doc:literal),*], $setting:expr) => {
        &[$setting.at(&[stringify!($name)], &[$($doc),*], access!($name))]
    };
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])* $name:ident: $ty:ty = $default:expr => $setting:tt;)*) => {
        /// All settings of a training: what `config.json` keeps and a resumed run reads back.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        #[non_exhaustive]
        pub struct Config {
            $($(#[doc = $doc])* pub $name: $ty,)*
        }

        options!(Config);

        impl Default for Config {
            fn default() -> Self {
                Config { $($name: $default,)* }
            }
        }

        pub(super) static TABLE: &[&[Setting]] = &[$(entry!($name, [$($doc),*], $setting),)*];
    };
}

const NETWORK: Setting = Setting::of(Section::Network);
const DATA: Setting = Setting::of(Section::Data);
const FREEZING: Setting = Setting::of(Section::Freezing);
const OPTIMIZING: Setting = Setting::of(Section::Optimizing);
const TRAINING: Setting = Setting::of(Section::Training);
/// The preset gives the default.
const AUGMENTING: Setting = Setting::of(Section::Augmenting).otherwise("");

const SHARE: Limits = Limits::from(0.0, "it lies in [0, 1]").most(1.0);
const BELOW_1: Limits = Limits::from(0.0, "it lies in [0, 1)").below(1.0);
const FROM_0: Limits = Limits::from(0.0, "it is a number from 0 up");
const PROBABILITY: Limits = Limits::from(0.0, "a probability lies within 0 and 1").most(Augment::PROBABILITY);
const ALPHA: Limits = Limits::from(0.0, "it lies within 0 and 1000").most(Augment::ALPHA);
const JITTER: Limits = Limits::from(0.0, "it lies within 0 and 10").most(Augment::JITTER);

settings! {
    /// Folder of class folders, or of `train/` and `val/`, or of IDX files, or a table of labels, or drawn images.
    data: PathBuf = PathBuf::new() => (NETWORK);
    /// The network: resnet50, mobilenet_v2, ... Not needed for a checkpoint of Defrost's.
    model: String = String::new() => (NETWORK.option("model").value("NAME"));
    /// Its pretrained weights: torchvision's, timm's or Defrost's, as safetensors or PyTorch's .pth.
    weights: Option<PathBuf> = None => (NETWORK.option("weights").value("FILE")
        .otherwise("published weights of the model, fetched once"));
    /// Side of the images that the network sees, pixels.
    size: Option<usize> = None => (NETWORK.option("size").value("PIXELS")
        .otherwise("what its weights were made for")
        .within(Limits::from(8.0, "a side is 8 to 4096 pixels").most(4096.0)));

    /// What is trained.
    task: Option<String> = None => (DATA.option("task").value("TASK").choices(task::NAMES).and(task::HELP)
        .described(|| task::TASKS[0].name().into())
        .fields(&["task", "open.targets"], |config, texts| {
            let task = task::find(&String::parse(texts)?).map_err(|e| e.to_string())?;
            (config.task, config.open.targets) = (Some(task.name().into()), task.targets());
            Ok(())
        }));
    /// How the data is read: its table, the form of its targets, what a split keeps together.
    open: DataOptions = DataOptions::default() => [
        nested!(open.labels, "A table that names images and labels; its relative paths begin at the data",
            DATA.option("labels").value("FILE.csv")),
        nested!(open.image_column, "The table's column of images", DATA.option("image-column").value("NAME")
            .otherwise("image, file, filename, path, name, fname or id, else the first")),
        nested!(open.label_columns,
            "The table's column of labels; for several values or 0/1 columns give it several times",
            DATA.option("label-column").value("NAME").repeats()
                .otherwise("label, labels, class, category, target, tag or tags, else the second")),
        nested!(open.label_separator, "What stands between several labels of a cell",
            DATA.option("label-separator").value("TEXT").hyphens()
                .otherwise("the first of ; | , that is met, else blanks")),
        nested!(open.group_by,
            "Keep images together that a random split must not divide: parent (the folder within the class folder), column:NAME of the table, or prefix:SEPARATOR, such as prefix:_ for patient01_003.jpg",
            DATA.option("group-by").value("RULE")),
    ];

    /// What is trained, and in which order.
    strategy: Strategy = Strategy::default() => (FREEZING.option("strategy").value("STRATEGY")
        .choices(Strategy::NAMES).and(Strategy::HELP)
        .otherwise("finetune where anything of this section is given, else two-phase"));
    /// Freeze everything up to and including this layer.
    freeze_through: Option<String> = None => (FREEZING.option("freeze-through").value("LAYER"));
    /// Freeze this layer or parameter; may be given several times.
    freeze: Vec<String> = Vec::new() => (FREEZING.option("freeze").value("LAYER").commas());
    /// Freeze these layer groups, counted from 0; the last is the head.
    freeze_groups: Vec<usize> = Vec::new() => (FREEZING.option("freeze-groups").value("GROUPS").commas());
    // The default keeps the pretrained statistics: batches of a small data set estimate them badly (hymenoptera, two
    // epochs from `features.14` on: 94.8-96.1% against 90.9% with the batch's own).
    /// Batch norms in layers that learn: train; frozen-stats: scale and shift learn, the running statistics stay;
    /// frozen. In frozen layers they are frozen.
    batch_norm: Option<NormMode> = None => (FREEZING.option("batch-norm").value("MODE")
        .choices(&["train", "frozen-stats", "frozen"])
        .otherwise("train for scratch, which has no other statistics, else frozen-stats"));

    /// Passes over the images; of each stage where a strategy has several.
    epochs: Option<usize> = None => (TRAINING.option("epochs").value("N")
        .described(Strategy::epochs_in_words)
        .within(Limits::from(1.0, "nothing would be learned")));
    /// Images a step.
    batch: Option<usize> = None => (TRAINING.option("batch").value("N")
        .otherwise("32 on cached features, else 8 to 32 by the number of images, fewer where the device holds no more")
        .within(Limits::from(1.0, "a batch holds at least one image")));
    /// Update rule.
    optimizer: OptimizerKind = OptimizerKind::default() => (OPTIMIZING.option("optimizer").value("OPTIMIZER")
        .choices(OptimizerKind::NAMES));
    /// SGD's momentum.
    momentum: f32 = 0.9 => (OPTIMIZING.option("momentum").value("SHARE").within(BELOW_1));
    /// SGD looks ahead (Nesterov).
    nesterov: bool = false => (OPTIMIZING.option("nesterov"));
    // Chen et al. 2016, arXiv:1604.06174.
    /// Keep few activations for the gradients and compute the others again: less memory, about a quarter more work, the
    /// same numbers; done by itself where a GPU's memory does not suffice.
    grad_checkpointing: bool = false => (OPTIMIZING.option("grad-checkpointing"));
    /// A hidden layer of so many features in the head: linear, ReLU, dropout, linear.
    head_hidden: Option<usize> = None => (TRAINING.option("head-hidden").value("FEATURES").otherwise("none")
        .within(Limits::from(1.0, "1 to 1048576 features").most((1 << 20) as f64)));
    /// Let the auxiliary heads of googlenet and inception_v3 learn, too.
    auxiliary: bool = false => (TRAINING.option("auxiliary"));
    /// Learning rate: one, or body,head, or one for each layer group, or LOW..HIGH spread over the groups.
    lr: Vec<f64> = Vec::new() => (TRAINING.option("lr").value("RATES").otherwise("by strategy; see defrost lr-find")
        .fields(&["lr", "lr_range"], |config, texts| {
            (config.lr, config.lr_range) = rates(texts)?;
            Ok(())
        })
        .within(Limits::from(0.0, "a learning rate is a number from 0 up")));
    /// Least and greatest rate, of the first group and of the head; those between lie evenly in their logarithms.
    lr_range: Option<(f64, f64)> = None => [];
    /// Each layer group learns at this share of the rate of the one above.
    layer_decay: Option<f64> = None => (TRAINING.option("layer-decay").value("SHARE").within(SHARE));
    /// Epochs over which the rate climbs from 0 at the beginning.
    warmup: f64 = 0.0 => (TRAINING.option("warmup").value("EPOCHS").otherwise("0; one-cycle climbs by itself")
        .within(Limits::from(0.0, "epochs are a number from 0 up")));
    /// Decay of weights; norms and biases do not decay.
    weight_decay: Option<f64> = None => (TRAINING.option("weight-decay").value("DECAY")
        .described(OptimizerKind::weight_decay_in_words).within(FROM_0));
    // One-cycle's warm-up keeps a fresh head from spoiling the layers below.
    /// How the rate goes over the training.
    schedule: Option<Schedule> = None => (TRAINING.option("schedule").value("SCHEDULE")
        .choices(&["constant", "step", "cosine", "one-cycle", "plateau"])
        .otherwise("cosine for features, else one-cycle"));
    /// Scale the gradients down where their norm, of all together, is larger than this.
    clip: Option<f64> = None => (TRAINING.option("clip").value("NORM")
        .within(Limits::from(1e-30, "a norm is a number above 0, and below 1e-30 no gradient would be left")));
    /// So many batches make one update: their gradients add up.
    accumulate: usize = 1 => (TRAINING.option("accumulate").value("BATCHES")
        .within(Limits::from(1.0, "an update takes at least one batch")));
    /// Evaluate and keep a moving average of the weights with this decay, less at the beginning: min(decay, (1 + n) /
    /// (10 + n)) at update n; 0 for none.
    ema: Option<f64> = None => (TRAINING.option("ema").value("DECAY").otherwise("0.98 for two-phase, else none")
        .within(BELOW_1));
    /// End a phase once the validation loss has not fallen for so many epochs.
    patience: Option<usize> = None => (TRAINING.option("patience").value("EPOCHS")
        .within(Limits::from(1.0, "give it at least one epoch")));
    /// Let each class count as much as any other in the loss, however many images it has.
    class_weights: bool = false => (TRAINING.option("class-weights"));
    /// Draw images of each class equally often.
    balanced: bool = false => (TRAINING.option("balanced"));
    /// How the head is trained on cached features: steps of the optimizer, or logistic regression by L-BFGS with its
    /// penalty from cross-validation.
    head_solver: HeadSolver = HeadSolver::default() => (TRAINING.option("head-solver").value("SOLVER")
        .choices(&["gradient-descent", "lbfgs", "steps"]));
    /// So many augmented copies of each image are all that is ever seen; what is frozen runs once for each.
    copies: usize = 0 => (TRAINING.option("copies").value("N").otherwise("none")
        .within(Limits::from(0.0, "at most 10000").most(1e4)));
    /// Learn from the answers of this run or checkpoint, too: a larger network that has been trained on the same classes.
    teacher: Option<PathBuf> = None => (TRAINING.option("teacher").value("RUN"));
    /// How the teacher is listened to.
    distill: Distill = Distill::default() => [
        nested!(distill.share, "The teacher's share in the loss",
            TRAINING.option("distill-share").value("SHARE").needs("teacher").within(SHARE)),
        nested!(distill.temperature, "Temperature of the teacher's answers",
            TRAINING.option("distill-temperature").value("T").needs("teacher")
                .within(Limits::above(0.0, "it is above 0, and at most 1000").most(1e3))),
    ];
    /// Share of the target that is spread over all classes.
    smoothing: f32 = 0.0 => (TRAINING.option("label-smoothing").value("SHARE").within(BELOW_1));
    /// Probability of all dropout layers.
    dropout: Option<f32> = None => (TRAINING.otherwise("the architecture's own"));
    /// Share of the images that validates where the data has no `val/`.
    val_fraction: f64 = 0.2 => (TRAINING.option("val-fraction").value("SHARE"));
    /// Of everything random: the same seed on the same device gives the same run.
    seed: u64 = 0 => (TRAINING.option("seed").value("SEED"));
    /// Stop after this epoch, to be resumed.
    stop_after: Option<usize> = None => (TRAINING.option("stop-after").value("EPOCH").dropped()
        .within(Limits::from(1.0, "give it at least one epoch")));
    /// Seconds between two checkpoints, within an epoch too: what a killed run loses at most. Or a hundred times those that
    /// the training waits for one, if that is more; 0 is after every step.
    checkpoint_every: f64 = 45.0 => (TRAINING.option("checkpoint-every").value("SECONDS")
        .within(Limits::from(0.0, "seconds are a number from 0 up")));
    /// End with an error where any image cannot be read, at the beginning or later; without, a tenth may be missing.
    strict: bool = false => (TRAINING.option("strict"));

    /// Augmentation.
    augment: Augment = Augment::default() => [
        AUGMENTING.option("augment").value("PRESET").choices(Preset::NAMES)
            .otherwise("default")
            .fields(&["augment", "augment.trivial"], |config, texts| {
                config.augment = Preset::parse(texts)?.augment();
                Ok(())
            })
            .help(&["How training images are varied; what follows changes single settings of it:"])
            .and(Preset::HELP),
        nested!(augment.scale, "Least and greatest share of the image's area that is kept",
            AUGMENTING.option("crop-scale").value("MIN,MAX")
                .within(Limits::above(0.0, "it needs 0 < least <= greatest <= 1").most(1.0))),
        nested!(augment.ratio, "Least and greatest width / height of the part, drawn evenly in its logarithm",
            AUGMENTING.within(Limits::above(0.0, "it needs 0 < least <= greatest"))),
        nested!(augment.flip, "Probability of a left-right mirror",
            AUGMENTING.option("flip").value("P").within(PROBABILITY)),
        nested!(augment.vertical_flip,
            "Probability of a top-bottom mirror, for images that have no up: from above, through a microscope",
            AUGMENTING.option("vertical-flip").value("P").within(PROBABILITY)),
        nested!(augment.rotate, "Greatest rotation to either side",
            AUGMENTING.option("rotate").value("DEGREES")
                .within(Limits::from(0.0, "it lies within 0 and 180").most(Augment::ROTATION))),
        AUGMENTING.option("jitter").value("B,C,S,H")
            .fields(&["augment.brightness", "augment.contrast", "augment.saturation"], |config, texts| {
                let augment = &mut config.augment;
                [augment.brightness, augment.contrast, augment.saturation, augment.hue] = numbers(texts)?;
                Ok(())
            })
            .numbers(|config| vec![config.augment.brightness, config.augment.contrast, config.augment.saturation])
            .within(JITTER)
            .help(&["Strength of changes of brightness, contrast, saturation and hue, as in torchvision's ColorJitter:",
                "0.3,0.3,0.3,0.05"]),
        nested!(augment.hue, "Greatest turn of the hue to either side, as a share of the circle: the last number of jitter",
            AUGMENTING.within(Limits::from(0.0, "it lies within 0 and 0.5").most(Augment::HUE))),
        nested!(augment.grey, "Probability of no colour", AUGMENTING.option("grey").value("P").within(PROBABILITY)),
        nested!(augment.blur, "Probability of a blur", AUGMENTING.option("blur").value("P").within(PROBABILITY)),
        nested!(augment.blur_sigma, "Least and greatest standard deviation of a blur, pixels",
            AUGMENTING.within(Limits::above(0.0, "it needs 0 < least <= greatest"))),
        nested!(augment.erase, "Probability that a rectangle is erased",
            AUGMENTING.option("erase").value("P").within(PROBABILITY)),
        nested!(augment.reflect, "What a rotation uncovers is the image's mirror image, else black", AUGMENTING),
        nested!(augment.mixup, "MixUp of images and labels: alpha of the Beta distribution, such as 0.2",
            AUGMENTING.option("mixup").value("ALPHA").within(ALPHA)),
        nested!(augment.cutmix, "CutMix: alpha, such as 1. With `mixup`, a coin chooses for each batch",
            AUGMENTING.option("cutmix").value("ALPHA").within(ALPHA)),
    ];
}
