//! The work on a result before it is stored, in the same pass:
//! `v = (v + bias) * scale + shift; v = v + residual; v = activation(v)`. Kernels specialise it
//! (`shaders/lib/epilogue.wgsl`); plans fuse ops into it.

use crate::Result;
use crate::tape::{CpuCall, Launch, Op, Operand, Real, Shape, Type};

use super::{Activate, Activation, Add, require};

/// The parts of the epilogue. Their operands follow the op's own inputs in this order: bias `[C]`, affine `[2, C]`
/// (scale, then shift), residual (shape of the output).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epilogue {
    /// Adds one bias for each channel.
    pub bias: bool,
    /// Multiplies and shifts each channel: a folded batch norm.
    pub affine: bool,
    /// Adds another activation of the same shape.
    pub residual: bool,
    /// Ends with this activation function.
    pub activation: Activation,
}

/// An epilogue and its operands, applied on the CPU to a piece of the result as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fused<'a, T> {
    bias: Option<&'a [T]>,
    affine: Option<(&'a [T], &'a [T])>,
    residual: Option<&'a [T]>,
    activation: Activation,
}

impl<T: Real> Fused<'_, T> {
    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.bias.is_none()
            && self.affine.is_none()
            && self.residual.is_none()
            && self.activation == Activation::Identity
    }

    /// `values` are neighbouring channels of one pixel: the first is channel `channel`, and element `at` of the whole
    /// result.
    #[inline(always)]
    pub(super) fn apply(&self, at: usize, channel: usize, values: &mut [T]) {
        let n = values.len();
        // Plain loops: closures of iterators are not always compiled for the vector instructions.
        if let Some(bias) = self.bias {
            let bias = &bias[channel..][..n];
            for c in 0..n {
                values[c] += bias[c];
            }
        }
        if let Some((scale, shift)) = self.affine {
            let (scale, shift) = (&scale[channel..][..n], &shift[channel..][..n]);
            for c in 0..n {
                values[c] = values[c] * scale[c] + shift[c];
            }
        }
        if let Some(residual) = self.residual {
            let residual = &residual[at..][..n];
            for c in 0..n {
                values[c] += residual[c];
            }
        }
        self.activation.apply_all(values);
    }
}

impl Epilogue {
    /// A bias alone.
    pub fn bias() -> Self {
        Epilogue { bias: true, ..Self::default() }
    }

    /// The number of its operands.
    pub fn operands(&self) -> usize {
        usize::from(self.bias) + usize::from(self.affine) + usize::from(self.residual)
    }

    /// Operand numbers of bias, affine and residual, after the `own` inputs of the op itself.
    pub fn slots(&self, own: usize) -> [Option<usize>; 3] {
        let affine = own + usize::from(self.bias);
        let residual = affine + usize::from(self.affine);
        [self.bias.then_some(own), self.affine.then_some(affine), self.residual.then_some(residual)]
    }

    /// The epilogue with an activation or a sum taken in, where the order allows it. `Epilogue::absorb` takes in an
    /// affine too.
    pub(super) fn absorb_but_affine(&self, consumer: &dyn Op) -> Option<Self> {
        let any = consumer.as_any();
        if self.activation != Activation::Identity {
            return None;
        }
        if let Some(Activate(activation)) = any.downcast_ref::<Activate>() {
            return Some(Epilogue { activation: *activation, ..*self });
        }
        if self.residual {
            return None;
        }
        if let Some(add) = any.downcast_ref::<Add>() {
            return Some(Epilogue { residual: true, activation: add.activation, ..*self });
        }
        None
    }

    /// Whether an op with this epilogue can be differentiated as recorded: only a bias may be present; plans fuse
    /// everything else after the gradient was recorded.
    pub fn is_plain(&self) -> bool {
        !self.affine && !self.residual && self.activation == Activation::Identity
    }

    /// Checks the operands' shapes against the output's.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] naming the operand that does not fit.
    pub fn check(&self, own: usize, inputs: &[&Type], output: &Shape) -> Result<()> {
        let channels = output.channels();
        let wanted = [vec![channels], vec![2, channels], output.0.clone()];
        require(inputs.len() == own + self.operands(), || {
            format!("expected {} operands, found {}", own + self.operands(), inputs.len())
        })?;
        for ((slot, wanted), name) in self.slots(own).iter().zip(&wanted).zip(["bias", "affine", "residual"])
        {
            if let Some(i) = slot {
                require(inputs[*i].shape.0 == *wanted, || {
                    format!("the {name} must have shape {wanted:?}, found {}", inputs[*i].shape)
                })?;
            }
        }
        Ok(())
    }

    /// The override constants of `lib/epilogue.wgsl`.
    pub fn constants(&self) -> [(&'static str, u32); 4] {
        [
            ("HAS_BIAS", self.bias.into()),
            ("HAS_AFFINE", self.affine.into()),
            ("HAS_RESIDUAL", self.residual.into()),
            ("ACTIVATION", self.activation.id()),
        ]
    }

    /// Binds bias, affine and residual, in this order; absent ones are unused bindings.
    pub fn bind(&self, own: usize, launch: Launch) -> Launch {
        self.slots(own)
            .into_iter()
            .fold(launch, |launch, slot| launch.read(slot.map_or(Operand::Unused, |i| Operand::Input(i, 0))))
    }

    /// The epilogue with its operands, for the CPU.
    pub(super) fn operands_of<'a, T: Real>(&self, own: usize, call: &CpuCall<'a, T>) -> Fused<'a, T> {
        let [bias, affine, residual] = self.slots(own).map(|slot| slot.map(|i| call.real(i)));
        let affine = affine.map(|affine| affine.split_at(affine.len() / 2));
        Fused { bias, affine, residual, activation: self.activation }
    }

    /// For plans: ` +bias +affine +residual +relu`.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (on, name) in [(self.bias, "bias"), (self.affine, "affine"), (self.residual, "residual")] {
            if on {
                text.push_str(" +");
                text.push_str(name);
            }
        }
        if self.activation != Activation::Identity {
            text.push_str(" +");
            text.push_str(self.activation.name());
        }
        text
    }
}
