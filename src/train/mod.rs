//! Learning: settings, the trainer with its strategies, evaluation, kept features, run folders.

mod adapt;
mod auto;
mod bench;
mod calibration;
mod certify;
mod checkpoint;
mod config;
mod coral;
mod evaluate;
mod events;
mod fewshot;
mod kept;
mod lbfgs;
mod logistic;
mod measures;
mod plans;
mod prepare;
mod roots;
mod run;
mod schedule;
mod score;
mod session;
mod sheet;
mod shelf;
mod solver;
mod source;
mod sweep;
mod teacher;
mod tensorboard;
mod trainer;
mod workload;

pub use adapt::{AdaptOptions, Adapted, adapt};
pub use auto::Trial;
pub use bench::{Measured, Part, Row, Span, bench};
pub use calibration::{Bin, Calibrated, Calibration, calibrate, fit_temperature};
pub use certify::{CERTIFIED, Figure, ModelVerdict, certify};
pub use checkpoint::{read_metrics, read_state};
pub use config::{Config, Distill, HeadSolver, OptimizerKind, Strategy};
pub use coral::{Aligned, align, align_head};
pub use evaluate::{Evaluation, Outputs, Predictor, Uncalibrated, evaluate};
pub use events::{EpochMetrics, Event, Observer, Silent};
pub use fewshot::{Fewshot, FewshotOptions, Method, fewshot};
pub use kept::{Cut, Features, Vectors, extract};
pub use measures::{
    ClassScores, LabelScores, Measures, MultiLabel, OutputErrors, Regression, Scores, SingleLabel, interval,
};
pub use plans::{inference_plan, training_plan};
pub use run::{Context, RunFile, busiest_plan, dry_run, find_rate, reopen, resume, run};
pub use schedule::{Schedule, Standing};
pub use score::{Best, Score};
pub use sheet::contact_sheet;
pub use solver::{Solved, SolverOptions, Tried, solve_head};
pub use sweep::{Sweep, SweepPoint, valley};
pub use tensorboard::TensorBoard;
pub use trainer::{Report, State, Trainer};
pub use workload::{Workload, noise};
