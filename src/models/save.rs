//! Checkpoints out.

use std::collections::BTreeMap;
use std::path::Path;

use super::Network;
use crate::nn::{ParamSpec, SavedTensor, save_tensors};
use crate::{Error, Result};

/// Whose names a file's tensors bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// torchvision's, which are the parameter paths here.
    #[default]
    Torchvision,
    /// timm's.
    Timm,
}

impl Network {
    /// Names and shapes of all tensors of a file in this naming, batch counters included.
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

    /// The name in a file of a batch norm's `num_batches_tracked`.
    pub(super) fn counter_name(&self, layer: &str, naming: Naming) -> String {
        let path = format!("{layer}.num_batches_tracked");
        match naming {
            Naming::Torchvision => path,
            Naming::Timm => self.architecture.timm_name(&path),
        }
    }

    /// Saves it as safetensors that PyTorch loads with `strict=True`, and [`Network::open`] without
    /// being told anything. Written whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; what was there before is untouched.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_as(path, Naming::Torchvision)
    }

    /// The same under timm's names.
    ///
    /// # Errors
    /// As for [`Network::save`].
    pub fn save_as(&self, path: impl AsRef<Path>, naming: Naming) -> Result<()> {
        let shapes = self.manifest(naming);
        let mut tensors = BTreeMap::new();
        for (spec, numbers) in self.tensors() {
            let (name, _) = self.name_and_shape(spec, naming);
            tensors.insert(name.clone(), SavedTensor::F32(&shapes[&name], numbers));
        }
        for (layer, &count) in &self.batches {
            tensors.insert(self.counter_name(layer, naming), SavedTensor::I64(count));
        }
        let config = serde_json::to_string(&self.config)
            .map_err(|e| Error::Weights(format!("the configuration cannot be written: {e}")))?;
        save_tensors(path, &tensors, &BTreeMap::from([("defrost".into(), config)]))
    }
}
