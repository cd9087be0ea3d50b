//! Sum of two activations, followed by an activation function: the end of a residual block.

use bytemuck::{Pod, Zeroable};

use super::cpu::{PIECE, pieces};
use super::{Activate, ActivateGrad, Activation, Case, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Real, Tape, Type, ValueId, Variant};

/// `y = activation(a + b)`, two values of the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Add {
    /// The activation function; the identity until a plan fuses one.
    pub activation: Activation,
}

/// `Params` of `shaders/add/pointwise.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
}

impl Add {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (a, b) = (call.real(0), call.real(1));
        pieces(
            call.output(0),
            PIECE,
            #[inline(always)]
            |at, y| {
                for ((y, &a), &b) in y.iter_mut().zip(&a[at..]).zip(&b[at..]) {
                    *y = a + b;
                }
                self.activation.apply_all(y);
            },
        );
    }
}

impl Op for Add {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "add.forward"
    }

    fn attributes(&self) -> String {
        if self.activation == Activation::Identity { String::new() } else { self.activation.name().into() }
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(inputs[0] == inputs[1], || "both operands must have the same shape".into())?;
        Ok(vec![inputs[0].clone()])
    }

    fn grad(
        &self,
        _tape: &mut Tape,
        _inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        require(self.activation == Activation::Identity, || "a fused sum has no gradient".into())?;
        Ok(vec![upstream[0]; 2])
    }

    fn absorb(&self, consumer: &dyn Op, operand: usize) -> Option<Box<dyn Op>> {
        if self.activation != Activation::Identity {
            return None;
        }
        if let Some(grad) = consumer.as_any().downcast_ref::<ActivateGrad>() {
            return (!grad.sum && operand == 0)
                .then(|| Box::new(ActivateGrad { sum: true, ..*grad }) as Box<dyn Op>);
        }
        let Activate(activation) = consumer.as_any().downcast_ref()?;
        Some(Box::new(Add { activation: *activation }))
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let quads = io.output(0).numel().div_ceil(4);
        let kernel = Kernel::new(shader!("add/pointwise.wgsl"), "forward")
            .with(&[("ACTIVATION", self.activation.id())]);
        let launch = Launch::new(kernel, &Params { quads: quads as u32 }, groups(quads, caps));
        vec![Variant::single("pointwise", launch.inputs([0, 1]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(Add::default(), &[&[1, 3, 5, 7], &[1, 3, 5, 7]]),
        Case::new(Add::default(), &[&[3, 4, 4, 8], &[3, 4, 4, 8]]),
        Case::new(Add { activation: Activation::Relu }, &[&[3, 5], &[3, 5]]).grads(&[]),
        Case::new(Add { activation: Activation::Relu6 }, &[&[3, 5501], &[3, 5501]]).grads(&[]),
    ]
}
