//! Names, shapes, freezing and weight files, on every architecture.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod freeze;
mod names;
