//! Networks as people know them: parameters with names, layers recorded on a tape, a mask that says
//! what learns, safetensors in and out.
//!
//! Parameter paths are torchvision's, because the code that records a network walks the same path:
//! `g.at("layer1", |g| g.conv2d("conv1", ..))` declares `layer1.conv1.weight`. There is no second list.

mod convert;
pub(crate) mod freeze;
mod graph;
pub mod init;
mod layers;
mod norm;
mod param;
mod pickle;
mod pytorch;
mod weights;

pub use convert::{Converted, convert};
pub(crate) use freeze::lies_in;
pub use freeze::{Freeze, FreezeSummary, Learning, Mask, NormMode, Structure};
pub(crate) use graph::step_of;
pub use graph::{Graph, LayerMark, Mode, Norm, PaddingStyle, Settings};
pub use layers::{Conv2d, Linear};
pub use param::{Kind, Layout, ParamSpec};
pub use weights::{
    LoadReport, SavedTensor, TensorFile, TensorInfo, TensorMap, load_tensors, save_tensors, write_atomically,
};
