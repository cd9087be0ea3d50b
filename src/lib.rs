//! # Defrost
//! Transfer learning on any GPU. See the README for the tour.

mod error;

// First, because its macro is used in `ops`.
#[macro_use]
pub mod tape;

pub mod data;
pub mod gpu;
pub mod models;
pub mod nn;
pub mod ops;
pub mod plan;
pub mod rng;
pub mod train;

pub use error::{Error, Result, did_you_mean};
