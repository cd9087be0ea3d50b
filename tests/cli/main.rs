//! The command `defrost` as people and programs use it.
#![allow(clippy::unwrap_used)]

mod bench;
#[path = "../command/mod.rs"]
mod command;
mod commands;
mod demo;
mod hostile;
mod hub;
mod manners;
mod report;
