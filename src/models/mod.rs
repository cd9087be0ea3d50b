//! The networks: one file a family, written as the paper's table, on layers of [`crate::nn`].

use std::fmt::Debug;

use crate::nn::init::LinearInit;
use crate::nn::{Graph, ParamSpec};
use crate::tape::ValueId;
use crate::{Error, Result};

pub mod imagenet;
mod load;
pub mod mobilenet_v2;
mod network;
pub mod preprocess;
mod record;
pub mod registry;
pub mod resnet;
mod save;
pub mod vgg;

pub use load::{HeadPolicy, blank, create, load, load_with};
pub use mobilenet_v2::MobileNetV2;
pub use network::{Config, Network};
pub use preprocess::{Filter, Preprocess};
pub use record::{Front, Head, InputKind, Recorded, Recording};
pub use resnet::Resnet;
pub use save::Naming;
pub use vgg::Vgg;

/// A network's layers, without sizes, classes and numbers. Every family has this one surface, so
/// that heads are replaced and features are kept in the same way for all.
pub trait Architecture: Debug + Send + Sync {
    /// Records everything up to the vector that the last layer sees: `[batch, features]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where the picture is too small.
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId>;

    /// Records the last layer, and the dropout before it.
    ///
    /// # Errors
    /// As for [`Architecture::features`].
    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId>;

    /// Path of the last layer.
    fn head_path(&self) -> &'static str;

    /// Path of the layer whose output the features are.
    fn cut(&self) -> &'static str;

    /// First layers of the groups that learn at different rates; the last is the head.
    fn groups(&self) -> Vec<String>;

    /// How linear layers start.
    fn linear_init(&self) -> LinearInit;

    /// timm's name of a tensor.
    fn timm_name(&self, path: &str) -> String {
        path.into()
    }

    /// timm's shape of a tensor.
    fn timm_shape(&self, spec: &ParamSpec) -> Vec<usize> {
        spec.shape.clone()
    }
}

/// Fills all tensors by the rule of `tools/fixtures.py`, so that PyTorch and Defrost can be compared
/// on any architecture without its weights.
pub fn rule_fill(net: &mut Network) {
    net.fill(crate::nn::init::by_rule);
}

/// A usage error about a name.
fn unknown<'a>(what: &str, given: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Error {
    let hint = crate::did_you_mean(given, known.clone());
    let known: Vec<&str> = known.into_iter().collect();
    Error::Usage(format!("unknown {what} '{given}'{hint}; known are {}", known.join(", ")))
}
