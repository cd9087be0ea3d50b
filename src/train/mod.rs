//! Learning: settings, the trainer with its strategies, evaluation, kept features, run folders.

mod bench;
mod calibration;
mod certify;
mod checkpoint;
mod config;
mod evaluate;
mod events;
mod features;
mod fewshot;
mod lbfgs;
mod logistic;
mod measures;
mod run;
mod session;
mod solver;
mod trainer;
mod workload;

pub use bench::{Measured, Part, Row, Span, bench};
pub use calibration::{Bin, Calibrated, Calibration, calibrate, fit_temperature};
pub use certify::{CERTIFIED, Figure, ModelVerdict, certify};
pub use config::{Config, OptimizerKind, Schedule, Strategy};
pub use evaluate::{Evaluation, Outputs, Predictor, Uncalibrated, evaluate};
pub use events::{EpochMetrics, Event, Observer, Silent};
pub use features::{Features, extract, features_key};
pub use fewshot::{Fewshot, FewshotOptions, Method, fewshot};
pub use measures::{
    ClassScores, LabelScores, Measures, MultiLabel, OutputErrors, Regression, Scores, SingleLabel, interval,
};
pub use run::{Context, busiest_plan, reopen, resume, run};
pub use session::{Feed, inference_plan, training_plan};
pub use solver::{Solved, SolverOptions, Tried, solve_head};
pub use trainer::{Report, State, Trainer};
pub use workload::{Workload, noise};
