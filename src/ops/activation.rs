//! Elementwise activations and their gradient.

use bytemuck::{Pod, Zeroable};

use super::cpu::{PIECE, pieces};
use super::{Case, groups};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Operand, Real, Tape, Type, ValueId, Variant};

/// The activations of the CNN families. The numbers are the ids in `shaders/lib/activation.wgsl`.
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

/// Runs `$body` with the activation as a constant, so that its loops are compiled for each.
macro_rules! decided {
    ($activation:expr, |$constant:ident| $body:expr) => {
        decided!($activation, $constant, $body, Identity Relu Relu6 HardSwish HardSigmoid Silu Sigmoid)
    };
    ($activation:expr, $constant:ident, $body:expr, $($name:ident)*) => {
        match $activation {
            $(Activation::$name => {
                let $constant = Activation::$name;
                $body
            })*
        }
    };
}

pub(super) use decided;

/// e^x, in f32 within 2 units in the last place, in operations that become vector instructions where
/// the library's function is a call.
#[inline(always)]
pub(super) fn exp<T: Real>(x: T) -> T {
    if size_of::<T>() > size_of::<f32>() {
        return x.exp();
    }
    // x = n ln 2 + r with r at most ln 2 / 2: e^x = 2^n e^r, where e^r is Cephes' polynomial.
    // Beyond the bounds the result is 0 or infinite anyway; a NaN stays one.
    let x = (x.f64() as f32).clamp(-104.0, 89.0);
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
    let round = 12_582_912.0_f32;
    let shifted = x * std::f32::consts::LOG2_E + round;
    let n = shifted - round;
    // ln 2 in two parts, the first of few bits, so that its product with n is exact.
    let r = x - n * (355.0 / 512.0) + n * 2.121_944_4e-4;
    let terms = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];
    let polynomial = terms.into_iter().fold(0.0, |sum, term| sum * r + term);
    let power = polynomial * (r * r) + r + 1.0;
    // 2^n in two factors: n may lie beyond the exponents of normal numbers.
    let n = shifted.to_bits() as i32 - round.to_bits() as i32;
    let two_to = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    T::of((power * two_to(n >> 1) * two_to(n - (n >> 1))).into())
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
    #[inline(always)]
    pub fn apply<T: Real>(self, x: T) -> T {
        let (zero, one, three, six) = (T::zero(), T::one(), T::of(3.0), T::of(6.0));
        // `max` and `min` would turn a NaN into a number and hide it.
        // `x + 0` instead of `x`: in place, `x` would compile to masked stores, which are slow.
        let relu = |x: T| if x < zero { zero } else { x + zero };
        let relu6 = |x: T| {
            let x = relu(x);
            if x > six { six } else { x }
        };
        match self {
            Activation::Identity => x,
            Activation::Relu => relu(x),
            Activation::Relu6 => relu6(x),
            Activation::HardSwish => x * relu6(x + three) / six,
            Activation::HardSigmoid => relu6(x + three) / six,
            Activation::Silu => x / (one + exp(-x)),
            Activation::Sigmoid => one / (one + exp(-x)),
        }
    }

    /// The function on every value.
    #[inline(always)]
    pub(super) fn apply_all<T: Real>(self, values: &mut [T]) {
        decided!(self, |activation| {
            for v in values.iter_mut() {
                *v = activation.apply(*v);
            }
        });
    }

    /// Whether the derivative is a function of the output, so that the input need not be saved.
    pub(crate) fn derivative_from_output(self) -> bool {
        !matches!(self, Activation::HardSwish | Activation::Silu)
    }

    /// The derivative, from the output or the input (see [`Activation::derivative_from_output`]).
    #[inline(always)]
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
                let sigmoid = one / (one + exp(-saved));
                sigmoid * (one + saved * (one - sigmoid))
            }
            Activation::Sigmoid => saved * (one - saved),
        }
    }

    /// The derivative, from the input.
    #[inline(always)]
    pub(super) fn derivative_at<T: Real>(self, x: T) -> T {
        self.derivative(if self.derivative_from_output() { self.apply(x) } else { x })
    }
}

