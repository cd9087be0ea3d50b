//! The manifest's entry for each weights file.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::models::preprocess::{Filter, IMAGENET_MEAN, IMAGENET_STD, Preprocess};

/// One file of pretrained weights.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Model and recipe: `resnet50.tv_in1k`.
    pub name: String,
    /// The model's name in the registry.
    pub model: String,
    /// Repository on the hub: `timm/resnet50.tv_in1k`.
    pub repository: String,
    /// Path of the file in the repository.
    pub file: String,
    /// SPDX identifier, in lower case.
    pub licence: String,
    resize: usize,
    crop: usize,
    filter: Filter,
    statistics: Statistics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Statistics {
    /// ImageNet's mean and standard deviation.
    ImageNet,
    /// Mean 0.5 and standard deviation 0.5.
    Half,
}

#[derive(Deserialize)]
pub(super) struct Manifest {
    pub(super) weights: Vec<Weights>,
}

#[cfg(feature = "hub")]
static MANIFEST: LazyLock<Vec<Weights>> = LazyLock::new(|| {
    let text = include_str!("../../../weights/manifest.toml");
    // The file is compiled into the program, and a test parses it.
    toml::from_str::<Manifest>(text).map_or(Vec::new(), |manifest| manifest.weights)
});

#[cfg(not(feature = "hub"))]
static MANIFEST: LazyLock<Vec<Weights>> = LazyLock::new(Vec::new);

/// All weights, grouped by model, each model's usual weights first. Empty without the feature `hub`: then nothing can
/// be fetched.
pub fn all() -> &'static [Weights] {
    &MANIFEST
}

impl Weights {
    /// Preprocessing of images for these weights.
    pub fn preprocess(&self) -> Preprocess {
        let (mean, std) = match self.statistics {
            Statistics::ImageNet => (IMAGENET_MEAN, IMAGENET_STD),
            Statistics::Half => ([0.5; 3], [0.5; 3]),
        };
        Preprocess { mean, std, ..Preprocess::cropped(self.resize, self.crop, self.filter) }
    }
}
