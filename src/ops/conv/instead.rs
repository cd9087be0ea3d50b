//! Where Winograd's form takes the place of a convolution.

use super::{Conv, ConvGradInput, Padding};
use crate::gpu::Caps;
use crate::ops::Epilogue;
use crate::ops::cpu::POINTS;
use crate::ops::winograd::{ROWS, Winograd, WinogradWeight, of_image, suits};
use crate::tape::{Op, Shape};

/// Bytes of one scratch buffer that a single image may take.
const MOST: u64 = 64 << 20;

/// The two ops in the place of `op`, a convolution or its gradient, that sums over `x` and writes `y`, where they
/// are faster on a device with `caps`. `constant`: the weights never change, so transforming them costs nothing.
pub(crate) fn winograd_instead(
    op: &dyn Op,
    x: &Shape,
    y: &Shape,
    constant: bool,
    caps: &Caps,
) -> Option<(WinogradWeight, Winograd)> {
    let any = op.as_any();
    let (window, groups, epilogue, flipped) = match (any.downcast_ref(), any.downcast_ref()) {
        (Some(&Conv { window, groups, epilogue }), _) => (window, groups, epilogue, false),
        (_, Some(ConvGradInput { window, groups, .. })) => (*window, *groups, Epilogue::default(), true),
        _ => return None,
    };
    let mut padding = window.padding;
    let all = [padding.top, padding.left, padding.bottom, padding.right];
    let (depth, columns) = (x[3], y[3]);
    if !suits(&window, groups, depth, columns) || all.iter().any(|p| *p > 2) {
        return None;
    }
    if flipped {
        padding = Padding { top: 2 - all[0], left: 2 - all[1], bottom: 2 - all[2], right: 2 - all[3] };
    }
    let fits = depth % 4 == 0 && columns % 4 == 0 && {
        let bytes = (of_image(y) * POINTS * depth.max(columns) * 4) as u64;
        caps.native || bytes <= caps.max_binding.min(MOST)
    };
    // Measured on two cores and on llvmpipe (benches/runs); real GPUs are not measured yet and sum directly.
    let pays = caps.software && (constant || caps.native && y.rows() >= ROWS);
    (fits && pays).then_some((WinogradWeight { flipped }, Winograd { padding, columns, epilogue }))
}
