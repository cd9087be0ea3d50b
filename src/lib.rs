//! Transfer learning on any GPU: a network that has learned from millions of pictures keeps what it
//! knows and learns a new task, by way of Vulkan, Metal or DX12, with kernels written in WGSL. Where there
//! is no GPU, [`plan::Device::open`] takes the CPU, which runs the same plans natively.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//!
//! use defrost::data::{self, OpenOptions};
//! use defrost::gpu::GpuOptions;
//! use defrost::models::{self, HeadPolicy};
//! use defrost::nn::Freeze;
//! use defrost::plan::Device;
//! use defrost::train::{Config, Predictor, Trainer};
//!
//! # fn main() -> defrost::Result<()> {
//! let device = Device::open(&GpuOptions::default())?;
//! let splits = data::open(Path::new("photos"), &OpenOptions::default())?;
//!
//! let (mut net, _) = models::load_with("resnet18", "resnet18.safetensors", HeadPolicy::Replace)?;
//! net.replace_head_for(splits.train.classes.clone(), 0)?;
//! println!("{}", net.freeze(Freeze::all_but_head())?); // an unknown name is an error
//!
//! let (train, val) = (Arc::new(splits.train), Arc::new(splits.val));
//! let report = Trainer::new(&device, Config::default()).fit(&mut net, &train, &val)?;
//! println!("{:.1}% of {} pictures", 100.0 * report.val_accuracy, val.len());
//! net.save("photos.safetensors")?; // classes and preprocessing travel inside
//!
//! let picture = data::eval(&data::load(Path::new("picture.jpg"))?, net.preprocess());
//! let probabilities = Predictor::new(&device, &net, 1)?.predict(&[picture])?;
//! # let _ = probabilities;
//! # Ok(())
//! # }
//! ```
//!
//! # Floors
//! Each module uses only those below it.
//!
//! | module | what it holds | where to begin |
//! |---|---|---|
//! | [`cli`] | the command: options become library calls, results text or JSON | [`cli::main`] |
//! | [`report`] | what a run tells people: `report.html`, model cards | [`report::write`], [`report::Card`] |
//! | [`explain`] | which part of a picture speaks for a class: Grad-CAM, Grad-CAM++, SmoothGrad | [`explain::Explainer`] |
//! | [`train`] | settings, trainer, kept features, run folders, evaluation | [`train::Trainer`], [`train::Predictor`] |
//! | [`task`] | what a network is trained to tell: head, targets, loss, metrics, predictions; one folder a task | [`task::Task`], [`task::TASKS`] |
//! | [`data`] | folders and files to pictures to batches, decoded ahead on all cores | [`data::open()`], [`data::Loader`] |
//! | [`models`] | eleven families of CNNs, each written as its paper's table; weights in and out | [`models::load`], [`models::Network`] |
//! | [`nn`] | layers, parameters by torchvision's paths, what is frozen, safetensors | [`nn::Freeze`], [`nn::Graph`] |
//! | [`plan`] | a tape to a fixed schedule: folded, fused, kernels chosen, memory placed; run on GPU or CPU | [`plan::compile`], [`plan::Program`] |
//! | [`ops`] | one op, one file: shapes, gradient, kernels, cost, CPU implementation, test cases | [`ops::REGISTRY`], [`ops::backward`] |
//! | [`tape`] | ops recorded over symbolic values, and the walk back that records their gradients | [`tape::Tape`], [`tape::Op`] |
//! | [`gpu`] | adapters, limits, pipelines, buffers, timestamps: wgpu and no mathematics | [`gpu::Gpu`], [`gpu::Caps`] |
//!
//! Beside them lie [`rng`], random numbers that are pure functions of a key and a counter, and the one
//! [`Error`] type, whose messages name file, layer or tensor.
//!
//! # From a tape to numbers
//! Nothing runs while ops are recorded. [`plan::compile`] turns the tape into a schedule, which can be
//! printed, and [`plan::Program`] runs it. A gradient is recorded only where it
//! leads to something that learns, so what is frozen costs neither time nor memory:
//!
//! ```
//! use defrost::nn::Freeze;
//! use defrost::train::{Config, training_plan};
//! use defrost::{gpu::Caps, models};
//!
//! # fn main() -> defrost::Result<()> {
//! let mut net = models::create("resnet18", 5)?;
//! net.freeze(Freeze::through("layer3"))?;
//! let plan = training_plan(&net, &Config::default(), 8, &Caps::webgpu_defaults())?;
//!
//! let gradients = plan.steps.iter().filter(|step| step.is_training());
//! assert!(gradients.clone().count() > 0);
//! assert!(gradients.clone().all(|step| !step.node.layer.starts_with("layer3")));
//! println!("{plan}\n{} bytes", plan.memory().total());
//! # Ok(())
//! # }
//! ```
//!
//! A host application that draws in the same frame hands its device to [`gpu::Gpu::from_wgpu`], and has
//! [`plan::GpuProgram::encode`] record a step into its own encoder, which never submits and never waits.

#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unused_imports, reason = "parts of a floor are for floors above it alone")
)]

mod error;

// First, because its macro is used in `ops`.
#[macro_use]
pub mod tape;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "images")]
pub mod data;
#[cfg(feature = "images")]
pub mod explain;
pub mod gpu;
pub mod models;
pub mod nn;
pub mod ops;
mod panics;
pub mod plan;
#[cfg(feature = "report")]
pub mod report;
pub mod rng;
#[cfg(feature = "images")]
pub mod task;
mod text;
#[cfg(feature = "images")]
pub mod train;

pub use error::{Error, Result, did_you_mean};

/// The Rust of this page compiles.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
