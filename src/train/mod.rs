//! Training: settings, the trainer with its strategies, evaluation, cached features, run folders.

mod adapt;
mod cache;
mod evaluate;
mod events;
mod fit;
mod head;
mod optimizer;
mod runs;
mod settings;
mod step;
mod strategy;
mod studies;

pub use adapt::coral::{Aligned, align, align_head};
pub use adapt::means::{AdaptOptions, Adapted, adapt};
pub use cache::features::{Features, SplitPoint, Vectors, extract};
pub use evaluate::calibrate::{Calibrated, calibrate};
pub use evaluate::prediction::Prediction;
pub use evaluate::predictor::{Evaluation, Outputs, Predictor, evaluate};
pub use events::{EpochMetrics, Event, Observer, Silent, Trial};
pub use fit::score::Best;
pub use fit::state::{Report, State};
pub use fit::trainer::Trainer;
pub use head::solver::{Solved, SolverOptions, Tried, solve_head};
pub use optimizer::schedule::{Schedule, Standing};
pub use runs::checkpoint::{read_best, read_metrics};
pub use runs::context::Context;
pub use runs::description::RunFile;
pub use runs::folder::{Destination, RunFolder};
pub use runs::run::{busiest_plan, dry_run, find_rate, reopen, resume, run};
pub use runs::tensorboard::TensorBoard;
pub use settings::{
    Config, Distill, HeadSolver, Limits, OptimizerKind, Resume, Section, Setting, Strategy, settings,
};
pub(crate) use step::plans::fitting_batch;
pub use step::plans::{inference_plan, training_plan};
#[cfg(not(feature = "unstable"))]
pub(crate) use step::workload::Workload;
#[cfg(feature = "unstable")]
pub use step::workload::{Workload, noise};
pub use studies::bench::{Checkpoint, Measured, Part, Row, Span, bench, checkpoint};
pub use studies::certify::{CERTIFIED, Figure, ModelVerdict, certify};
pub use studies::demo::{Demo, DemoRow, demo};
pub use studies::fewshot::{Fewshot, FewshotOptions, Method, fewshot};
pub use studies::pretrain::{Pretrained, pretrain, pretraining};
pub use studies::sheet::contact_sheet;
pub use studies::sweep::{Sweep, SweepPoint, valley};
