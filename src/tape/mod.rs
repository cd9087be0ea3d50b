//! The tape: ops recorded over symbolic values, and the backward pass that records their gradients.

mod backward;
mod split_point;
#[macro_use]
mod op;
mod types;

use std::collections::HashMap;
use std::sync::Arc;

pub use op::{
    Arg, Binding, Cost, CpuCall, Data, GradRule, Io, IoValue, Launch, Op, Operand, Out, Part, Real, Variant,
    params_bytes,
};
pub use types::{DType, Shape, Type};

pub use split_point::{Frontier, Tap, cached_input};

use crate::{Error, Result};

/// A value of one tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// The origin of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Role {
    /// An input of every step, by this name.
    Input,
    /// A parameter or buffer of the network, by its path.
    Param,
    /// Memory of the store that is no parameter, by this name: pages, tables.
    State,
    /// A constant that is the same number everywhere.
    Fill(f32),
    /// An output of a node.
    Computed,
}

/// The properties of a value that are known before anything runs.
#[derive(Debug, Clone)]
pub struct Value {
    /// Input name, parameter path, or empty.
    pub name: String,
    /// Shape and element type.
    pub ty: Type,
    /// Its origin.
    pub role: Role,
    /// Whether a gradient flows to a trainable parameter through it.
    pub requires_grad: bool,
    /// Whether it may change between steps. A value that is not live is computed once.
    pub live: bool,
}

/// The part of a step that a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// From the inputs to the loss, statistics updates included.
    Forward,
    /// Gradients.
    Backward,
    /// Parameter updates.
    Update,
}

/// One op applied to values.
#[derive(Debug, Clone)]
pub struct Node {
    /// The op with its attributes.
    pub op: Arc<dyn Op>,
    /// Its operands.
    pub inputs: Vec<ValueId>,
    /// Its results.
    pub outputs: Vec<ValueId>,
    /// The layer that recorded it: a parameter-path prefix.
    pub layer: String,
    /// Forward, backward or update.
    pub phase: Phase,
}

/// The use of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Never changes during the lifetime of the plan: values that depend on it alone are computed once.
    Frozen,
    /// Changes between steps (trained elsewhere, or a running statistic), without a gradient here.
    Live,
    /// Trainable: `backward` records its gradient.
    Trainable,
}

/// A recording of ops over symbolic values.
#[derive(Debug, Default, Clone)]
pub struct Tape {
    /// All values, by id.
    pub values: Vec<Value>,
    /// All nodes, each after the nodes that compute its operands.
    pub nodes: Vec<Node>,
    /// Values of parameters, by path.
    params: HashMap<String, ValueId>,
    watched: Vec<ValueId>,
    layer: String,
    phase: Option<Phase>,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }

    /// An input, with new data at every step.
    pub fn input(&mut self, name: &str, ty: Type) -> ValueId {
        self.push(Value { name: name.into(), ty, role: Role::Input, requires_grad: false, live: true })
    }

    /// A parameter in its device layout. The same path always gives the same value.
    ///
    /// # Errors
    /// [`Error::Shape`] where the path was recorded before with another shape.
    pub fn param(&mut self, path: &str, shape: &[usize], usage: Use) -> Result<ValueId> {
        let ty = Type::f32(shape);
        if let Some(&known) = self.params.get(path) {
            let recorded = self.ty(known);
            if *recorded != ty {
                return Err(Error::Shape(format!(
                    "{path}: recorded with shape {} and again with {}",
                    recorded.shape, ty.shape
                )));
            }
            return Ok(known);
        }
        let new = self.push(Value {
            name: path.into(),
            ty,
            role: Role::Param,
            requires_grad: usage == Use::Trainable,
            live: usage != Use::Frozen,
        });
        self.params.insert(path.into(), new);
        Ok(new)
    }

    /// Memory of the store by its name: a whole page, or a table.
    pub fn state(&mut self, name: &str, ty: Type) -> ValueId {
        self.push(Value { name: name.into(), ty, role: Role::State, requires_grad: false, live: true })
    }

    /// A value that is `number` everywhere.
    pub fn fill(&mut self, shape: &[usize], number: f32) -> ValueId {
        let ty = Type::f32(shape);
        self.push(Value {
            name: String::new(),
            ty,
            role: Role::Fill(number),
            requires_grad: false,
            live: false,
        })
    }

    /// Names the layer of the nodes recorded from now on; returns the name before.
    pub fn set_layer(&mut self, layer: impl Into<String>) -> String {
        std::mem::replace(&mut self.layer, layer.into())
    }

    /// Records `op` and returns its outputs.
    ///
    /// # Errors
    /// [`Error::Shape`] naming layer and op where the operands do not fit.
    pub fn record(&mut self, op: impl Op + 'static, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.record_arc(Arc::new(op), inputs)
    }

    /// Records an op that has one output.
    ///
    /// # Errors
    /// As for [`Tape::record`].
    pub fn apply(&mut self, op: impl Op + 'static, inputs: &[ValueId]) -> Result<ValueId> {
        let name = op.name();
        match self.record(op, inputs)?[..] {
            [only] => Ok(only),
            ref all => Err(Error::Shape(format!("{name} has {} outputs where one is wanted", all.len()))),
        }
    }

    /// Records a shared op.
    ///
    /// # Errors
    /// As for [`Tape::record`].
    pub fn record_arc(&mut self, op: Arc<dyn Op>, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let types: Vec<&Type> = inputs.iter().map(|&v| &self.values[v.0].ty).collect();
        let inferred = op.infer(&types).map_err(|e| {
            let shapes: Vec<String> = types.iter().map(|t| t.to_string()).collect();
            let layer = if self.layer.is_empty() { "(no layer)" } else { &self.layer };
            Error::Shape(format!("layer {layer}: {} of {}: {e}", op.name(), shapes.join(", ")))
        })?;
        let requires_grad = inputs.iter().any(|&v| self.values[v.0].requires_grad);
        let live = inputs.iter().any(|&v| self.values[v.0].live);
        let outputs: Vec<ValueId> = inferred
            .into_iter()
            .map(|ty| {
                let differentiable = ty.dtype == DType::F32 && self.phase.is_none();
                self.push(Value {
                    name: String::new(),
                    ty,
                    role: Role::Computed,
                    requires_grad: requires_grad && differentiable,
                    live,
                })
            })
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            layer: self.layer.clone(),
            phase: self.phase.unwrap_or(Phase::Forward),
        });
        Ok(outputs)
    }

    /// Shape and type of a value.
    pub fn ty(&self, v: ValueId) -> &Type {
        &self.values[v.0].ty
    }

    /// Shape of a value.
    pub fn shape(&self, v: ValueId) -> &Shape {
        &self.values[v.0].ty.shape
    }

    /// Whether a gradient flows through `v`.
    pub fn requires_grad(&self, v: ValueId) -> bool {
        self.values[v.0].requires_grad
    }
}