/// `y = activation(x)`, any shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Activate(pub Activation);

/// `grad_x = grad_y * activation'(saved)`; inputs: grad_y, with `sum` a second gradient to be added to it, saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ActivateGrad {
    pub(crate) activation: Activation,
    /// Whether grad_y is a sum of two values, as where a residual block branches.
    pub(crate) sum: bool,
}

/// `Params` of `shaders/activation/*.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
}

impl Activate {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let x = call.real(0);
        pieces(
            call.output(0),
            PIECE,
            #[inline(always)]
            |at, y| {
                decided!(self.0, |activation| {
                    for (y, &x) in y.iter_mut().zip(&x[at..]) {
                        *y = activation.apply(x);
                    }
                });
            },
        );
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
        let op = ActivateGrad { activation: self.0, sum: false };
        Ok(vec![Some(tape.apply(op, &[grad_y, saved])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let quads = io.output(0).numel().div_ceil(4);
        let kernel =
            Kernel::new(shader!("activation/pointwise.wgsl"), "forward").with(&[("ACTIVATION", self.0.id())]);
        let launch = Launch::new(kernel, &Params { quads: quads as u32 }, groups(quads, caps));
        vec![Variant::single("pointwise", launch.inputs([0]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

impl ActivateGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let grad_y = call.real(0);
        let more = self.sum.then(|| call.real(1));
        let saved = call.real(1 + usize::from(self.sum));
        pieces(
            call.output(0),
            PIECE,
            #[inline(always)]
            |at, grad_x| {
                decided!(self.activation, |activation| {
                    let all = grad_x.iter_mut().zip(&saved[at..]).zip(&grad_y[at..]);
                    match more {
                        None => all.for_each(|((dx, &x), &dy)| *dx = dy * activation.derivative(x)),
                        Some(more) => all.zip(&more[at..]).for_each(|(((dx, &x), &dy), &more)| {
                            *dx = (dy + more) * activation.derivative(x);
                        }),
                    }
                });
            },
        );
    }
}

impl Op for ActivateGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "activation.grad"
    }

    fn attributes(&self) -> String {
        format!("{}{}", self.activation.name(), if self.sum { " of a sum" } else { "" })
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let quads = io.output(0).numel().div_ceil(4);
        let kernel = Kernel::new(shader!("activation/grad.wgsl"), "grad")
            .with(&[("ACTIVATION", self.activation.id()), ("SUM", self.sum.into())]);
        let launch = Launch::new(kernel, &Params { quads: quads as u32 }, groups(quads, caps)).inputs([0]);
        let more = if self.sum { Operand::Input(1, 0) } else { Operand::Unused };
        let saved = Operand::Input(1 + usize::from(self.sum), 0);
        vec![Variant::single("pointwise", launch.read(more).read(saved).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let each = if self.sum { 3.0 } else { 2.0 };
        Cost::streaming(io, each * io.output(0).numel() as f64)
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
    // The form that a plan fuses where two gradients meet.
    for activation in [Activation::Relu, Activation::HardSwish, Activation::Sigmoid] {
        let op = ActivateGrad { activation, sum: true };
        let shape = &[3, 5, 4, 7][..];
        all.push(Case::new(op, &[shape; 3]).fill(2, super::Fill::Range(-4.0, 4.0)).grads(&[]));
    }
    // More than one piece on the CPU.
    all.push(Case::new(Activate(Activation::Silu), &[&[3, 5501]]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate_everywhere() {
        let all = (0..2_200_000).map(|i| -110.0 + i as f32 * 1e-4);
        for x in all.chain([0.0, -0.0, 1e-30, 88.722_83, -87.336_55, f32::MAX, f32::MIN]) {
            let (got, want) = (exp(x), f64::from(x).exp());
            let unit = f64::from((want as f32).next_up()) - f64::from(want as f32);
            let near = (f64::from(got) - want).abs() <= 2.0 * unit;
            assert!(near || got == want as f32, "exp({x}) is {got}, not {want}");
        }
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
