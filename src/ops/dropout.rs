//! Dropout with counter-based random numbers: the mask is a function of seed, step, layer and element. So it is never
//! stored, the gradient draws it again, and a run can be repeated or resumed. Stochastic depth drops whole images in
//! the same way (Huang et al. 2016, arXiv:1603.09382; torchvision's mode `row`).

use bytemuck::{Pod, Zeroable};

use super::cpu::{PIECE, pieces};
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Real, Tape, Type, ValueId, Variant};

/// `y = x / (1 - p)` with probability `1 - p`, else 0. Inputs: x, and the words `[seed, step]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Probability of a zero, in [0, 1).
    pub p: f32,
    /// A key that differs between the layers of a network.
    pub salt: u32,
    /// Whether images are dropped as a whole.
    pub by_row: bool,
}

/// `Params` of `shaders/dropout/pointwise.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    quads: u32,
    threshold: u32,
    salt: u32,
    scale: f32,
    unit: u32,
}

/// The twin of `pcg` in `shaders/lib/random.wgsl`.
#[inline(always)]
fn pcg(input: u32) -> u32 {
    let state = input.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

impl Dropout {
    /// Draws (of 24 bits) below this threshold give zeros.
    fn threshold(&self) -> u32 {
        (f64::from(self.p) * f64::from(1u32 << 24)) as u32
    }

    /// Elements that share a draw.
    fn unit(&self, x: &Type) -> usize {
        if self.by_row { x.shape[1..].iter().product::<usize>().max(1) } else { 1 }
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let unit = self.unit(call.io.inputs[0].ty);
        let step = call.words(1);
        let key = pcg(pcg(pcg(step[0]) ^ step[1]) ^ self.salt);
        let (threshold, scale) = (self.threshold(), T::of((1.0 / (1.0 - self.p)).into()));
        let x = call.real(0);
        pieces(
            call.output(0),
            PIECE,
            #[inline(always)]
            |at, y| {
                // Copied to a local, since the compiler must assume that a store to y could change it.
                let (key, threshold, scale, unit) = (key, threshold, scale, unit);
                let drops = |counter: usize| pcg(pcg(counter as u32) ^ key) >> 8 < threshold;
                if unit > 1 {
                    for (i, (y, &x)) in y.iter_mut().zip(&x[at..]).enumerate() {
                        *y = if drops((at + i) / unit) { T::zero() } else { x * scale };
                    }
                    return;
                }
                for (i, (y, &x)) in y.iter_mut().zip(&x[at..]).enumerate() {
                    *y = if drops(at + i) { T::zero() } else { x * scale };
                }
            },
        );
    }
}

impl Op for Dropout {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "dropout"
    }

    fn attributes(&self) -> String {
        format!("p {}{}", self.p, if self.by_row { " by row" } else { "" })
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require((0.0..1.0).contains(&self.p), || format!("p must be in [0, 1), found {}", self.p))?;
        require(*inputs[1] == Type::u32(&[2]), || "the step must be two words".into())?;
        Ok(vec![inputs[0].clone()])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None, None]) };
        // Linear in x, so the gradient is the same op on the gradient.
        Ok(vec![Some(tape.apply(*self, &[grad_y, inputs[1]])?), None])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let quads = io.output(0).numel().div_ceil(4);
        let params = Params {
            quads: quads as u32,
            threshold: self.threshold(),
            salt: self.salt,
            scale: 1.0 / (1.0 - self.p),
            unit: self.unit(io.inputs[0].ty) as u32,
        };
        let kernel = Kernel::new(shader!("dropout/pointwise.wgsl"), "forward");
        let launch = Launch::new(kernel, &params, groups(quads, caps));
        vec![Variant::single("pointwise", launch.inputs([0, 1]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |p, by_row, shape: &[usize]| {
        Case::new(Dropout { p, salt: 77, by_row }, &[shape]).with(Type::u32(&[2]), Fill::Below(1 << 20))
    };
    vec![
        case(0.5, false, &[3, 37]),
        case(0.2, false, &[1, 4, 5, 8]),
        case(0.0, false, &[3, 4]),
        case(0.3, false, &[3, 5501]),
        case(0.5, true, &[9, 3, 2, 5]),
        case(0.4, true, &[40, 300]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_the_stated_share_and_differs_between_steps() {
        let op = Dropout { p: 0.3, salt: 5, by_row: false };
        let (key_a, key_b) = (pcg(pcg(pcg(1)) ^ op.salt), pcg(pcg(pcg(1) ^ 1) ^ op.salt));
        let dropped = |key: u32| (0..100_000).filter(|&i| pcg(pcg(i) ^ key) >> 8 < op.threshold()).count();
        assert!((29_500..30_500).contains(&dropped(key_a)), "{}", dropped(key_a));
        let both = (0..100_000)
            .filter(|&i| [key_a, key_b].iter().all(|key| pcg(pcg(i) ^ key) >> 8 < op.threshold()))
            .count();
        assert!((8_500..9_500).contains(&both), "masks of two steps must be unrelated: {both}");
    }
}
