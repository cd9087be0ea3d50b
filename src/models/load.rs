//! Loads networks from files: Defrost's checkpoints, and torchvision's or timm's weights.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::network::{MOST_OUTPUTS, numbered_classes};
use super::registry::{self, Choice, Model};
use super::{Config, Naming, Network, imagenet};
use crate::nn::{Kind, LoadReport, PaddingStyle, ParamSpec, TensorFile, is_counter, lies_in, prefix_of};
use crate::{Error, Result, did_you_mean};

/// Requirements on a file's last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HeadPolicy {
    /// The layer is used: the file must hold it.
    #[default]
    Keep,
    /// The layer will be replaced: it may be missing or have another size.
    Replace,
}

/// A network with initial weights, to be trained from scratch. The name may hold a width: `mobilenet_v2_035`.
///
/// # Errors
/// [`Error::Usage`] for an unknown name or no class.
pub fn create(name: &str, classes: usize) -> Result<Network> {
    let mut net = blank(name, classes)?;
    net.init(0);
    Ok(net)
}

/// A network whose numbers are all zero, for inspection or to be filled; its creation takes no time.
///
/// # Errors
/// As for [`create`].
pub fn blank(name: &str, classes: usize) -> Result<Network> {
    let choice = registry::find(name)?;
    Ok(Network::hollow(&choice, choice.width.unwrap_or(1.0), numbered_classes(classes)?)?.zeroed())
}

/// A network with weights from a file of torchvision's, timm's or Defrost's. Width, number of classes, preprocessing
/// and padding follow the file.
///
/// # Errors
/// [`Error::Usage`] for an unknown name, [`Error::Io`] and [`Error::Weights`] about the file.
pub fn load(name: &str, path: impl AsRef<Path>) -> Result<Network> {
    Ok(load_with(name, path, HeadPolicy::Keep)?.0)
}

/// As [`load`], for a network whose last layer will be replaced; also returns a report of the loading.
///
/// # Errors
/// As for [`load`].
pub fn load_with(name: &str, path: impl AsRef<Path>, head: HeadPolicy) -> Result<(Network, LoadReport)> {
    let (mut net, file, warnings) = described(name, path)?;
    let model = net.config.model.clone();
    let own = file.metadata().contains_key(DESCRIPTION);
    let report = net.read(&file, head).map_err(|e| match fitting(&file, &model).filter(|_| !own) {
        Some(other) => file.error(format!("these are weights of {other}, not of {model}")),
        None => e,
    })?;
    Ok((net, LoadReport { warnings, ..report }))
}

/// The network that a file describes, without its numbers, and warnings.
fn described(name: &str, path: impl AsRef<Path>) -> Result<(Network, TensorFile, Vec<String>)> {
    let choice = registry::find(name)?;
    let file = TensorFile::open(path)?;
    let mut warnings = Vec::from_iter(file.choice());
    if let Some(config) = config_of(&file)? {
        if config.model != choice.model.name {
            return Err(file.error(format!("it holds a {}, not a {}", config.model, choice.model.name)));
        }
        let net = Network::from_config(config).map_err(|e| file.error(e))?;
        return Ok((net, file, warnings));
    }
    let mut net = shaped_like(&file, &choice)?;
    if choice.norm.is_none() && net.naming_of(&file) == Naming::Timm {
        net.config.norm = net.architecture.timm_norm();
    }
    warnings.extend(net.apply_timm_config(file.path())?);
    warnings.extend(net.apply_metadata(&file)?);
    Ok((net, file, warnings))
}

/// Key of the metadata of Defrost's checkpoints that holds the description.
const DESCRIPTION: &str = "defrost";

/// Limit on the numbers of a head that a file does not hold, so that a description alone cannot cause a large
/// allocation.
const MOST_FRESH: usize = 1 << 24;

