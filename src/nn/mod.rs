//! Networks: parameters with names, layers recorded on a tape, a mask of the trainable parameters, safetensors in and
//! out.
//!
//! Parameter paths are torchvision's, because the code that records a network walks the same path:
//! `g.at("layer1", |g| g.conv2d("conv1", ..))` declares `layer1.conv1.weight`. There is no second list.

mod contents;
mod convert;
mod freeze;
mod graph;
mod header;
pub mod init;
mod layers;
mod norm;
mod param;
mod pickle;
mod python;
mod pytorch;
mod state_dict;
mod structure;
mod weights;
mod wrapper;

pub use contents::TensorInfo;
pub(crate) use contents::first_of;
pub use convert::{Converted, convert};
pub use freeze::{Freeze, FreezeSummary, Learning, Mask, NormMode};
pub(crate) use graph::step_of;
pub use graph::{Graph, Mode, Norm, PaddingStyle, Settings};
pub use layers::{Conv2d, Linear};
pub use param::{Kind, Layout, ParamSpec};
pub(crate) use structure::lies_in;
pub use structure::{LayerMark, Structure};
pub(crate) use weights::TEMPORARY;
pub use weights::{
    LoadReport, SavedTensor, TensorFile, TensorMap, load_tensors, save_tensors, write_atomically,
};
pub(crate) use wrapper::{is_counter, prefix_of};
