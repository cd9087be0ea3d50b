//! Training: steps, strategies, what is frozen, augmentation; metrics and explanations of what was trained.
#![allow(clippy::unwrap_used)]

mod acceptance;
mod adapt;
mod augment;
#[path = "../command/mod.rs"]
mod command;
#[path = "../common/mod.rs"]
mod common;
mod curves;
mod explain;
mod frozen;
mod measures;
mod phases;
mod solver;
mod steps;
mod strategies;
