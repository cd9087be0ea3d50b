//! A norm before its ops: where its statistics come from, its numbers for a kernel and for the CPU.

use bytemuck::{Pod, Zeroable};

use super::ROWS;
use super::rows::repeated;
use crate::gpu::Caps;
use crate::ops::activation::decided;
use crate::ops::{Activation, groups};
use crate::tape::Real;

/// Where the mean and variance of a [`super::BatchNorm`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statistics {
    /// [`super::BatchStats`] of the same x: they depend on x, and the gradient knows it.
    Batch,
    /// Constants.
    Running,
}

impl Statistics {
    pub(super) fn name(self) -> &'static str {
        if self == Statistics::Batch { "batch" } else { "running" }
    }
}

/// `Params` of `shaders/batch_norm/normalize.wgsl`, `grad_x.wgsl` and `grad_x_running.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    rows: u32,
    channels: u32,
    eps: f32,
}

impl Params {
    /// Params and workgroups of a kernel that takes ROWS rows of `lanes` channels a thread.
    pub(super) fn of(y: &[usize], lanes: usize, eps: f32, caps: &Caps) -> (Self, [u32; 3]) {
        let channels = y.last().copied().unwrap_or(1);
        let rows = y.iter().product::<usize>() / channels;
        let threads = channels / lanes * rows.div_ceil(ROWS);
        (Params { rows: rows as u32, channels: (channels / lanes) as u32, eps }, groups(threads, caps))
    }
}

/// A batch norm as `(x - center) * scale + shift` for the CPU's lanes: `shaders/lib/norm.wgsl`.
pub(super) struct Norm<T> {
    pub(super) center: Vec<T>,
    pub(super) scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: Real> Norm<T> {
    pub(super) fn of(statistics: Statistics, eps: f32, [mean, var, weight, bias]: [&[T]; 4]) -> Self {
        let scale: Vec<T> =
            var.iter().zip(weight).map(|(&v, &w)| w / (v + T::of(eps.into())).sqrt()).collect();
        let (center, shift) = match statistics {
            Statistics::Batch => (mean.to_vec(), bias.to_vec()),
            Statistics::Running => {
                let shift = |c: usize| (-mean[c]).mul_add(scale[c], bias[c]);
                (vec![T::zero(); scale.len()], (0..scale.len()).map(shift).collect())
            }
        };
        Norm { center: repeated(&center), scale: repeated(&scale), shift: repeated(&shift) }
    }

    /// The norm of one stretch.
    #[inline(always)]
    pub(super) fn normalise(&self, x: &[T], y: &mut [T]) {
        let tables = self.center.iter().zip(&self.scale).zip(&self.shift);
        for ((y, &x), ((&center, &scale), &shift)) in y.iter_mut().zip(x).zip(tables) {
            *y = (x - center) * scale + shift;
        }
    }

    /// `g = grad_y * activation'(v)` of one stretch: v, the activation's input, is found again from x.
    #[inline(always)]
    pub(super) fn through(&self, activation: Activation, x: &[T], grad_y: &[T], g: &mut [T]) {
        if activation == Activation::Identity {
            return g.copy_from_slice(grad_y);
        }
        decided!(activation, |activation| {
            let tables = self.center.iter().zip(&self.scale).zip(&self.shift);
            for (((g, &x), &grad_y), ((&center, &scale), &shift)) in
                g.iter_mut().zip(x).zip(grad_y).zip(tables)
            {
                *g = grad_y * activation.derivative_at((x - center) * scale + shift);
            }
        });
    }
}