/// Reads the description from a checkpoint of Defrost's.
fn config_of(file: &TensorFile) -> Result<Option<Config>> {
    /// In bytes: enough for the names of a million classes.
    const MOST: usize = 16 << 20;
    let Some(text) = file.metadata().get(DESCRIPTION) else { return Ok(None) };
    if text.len() > MOST {
        return Err(file.error(format!("its description has {} bytes; at most {MOST} are read", text.len())));
    }
    let damaged = |e: serde_json::Error| file.error(format!("its description cannot be understood: {e}"));
    serde_json::from_str(text).map(Some).map_err(damaged)
}

/// Names of the classes that this model's usual weights were trained on, where their number matches.
fn usual_classes(model: &Model, count: usize) -> Result<Vec<String>> {
    const CIFAR10: [&str; 10] =
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    match (model.classes, count) {
        (1000, 1000) => Ok(imagenet::classes().iter().map(|c| c.name.to_string()).collect()),
        (10, 10) => Ok(CIFAR10.map(String::from).into()),
        _ => numbered_classes(count),
    }
}

/// A network without numbers. Its width and number of classes follow the shapes of the file's tensors.
fn shaped_like(file: &TensorFile, choice: &Choice) -> Result<Network> {
    let model = choice.model;
    let build = |width, classes| Network::hollow(choice, width, usual_classes(model, classes)?);
    let mut net = build(choice.width.unwrap_or(1.0), model.classes)?;
    let bias = format!("{}.bias", net.structure.head);
    let timm = net.architecture.timm_name(&bias);
    let found = [&bias, &timm].into_iter().find_map(|name| Some((name, file.tensors().get(name)?)));
    let classes = match found.map(|(name, info)| (name, info.shape.as_slice())) {
        Some((name, &[classes])) if classes > MOST_OUTPUTS => {
            return Err(file.error(format!(
                "tensor '{name}' has {classes} numbers, and a network has at most {MOST_OUTPUTS} classes"
            )));
        }
        Some((_, &[classes])) if classes > 0 => classes,
        _ => model.classes,
    };
    let widths = (2..=40).map(|twentieths| f64::from(twentieths) / 20.0);
    if model.widths && choice.width.is_none() && !net.fits(file) {
        let fitting = widths.filter_map(|width| build(width, classes).ok()).find(|net| net.fits(file));
        net = fitting.unwrap_or(net);
    }
    if classes != net.classes().len() {
        net = build(net.config.width, classes)?;
    }
    Ok(net)
}

/// Another model that the file's tensors fit.
fn fitting(file: &TensorFile, but: &str) -> Option<&'static str> {
    // All models without numbers, declared once.
    static KNOWN: OnceLock<Vec<(&'static str, Network)>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let hollow = |name| {
            registry::find(name).and_then(|choice| Network::hollow(&choice, 1.0, numbered_classes(1)?))
        };
        registry::MODELS.iter().filter_map(|m| Some((m.name, hollow(m.name).ok()?))).collect()
    });
    let mut others = known.iter().filter(|(name, _)| *name != but);
    others.find(|(_, net)| net.fits(file)).map(|(name, _)| *name)
}

