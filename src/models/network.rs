//! A network and its numbers: loading, freezing, recording, training, saving.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::config::Config;
use super::registry::{self, Choice};
use super::{Architecture, Preprocess, imagenet};
use crate::nn::{
    Freeze, FreezeSummary, Graph, Kind, Layout, Mask, Mode, Norm, PaddingStyle, ParamSpec, Settings,
    Structure, init,
};
use crate::tape::{Tape, Type};
use crate::{Error, Result};

/// A network: layers, numbers in PyTorch's layout, the mask of trainable parameters, classes, preprocessing.
#[derive(Debug, Clone)]
pub struct Network {
    pub(super) config: Config,
    pub(super) architecture: Arc<dyn Architecture>,
    pub(super) structure: Structure,
    index: HashMap<String, usize>,
    /// Shape of one image's features.
    pub(super) features: Vec<usize>,
    /// Shared by all clones until one of them sets a tensor: cloning a network does not copy its weights.
    pub(super) tensors: Vec<Arc<Vec<f32>>>,
    mask: Mask,
    /// Training steps of each batch norm: `num_batches_tracked`.
    pub(super) batches: BTreeMap<String, i64>,
    pub(super) fresh_head: bool,
    dropout: Option<f32>,
}

fn check_temperature(temperature: Option<f64>) -> Result<()> {
    match temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
        Some(wrong) => Err(Error::Usage(format!("temperature {wrong}: it is a number above 0"))),
        None => Ok(()),
    }
}

/// Limit on the number of classes, and on the features of a hidden layer before the last one.
pub(super) const MOST_OUTPUTS: usize = 1 << 20;

/// Default names of the classes: their numbers.
///
/// # Errors
/// [`Error::Usage`] for more classes than a network can have.
pub(super) fn numbered_classes(count: usize) -> Result<Vec<String>> {
    if count > MOST_OUTPUTS {
        return Err(Error::Usage(format!("{count} classes: a network has at most {MOST_OUTPUTS}")));
    }
    Ok((0..count).map(|i| format!("class_{i}")).collect())
}

/// The error for a number of input channels that a parameter's weights do not support.
fn unsuited(spec: &ParamSpec, found: usize) -> Error {
    let (path, shape) = (&spec.path, &spec.shape);
    Error::Shape(format!(
        "{path}: for this input it has shape {shape:?}, and the network's has {found} numbers"
    ))
}

impl Network {
    /// A network without numbers; reading a file or [`Network::zeroed`] sets them. Until then nothing is allocated
    /// for the sizes in its description.
    pub(super) fn hollow(choice: &Choice, width: f64, classes: Vec<String>) -> Result<Self> {
        Self::from_config(Config {
            model: choice.model.name.into(),
            width,
            padding: choice.padding,
            norm: choice.norm.unwrap_or_else(|| choice.model.build(width).norm()),
            preprocess: choice.preprocess.clone(),
            classes,
            task: String::new(),
            outputs: None,
            auxiliary: false,
            hidden: None,
            temperature: None,
        })
    }

    /// As [`Network::hollow`], from a checkpoint's description, which may contain any number.
    pub(super) fn from_config(config: Config) -> Result<Self> {
        let model = registry::find(&config.model)?.model;
        if !(0.05..=4.0).contains(&config.width) || (config.width != 1.0 && !model.widths) {
            return Err(Error::Usage(format!("{} does not come in width {}", model.name, config.width)));
        }
        let architecture = model.build(config.width);
        Self::declared(config, architecture)
    }

    /// Sets all numbers to zero. The system provides zeroed pages without touching memory.
    pub(super) fn zeroed(mut self) -> Self {
        self.tensors = self.structure.specs.iter().map(|s| vec![0.0; s.numel()].into()).collect();
        self
    }

    /// A network of a custom architecture with initial weights, to be trained from scratch or filled by
    /// [`Network::load_weights`]. All functions accept it like a network of the registry. But its files do not
    /// describe how to build its layers, so the command and [`Network::open`] cannot read them. `name` identifies the
    /// network in messages and files. `examples/own_model.rs` is a complete program.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name of the registry, and for no class; [`Error::Shape`] where the shapes of the layers
    /// do not match.
    pub fn custom(
        name: &str,
        architecture: Arc<dyn Architecture>,
        preprocess: Preprocess,
        classes: Vec<String>,
    ) -> Result<Self> {
        if registry::find(name).is_ok() {
            return Err(Error::Usage(format!("'{name}' is a network of Defrost's: give yours another name")));
        }
        let mut net = Self::declared(
            Config {
                model: name.into(),
                width: 1.0,
                padding: PaddingStyle::default(),
                norm: architecture.norm(),
                preprocess,
                classes,
                task: String::new(),
                outputs: None,
                auxiliary: false,
                hidden: None,
                temperature: None,
            },
            architecture,
        )?;
        net.init(0);
        Ok(net)
    }

