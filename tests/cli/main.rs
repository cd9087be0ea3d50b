//! The command `defrost` as people and programs use it.
#![allow(clippy::unwrap_used)]

mod bench;
#[path = "../command/mod.rs"]
mod command;
mod commands;
mod damaged_runs;
mod demo;
mod export;
mod hostile;
mod hub;
#[cfg(target_os = "linux")]
mod limits;
mod manners;
mod predict;
mod ready;
mod report;
mod taught;
mod tensorboard;
#[cfg(unix)]
mod terminal;

use std::fs;
use std::path::Path;

use serde_json::Value;

/// The header of a safetensors file, and its data.
pub(crate) fn parts(file: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}
