//! Reverse-mode differentiation: gradients are recorded as further nodes of the same tape.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DType, Op, Phase, Role, Tape, ValueId};
use crate::{Error, Result};

impl Tape {
    /// Requests the gradient with respect to `v`, an input or a computed value: [`Tape::backward`] returns it beside
    /// the gradients of parameters. All nodes computed from `v` count, those recorded before this call and those
    /// recorded after it.
    pub fn watch(&mut self, v: ValueId) {
        self.watched.push(v);
        self.values[v.0].requires_grad = true;
        for node in self.nodes.iter().filter(|node| node.phase == Phase::Forward) {
            if node.inputs.iter().any(|input| self.values[input.0].requires_grad) {
                for output in &node.outputs {
                    let output = &mut self.values[output.0];
                    output.requires_grad |= output.ty.dtype == DType::F32;
                }
            }
        }
    }

    /// Records the gradients of the seeds' targets, given their upstream gradients, with respect to every trainable
    /// parameter and every watched value that they depend on, and returns value -> gradient. Nodes are recorded only
    /// on paths that lead to one of these: layers below the last of them cost nothing. `add` is the op that sums two
    /// contributions to one gradient.
    ///
    /// # Errors
    /// [`Error::Shape`] where a seed's shapes differ or an op on the path has no gradient.
    pub fn backward(
        &mut self,
        seeds: &[(ValueId, ValueId)],
        add: &Arc<dyn Op>,
    ) -> Result<BTreeMap<ValueId, ValueId>> {
        for &(target, seed) in seeds {
            if self.ty(target) != self.ty(seed) {
                let (target, seed) = (self.ty(target), self.ty(seed));
                return Err(Error::Shape(format!("backward: {target} has the upstream gradient {seed}")));
            }
        }
        let layer = self.set_layer("");
        self.phase = Some(Phase::Backward);
        let mut grads: BTreeMap<ValueId, ValueId> = seeds.iter().copied().collect();
        for i in (0..self.nodes.len()).rev() {
            let node = self.nodes[i].clone();
            let needs: Vec<bool> = node.inputs.iter().map(|&v| self.requires_grad(v)).collect();
            let upstream: Vec<Option<ValueId>> = node.outputs.iter().map(|v| grads.get(v).copied()).collect();
            if !needs.contains(&true) || upstream.iter().all(Option::is_none) {
                continue;
            }
            self.set_layer(node.layer.clone());
            let rule = node.op.grad(self, &node.inputs, &node.outputs, &upstream, &needs)?;
            if rule.len() != node.inputs.len() {
                return Err(Error::Shape(format!("{} has no gradient", node.op.name())));
            }
            for ((&input, needed), grad) in node.inputs.iter().zip(needs).zip(rule) {
                let Some(grad) = grad.filter(|_| needed) else { continue };
                let total = match grads.get(&input) {
                    Some(&sum) => self.record_arc(add.clone(), &[sum, grad])?[0],
                    None => grad,
                };
                grads.insert(input, total);
            }
        }
        self.set_layer(layer);
        self.phase = None;
        let is_param = |v: &ValueId| self.values[v.0].role == Role::Param && self.requires_grad(*v);
        Ok(grads.into_iter().filter(|(v, _)| is_param(v) || self.watched.contains(v)).collect())
    }

    /// Records a parameter update (an optimizer); not differentiable.
    ///
    /// # Errors
    /// As for [`Tape::record`].
    pub fn record_update(&mut self, op: impl Op + 'static, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.phase = Some(Phase::Update);
        let outcome = self.record(op, inputs);
        self.phase = None;
        outcome
    }
}
