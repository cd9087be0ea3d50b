//! timm's `config.json`, which lies beside its weights: architecture, labels, what becomes of a picture.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Filter, Network, Preprocess, registry};
use crate::nn::{PaddingStyle, write_atomically};
use crate::{Error, Result};

/// What such a file says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TimmConfig {
    /// timm's name: `tf_efficientnet_lite0`.
    pub(super) architecture: String,
    pub(super) preprocess: Preprocess,
    /// Names of the classes, where they are given.
    pub(super) labels: Option<Vec<String>>,
    /// Of the batch norms, where it is not the architecture's own.
    pub(super) eps: Option<f32>,
    /// Whether convolutions pad as TensorFlow's, where it is said.
    pub(super) same: Option<bool>,
}

impl TimmConfig {
    /// The `config.json` beside a file of weights, where there is one of timm's.
    ///
    /// # Errors
    /// [`Error::Weights`] naming what in it cannot be understood.
    pub(super) fn beside(weights: &Path) -> Result<Option<Self>> {
        let path = weights.with_file_name("config.json");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let wrong = |what: &str| Error::Weights(format!("{}: {what}", path.display()));
        let config: Value = serde_json::from_str(&text)
            .map_err(|e| wrong(&format!("it is no JSON ({e}); remove or mend it")))?;
        // Other programs have a file of this name, too: Defrost's own runs among them.
        let (Some(architecture), Some(about)) =
            (config["architecture"].as_str(), config["pretrained_cfg"].as_object())
        else {
            return Ok(None);
        };
        let three = |key: &str| {
            let numbers: Option<Vec<f32>> =
                about.get(key)?.as_array()?.iter().map(|n| Some(n.as_f64()? as f32)).collect();
            <[f32; 3]>::try_from(numbers?).ok()
        };
        let number = |key: &str| about.get(key).and_then(Value::as_f64);
        let side = about.get("input_size").and_then(|size| size.get(2)).and_then(Value::as_u64);
        let (Some(crop), Some(mean), Some(std)) = (side, three("mean"), three("std")) else {
            return Err(wrong(
                "pretrained_cfg has no input_size [3, height, width], or no mean and std of three numbers",
            ));
        };
        let share = number("crop_pct").filter(|share| (0.1..=1.0).contains(share)).unwrap_or(0.875);
        let filter = match about.get("interpolation").and_then(Value::as_str) {
            Some("bilinear") => Filter::Bilinear,
            _ => Filter::Bicubic,
        };
        let resize = (crop as f64 / share).floor() as usize;
        let preprocess = Preprocess { resize, crop: crop as usize, filter, mean, std };
        preprocess.check().map_err(|e| wrong(&e.to_string()))?;
        let names = |value: &Value| -> Option<Vec<String>> {
            value.as_array()?.iter().map(|name| Some(name.as_str()?.to_string())).collect()
        };
        let arguments = &config["model_args"];
        Ok(Some(TimmConfig {
            architecture: architecture.into(),
            preprocess,
            labels: names(&config["label_names"]),
            eps: arguments["bn_eps"].as_f64().map(|eps| eps as f32).filter(|eps| (1e-8..0.1).contains(eps)),
            same: arguments["pad_type"].as_str().map(|pad| pad == "same"),
        }))
    }
}

impl Network {
    /// Takes over what timm's `config.json` beside a file says, where it is about this model.
    pub(super) fn apply_timm_config(&mut self, weights: &Path) -> Result<()> {
        let Some(config) = TimmConfig::beside(weights)? else { return Ok(()) };
        let Ok(choice) = registry::find(&config.architecture) else { return Ok(()) };
        if choice.model.name != self.config.model {
            return Ok(());
        }
        self.config.preprocess = config.preprocess;
        self.config.padding = choice.padding;
        if let Some(same) = config.same {
            self.config.padding = if same { PaddingStyle::TfSame } else { PaddingStyle::Symmetric };
        }
        if let Some(norm) = choice.norm {
            self.config.norm = norm;
        }
        self.config.norm.eps = config.eps.unwrap_or(self.config.norm.eps);
        if let Some(labels) = config.labels.filter(|labels| labels.len() == self.classes().len()) {
            self.config.classes = labels;
        }
        Ok(())
    }

    /// timm's name of this network: `mobilenetv2_140`.
    pub fn timm_architecture(&self) -> String {
        let name = &self.config.model;
        let short = match name.split_once("net_v") {
            Some((family @ ("mobile" | "efficient"), rest)) => format!("{family}netv{rest}"),
            _ => name.clone(),
        };
        let model = registry::find(name).ok().map(|choice| choice.model);
        if model.is_some_and(|m| m.widths) {
            format!("{short}_{:03.0}", self.config.width * 100.0)
        } else {
            short
        }
    }

    /// Writes timm's `config.json`: with it, weights saved under timm's names are
    /// `timm.create_model("local-dir:FOLDER", pretrained=True)`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save_timm_config(&self, path: impl AsRef<Path>) -> Result<()> {
        let Preprocess { resize, crop, filter, mean, std } = self.config.preprocess.clone();
        let interpolation = match filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        // The shortest decimal that timm's floor(crop / crop_pct) turns into the same side.
        let share = (1..=6).map(|digits| {
            let unit = 10f64.powi(digits);
            (crop as f64 / resize as f64 * unit).round() / unit
        });
        let exact = |share: &f64| *share > 0.0 && (crop as f64 / share).floor() as usize == resize;
        let share = share.into_iter().find(exact).unwrap_or(crop as f64 / (resize as f64 + 0.5));
        let mut arguments = Map::new();
        if self.config.norm.eps != self.architecture.timm_norm().eps {
            arguments.insert("bn_eps".into(), decimal(self.config.norm.eps));
        }
        if self.config.padding == PaddingStyle::TfSame {
            arguments.insert("pad_type".into(), "same".into());
        }
        let head = self.architecture.timm_name(&format!("{}.weight", self.structure.head));
        let head = head.trim_end_matches(".weight");
        let numbers = |three: [f32; 3]| three.map(decimal);
        let mut config = json!({
            "architecture": self.timm_architecture(),
            "num_classes": self.classes().len(),
            "num_features": self.features(),
            "label_names": self.classes(),
            "pretrained_cfg": {
                "input_size": [3, crop, crop],
                "fixed_input_size": false,
                "interpolation": interpolation,
                "crop_pct": share,
                "crop_mode": "center",
                "mean": numbers(mean),
                "std": numbers(std),
                "num_classes": self.classes().len(),
                "classifier": head,
            },
        });
        if !arguments.is_empty() {
            config["model_args"] = arguments.into();
        }
        let text = serde_json::to_string_pretty(&config).map_err(|e| Error::Weights(e.to_string()))?;
        write_atomically(path, |out| out.write_all(text.as_bytes()))
    }
}

/// An f32 as the decimal that people wrote: 0.485, not 0.48500001430511475.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
