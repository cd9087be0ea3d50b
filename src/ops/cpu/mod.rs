//! Shared parts of the ops' CPU implementations: vector instructions, threads, and the register tiles of every matrix
//! product and convolution.
//!
//! Results do not depend on the number of threads: work is divided by shape alone, every element is summed by one
//! thread in one order, and partial sums are added in a fixed order.

mod correlate;
pub(super) mod sums;
mod tile;
mod view;
mod weigh;
mod winograd;
mod winograd_weigh;

use rayon::prelude::*;

pub(super) use correlate::correlate;
pub(super) use view::{Grid, Job, Tap, Weights};
pub(super) use weigh::{scratch as weigh_scratch, weigh};
pub(super) use winograd::{PANEL, POINTS, Tiles, transform_weights, winograd};
pub(super) use winograd_weigh::{winograd_scratch, winograd_weigh};

/// Elements of a piece of a pointwise op: enough to hide the cost of distributing pieces to threads.
pub(super) const PIECE: usize = 1 << 14;

/// Runs `f` compiled for this processor's vector instructions, and passes it whether a fused multiply-add is one of
/// them (else `mul_add` is a slow library call).
///
/// Functions that `f` calls must be inlined into it: write `#[inline(always)]` before the closure.
#[inline(always)]
pub(super) fn simd<R>(f: impl FnOnce(bool) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were detected just before.
            #[allow(unsafe_code)]
            return unsafe { avx2(f) };
        }
        f(false)
    }
    #[cfg(not(target_arch = "x86_64"))]
    f(cfg!(target_arch = "aarch64"))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<R>(f: impl FnOnce(bool) -> R) -> R {
    f(true)
}

/// `a * b + c`, in one rounding where the processor has an instruction for it.
#[inline(always)]
pub(super) fn mul_add<T: num_traits::Float>(fused: bool, a: T, b: T, c: T) -> T {
    if fused { a.mul_add(b, c) } else { a * b + c }
}

/// Multiply-adds of one round of [`multiply_adds`].
pub(crate) const MULTIPLY_ADDS: usize = 6 * 16;

/// `rounds` of [`MULTIPLY_ADDS`] multiply-adds of f32 on every thread, in independent chains: the limit of the
/// processor.
pub(crate) fn multiply_adds(rounds: usize) {
    rayon::broadcast(|_| {
        let sums = simd(
            #[inline(always)]
            |fused| {
                // The form of the register tile, which the compiler keeps in registers.
                let (a, b) = std::hint::black_box(([0.5_f32; 6], [0.25_f32; 16]));
                let mut sums = [[0.0_f32; 16]; 6];
                for _ in 0..rounds {
                    for r in 0..6 {
                        for c in 0..16 {
                            sums[r][c] = mul_add(fused, a[r], b[c], sums[r][c]);
                        }
                    }
                }
                sums
            },
        );
        std::hint::black_box(sums);
    });
}

/// Divides `out` into pieces of `len` elements and calls `f(offset, piece)` for each, on all threads and with vector
/// instructions. Write `#[inline(always)]` before the closure.
pub(super) fn pieces<A: Send>(out: &mut [A], len: usize, f: impl Fn(usize, &mut [A]) + Sync) {
    let run = |(i, piece): (usize, &mut [A])| {
        simd(
            #[inline(always)]
            |_| f(i * len, piece),
        );
    };
    if out.len() <= len {
        run((0, out));
    } else {
        out.par_chunks_mut(len).enumerate().for_each(run);
    }
}
