//! Elementwise activations and their gradient.

use bytemuck::{Pod, Zeroable};

use super::{Case, groups};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Real, Tape, Type, ValueId, Variant};

/// The activations of the CNN families. The numbers are those of `shaders/lib/activation.wgsl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// x
    #[default]
    Identity = 0,
    /// max(x, 0)
    Relu = 1,
    /// min(max(x, 0), 6)
    Relu6 = 2,
    /// x relu6(x + 3) / 6 (MobileNetV3)
    HardSwish = 3,
    /// relu6(x + 3) / 6 (MobileNetV3's squeeze-excite)
    HardSigmoid = 4,
    /// x sigmoid(x) (EfficientNet; also called swish)
    Silu = 5,
    /// 1 / (1 + exp(-x))
    Sigmoid = 6,
}

impl Activation {
    /// All but the identity.
    pub const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Relu6,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Silu,
        Activation::Sigmoid,
    ];

    /// Its number in the shaders.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Its name, as PyTorch spells it.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::Relu6 => "relu6",
            Activation::HardSwish => "hardswish",
            Activation::HardSigmoid => "hardsigmoid",
            Activation::Silu => "silu",
            Activation::Sigmoid => "sigmoid",
        }
    }

    /// The function itself.
    pub fn apply<T: Real>(self, x: T) -> T {
        let (zero, one, three, six) = (T::zero(), T::one(), T::of(3.0), T::of(6.0));
        let relu6 = |x: T| x.max(zero).min(six);
        match self {
            Activation::Identity => x,
            // Not `max`, which would turn a NaN into 0 and hide it.
            Activation::Relu => {
                if x < zero {
                    zero
                } else {
                    x
                }
            }
            Activation::Relu6 => {
                if x < zero {
                    zero
                } else if x > six {
                    six
                } else {
                    x
                }
            }
            Activation::HardSwish => x * relu6(x + three) / six,
            Activation::HardSigmoid => relu6(x + three) / six,
            Activation::Silu => x / (one + (-x).exp()),
            Activation::Sigmoid => one / (one + (-x).exp()),
        }
    }

    /// Whether the derivative follows from the output, so that the input need not be kept.
    fn derivative_from_output(self) -> bool {
        !matches!(self, Activation::HardSwish | Activation::Silu)
    }

    /// The derivative, from the output or the input (see [`Activation::derivative_from_output`]).
    fn derivative<T: Real>(self, saved: T) -> T {
        let (zero, one, three, six) = (T::zero(), T::one(), T::of(3.0), T::of(6.0));
        let inside = |inside: bool, value: T| if inside { value } else { zero };
        match self {
            Activation::Identity => one,
            Activation::Relu => inside(saved > zero, one),
            Activation::Relu6 => inside(saved > zero && saved < six, one),
            Activation::HardSwish if saved > three => one,
            Activation::HardSwish => inside(saved >= -three, (T::of(2.0) * saved + three) / six),
            Activation::HardSigmoid => inside(saved > zero && saved < one, one / six),
            Activation::Silu => {
                let sigmoid = one / (one + (-saved).exp());
                sigmoid * (one + saved * (one - sigmoid))
            }
            Activation::Sigmoid => saved * (one - saved),
        }
    }
}

/// `y = activation(x)`, any shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Activate(pub Activation);

/// `grad_x = grad_y * activation'(saved)`; inputs: saved, grad_y.
#[derive(Debug, Clone, Copy)]
struct ActivateGrad(Activation);

/// `Params` of `shaders/activation/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
}

fn pointwise(
    io: &Io<'_>,
    caps: &Caps,
    kernel: Kernel,
    activation: Activation,
    inputs: usize,
) -> Vec<Variant> {
    let quads = io.output(0).numel().div_ceil(4);
    let kernel = kernel.with(&[("ACTIVATION", activation.id())]);
    let launch = Launch::new(kernel, &Params { quads: quads as u32 }, groups(quads, caps));
    vec![Variant::single("pointwise", launch.inputs(0..inputs).output(0))]
}

impl Activate {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let y = call.real(0).iter().map(|&x| self.0.apply(x)).collect();
        call.set(0, y);
    }
}

impl Op for Activate {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "activation.forward"
    }

    fn attributes(&self) -> String {
        self.0.name().into()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        let saved = if self.0.derivative_from_output() { outputs[0] } else { inputs[0] };
        Ok(vec![Some(tape.apply(ActivateGrad(self.0), &[saved, grad_y])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("activation/pointwise.wgsl"), "forward");
        pointwise(io, caps, kernel, self.0, 1)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

impl ActivateGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let pairs = call.real(0).iter().zip(call.real(1));
        let grad = pairs.map(|(&saved, &grad_y)| grad_y * self.0.derivative(saved)).collect();
        call.set(0, grad);
    }
}

impl Op for ActivateGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "activation.grad"
    }

    fn attributes(&self) -> String {
        self.0.name().into()
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[1].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        pointwise(io, caps, Kernel::new(shader!("activation/grad.wgsl"), "grad"), self.0, 2)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for activation in Activation::ALL {
        for shape in [&[1, 3, 5, 7][..], &[3, 4, 4, 8]] {
            // Wide enough to reach both kinks of every activation.
            all.push(Case::new(Activate(activation), &[shape]).fill(0, super::Fill::Range(-8.0, 8.0)));
        }
    }
    all
}
