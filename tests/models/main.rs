//! Networks: against PyTorch with weights filled by rule, with real weights, their files in and out.
#![allow(clippy::unwrap_used)]

mod checkpoints;
#[path = "../command/mod.rs"]
mod command;
#[path = "../common/mod.rs"]
mod common;
mod export;
mod families;
mod parity;
mod pytorch;
mod reference;
mod timm;
