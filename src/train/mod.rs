//! Learning: settings, the trainer with its strategies, evaluation, kept features, run folders.

mod bench;
mod certify;
mod checkpoint;
mod config;
mod evaluate;
mod events;
mod features;
mod run;
mod session;
mod sheet;
mod trainer;
mod workload;

pub use bench::{Measured, Part, Row, Span, bench};
pub use certify::{CERTIFIED, Figure, ModelVerdict, certify};
pub use config::{Config, OptimizerKind, Schedule, Strategy};
pub use evaluate::{Evaluation, Predictor, evaluate, interval};
pub use events::{EpochMetrics, Event, Observer, Silent};
pub use features::{Features, extract, features_key};
pub use run::{Context, busiest_plan, dry_run, resume, run};
pub use session::{Feed, inference_plan, training_plan};
pub use sheet::contact_sheet;
pub use trainer::{Report, State, Trainer};
pub use workload::{Workload, noise};