impl Network {
    /// Opens a checkpoint of Defrost's: the network that it describes, with its numbers.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`] about the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let config = config_of(&file)?.ok_or_else(|| {
            file.error("it is no checkpoint of Defrost's: say which model its weights belong to")
        })?;
        let mut net = Network::from_config(config).map_err(|e| file.error(e))?;
        net.read(&file, HeadPolicy::Keep)?;
        Ok(net)
    }

    /// Replaces all numbers by a file's, and preprocessing and padding by those in the file's metadata. After an
    /// error the network is unchanged.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Weights`] about the file.
    pub fn load_weights(&mut self, path: impl AsRef<Path>, head: HeadPolicy) -> Result<LoadReport> {
        let file = TensorFile::open(path)?;
        let before = self.config.clone();
        let outcome = self.describe(&file).and_then(|warnings| {
            let report = self.read(&file, head)?;
            Ok(LoadReport { warnings: file.choice().into_iter().chain(warnings).collect(), ..report })
        });
        if outcome.is_err() {
            self.config = before;
        }
        outcome
    }

    /// Applies preprocessing, padding and batch norm from a file, whatever library wrote it.
    fn describe(&mut self, file: &TensorFile) -> Result<Option<String>> {
        let about = config_of(file)?;
        self.config.temperature = about.as_ref().and_then(|config| config.temperature);
        let Some(Config { padding, norm, preprocess, .. }) = about else {
            return self.apply_metadata(file);
        };
        self.set_preprocess(preprocess).map_err(|e| file.error(e))?;
        (self.config.padding, self.config.norm) = (padding, norm);
        Ok(None)
    }

    /// Applies padding, preprocessing, batch norm and classes from a file's metadata; returns a warning for values
    /// that do not fit.
    fn apply_metadata(&mut self, file: &TensorFile) -> Result<Option<String>> {
        let about = file.metadata();
        self.config.padding = match about.get("padding").map(String::as_str) {
            None => self.config.padding,
            Some("symmetric") => PaddingStyle::Symmetric,
            Some("tf-same" | "same") => PaddingStyle::TfSame,
            Some(other) => {
                return Err(file.error(format!("the padding '{other}' is neither symmetric nor tf-same")));
            }
        };
        self.config.preprocess = self.config.preprocess.with_metadata(file)?;
        if let Some(text) = about.get("bn_eps") {
            let eps = text.parse().ok().filter(|eps| (1e-8..0.1).contains(eps));
            self.config.norm.eps = eps.ok_or_else(|| {
                file.error(format!("metadata 'bn_eps' is '{text}', expected a small number"))
            })?;
        }
        let Some(text) = about.get("classes") else { return Ok(None) };
        let classes: Vec<String> = text.split(',').map(|c| c.trim().to_string()).collect();
        let (found, expected) = (classes.len(), self.classes().len());
        if found != expected {
            let path = file.path().display();
            return Ok(Some(format!(
                "{path}: its metadata names {found} classes, and its head has {expected}: the names are not taken over"
            )));
        }
        self.config.classes = classes;
        Ok(None)
    }

    /// The library whose naming the file's tensors have.
    fn naming_of(&self, file: &TensorFile) -> Naming {
        let matches = |naming| {
            self.specs()
                .iter()
                .filter(|s| file.tensors().contains_key(&self.name_in(file, s, naming)))
                .count()
        };
        if matches(Naming::Timm) > matches(Naming::Torchvision) { Naming::Timm } else { Naming::Torchvision }
    }

    /// A tensor's name in a file; the former name where the file has that. If the name itself starts like a wrapper
    /// (`backbone.conv1`, as all names of this architecture do), the reader removed the prefix from the file's names.
    fn name_in(&self, file: &TensorFile, spec: &ParamSpec, naming: Naming) -> String {
        let (name, _) = self.name_and_shape(spec, naming);
        if file.tensors().contains_key(&name) {
            return name;
        }
        let former = self.architecture.former_name(&spec.path);
        let prefix = prefix_of(self.specs().iter().map(|s| s.path.as_str()));
        let bare = name.strip_prefix(prefix).map(String::from);
        let mut others = [former, bare].into_iter().flatten();
        others.find(|other| file.tensors().contains_key(other)).unwrap_or(name)
    }

    /// Whether a file's tensor belongs to an auxiliary head that this network does not have.
    fn is_left_out(&self, name: &str) -> bool {
        let layers = self.architecture.auxiliary().map_or(&[][..], |a| a.layers);
        !self.config.auxiliary && layers.iter().any(|layer| lies_in(name, layer))
    }

    /// Whether the file holds all tensors but the head's with the right shapes.
    fn fits(&self, file: &TensorFile) -> bool {
        let body = self.specs().iter().filter(|s| !self.is_head(s.layer_path()));
        if file.tensors().len() < body.clone().count() {
            return false;
        }
        let naming = self.naming_of(file);
        body.map(|s| (s, self.name_in(file, s, naming), self.name_and_shape(s, naming).1)).all(
            |(s, name, shape)| {
                file.tensors().get(&name).is_some_and(|info| info.shape == shape || info.shape == s.shape)
            },
        )
    }

    /// Reads all tensors of a file; after an error the network is unchanged.
    fn read(&mut self, file: &TensorFile, head: HeadPolicy) -> Result<LoadReport> {
        let naming = self.naming_of(file);
        let mut report = LoadReport { timm: naming == Naming::Timm, ..LoadReport::default() };
        let mut known = BTreeSet::new();
        let mut tensors: Vec<Arc<Vec<f32>>> = Vec::with_capacity(self.specs().len());
        for spec in self.specs() {
            let (name, shape) = (self.name_in(file, spec, naming), self.name_and_shape(spec, naming).1);
            let is_head = self.is_head(spec.layer_path());
            let replaced = head == HeadPolicy::Replace && is_head;
            let info = file.tensors().get(&name);
            let fits = info.is_some_and(|info| info.shape == shape || info.shape == spec.shape);
            if fits {
                let numbers = file.read_f32(&name)?;
                if spec.kind == Kind::RunningVar && numbers.iter().any(|v| *v < 0.0) {
                    return Err(
                        file.error(format!("tensor '{name}' is a variance and holds negative numbers"))
                    );
                }
                tensors.push(numbers.into());
                report.loaded += 1;
            } else if replaced {
                tensors.push(Arc::default());
                report.skipped_head.push(spec.path.clone());
            } else if let Some(info) = info {
                let what = if is_head {
                    "; a head of another size can be loaded only where it will be replaced"
                } else {
                    "; these are weights of another model or of another width"
                };
                return Err(file
                    .error(format!("tensor '{name}' has shape {:?}, expected {shape:?}{what}", info.shape)));
            } else {
                return Err(self.missing(file, &name, &shape));
            }
            known.insert(name);
        }
        let mut batches = self.batches.clone();
        for (layer, count) in &mut batches {
            let name = self.counter_name(layer, naming);
            *count = file.read_i64(&name).unwrap_or(0);
            known.insert(name);
        }
        for (name, info) in file.tensors().iter().filter(|(name, _)| !known.contains(*name)) {
            let counts =
                name.ends_with("num_batches_tracked") || is_counter(name, info, !file.prefix().is_empty());
            if !counts && !self.is_left_out(name) {
                let hint = did_you_mean(name, known.iter().map(String::as_str));
                let model = &self.config.model;
                return Err(file.error(format!(
                    "tensor '{name}' has no place in {model}{hint}; remove it, or name the model it belongs to"
                )));
            }
            report.ignored.push(name.clone());
        }
        let fresh = self.specs().iter().zip(&tensors).filter(|(_, numbers)| numbers.is_empty());
        let fresh: usize = fresh.map(|(spec, _)| spec.numel()).sum();
        if fresh > MOST_FRESH {
            return Err(file.error(format!(
                "its description asks for a head of {fresh} numbers that it does not hold; the file is damaged"
            )));
        }
        self.tensors = tensors;
        self.batches = batches;
        self.fresh_head = false;
        if !report.skipped_head.is_empty() {
            self.init_head(0);
        }
        Ok(report)
    }

    fn missing(&self, file: &TensorFile, name: &str, shape: &[usize]) -> Error {
        let unknown = file.tensors().keys().map(String::as_str).filter(|n| !self.manifest_has(n));
        let hint = did_you_mean(name, unknown);
        let model = &self.config.model;
        let found = file.tensors().len();
        file.error(format!(
            "tensor '{name}' of shape {shape:?} is missing{hint}; the file holds {found} tensors, and {model} \
             has {}",
            self.specs().len() + self.batches.len()
        ))
    }

    fn manifest_has(&self, name: &str) -> bool {
        self.has(name) || name.ends_with("num_batches_tracked")
    }
}
