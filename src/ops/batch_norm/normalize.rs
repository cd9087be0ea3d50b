//! The normalisation, and its gradient rule.

use std::sync::Arc;

use super::grad::{GradReduce, GradX, GradXRunning};
use super::norm::{Norm, Params, Statistics};
use super::rows::stretches;
use super::{ROWS, arity, channels, per_channel};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::ops::{Activation, Epilogue, elem, lanes, mismatch, word};
use crate::shader;
use crate::tape::{
    Cost, CpuCall, GradRule, Io, Launch, Node, Op, Operand, Real, Tape, Type, ValueId, Variant,
};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, then the epilogue. Inputs: x, mean, var, weight, bias, and the
/// residual where the epilogue has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// The source of mean and variance.
    pub statistics: Statistics,
    /// Residual and activation; its bias and affine are never set.
    pub epilogue: Epilogue,
}

impl BatchNorm {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let x = call.real(0);
        let norm = Norm::of(self.statistics, self.eps, [1, 2, 3, 4].map(|i| call.real(i)));
        let fused = self.epilogue.operands_of(5, call);
        stretches(
            call.output(0),
            norm.scale.len(),
            #[inline(always)]
            |at, y| {
                norm.normalise(&x[at..][..y.len()], y);
                fused.apply(at, 0, y);
            },
        );
    }
}

impl Op for BatchNorm {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "batch_norm.forward"
    }

    fn attributes(&self) -> String {
        format!("{} eps {}{}", self.statistics.name(), self.eps, self.epilogue.describe())
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        arity(inputs, 5 + self.epilogue.operands())?;
        let c = channels(inputs[0])?;
        let names = ["mean", "var", "weight", "bias"];
        let named: Vec<_> = names.into_iter().zip(inputs[1..5].iter().copied()).collect();
        per_channel(&named, c)?;
        if self.epilogue.bias || self.epilogue.affine {
            return Err(mismatch("a batch norm's epilogue takes a residual and an activation only"));
        }
        self.epilogue.check(5, inputs, &inputs[0].shape)?;
        Ok(vec![inputs[0].clone()])
    }

    /// Over batch statistics, mean and var are functions of x, and the closed form of grad_x contains the path
    /// through them:
    ///   grad_x = weight / sqrt(var + eps) * (grad_y - (grad_bias + x^ * grad_weight) / rows)
    /// So the rule gives no gradient for mean and var, and `BatchStats` has none. Over running statistics they are
    /// constants: grad_x = weight / sqrt(var + eps) * grad_y. With an activation after the norm, grad_y is first
    /// multiplied by its derivative.
    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None; inputs.len()]) };
        // A residual would be one more operand; it has no gradient here.
        let &[x, mean, var, weight, bias] = inputs else { return Ok(Vec::new()) };
        let batch = self.statistics == Statistics::Batch;
        if !batch && (needs[1] || needs[2]) {
            return Err(mismatch("batch_norm.forward: running statistics have no gradient"));
        }
        let &BatchNorm { eps, statistics, epilogue: Epilogue { activation, .. } } = self;
        let mut rule = vec![None; 5];
        if needs[3] || needs[4] || (batch && needs[0]) {
            let mut operands = vec![x, grad_y, mean, var, weight, bias];
            let sums = tape.record(GradReduce { eps, statistics, activation }, &operands)?;
            (rule[3], rule[4]) = (Some(sums[0]), Some(sums[1]));
            if batch && needs[0] {
                operands.push(sums[2]);
                rule[0] = Some(tape.apply(GradX { eps, activation }, &operands)?);
            }
        }
        if !batch && needs[0] {
            let mut operands = vec![grad_y, var, weight];
            if activation != Activation::Identity {
                operands.extend([x, mean, bias]);
            }
            rule[0] = Some(tape.apply(GradXRunning { eps, activation }, &operands)?);
        }
        Ok(rule)
    }

    fn absorb(&self, consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        let epilogue = self.epilogue.absorb_but_affine(consumer)?;
        Some(Box::new(BatchNorm { epilogue, ..*self }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let residual = self.epilogue.slots(5)[2].map_or(Operand::Unused, |i| Operand::Input(i, 0));
        let variant = |&lanes: &usize| {
            let (name, knob) = elem(lanes);
            let (params, groups) = Params::of(io.output(0), lanes, self.eps, caps);
            let kernel = Kernel::new(shader!("batch_norm/normalize.wgsl"), "forward")
                .knob("Elem", knob)
                .knob("Word", word(lanes))
                .with(&[
                    ("ROWS", ROWS as u32),
                    ("RUNNING", (self.statistics == Statistics::Running).into()),
                    ("HAS_RESIDUAL", self.epilogue.residual.into()),
                    ("ACTIVATION", self.epilogue.activation.id()),
                ]);
            let launch = Launch::new(kernel, &params, groups).inputs(0..5).read(residual).output(0);
            Variant::single(name, launch)
        };
        lanes(&[io.output(0).channels()]).iter().map(variant).collect()
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 4.0 * io.output(0).numel() as f64)
    }
}

/// The gradient `node` of `norm` when it is given `g`, the gradient through `activation` behind the norm:
/// the same from `grad_y`, the gradient before the activation. None where it is no such gradient.
pub(crate) fn through_activation(
    norm: &Node,
    activation: Activation,
    node: &Node,
    [g, grad_y]: [ValueId; 2],
) -> Option<Node> {
    let &[x, mean, var, weight, bias] = &norm.inputs[..] else { return None };
    let eps = norm.op.as_any().downcast_ref::<BatchNorm>()?.eps;
    let operands = [x, g, mean, var, weight, bias];
    let own = |e: f32, a: Activation| e == eps && a == Activation::Identity;
    let (any, mut inputs) = (node.op.as_any(), node.inputs.clone());
    let op: Arc<dyn Op> = if let Some(op) = any.downcast_ref::<GradReduce>()
        && own(op.eps, op.activation)
        && inputs == operands
    {
        inputs[1] = grad_y;
        Arc::new(GradReduce { activation, ..*op })
    } else if let Some(op) = any.downcast_ref::<GradX>()
        && own(op.eps, op.activation)
        && inputs[..6] == operands
    {
        inputs[1] = grad_y;
        Arc::new(GradX { activation, ..*op })
    } else if let Some(op) = any.downcast_ref::<GradXRunning>()
        && own(op.eps, op.activation)
        && inputs == [g, var, weight]
    {
        inputs = vec![grad_y, var, weight, x, mean, bias];
        Arc::new(GradXRunning { activation, ..*op })
    } else {
        return None;
    };
    Some(Node { op, inputs, ..node.clone() })
}
