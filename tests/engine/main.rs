//! The engine: ops and their gradients, shaders, plans, what a program holds on the device, kernels that are chosen and
//! checked, and all of it on the device of a host.
#![allow(clippy::unwrap_used)]

// First, because of its macro.
#[macro_use]
#[path = "../toy/mod.rs"]
mod toy;

mod certify;
mod checkpointing;
#[path = "../command/mod.rs"]
mod command;
#[path = "../common/mod.rs"]
mod common;
mod embed;
mod ops;
mod passes;
mod plan;
mod shaders;
mod step;
mod tune;
