//! The graph that models record on: a tape, the path of the current layer, and the parameters declared so far.

use std::collections::HashMap;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{Kind, LayerMark, Layout, Mask, NormMode, ParamSpec};
use crate::tape::{Op, Role, Tape, Type, Use, ValueId};
use crate::{Error, Result};

/// The purpose of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Training: parameters are trainable, batch norms may use batch statistics, dropout is active.
    Train,
    /// Predictions: no dropout, batch norms use their running statistics.
    Eval,
}

/// How convolutions pad. A property of the loaded weights, not of the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum PaddingStyle {
    /// PyTorch's: the same padding on both sides, as the layer says.
    #[default]
    #[serde(rename = "symmetric")]
    Symmetric,
    /// TensorFlow's SAME: enough padding for an output of `ceil(size / stride)`, the odd pixel at the bottom and
    /// right.
    #[serde(rename = "tf-same")]
    TfSame,
}

/// The constants of all batch norms. They belong to the weights, not to the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// Added to the variance.
    pub eps: f32,
    /// Weight of a new batch in the running statistics.
    pub momentum: f32,
}

impl Default for Norm {
    fn default() -> Self {
        Norm { eps: 1e-5, momentum: 0.1 }
    }
}

/// Settings of a recording.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// The purpose of the recording.
    pub mode: Mode,
    /// How convolutions pad.
    pub padding: PaddingStyle,
    /// Constants of the batch norms.
    pub norm: Norm,
    /// Which parameters are trainable.
    pub mask: &'a Mask,
    /// Probability of all dropout layers, in place of the architecture's own.
    pub dropout: Option<f32>,
    /// Number of classes of the auxiliary heads, where they are recorded.
    pub auxiliary: Option<usize>,
    /// Number of features of a hidden layer before the last one, where there is one.
    pub hidden: Option<usize>,
}

/// A network being recorded: a tape, a path, and what has been declared.
#[derive(Debug)]
pub struct Graph<'a> {
    /// The tape underneath, for ops that have no layer method.
    pub tape: &'a mut Tape,
    /// The settings of the recording.
    pub settings: Settings<'a>,
    /// Whether the current layers belong to the head, whose dropout is active even where layers are frozen.
    pub in_head: bool,
    /// Logits of the auxiliary heads recorded so far.
    pub auxiliary: Vec<ValueId>,
    path: String,
    specs: Vec<ParamSpec>,
    index: HashMap<String, usize>,
    layers: Vec<LayerMark>,
}

impl<'a> Graph<'a> {
    /// Begins a recording on `tape`.
    pub fn new(tape: &'a mut Tape, settings: Settings<'a>) -> Self {
        Graph {
            tape,
            settings,
            in_head: false,
            auxiliary: Vec::new(),
            path: String::new(),
            specs: Vec::new(),
            index: HashMap::new(),
            layers: Vec::new(),
        }
    }

    /// Runs `body` one level down: `g.at("layer1", |g| ..)`, `g.at(0, |g| ..)`.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn at<T>(&mut self, name: impl Display, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let above = self.path.len();
        let name = name.to_string();
        if above > 0 && !name.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(&name);
        let outcome = body(self);
        self.path.truncate(above);
        outcome
    }

    /// Records an auxiliary head, where the settings ask for them: `body` receives the number of classes.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn auxiliary(
        &mut self,
        name: impl Display,
        body: impl FnOnce(&mut Self, usize) -> Result<ValueId>,
    ) -> Result<()> {
        if let Some(classes) = self.settings.auxiliary {
            let logits = self.at(name, |g| body(g, classes))?;
            self.auxiliary.push(logits);
        }
        Ok(())
    }

    /// The path of the current layer.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Parameters and buffers in the order of their declaration.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Layers in the order of the forward pass.
    pub fn layers(&self) -> &[LayerMark] {
        &self.layers
    }

    /// The declarations: parameters, then layers.
    pub fn into_declared(self) -> (Vec<ParamSpec>, Vec<LayerMark>) {
        (self.specs, self.layers)
    }

    /// Records one layer: nodes recorded in `body` get its path, and the layer is marked as complete after `body`.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn layer<T>(&mut self, name: impl Display, body: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.at(name, |g| {
            let path = g.path.clone();
            let above = g.tape.set_layer(path.clone());
            let outcome = body(g);
            g.tape.set_layer(above);
            g.layers.push(LayerMark { path, params: g.specs.len() });
            outcome
        })
    }

    /// A layer of one op with one result and no parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] where the operands do not fit.
    pub fn op(&mut self, name: impl Display, op: impl Op + 'static, inputs: &[ValueId]) -> Result<ValueId> {
        self.layer(name, |g| g.tape.apply(op, inputs))
    }

    /// Declares a parameter of the current layer; `shape` is PyTorch's.
    ///
    /// # Errors
    /// [`Error::Shape`] where the same path was declared with another shape.
    pub fn param(&mut self, name: &str, shape: &[usize], layout: Layout, kind: Kind) -> Result<ValueId> {
        let path = if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) };
        let spec = ParamSpec { path, shape: shape.to_vec(), layout, kind, layer: self.layers.len() };
        let learns = match kind {
            Kind::RunningMean | Kind::RunningVar => self.norm_mode() == NormMode::Train,
            _ => self.settings.mask.learns(&spec.path, kind),
        };
        let usage = match (learns, self.settings.mode) {
            (false, _) => Use::Frozen,
            (true, Mode::Train) if kind.is_learnable() => Use::Trainable,
            (true, _) => Use::Live,
        };
        match self.index.get(&spec.path) {
            Some(&i) if self.specs[i].shape != spec.shape => {
                let (first, second) = (&self.specs[i].shape, &spec.shape);
                let path = &spec.path;
                return Err(Error::Shape(format!(
                    "{path}: declared with shape {first:?} and with {second:?}"
                )));
            }
            Some(_) => {}
            None => {
                self.index.insert(spec.path.clone(), self.specs.len());
                self.specs.push(spec.clone());
            }
        }
        self.tape.param(&spec.path, &spec.device_shape(), usage)
    }

    /// The mode of the current batch norm.
    pub(super) fn norm_mode(&self) -> NormMode {
        self.settings.mask.norm_mode(&self.path)
    }

    /// The input that counts training steps, `u32[2]`, the key of dropout's random numbers. One a tape.
    pub fn step(&mut self) -> ValueId {
        step_of(self.tape).unwrap_or_else(|| self.tape.input("step", Type::u32(&[2])))
    }
}

/// The tape's input that counts training steps, where any layer uses it.
pub(crate) fn step_of(tape: &Tape) -> Option<ValueId> {
    tape.values.iter().position(|v| v.role == Role::Input && v.name == "step").map(ValueId)
}
