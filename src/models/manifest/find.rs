//! From a name to the weights that it stands for.

use super::{Weights, all};
use crate::models::registry;
use crate::{Error, Result, did_you_mean};

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
