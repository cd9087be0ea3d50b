//! The networks: one file per family, written as the paper's table, on the layers of [`crate::nn`].

use std::fmt::Debug;

use crate::nn::init::LinearInit;
use crate::nn::{Graph, Norm, ParamSpec};
use crate::tape::ValueId;
use crate::{Error, Result};

mod blocks;
pub mod bn_inception;
mod config;
pub mod densenet;
pub mod efficientnet;
pub mod googlenet;
mod head;
#[cfg(feature = "hub")]
pub mod hub;
pub mod imagenet;
pub mod inception_v3;
mod load;
pub mod manifest;
pub mod mobilenet_v1;
pub mod mobilenet_v2;
pub mod mobilenet_v3;
mod network;
pub mod preprocess;
mod record;
pub mod registry;
pub mod resnet;
mod rule;
mod save;
pub mod shipped;
pub mod squeezenet;
mod step;
mod timm;
pub mod vgg;

pub use bn_inception::BnInception;
pub use config::Config;
pub use densenet::DenseNet;
pub use efficientnet::EfficientNet;
pub use googlenet::GoogLeNet;
#[cfg(feature = "hub")]
pub use hub::Hub;
pub use inception_v3::InceptionV3;
pub use load::{HeadPolicy, blank, create, load, load_with};
pub use mobilenet_v1::MobileNetV1;
pub use mobilenet_v2::MobileNetV2;
pub use mobilenet_v3::MobileNetV3;
pub use network::Network;
pub use preprocess::{Channels, Filter, Placement, Preprocess};
pub(crate) use record::mult_adds;
pub use record::{Head, IMAGE_LAYER, InputKind, Recorded, Recording};
pub use registry::{Model, register};
pub use resnet::Resnet;
#[cfg(not(feature = "unstable"))]
pub(crate) use rule::rule_fill;
#[cfg(feature = "unstable")]
pub use rule::rule_fill;
pub use save::{Naming, Precision};
pub use squeezenet::SqueezeNet;
pub use step::TrainingStep;
pub(crate) use timm::refuse_foreign_config;
pub use vgg::Vgg;

/// The layers of a network, without sizes, classes and numbers. All families implement this one trait, so that
/// replacing heads and caching features works the same way for all.
pub trait Architecture: Debug + Send + Sync {
    /// Records all layers before the last one. The result is `[batch, features]`, or a small image where the last
    /// layer is a convolution.
    ///
    /// # Errors
    /// [`Error::Shape`] where the image is too small.
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId>;

    /// Records the last layer and the dropout before it.
    ///
    /// # Errors
    /// As for [`Architecture::features`].
    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId>;

    /// Path of the last layer.
    fn head_path(&self) -> &'static str;

    /// Path of the layer whose output is the features.
    fn features_path(&self) -> &'static str;

    /// Path of the last layer whose output is still an image; Grad-CAM uses that output.
    fn last_map(&self) -> String;

    /// The auxiliary heads, where the architecture has some.
    fn auxiliary(&self) -> Option<Auxiliary> {
        None
    }

    /// First layers of the layer groups, which have their own learning rates; the last group is the head.
    fn groups(&self) -> Vec<String>;

    /// Initialisation of linear layers.
    fn linear_init(&self) -> LinearInit;

    /// Batch norm constants of torchvision's weights.
    fn norm(&self) -> Norm {
        Norm::default()
    }

    /// Batch norm constants of timm's own weights.
    fn timm_norm(&self) -> Norm {
        Norm::default()
    }

    /// timm's name of a tensor.
    fn timm_name(&self, path: &str) -> String {
        path.into()
    }

    /// A tensor's name in older files.
    fn former_name(&self, _path: &str) -> Option<String> {
        None
    }

    /// timm's shape of a tensor.
    fn timm_shape(&self, spec: &ParamSpec) -> Vec<usize> {
        spec.shape.clone()
    }
}

/// Auxiliary heads: attached to the middle of a network during training, so that early layers train faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Auxiliary {
    /// Paths of the heads.
    pub layers: &'static [&'static str],
    /// Path of the last layer of each auxiliary head, which a new task replaces.
    pub heads: &'static [&'static str],
    /// Weight of each head's loss in the total loss.
    pub weight: f32,
}

/// A usage error about a name.
fn unknown<'a>(what: &str, given: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let hint = crate::did_you_mean(given, known);
    Error::Usage(format!("unknown {what} '{given}'{hint}; defrost models lists them all"))
}
