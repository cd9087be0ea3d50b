//! Learning: settings, the trainer with its strategies, evaluation, kept features, run folders.

mod bench;
mod certify;
mod checkpoint;
mod config;
mod evaluate;
mod events;
mod kept;
mod plans;
mod run;
mod schedule;
mod session;
mod sheet;
mod shelf;
mod source;
mod sweep;
mod trainer;
mod workload;

pub use bench::{Measured, Part, Row, Span, bench};
pub use certify::{CERTIFIED, Figure, ModelVerdict, certify};
pub use config::{Config, Distill, HeadSolver, OptimizerKind, Strategy};
pub use evaluate::{Evaluation, Predictor, evaluate, interval};
pub use events::{EpochMetrics, Event, Observer, Silent};
pub use kept::{Cut, Features, extract};
pub use plans::{inference_plan, training_plan};
pub use run::{Context, busiest_plan, dry_run, resume, run};
pub use schedule::{Schedule, Standing};
pub use sheet::contact_sheet;
pub use sweep::{Sweep, SweepPoint, valley};
pub use trainer::{Report, State, Trainer};
pub use workload::{Workload, noise};