    fn declared(config: Config, architecture: Arc<dyn Architecture>) -> Result<Self> {
        let Norm { eps, momentum } = config.norm;
        if !(eps > 0.0 && eps < 1.0 && (0.0..=1.0).contains(&momentum)) {
            return Err(Error::Weights(format!(
                "batch norm's eps {eps} or momentum {momentum} is out of range"
            )));
        }
        config.preprocess.check()?;
        check_temperature(config.temperature)?;
        let mut net = Network {
            config,
            architecture,
            structure: Structure { specs: vec![], layers: vec![], groups: vec![], head: String::new() },
            index: HashMap::new(),
            features: vec![],
            tensors: vec![],
            mask: Mask::default(),
            batches: BTreeMap::new(),
            fresh_head: false,
            dropout: None,
        };
        net.declare()?;
        Ok(net)
    }

    /// Determines parameters and layers by recording the network on a temporary tape.
    pub(super) fn declare(&mut self) -> Result<()> {
        if self.config.classes.is_empty() {
            return Err(Error::Usage("a network needs at least one class".into()));
        }
        let most = self.config.classes.len().max(self.outputs());
        if most > MOST_OUTPUTS {
            return Err(Error::Usage(format!("{most} classes: a network has at most {MOST_OUTPUTS}")));
        }
        if self.outputs() == 0 {
            return Err(Error::Usage(format!(
                "the task '{}' needs more classes than these",
                self.config.task
            )));
        }
        if let Some(hidden) = self.config.hidden.filter(|hidden| !(1..=MOST_OUTPUTS).contains(hidden)) {
            return Err(Error::Usage(format!(
                "a hidden layer of {hidden} features: it has 1 to {MOST_OUTPUTS}"
            )));
        }
        let mut tape = Tape::new();
        let [height, width] = self.config.preprocess.size;
        let channels = self.config.preprocess.channels.count();
        let image = tape.input("image", Type::f32(&[1, height, width, channels]));
        let mut g = Graph::new(&mut tape, self.settings(Mode::Eval));
        let features = self.architecture.features(&mut g, image)?;
        self.architecture.head(&mut g, features, self.outputs())?;
        let (specs, layers) = g.into_declared();
        self.features = tape.shape(features)[1..].to_vec();
        self.index = specs.iter().enumerate().map(|(i, s)| (s.path.clone(), i)).collect();
        let norms = specs.iter().filter(|s| s.kind == Kind::RunningMean).map(ParamSpec::layer_path);
        let before = std::mem::take(&mut self.batches);
        self.batches = norms.map(|layer| (layer.into(), before.get(layer).copied().unwrap_or(0))).collect();
        let (groups, head) = (self.architecture.groups(), self.architecture.head_path().into());
        self.structure = Structure { specs, layers, groups, head };
        Ok(())
    }

