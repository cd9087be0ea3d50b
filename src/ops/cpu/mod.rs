//! What the CPU implementations of the ops share: vector instructions, threads, and the register tiles
//! behind every matrix product and convolution.
//!
//! Results do not depend on the number of threads: work is cut into pieces by shape alone, every
//! element is summed by one thread in one order, and partial sums are added in the order of their pieces.

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

/// Elements that one thread takes at a time of a pointwise op: enough to hide the cost of handing them out.
pub(super) const PIECE: usize = 1 << 14;

/// Runs `f` compiled for this processor's vector instructions, and tells it whether a fused
/// multiply-add is one of them (where it is not, `mul_add` is a slow library call).
///
/// What `f` calls must be inlined into it: write `#[inline(always)]` before the closure.
#[inline(always)]
pub(super) fn simd<R>(f: impl FnOnce(bool) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just found.
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

/// `rounds` of [`MULTIPLY_ADDS`] multiply-adds of f32 on every thread, in chains that do not wait for each other:
/// what the processor can do at most.
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

/// Cuts `out` into pieces of `len` elements and calls `f(offset, piece)` for each, on all threads and
/// with vector instructions. Write `#[inline(always)]` before the closure.
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
