//! A network layer by layer: ops, kernels, shapes, parameters, and which of them are trainable.

use serde_json::{Value, json};

use crate::Result;
use crate::cli::output::{amount, grouped, table};
use crate::models::{Network, Recording, mult_adds};
use crate::nn::{Mode, NormMode, ParamSpec};
use crate::plan::{Plan, describe};
use crate::tape::{Phase, Tape};

/// Whether a layer's parameters change while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learns {
    /// It has no parameters.
    Nothing,
    /// None of them change.
    Frozen,
    /// Some of them change.
    Partly,
    /// All of them change.
    All,
    /// Scale and shift of a batch norm whose running statistics stay.
    FrozenStats,
}

impl Learns {
    fn name(self) -> &'static str {
        match self {
            Learns::Nothing => "",
            Learns::Frozen => "frozen",
            Learns::Partly => "partly",
            Learns::All => "trainable",
            Learns::FrozenStats => "trainable (statistics frozen)",
        }
    }
}

/// One layer.
#[derive(Debug)]
pub(super) struct Layer {
    path: String,
    /// Ops of its steps in the plan, with their attributes.
    ops: Vec<String>,
    /// Kernels of these steps.
    kernels: Vec<&'static str>,
    /// Output shape for one image.
    output: Vec<usize>,
    parameters: usize,
    /// Multiply-adds for one image.
    pub(super) mult_adds: f64,
    learns: Learns,
}

/// The network's layers in the order of the forward pass, with the steps that `plan` has for them.
pub(super) fn layers(net: &Network, plan: &Plan) -> Result<Vec<Layer>> {
    // Nothing is fused on this tape, so every layer still has its own nodes.
    let mut tape = Tape::new();
    net.record(&mut tape, Recording::new(Mode::Eval, 1))?;
    let mut layers: Vec<Layer> = Vec::new();
    for mark in &net.structure().layers {
        let own: Vec<&ParamSpec> = net.specs().iter().filter(|s| s.layer_path() == mark.path).collect();
        let mut layer = Layer {
            path: mark.path.clone(),
            ops: Vec::new(),
            kernels: Vec::new(),
            output: Vec::new(),
            parameters: own.iter().filter(|s| s.kind.is_learnable()).map(|s| s.numel()).sum(),
            mult_adds: 0.0,
            learns: learns(net, &own),
        };
        for node in tape.nodes.iter().filter(|n| n.layer == mark.path) {
            if let Some(&v) = node.outputs.first() {
                layer.output = tape.shape(v).iter().skip(1).copied().collect();
            }
            layer.mult_adds += mult_adds(&tape, node);
        }
        for step in plan.steps.iter().filter(|s| s.node.phase == Phase::Forward && s.node.layer == mark.path)
        {
            layer.ops.push(describe(step.node.op.as_ref()));
            layer.kernels.push(step.variant.name);
        }
        layers.push(layer);
    }
    Ok(layers)
}

fn learns(net: &Network, own: &[&ParamSpec]) -> Learns {
    let learnable = own.iter().filter(|s| s.kind.is_learnable());
    let (mut some, mut all) = (false, true);
    for spec in learnable.clone() {
        let learns = net.mask().learns(&spec.path, spec.kind);
        (some, all) = (some || learns, all && learns);
    }
    let keeps_statistics = own
        .iter()
        .any(|s| !s.kind.is_learnable() && net.mask().norm_mode(s.layer_path()) == NormMode::FrozenStats);
    match (learnable.count(), some, all) {
        (0, ..) => Learns::Nothing,
        (_, false, _) => Learns::Frozen,
        (_, _, false) => Learns::Partly,
        _ if keeps_statistics => Learns::FrozenStats,
        _ => Learns::All,
    }
}

fn shape(extents: &[usize]) -> String {
    extents.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

impl Layer {
    pub(super) fn json(&self) -> Value {
        json!({
            "layer": self.path,
            "ops": self.ops,
            "kernels": self.kernels,
            "output": self.output,
            "parameters": self.parameters,
            "mult_adds": self.mult_adds,
            "learns": match self.learns {
                Learns::Nothing => Value::Null,
                Learns::FrozenStats => "trainable".into(),
                other => other.name().into(),
            },
        })
    }

    fn row(&self) -> Vec<String> {
        // The last step gives the layer's output; work that is fused into a neighbour has no step of its own.
        let op = match &self.ops[..] {
            [] => "(fused)".into(),
            [only] => only.clone(),
            [before @ .., last] => format!("{last} (+{})", before.len()),
        };
        vec![
            self.path.clone(),
            op,
            self.kernels.last().copied().unwrap_or_default().into(),
            shape(&self.output),
            if self.parameters == 0 { String::new() } else { grouped(self.parameters) },
            if self.mult_adds == 0.0 { String::new() } else { amount(self.mult_adds) },
            self.learns.name().into(),
        ]
    }
}

/// The layers as lines.
pub(super) fn lines(layers: &[Layer]) -> Vec<String> {
    let heading = ["layer", "op", "kernel", "output", "parameters", "mult-adds", "learns"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(layers.iter().map(Layer::row));
    table(&rows, &[false, false, false, true, true, true, false])
}
