//! The description of a network in a checkpoint: `config.json` of a run and the metadata `defrost` of a weights file.
//!
//! Version 2 has three parts, each documented at its type: `model`, `input`, `task`. Version 1, one flat object, can
//! still be read.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Preprocess;
use super::preprocess::Filter;
use crate::nn::{Norm, PaddingStyle};

/// The description of a network: everything needed to build and use it again. Stored in every checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Described", try_from = "Value")]
pub struct Config {
    /// The model's name in the registry.
    pub model: String,
    /// Width multiplier of the channels.
    pub width: f64,
    /// How convolutions pad.
    pub padding: PaddingStyle,
    /// Constants of the batch norms.
    pub norm: Norm,
    /// Whether the network has auxiliary heads, which are used only in training.
    pub auxiliary: bool,
    /// Preprocessing of images.
    pub preprocess: Preprocess,
    /// Name of the task; empty for the usual one.
    pub task: String,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// Outputs of the last layer, where the task does not use one output per class.
    pub outputs: Option<usize>,
    /// Features of the head's hidden layer, where the head has one.
    pub hidden: Option<usize>,
    /// Temperature: calibrated probabilities are the softmax of logits / temperature. None where no temperature was
    /// fitted.
    pub temperature: Option<f64>,
}

/// The version that is written.
const VERSION: u32 = 2;

/// Version 2.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Described {
    version: u32,
    model: Model,
    input: Input,
    task: Task,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Model {
    name: String,
    width: f64,
    padding: PaddingStyle,
    norm: Norm,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    auxiliary: bool,
}

/// The input of a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Input {
    Image(Preprocess),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Task {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

impl From<Config> for Described {
    fn from(config: Config) -> Self {
        let Config { model, width, padding, norm, auxiliary, .. } = config;
        let Config { preprocess, task, classes, outputs, hidden, temperature, .. } = config;
        Described {
            version: VERSION,
            model: Model { name: model, width, padding, norm, auxiliary },
            input: Input::Image(preprocess),
            task: Task { name: task, classes, outputs, hidden, temperature },
        }
    }
}

impl From<Described> for Config {
    fn from(Described { model, input: Input::Image(preprocess), task, .. }: Described) -> Self {
        let Model { name: model, width, padding, norm, auxiliary } = model;
        let Task { name: task, classes, outputs, hidden, temperature } = task;
        Config {
            model,
            width,
            padding,
            norm,
            auxiliary,
            preprocess,
            task,
            classes,
            outputs,
            hidden,
            temperature,
        }
    }
}

/// Version 1.
#[derive(Deserialize)]
struct Flat {
    model: String,
    width: f64,
    padding: PaddingStyle,
    norm: Norm,
    preprocess: Square,
    classes: Vec<String>,
    #[serde(default)]
    task: String,
    #[serde(default)]
    outputs: Option<usize>,
    #[serde(default)]
    auxiliary: bool,
    #[serde(default)]
    hidden: Option<usize>,
    #[serde(default)]
    temperature: Option<f64>,
}

/// The input of version 1.
#[derive(Deserialize)]
struct Square {
    resize: usize,
    crop: usize,
    filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
}

impl From<Flat> for Described {
    fn from(flat: Flat) -> Self {
        let Square { resize, crop, filter, mean, std } = flat.preprocess;
        let Flat { model: name, width, padding, norm, auxiliary, .. } = flat;
        let Flat { task, classes, outputs, hidden, temperature, .. } = flat;
        Described {
            version: VERSION,
            model: Model { name, width, padding, norm, auxiliary },
            input: Input::Image(Preprocess { mean, std, ..Preprocess::cropped(resize, crop, filter) }),
            task: Task { name: task, classes, outputs, hidden, temperature },
        }
    }
}

impl TryFrom<Value> for Config {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let version = value.get("version").and_then(Value::as_u64);
        let read = match version {
            None => return Err("its version is missing".into()),
            Some(1) => serde_json::from_value::<Flat>(value).map(Described::from),
            Some(2) => serde_json::from_value(value),
            Some(version) => {
                return Err(format!(
                    "it was written by a newer Defrost (version {version}, known are 1 and {VERSION})"
                ));
            }
        };
        read.map(Config::from).map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_read() {
        let norm = r#"{"eps":1e-5,"momentum":0.1}"#;
        let statistics = r#""mean":[0.5,0.5,0.5],"std":[0.25,0.25,0.25]"#;
        let text = format!(
            r#"{{"version":1,"model":"resnet20","width":1.0,"padding":"symmetric","norm":{norm},"preprocess":
            {{"resize":40,"crop":32,"filter":"bicubic",{statistics}}},"classes":["a","b"],"hidden":7}}"#
        );
        let config: Config = serde_json::from_str(&text).expect("version 1");
        assert_eq!((&config.model[..], config.hidden, config.outputs), ("resnet20", Some(7), None));
        assert_eq!((config.preprocess.resize, config.preprocess.size), (40, [32, 32]));
        assert_eq!(config.preprocess.std, [0.25; 3]);

        let written = serde_json::to_value(&config).expect("JSON");
        assert_eq!(written["version"], 2);
        assert_eq!(written["model"]["name"], "resnet20");
        assert_eq!((&written["input"]["kind"], &written["input"]["resize"]), (&"image".into(), &40.into()));
        assert_eq!(written["task"]["classes"][1], "b");
        assert_eq!(serde_json::from_value::<Config>(written.clone()).expect("version 2"), config);

        for (place, wrong) in
            [("version", Value::from(3)), ("version", Value::Null), ("input", Value::from("x"))]
        {
            let mut other = written.clone();
            other[place] = wrong;
            assert!(serde_json::from_value::<Config>(other).is_err(), "{place}");
        }
    }
}
