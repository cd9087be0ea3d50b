//! Pretrained weights that are fetched by name: `weights/manifest.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use super::preprocess::{Filter, IMAGENET_MEAN, IMAGENET_STD, Preprocess};
use super::registry;
use crate::{Error, Result, did_you_mean};

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
struct Manifest {
    weights: Vec<Weights>,
}

static MANIFEST: LazyLock<Vec<Weights>> = LazyLock::new(|| {
    let text = include_str!("../../weights/manifest.toml");
    // The file is a part of the program, and a test reads it.
    toml::from_str::<Manifest>(text).map_or(Vec::new(), |manifest| manifest.weights)
});

/// All of them, those of one model behind one another, the usual ones first.
pub fn all() -> &'static [Weights] {
    &MANIFEST
}

/// The weights that a name stands for: their own name, with `timm/` before it or not, or a model's.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, and for a model of which none are known.
pub fn find(name: &str) -> Result<&'static Weights> {
    let plain = name.trim().to_lowercase();
    let plain = plain.strip_prefix("timm/").unwrap_or(&plain);
    if let Some(weights) = all().iter().find(|w| w.name == plain) {
        return Ok(weights);
    }
    let known = all().iter().map(|w| w.name.as_str());
    if plain.contains('.') {
        let hint = did_you_mean(plain, known);
        return Err(Error::Usage(format!(
            "unknown weights '{name}'{hint}; defrost weights list shows them all"
        )));
    }
    let choice = registry::find(plain)?;
    let recipe = |w: &Weights| w.name.split('.').next().map(str::to_string);
    // `mobilenetv2_140` names a width, `tf_efficientnet_lite0` a conversion; the model's name alone the usual ones.
    let same = all().iter().find(|w| recipe(w).as_deref() == Some(plain));
    let usual =
        || all().iter().find(|w| w.model == choice.model.name && choice.width.is_none_or(|w| w == 1.0));
    same.or_else(usual).ok_or_else(|| {
        Error::Usage(format!(
            "of {name} no published weights are known that Defrost could fetch: name a file with `weights`"
        ))
    })
}

impl Weights {
    /// What they do to a picture.
    pub fn preprocess(&self) -> Preprocess {
        let (mean, std) = match self.statistics {
            Statistics::ImageNet => (IMAGENET_MEAN, IMAGENET_STD),
            Statistics::Half => ([0.5; 3], [0.5; 3]),
        };
        Preprocess { resize: self.resize, crop: self.crop, filter: self.filter, mean, std }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_can_be_built() -> Result<()> {
        let manifest: Manifest = toml::from_str(include_str!("../../weights/manifest.toml"))
            .map_err(|e| Error::Weights(e.to_string()))?;
        assert!(manifest.weights.len() > 40, "{}", manifest.weights.len());
        for weights in &manifest.weights {
            // timm's name of the model is one of Defrost's aliases.
            let choice = registry::find(weights.name.split('.').next().unwrap_or_default())?;
            assert_eq!(choice.model.name, weights.model, "{}", weights.name);
            weights.preprocess().check()?;
            assert_eq!(find(&weights.name)?, weights);
        }
        assert_eq!(find("resnet50")?.name, "resnet50.tv_in1k");
        assert_eq!(find("timm/mobilenetv2_140")?.name, "mobilenetv2_140.ra_in1k");
        assert_eq!(find("tf_efficientnet_lite0")?.name, "tf_efficientnet_lite0.in1k");
        for (wrong, hint) in [("resnet50.tv_in2k", "resnet50.tv_in1k"), ("squeezenet1_0", "`weights`")] {
            assert!(
                find(wrong).is_err_and(|e| e.exit_code() == 2 && e.to_string().contains(hint)),
                "{wrong}"
            );
        }
        Ok(())
    }
}
