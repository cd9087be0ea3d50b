//! Writing checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use super::Network;
use crate::nn::{PaddingStyle, ParamSpec, SavedTensor, save_tensors};
use crate::{Error, Result};

/// The naming of a file's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// torchvision's names, which are Defrost's parameter paths.
    #[default]
    Torchvision,
    /// timm's names.
    Timm,
}

/// Precision of a file's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits: stored without loss.
    #[default]
    Single,
    /// 16 bits (f16), rounded as by PyTorch's `.half()`: half the size. Batch counters stay integers.
    Half,
}

impl Network {
    /// Names and shapes of all tensors in a file with this naming, batch counters included.
    pub fn manifest(&self, naming: Naming) -> BTreeMap<String, Vec<usize>> {
        let counters = self.batches.keys().map(|layer| (self.counter_name(layer, naming), vec![]));
        self.specs().iter().map(|s| self.name_and_shape(s, naming)).chain(counters).collect()
    }

    /// A tensor's name and shape in a file.
    pub(super) fn name_and_shape(&self, spec: &ParamSpec, naming: Naming) -> (String, Vec<usize>) {
        match naming {
            Naming::Torchvision => (spec.path.clone(), spec.shape.clone()),
            Naming::Timm => (self.architecture.timm_name(&spec.path), self.architecture.timm_shape(spec)),
        }
    }

    /// Name of a batch norm's `num_batches_tracked` in a file.
    pub(super) fn counter_name(&self, layer: &str, naming: Naming) -> String {
        let path = format!("{layer}.num_batches_tracked");
        match naming {
            Naming::Torchvision => path,
            Naming::Timm => self.architecture.timm_name(&path),
        }
    }

    /// The reason why the library of this naming cannot load the saved network with `strict=True`; none where it can.
    pub fn obstacle(&self, naming: Naming) -> Option<&'static str> {
        let model = self.config.model.as_str();
        let same = self.config.padding == PaddingStyle::TfSame;
        let small = ["resnet20", "resnet32", "resnet44", "resnet56"].contains(&model);
        let unknown = small
            || match naming {
                Naming::Torchvision => {
                    ["mobilenet_v1", "efficientnet_lite0", "bn_inception"].contains(&model)
                }
                Naming::Timm => {
                    ["googlenet", "bn_inception"].contains(&model) || model.starts_with("squeezenet")
                }
            };
        let pads = match naming {
            Naming::Torchvision => false,
            Naming::Timm => model.starts_with("mobilenet") || model.starts_with("efficientnet"),
        };
        let width = (self.config.width * 100.0).round() as u32;
        let widths: &[u32] = match model {
            "mobilenet_v1" => &[100, 125],
            "mobilenet_v2" => &[35, 50, 75, 100, 140],
            "mobilenet_v3_large" => &[75, 100],
            "mobilenet_v3_small" => &[50, 75, 100],
            _ => &[100],
        };
        match naming {
            _ if unknown => Some("it has no such network"),
            _ if self.config.hidden.is_some() => Some("its networks have no hidden layer in the head"),
            _ if same && !pads => Some("its convolutions do not pad as TensorFlow's"),
            Naming::Timm if self.config.auxiliary => Some("it is without the auxiliary heads"),
            Naming::Timm if !widths.contains(&width) => Some("it has no such width"),
            _ => None,
        }
    }

    /// Saves the network as safetensors. PyTorch loads the file with `strict=True`, and [`Network::open`] without
    /// further information. The file is written completely or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; an existing file is then unchanged.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_as(path, Naming::Torchvision)
    }

    /// Saves the network under the names of a library.
    ///
    /// # Errors
    /// As for [`Network::save`].
    pub fn save_as(&self, path: impl AsRef<Path>, naming: Naming) -> Result<()> {
        self.save_with(path, naming, Precision::Single)
    }

    /// Saves the network under the names of a library, with numbers of this precision.
    ///
    /// # Errors
    /// As for [`Network::save`]; [`Error::Weights`] naming a tensor that half precision cannot hold.
    pub fn save_with(&self, path: impl AsRef<Path>, naming: Naming, precision: Precision) -> Result<()> {
        let shapes = self.manifest(naming);
        let mut tensors = BTreeMap::new();
        for (spec, numbers) in self.tensors() {
            let (name, _) = self.name_and_shape(spec, naming);
            let shape = &shapes[&name];
            let tensor = match precision {
                Precision::Single => SavedTensor::F32(shape, numbers),
                Precision::Half => SavedTensor::F16(shape, numbers),
            };
            tensors.insert(name.clone(), tensor);
        }
        for (layer, &count) in &self.batches {
            tensors.insert(self.counter_name(layer, naming), SavedTensor::I64(count));
        }
        let config = serde_json::to_string(&self.config)
            .map_err(|e| Error::Weights(format!("the configuration cannot be written: {e}")))?;
        save_tensors(path, &tensors, &BTreeMap::from([("defrost".into(), config)]))
    }
}
