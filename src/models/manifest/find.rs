//! Looks up pretrained weights by name.

use super::{Weights, all};
use crate::models::registry;
use crate::{Error, Result, did_you_mean};

/// The weights of this name: the weights' own name, with `timm/` before it or not, or a model's name.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, and for a model without known weights.
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
    // `mobilenetv2_140` names a width, `tf_efficientnet_lite0` a conversion; the model's name alone means its usual
    // weights.
    let same = all().iter().find(|w| recipe(w).as_deref() == Some(plain));
    let usual =
        || all().iter().find(|w| w.model == choice.model.name && choice.width.is_none_or(|w| w == 1.0));
    same.or_else(usual).ok_or_else(|| {
        Error::Usage(format!(
            "of {name} no published weights are known that Defrost could fetch: name a file with `weights`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::weights::Manifest;
    use super::*;

    #[test]
    fn every_entry_can_be_built() -> Result<()> {
        let manifest: Manifest = toml::from_str(include_str!("../../../weights/manifest.toml"))
            .map_err(|e| Error::Weights(e.to_string()))?;
        assert!(manifest.weights.len() > 40, "{}", manifest.weights.len());
        for weights in &manifest.weights {
            // timm's name of the model is an alias in Defrost's registry.
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
