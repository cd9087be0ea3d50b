//! timm's `config.json`, which lies beside its weights: architecture, labels, preprocessing.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::preprocess::{IMAGENET_MEAN, IMAGENET_STD, short};
use super::{Channels, Filter, Network, Placement, Preprocess, registry};
use crate::nn::{PaddingStyle, write_atomically};
use crate::{Error, Result};

/// Content of timm's `config.json`.
#[derive(Debug, Clone, PartialEq)]
struct TimmConfig {
    /// timm's architecture name: `tf_efficientnet_lite0`.
    architecture: String,
    preprocess: Preprocess,
    /// Names of the classes, where the file has them.
    labels: Option<Vec<String>>,
    /// Epsilon of the batch norms, where it is not the architecture's own.
    eps: Option<f32>,
    /// Whether convolutions pad as in TensorFlow, where the file says so.
    same: Option<bool>,
    /// Values that Defrost does not support, and the values it uses instead.
    odd: Vec<String>,
}

/// The JSON at `path`; none where there is no such file.
fn json_at(path: &Path) -> Result<Option<Value>> {
    /// Limit in bytes: names of 22,000 classes with descriptions need three million.
    const MOST: u64 = 8 << 20;
    let read = |e| Error::io(path, "read", e);
    let wrong = |what: String| Error::Weights(format!("{}: {what}; mend or remove it", path.display()));
    let about = match std::fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about.map_err(read)?,
    };
    if about.is_dir() {
        return Err(read(io::ErrorKind::IsADirectory.into()));
    }
    if !about.is_file() || about.len() > MOST {
        return Err(wrong(format!("it is not a regular file of at most {MOST} bytes")));
    }
    let text = String::from_utf8(std::fs::read(path).map_err(read)?).map_err(|e| {
        wrong(format!("the text is not UTF-8 (from byte {} on)", e.utf8_error().valid_up_to()))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map(Some).map_err(|e| wrong(format!("the text is not JSON ({e})")))
}

/// Architecture and preprocessing in a file of timm's; `None` for another program's file. Before 2023, timm stored
/// both in one object.
fn parts(config: &Value) -> Option<(&str, &Map<String, Value>)> {
    let architecture = config["architecture"].as_str()?;
    let about = match config.get("pretrained_cfg") {
        Some(about) => about.as_object(),
        None => config
            .as_object()
            .filter(|all| ["input_size", "mean", "std"].iter().any(|key| all.contains_key(*key))),
    };
    about.map(|about| (architecture, about))
}

/// Refuses to overwrite another program's file named `config.json`, such as a run's, with timm's.
///
/// # Errors
/// [`Error::Usage`] naming the file.
pub(crate) fn refuse_foreign_config(path: &Path) -> Result<()> {
    match json_at(path) {
        Ok(None) => Ok(()),
        Ok(Some(config)) if parts(&config).is_some() => Ok(()),
        _ => Err(Error::Usage(format!(
            "{}: another program wrote this file, and timm's config.json would take its place; name another folder",
            path.display()
        ))),
    }
}

impl TimmConfig {
    /// Reads the `config.json` at `path` if it is timm's. Other programs write files of this name, too, Defrost's own
    /// runs among them. Values that the file does not have are those of `usual`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`] naming the value that cannot be read, is invalid, or requires images that
    /// Defrost's networks do not take.
    fn at(path: &Path, usual: &Preprocess) -> Result<Option<Self>> {
        let Some(config) = json_at(path)? else { return Ok(None) };
        let wrong = |what: String| Error::Weights(format!("{}: {what}", path.display()));
        let Some((architecture, about)) = parts(&config) else {
            return match config.get("pretrained_cfg") {
                Some(_) => Err(wrong(
                    "its 'architecture' is not a name, or its 'pretrained_cfg' not an object; mend or remove it".into(),
                )),
                None => Ok(None),
            };
        };
        let value = |key: &str| about.get(key).filter(|value| !value.is_null());
        let text = |value: Option<&Value>| value.map_or(String::new(), Value::to_string);
        let mut odd = Vec::new();

        let mut three = |key: &str, usual: [f32; 3]| -> Result<[f32; 3]> {
            let Some(given) = value(key) else {
                odd.push(format!("{key} is missing ({usual:?} is taken)"));
                return Ok(usual);
            };
            let numbers: Option<Vec<f32>> =
                given.as_array().and_then(|all| all.iter().map(|n| Some(n.as_f64()? as f32)).collect());
            // A single number applies to all channels.
            match numbers.as_deref() {
                Some(&[one]) => Ok([one; 3]),
                Some(&[red, green, blue]) => Ok([red, green, blue]),
                _ => Err(wrong(format!("{key} is {given}, expected three numbers; mend or remove it"))),
            }
        };
        let (mean, std) = (three("mean", IMAGENET_MEAN)?, three("std", IMAGENET_STD)?);
        let size = match value("input_size") {
            None => {
                odd.push(format!("input_size is missing ({} pixels are taken)", usual.size[0]));
                usual.size
            }
            Some(size) => {
                let sides: Option<Vec<u64>> =
                    size.as_array().and_then(|sides| sides.iter().map(Value::as_u64).collect());
                match sides.as_deref() {
                    Some(&[3, height, width])
                        if [height, width].iter().all(|side| (8..=4096).contains(side)) =>
                    {
                        [height as usize, width as usize]
                    }
                    _ => {
                        return Err(wrong(format!(
                            "input_size is {size}, and Defrost's networks see images of three channels and 8 to \
                             4096 pixels a side, [3, 224, 224] say; mend or remove the file"
                        )));
                    }
                }
            }
        };
        const SHARE: f64 = 0.875;
        let share =
            value("crop_pct").map_or(Some(SHARE), Value::as_f64).filter(|share| (0.1..=1.0).contains(share));
        let share = share.unwrap_or_else(|| {
            odd.push(format!("crop_pct is {}, not 0.1 to 1 ({SHARE} is taken)", text(value("crop_pct"))));
            SHARE
        });
        let filter = match value("interpolation").map(Value::as_str) {
            Some(Some("bilinear")) => Filter::Bilinear,
            Some(Some("bicubic")) | None => Filter::Bicubic,
            Some(_) => {
                let given = text(value("interpolation"));
                odd.push(format!(
                    "interpolation is {given}, neither bilinear nor bicubic (bicubic is taken)"
                ));
                Filter::Bicubic
            }
        };
        let placement = match value("crop_mode").map(Value::as_str) {
            None | Some(Some("center")) => Placement::Crop,
            Some(Some("squash")) => Placement::Stretch,
            Some(Some("border")) => Placement::Fit,
            Some(_) => {
                odd.push(format!("crop_mode is {} (the centre is taken)", text(value("crop_mode"))));
                Placement::Crop
            }
        };
        let resize = (short(size) as f64 / share).floor() as usize;
        let preprocess = Preprocess { size, placement, mean, std, ..Preprocess::cropped(resize, 0, filter) };
        preprocess.check().map_err(|e| wrong(e.to_string()))?;

        let mut labels = None;
        if let Some(given) = config.get("label_names").filter(|given| !given.is_null()) {
            let name = |name: &Value| name.as_str().map(String::from);
            labels = given.as_array().and_then(|all| all.iter().map(name).collect());
            if labels.is_none() {
                odd.push("label_names is not a list of names".into());
            }
        }
        let (mut eps, mut same) = (None, None);
        for (key, value) in config["model_args"].as_object().into_iter().flatten() {
            let taken = match key.as_str() {
                "bn_eps" => {
                    eps = value.as_f64().map(|eps| eps as f32).filter(|eps| (1e-8..0.1).contains(eps));
                    eps.is_some()
                }
                "pad_type" => {
                    let known = value.as_str().filter(|pad| ["same", "symmetric", ""].contains(pad));
                    same = known.map(|pad| pad == "same");
                    same.is_some()
                }
                _ => false,
            };
            if !taken {
                odd.push(format!("model_args.{key} is {value}"));
            }
        }
        Ok(Some(TimmConfig { architecture: architecture.into(), preprocess, labels, eps, same, odd }))
    }
}

impl Network {
    /// Applies timm's `config.json` beside a weights file if it describes this model. Returns a warning for values
    /// that are not applied.
    pub(super) fn apply_timm_config(&mut self, weights: &Path) -> Result<Option<String>> {
        let path = weights.with_file_name("config.json");
        let Some(config) = TimmConfig::at(&path, &self.config.preprocess)? else { return Ok(None) };
        let (path, model) = (path.display(), &self.config.model);
        let choice = registry::find(&config.architecture).ok().filter(|choice| choice.model.name == *model);
        let Some(choice) = choice else {
            let other = config.architecture;
            return Ok(Some(format!(
                "{path}: it describes '{other}', not {model}: Defrost takes nothing over from it"
            )));
        };
        let mut odd = config.odd;
        self.config.preprocess = config.preprocess;
        self.config.padding = choice.padding;
        if let Some(same) = config.same {
            self.config.padding = if same { PaddingStyle::TfSame } else { PaddingStyle::Symmetric };
        }
        if let Some(norm) = choice.norm {
            self.config.norm = norm;
        }
        self.config.norm.eps = config.eps.unwrap_or(self.config.norm.eps);
        if let Some(labels) = config.labels {
            let (found, expected) = (labels.len(), self.classes().len());
            match found == expected {
                true => self.config.classes = labels,
                false => odd.push(format!("label_names has {found} names for {expected} classes")),
            }
        }
        let count = match odd.len() {
            1 => "a value is".into(),
            n => format!("{n} values are"),
        };
        Ok((!odd.is_empty()).then(|| format!("{path}: {count} not taken over: {}", odd.join("; "))))
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

    /// Writes timm's `config.json`. With this file, weights saved under timm's names can be loaded by
    /// `timm.create_model("local-dir:FOLDER", pretrained=True)`.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; [`Error::Usage`] where the existing file is not timm's, and for an input that
    /// timm's file cannot describe.
    pub fn save_timm_config(&self, path: impl AsRef<Path>) -> Result<()> {
        refuse_foreign_config(path.as_ref())?;
        let Preprocess { size, resize, placement, filter, channels, mean, std, .. } = self.config.preprocess;
        let mode = match placement {
            Placement::Crop => Some("center"),
            Placement::Stretch => Some("squash"),
            Placement::Fit => Some("border"),
            Placement::FitTopLeft => None,
        };
        let Some(mode) = mode.filter(|_| channels == Channels::Rgb) else {
            return Err(Error::Usage(format!(
                "{}: timm's config.json cannot say what the network's input is ({}; {channels:?})",
                path.as_ref().display(),
                self.config.preprocess.in_words()
            )));
        };
        let crop = short(size);
        let interpolation = match filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        // The shortest decimal from which timm's floor(crop / crop_pct) gives the same side.
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
                "input_size": [3, size[0], size[1]],
                "fixed_input_size": false,
                "interpolation": interpolation,
                "crop_pct": share,
                "crop_mode": mode,
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

/// The shortest decimal of an f32: 0.485, not 0.48500001430511475.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}
