//! Replacement of a network's head for a new task: the last layer, an optional hidden layer, and the auxiliary heads.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::network::numbered_classes;
use super::{Config, Network};
use crate::nn::{Kind, ParamSpec, TensorFile, init, lies_in};
use crate::{Error, Result};

impl Network {
    /// Whether a new task replaces this layer: the last layer, and the last layer of each auxiliary head.
    pub fn is_head(&self, layer: &str) -> bool {
        lies_in(layer, &self.structure.head)
            || self.architecture.auxiliary().is_some_and(|a| a.heads.contains(&layer))
    }

    /// Adds the auxiliary heads with initial weights, or removes them. Only training uses them.
    ///
    /// # Errors
    /// [`Error::Usage`] where the architecture has no auxiliary heads.
    pub fn set_auxiliary(&mut self, wanted: bool, seed: u64) -> Result<()> {
        if wanted == self.config.auxiliary {
            return Ok(());
        }
        if wanted && self.architecture.auxiliary().is_none() {
            return Err(Error::Usage(format!("{} has no auxiliary heads", self.config.model)));
        }
        let before = self.config.clone();
        self.config.auxiliary = wanted;
        self.rebuild(before)?;
        for i in 0..self.tensors.len() {
            if self.tensors[i].is_empty() {
                self.tensors[i] = self.first_weights(&self.structure.specs[i], seed).into();
            }
        }
        Ok(())
    }

    /// Declares the network again after its description changed. Tensors of unchanged name and shape stay; the others
    /// are empty. After an error the network is as `before` described it.
    fn rebuild(&mut self, before: Config) -> Result<()> {
        let paths: Vec<String> = self.specs().iter().map(|s| s.path.clone()).collect();
        if let Err(e) = self.declare() {
            self.config = before;
            self.declare()?;
            return Err(e);
        }
        let mut known: HashMap<String, Arc<Vec<f32>>> =
            paths.into_iter().zip(std::mem::take(&mut self.tensors)).collect();
        let tensor =
            |s: &ParamSpec| known.remove(&s.path).filter(|t| t.len() == s.numel()).unwrap_or_default();
        self.tensors = self.structure.specs.iter().map(tensor).collect();
        Ok(())
    }

    /// Replaces the last layer by one for `classes` classes, with PyTorch's initial weights. Frozen layers stay
    /// frozen.
    ///
    /// # Errors
    /// [`Error::Usage`] for no class.
    pub fn replace_head(&mut self, classes: usize, seed: u64) -> Result<()> {
        self.replace_head_for(numbered_classes(classes)?, seed)
    }

    /// As [`Network::replace_head`], for classes with names. A class that the old head was trained on keeps its row
    /// of weights under the same name. (ImageNet's classes do not count; their names are not the user's.)
    ///
    /// # Errors
    /// [`Error::Usage`] for no class.
    pub fn replace_head_for(&mut self, classes: Vec<String>, seed: u64) -> Result<()> {
        self.replace_head_with(classes, self.config.hidden, seed)
    }

    /// As [`Network::replace_head_for`], with a hidden layer of this many features before the last layer, or without
    /// one.
    ///
    /// # Errors
    /// [`Error::Usage`] for no class.
    pub fn replace_head_with(
        &mut self,
        classes: Vec<String>,
        hidden: Option<usize>,
        seed: u64,
    ) -> Result<()> {
        self.replace_head_for_task("", classes.len(), classes, hidden, seed)
    }

