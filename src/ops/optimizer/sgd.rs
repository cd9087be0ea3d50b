//! SGD with momentum.

use super::{UpdateRule, check, each_run, variant};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, Io, Op, Real, Type, Variant};

/// SGD as in PyTorch: `g += decay p; m = momentum m + g; p -= rate (nesterov ? g + momentum m : m)`. Inputs:
/// parameters and momentum (both updated), gradients, blocks, rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Weight of the last step in the next one.
    pub momentum: f32,
    /// Nesterov momentum.
    pub nesterov: bool,
}

impl UpdateRule for Sgd {
    const MOMENTS: usize = 1;
}

impl Sgd {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (momentum, nesterov) = (T::of(self.momentum.into()), self.nesterov);
        each_run(
            call,
            #[inline(always)]
            |[rate, decay, ..], [params, velocity], grads| {
                for ((p, m), &grad) in params.iter_mut().zip(velocity).zip(grads) {
                    let grad = grad + decay * *p;
                    *m = momentum * *m + grad;
                    *p -= rate * if nesterov { grad + momentum * *m } else { *m };
                }
            },
        );
    }
}

impl Op for Sgd {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "optimizer.sgd"
    }

    fn attributes(&self) -> String {
        format!("momentum {}{}", self.momentum, if self.nesterov { " nesterov" } else { "" })
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        check(inputs, 2)
    }

    fn updates(&self) -> usize {
        2
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let kernel =
            Kernel::new(shader!("optimizer/sgd.wgsl"), "update").with(&[("NESTEROV", self.nesterov.into())]);
        variant(io, caps, kernel, [self.momentum, 0.0, 0.0], 2)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        let page = io.input(0).numel() as f64;
        Cost { flops: 5.0 * page, bytes: 5.0 * 4.0 * page }
    }
}
