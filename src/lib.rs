//! Transfer learning on any GPU: Defrost takes a network that was pretrained on millions of images and trains it on a
//! new task, on Vulkan, Metal or DX12, with kernels written in WGSL. Where there is no GPU,
//! [`plan::Device::open`] takes the CPU, which runs the same plans natively.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc};
//!
//! use defrost::data::{self, OpenOptions};
//! use defrost::gpu::GpuOptions;
//! use defrost::models::{self, HeadPolicy};
//! use defrost::nn::Freeze;
//! use defrost::plan::Device;
//! use defrost::train::{Config, Trainer};
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
//! println!("{:.1}% of {} images", 100.0 * report.val_accuracy, val.len());
//! net.save("photos.safetensors")?; // classes and preprocessing travel inside
//!
//! for (class, probability) in net.predict(&device, &data::load(Path::new("image.jpg"))?)?.top(3) {
//!     println!("{class}: {probability:.3}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//! Each module uses only the modules below it.
//!
//! | module | content | where to begin |
//! |---|---|---|
//! | [`cli`] | the command: turns options into library calls, and results into text or JSON | [`cli::main`] |
//! | [`report`] | reports for people: `report.html`, model cards | [`report::write`], [`report::Card`] |
//! | [`explain`] | which part of an image raises the score of a class: Grad-CAM, Grad-CAM++, SmoothGrad | [`explain::Explainer`] |
//! | [`train`] | settings, trainer, cached features, run folders, evaluation | [`train::Trainer`], [`train::Predictor`] |
//! | [`task`] | what a network is trained to predict: head, targets, loss, metrics, predictions; one folder a task | [`task::Task`], [`task::TASKS`] |
//! | [`data`] | reads folders and files, decodes images ahead on all cores, makes batches | [`data::open()`], [`data::Loader`] |
//! | [`models`] | eleven families of CNNs, each written as its paper's table; weights in and out | [`models::load`], [`models::Network`] |
//! | [`nn`] | layers, parameters by torchvision's paths, freeze masks, safetensors | [`nn::Freeze`], [`nn::Graph`] |
//! | [`plan`] | compiles a tape to a fixed schedule: folds, fuses, chooses kernels, places memory; runs it on GPU or CPU | [`plan::compile`], [`plan::Program`] |
//! | [`ops`] | one op, one file: shapes, gradient, kernels, cost, CPU implementation, test cases | [`ops::REGISTRY`], [`ops::backward`] |
//! | [`tape`] | ops recorded over symbolic values, and the backward pass that records their gradients | [`tape::Tape`], [`tape::Op`] |
//! | [`gpu`] | adapters, limits, pipelines, buffers, timestamps: wgpu and no mathematics | [`gpu::Gpu`], [`gpu::Caps`] |
//!
//! Beside them lie [`rng`], random numbers that are pure functions of a key and a counter, and the one
//! [`Error`] type, whose messages name file, layer or tensor.
//!
//! # From a tape to numbers
//! Nothing runs while ops are recorded. [`plan::compile`] turns the tape into a schedule, which can be
//! printed, and [`plan::Program`] runs it. A gradient is recorded only on a
//! path to a trainable parameter, so frozen layers cost neither time nor memory in the backward pass:
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
//! A host application that draws in the same frame passes its device to [`gpu::Gpu::from_wgpu`].
//! [`plan::GpuProgram::encode`] then records a step into the encoder of the host. It never submits and never waits.

#![cfg_attr(
    not(feature = "unstable"),
    allow(dead_code, unreachable_pub, reason = "parts are for tests alone")
)]
#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unused_imports, reason = "parts of a floor are for floors above it alone")
)]

mod error;

// First, because their macros are used in the others.
#[macro_use]
mod options;
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
/// The version of wgpu whose devices, buffers and encoders the engine takes.
pub use wgpu;

/// The Rust of this page compiles.
#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;