    /// As [`Network::replace_head_with`], for a task with this many outputs; see [`crate::models::Config::task`].
    ///
    /// # Errors
    /// [`Error::Usage`] for no class, and for no output.
    pub fn replace_head_for_task(
        &mut self,
        task: &str,
        outputs: usize,
        classes: Vec<String>,
        hidden: Option<usize>,
        seed: u64,
    ) -> Result<()> {
        let trained = !self.fresh_head
            && !self.knows_imagenet()
            && self.classes() != numbered_classes(self.classes().len())?;
        let (specs, old): (Vec<ParamSpec>, Vec<Arc<Vec<f32>>>) = match trained {
            true => {
                let all = self.structure.specs.iter().zip(&self.tensors);
                let head = all.filter(|(spec, _)| self.is_head(spec.layer_path()));
                head.map(|(spec, tensor)| (spec.clone(), Arc::clone(tensor))).unzip()
            }
            false => Default::default(),
        };
        let before = self.config.clone();
        let (names, own) = (before.classes.clone(), before.outputs.is_none());
        self.config.task = task.into();
        self.config.outputs = (outputs != classes.len()).then_some(outputs);
        (self.config.classes, self.config.hidden, self.config.temperature) = (classes, hidden, None);
        self.rebuild(before)?;
        self.init_head(seed);
        // Outputs that are not one per class have no names to match.
        if own && self.config.outputs.is_none() {
            self.keep_rows(&names, &specs, &old);
        }
        Ok(())
    }

    /// Copies the old head's rows into the rows of the same class names.
    fn keep_rows(&mut self, names: &[String], specs: &[ParamSpec], old: &[Arc<Vec<f32>>]) {
        let rows: Vec<Option<usize>> =
            self.classes().iter().map(|class| names.iter().position(|name| name == class)).collect();
        for (spec, old) in specs.iter().zip(old) {
            let Ok(i) = self.position(&spec.path) else { continue };
            let now = &self.structure.specs[i];
            // A hidden layer is copied whole.
            if now.shape == spec.shape && now.shape[0] != rows.len() {
                self.tensors[i].clone_from(old);
            }
            if now.shape[0] == rows.len() && spec.shape[0] == names.len() && now.shape[1..] == spec.shape[1..]
            {
                let width = spec.numel() / names.len();
                for (row, from) in rows.iter().enumerate().filter_map(|(row, from)| Some((row, (*from)?))) {
                    let own = Arc::make_mut(&mut self.tensors[i]);
                    own[row * width..][..width].copy_from_slice(&old[from * width..][..width]);
                }
            }
        }
        self.fresh_head &= specs.is_empty() || rows.iter().all(Option::is_none);
    }

    /// Sets the bias of the last layer, so that the network's initial outputs are near these values.
    ///
    /// # Errors
    /// [`Error::Usage`] where the last layer has no bias, or another number of outputs.
    pub fn centre_head(&mut self, outputs: &[f32]) -> Result<()> {
        let bias = |s: &&ParamSpec| {
            s.kind == Kind::Bias && self.is_head(s.layer_path()) && s.shape == [outputs.len()]
        };
        let path = self.specs().iter().rfind(bias).map(|s| s.path.clone());
        let path = path.ok_or_else(|| {
            Error::Usage(format!(
                "{}: its last layer has no bias for {} numbers",
                self.config.model,
                outputs.len()
            ))
        })?;
        self.set_tensor(&path, outputs.to_vec())
    }

    /// Adds the auxiliary heads, with weights from a file where the file has them.
    ///
    /// # Errors
    /// As for [`Network::set_auxiliary`], and about the file.
    pub fn load_auxiliary(&mut self, path: impl AsRef<Path>, seed: u64) -> Result<()> {
        self.set_auxiliary(true, seed)?;
        let file = TensorFile::open(path)?;
        let layers = self.architecture.auxiliary().map_or(&[][..], |a| a.layers);
        for (i, spec) in self.structure.specs.iter().enumerate() {
            let found = file.tensors().get(&spec.path).is_some_and(|info| info.shape == spec.shape);
            if found && layers.iter().any(|layer| lies_in(&spec.path, layer)) {
                self.tensors[i] = file.read_f32(&spec.path)?.into();
            }
        }
        Ok(())
    }

    pub(super) fn init_head(&mut self, seed: u64) {
        for i in 0..self.tensors.len() {
            let spec = &self.structure.specs[i];
            if self.is_head(spec.layer_path()) {
                let inputs = self.weight_of(spec.layer_path()).map_or(1, |w| w.shape[1..].iter().product());
                self.tensors[i] = init::linear_default(spec, inputs, seed).into();
            }
        }
        self.fresh_head = true;
    }
}
