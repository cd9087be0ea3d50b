//! Adam with decoupled weight decay.

use super::{UpdateRule, check, each_run, variant};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Op, Real, Type, Variant};

/// AdamW (Loshchilov and Hutter 2019), as in PyTorch. Inputs: parameters, first and second moment (all updated),
/// gradients, blocks, rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

impl UpdateRule for AdamW {
    const MOMENTS: usize = 2;

    fn decays(&self) -> [f64; 2] {
        [self.beta1, self.beta2].map(f64::from)
    }
}

impl AdamW {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let [b1, b2, epsilon] = [self.beta1, self.beta2, self.epsilon].map(|x| T::of(x.into()));
        each_run(
            call,
            #[inline(always)]
            |[rate, decay, correction1, correction2], [params, first, second], grads| {
                for (((p, m), v), &grad) in params.iter_mut().zip(first).zip(second).zip(grads) {
                    let decayed = *p - rate * decay * *p;
                    *m = b1 * *m + (T::one() - b1) * grad;
                    *v = b2 * *v + (T::one() - b2) * grad * grad;
                    *p = decayed - rate / correction1 * *m / (v.sqrt() / correction2 + epsilon);
                }
            },
        );
    }
}

impl Op for AdamW {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "optimizer.adamw"
    }

    fn attributes(&self) -> String {
        format!("beta {} {}", self.beta1, self.beta2)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 3)
    }

    fn updates(&self) -> usize {
        3
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel = Kernel::new(shader!("optimizer/adamw.wgsl"), "update");
        variant(io, caps, kernel, [self.beta1, self.beta2, self.epsilon], 3)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: 14.0 * page, bytes: 7.0 * 4.0 * page }
    }
}