    pub(super) fn settings(&self, mode: Mode) -> Settings<'_> {
        Settings {
            mode,
            padding: self.config.padding,
            norm: self.config.norm,
            mask: &self.mask,
            dropout: self.dropout,
            auxiliary: self.config.auxiliary.then_some(self.outputs()),
            hidden: self.config.hidden,
        }
    }

    /// The description stored in checkpoints.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The architecture: the network's layers.
    pub fn architecture(&self) -> &dyn Architecture {
        self.architecture.as_ref()
    }

    /// Parameters, layers, groups and head.
    pub fn structure(&self) -> &Structure {
        &self.structure
    }

    /// Parameters and buffers in the order of the forward pass.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.structure.specs
    }

    /// Names of the classes.
    pub fn classes(&self) -> &[String] {
        &self.config.classes
    }

    /// Outputs of the last layer: one per class, except for tasks with another number.
    pub fn outputs(&self) -> usize {
        self.config.outputs.unwrap_or(self.config.classes.len())
    }

    /// Whether the classes are ImageNet's, in ImageNet's order.
    pub fn knows_imagenet(&self) -> bool {
        let known = imagenet::classes();
        known.len() == self.classes().len() && known.iter().zip(self.classes()).all(|(k, c)| k.name == c)
    }

    /// Preprocessing of images.
    pub fn preprocess(&self) -> &Preprocess {
        &self.config.preprocess
    }

    /// Changes the preprocessing. Where the number of channels changes, the first layer's weights are adapted as in
    /// timm: from three channels to one, the weights are summed; from one channel to three, each channel gets a
    /// third.
    ///
    /// # Errors
    /// Where numbers are out of range; [`Error::Shape`] where the weights cannot be adapted to the input.
    pub fn set_preprocess(&mut self, preprocess: Preprocess) -> Result<()> {
        preprocess.check()?;
        let before = std::mem::replace(&mut self.config.preprocess, preprocess);
        // The features may have another size.
        let outcome = self.declare().and_then(|()| self.fit_channels());
        if outcome.is_err() {
            self.config.preprocess = before;
            self.declare()?;
        }
        outcome
    }

    /// Adapts weights of one input channel to three, or of three to one.
    fn fit_channels(&mut self) -> Result<()> {
        let mut changed = Vec::new();
        for (i, (spec, tensor)) in self.structure.specs.iter().zip(&self.tensors).enumerate() {
            if tensor.is_empty() || tensor.len() == spec.numel() {
                continue;
            }
            let [_, channels, ref kernel @ ..] = spec.shape[..] else {
                return Err(unsuited(spec, tensor.len()));
            };
            let plane = kernel.iter().product::<usize>().max(1);
            let weights: Vec<f32> = match channels {
                1 if tensor.len() == 3 * spec.numel() => {
                    let sum =
                        |w: &[f32]| (0..plane).map(|k| w[k] + w[plane + k] + w[2 * plane + k]).collect();
                    tensor.chunks_exact(3 * plane).flat_map(|w| -> Vec<f32> { sum(w) }).collect()
                }
                3 if 3 * tensor.len() == spec.numel() => {
                    let third: Vec<f32> = tensor.iter().map(|w| w / 3.0).collect();
                    third.chunks_exact(plane).flat_map(|w| w.repeat(3)).collect()
                }
                _ => return Err(unsuited(spec, tensor.len())),
            };
            changed.push((i, Arc::new(weights)));
        }
        changed.into_iter().for_each(|(i, weights)| self.tensors[i] = weights);
        Ok(())
    }

    /// Changes the padding of convolutions.
    pub fn set_padding(&mut self, padding: PaddingStyle) {
        self.config.padding = padding;
    }

    /// Changes the constants of the batch norms.
    pub fn set_norm(&mut self, norm: Norm) {
        self.config.norm = norm;
    }

    /// Numbers per image in the input of the last layer.
    pub fn features(&self) -> usize {
        self.features.iter().product()
    }

    /// Whether the last layer holds initial weights that were neither trained nor loaded.
    pub fn has_fresh_head(&self) -> bool {
        self.fresh_head
    }

    /// Number of parameters, frozen ones included; running statistics do not count.
    pub fn parameters(&self) -> usize {
        self.specs().iter().filter(|s| s.kind.is_learnable()).map(ParamSpec::numel).sum()
    }

    // Tensors.

    /// The index of a tensor.
    ///
    /// # Errors
    /// [`Error::Usage`] where no tensor has this path.
    pub fn position(&self, path: &str) -> Result<usize> {
        self.index.get(path).copied().ok_or_else(|| {
            let hint = crate::did_you_mean(path, self.specs().iter().map(|s| s.path.as_str()));
            Error::Usage(format!("{} has no tensor '{path}'{hint}", self.config.model))
        })
    }

    /// Whether a tensor has this path.
    pub(super) fn has(&self, path: &str) -> bool {
        self.index.contains_key(path)
    }

    /// A tensor's description.
    ///
    /// # Errors
    /// As for [`Network::position`].
    pub fn spec(&self, path: &str) -> Result<&ParamSpec> {
        Ok(&self.specs()[self.position(path)?])
    }

    /// A tensor's numbers, in PyTorch's layout.
    ///
    /// # Errors
    /// As for [`Network::position`].
    pub fn tensor(&self, path: &str) -> Result<&[f32]> {
        Ok(&self.tensors[self.position(path)?])
    }

    /// All tensors, in the order of the forward pass.
    pub fn tensors(&self) -> impl Iterator<Item = (&ParamSpec, &[f32])> {
        self.specs().iter().zip(self.tensors.iter().map(|tensor| tensor.as_slice()))
    }

    /// Replaces a tensor's numbers, given in PyTorch's layout. Removes a temperature, which was fitted to the old
    /// numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown path, [`Error::Shape`] for another count of numbers.
    pub fn set_tensor(&mut self, path: &str, numbers: Vec<f32>) -> Result<()> {
        let i = self.position(path)?;
        let spec = &self.structure.specs[i];
        if numbers.len() != spec.numel() {
            let found = numbers.len();
            return Err(Error::Shape(format!(
                "{path}: shape {:?} does not hold {found} numbers",
                spec.shape
            )));
        }
        let head = self.is_head(self.structure.specs[i].layer_path());
        if head {
            self.fresh_head = false;
        }
        if *self.tensors[i] != numbers {
            self.config.temperature = None;
        }
        self.tensors[i] = numbers.into();
        Ok(())
    }

    /// A tensor in device layout.
    ///
    /// # Errors
    /// As for [`Network::position`].
    pub fn packed(&self, path: &str) -> Result<Vec<f32>> {
        let i = self.position(path)?;
        Ok(self.specs()[i].pack(&self.tensors[i]))
    }

    /// Replaces a tensor's numbers, given in device layout.
    ///
    /// # Errors
    /// As for [`Network::set_tensor`].
    pub fn set_packed(&mut self, path: &str, numbers: &[f32]) -> Result<()> {
        let spec = self.spec(path)?;
        if numbers.len() != spec.numel() {
            let (shape, found) = (spec.device_shape(), numbers.len());
            return Err(Error::Shape(format!("{path}: shape {shape:?} does not hold {found} numbers")));
        }
        let numbers = spec.unpack(numbers);
        self.set_tensor(path, numbers)
    }

    /// Fills every tensor by a rule.
    pub(super) fn fill(&mut self, rule: impl Fn(&ParamSpec) -> Vec<f32>) {
        self.tensors = self.structure.specs.iter().map(|s| rule(s).into()).collect();
        self.fresh_head = false;
    }

    /// Initialises all weights as torchvision does for this family.
    pub fn init(&mut self, seed: u64) {
        self.tensors = self.specs().iter().map(|s| self.first_weights(s, seed).into()).collect();
        self.batches.values_mut().for_each(|n| *n = 0);
        self.fresh_head = true;
    }

    pub(super) fn first_weights(&self, spec: &ParamSpec, seed: u64) -> Vec<f32> {
        let weight = self.weight_of(spec.layer_path());
        let linear =
            weight.filter(|w| matches!(w.layout, Layout::Linear | Layout::LinearAfterFlatten { .. }));
        init::from_scratch(spec, linear.map(|w| (self.architecture.linear_init(), w.shape[1])), seed)
    }

    /// The weight of a layer.
    pub(super) fn weight_of(&self, layer: &str) -> Option<&ParamSpec> {
        self.index.get(&format!("{layer}.weight")).map(|&i| &self.structure.specs[i])
    }

    // The classes.

    /// Sets the names of the classes.
    ///
    /// # Errors
    /// [`Error::Usage`] where their number differs from the head's.
    pub fn set_classes(&mut self, classes: Vec<String>) -> Result<()> {
        let (found, expected) = (classes.len(), self.config.classes.len());
        if found != expected {
            return Err(Error::Usage(format!(
                "{found} class names for a head of {expected} classes; replace the head first"
            )));
        }
        self.config.classes = classes;
        Ok(())
    }

    /// Sets the name of the task that the network is trained for. The task must have the network's number of outputs;
    /// another number needs another head: [`Network::replace_head_for_task`].
    pub fn set_task(&mut self, task: &str) {
        self.config.task = task.into();
    }

    /// Sets or removes the temperature: probabilities are the softmax of logits / temperature.
    ///
    /// # Errors
    /// [`Error::Usage`] where the temperature is not a number above 0.
    pub fn set_temperature(&mut self, temperature: Option<f64>) -> Result<()> {
        check_temperature(temperature)?;
        self.config.temperature = temperature;
        Ok(())
    }

    // Trainable parameters.

    /// Freezes the named parameters and no others; returns a summary of the trainable ones.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name or group that the network does not have.
    pub fn freeze(&mut self, freeze: Freeze) -> Result<FreezeSummary> {
        self.mask = freeze.resolve(&self.structure)?;
        Ok(FreezeSummary::new(&self.structure, &self.mask))
    }

    /// Sets the probability of all dropout layers in training; `None` means the architecture's own. At 0, stochastic
    /// depth skips no block either.
    ///
    /// # Errors
    /// [`Error::Usage`] where the probability is not in [0, 1).
    pub fn set_dropout(&mut self, p: Option<f32>) -> Result<()> {
        if let Some(p) = p.filter(|p| !(0.0..1.0).contains(p)) {
            return Err(Error::Usage(format!("dropout {p}: it lies in [0, 1)")));
        }
        self.dropout = p;
        Ok(())
    }

    /// The mask of trainable parameters.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// The trainable parameters, in the order of the forward pass.
    pub fn learning(&self) -> impl Iterator<Item = &ParamSpec> {
        self.specs().iter().filter(|s| self.mask.learns(&s.path, s.kind))
    }

    /// Adds training steps to `num_batches_tracked` of the batch norms that used batch statistics.
    pub fn count_batches(&mut self, steps: i64) {
        for (layer, count) in &mut self.batches {
            if self.mask.norm_mode(layer) == crate::nn::NormMode::Train {
                *count = count.saturating_add(steps);
            }
        }
    }
}

impl crate::plan::Params for Network {
    fn packed(&self, path: &str) -> Result<Vec<f32>> {
        Network::packed(self, path)
    }
}
