//! What the manifest says of each file of weights.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::models::preprocess::{Filter, IMAGENET_MEAN, IMAGENET_STD, Preprocess};

/// One file of pretrained weights.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Model and recipe: `resnet50.tv_in1k`.
    pub name: String,
    /// The registry's model.
    pub model: String,
    /// On the hub: `timm/resnet50.tv_in1k`.
    pub repository: String,
    /// In the repository.
    pub file: String,
    /// SPDX, in lower case.
    pub licence: String,
    resize: usize,
    crop: usize,
    filter: Filter,
    statistics: Statistics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Statistics {
    /// ImageNet's mean and deviation.
    ImageNet,
    /// 0.5 and 0.5.
    Half,
}

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub(super) weights: Vec<Weights>,
}

#[cfg(feature = "hub")]
static MANIFEST: LazyLock<Vec<Weights>> = LazyLock::new(|| {
    let text = include_str!("../../../weights/manifest.toml");
    // The file is a part of the program, and a test reads it.
    toml::from_str::<Manifest>(text).map_or(Vec::new(), |manifest| manifest.weights)
});

#[cfg(not(feature = "hub"))]
static MANIFEST: LazyLock<Vec<Weights>> = LazyLock::new(Vec::new);

/// All of them, those of one model behind one another, the usual ones first. None without the feature `hub`: there is
/// nothing to fetch.
pub fn all() -> &'static [Weights] {
    &MANIFEST
}

impl Weights {
    /// What they do to an image.
    pub fn preprocess(&self) -> Preprocess {
        let (mean, std) = match self.statistics {
            Statistics::ImageNet => (IMAGENET_MEAN, IMAGENET_STD),
            Statistics::Half => ([0.5; 3], [0.5; 3]),
        };
        Preprocess { mean, std, ..Preprocess::cropped(self.resize, self.crop, self.filter) }
    }
}
