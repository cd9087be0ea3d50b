//! Building blocks of several families, under torchvision's names.

use std::fmt::Display;

use crate::Result;
use crate::nn::{Conv2d, Graph};
use crate::ops::{Activation, PoolWindow};
use crate::tape::ValueId;

/// The nearest multiple of 8 that is not more than a tenth below: torchvision's `_make_divisible`.
pub(super) fn divisible_by_8(channels: f64) -> usize {
    let nearest = ((channels + 4.0) as usize / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * channels { nearest + 8 } else { nearest }
}

/// Convolution `0`, batch norm `1`, activation `2`: torchvision's `Conv2dNormActivation`.
pub(super) fn conv_norm(
    g: &mut Graph<'_>,
    name: impl Display,
    x: ValueId,
    conv: Conv2d,
    activation: Activation,
) -> Result<ValueId> {
    g.at(name, |g| {
        let x = g.conv2d(0, x, conv)?;
        let x = g.batch_norm(1, x)?;
        if activation == Activation::Identity { Ok(x) } else { g.activation(2, x, activation) }
    })
}

/// Convolution `conv`, batch norm `bn`, ReLU: the `BasicConv2d` of torchvision's Inception networks.
pub(super) fn basic_conv(g: &mut Graph<'_>, name: impl Display, x: ValueId, conv: Conv2d) -> Result<ValueId> {
    g.at(name, |g| {
        let x = g.conv2d("conv", x, conv)?;
        let x = g.batch_norm("bn", x)?;
        g.relu("relu", x)
    })
}

/// Squeeze and excite (Hu, Shen, Sun 2018, arXiv:1709.01507): every channel times
/// `gate(fc2(activation(fc1(mean over the image))))`.
pub(super) fn squeeze_excite(
    g: &mut Graph<'_>,
    name: impl Display,
    x: ValueId,
    squeeze: usize,
    [activation, gate]: [Activation; 2],
) -> Result<ValueId> {
    g.at(name, |g| {
        let channels = g.tape.shape(x).channels();
        let s = g.adaptive_avg_pool("avgpool", x, [1, 1])?;
        let s = g.conv2d("fc1", s, Conv2d { bias: true, ..Conv2d::same(squeeze, 1, 1) })?;
        let s = g.activation("activation", s, activation)?;
        let s = g.conv2d("fc2", s, Conv2d { bias: true, ..Conv2d::same(channels, 1, 1) })?;
        let s = g.activation("scale_activation", s, gate)?;
        g.mul("scale", x, s)
    })
}

/// The mean over the image, as a vector.
pub(super) fn mean_vector(g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
    let x = g.adaptive_avg_pool("avgpool", x, [1, 1])?;
    g.flatten("flatten", x)
}

/// A square pooling window without padding.
pub(super) fn pool(kernel: usize, stride: usize) -> PoolWindow {
    PoolWindow { kernel: [kernel; 2], stride: [stride; 2], ..PoolWindow::default() }
}

/// A square pooling window with padding that keeps the image's size at stride 1.
pub(super) fn pool_same(kernel: usize, stride: usize) -> PoolWindow {
    PoolWindow { padding: [kernel / 2; 2], ..pool(kernel, stride) }
}

/// timm's name of a tensor of an inverted residual block (also fused, also without expansion). `rest` is the path
/// after `features.S.B.block.`: `1.0.weight` of a block that widens is `conv_dw.weight`.
pub(super) fn timm_block(rest: &str, widens: bool, fused: bool, squeezes: bool) -> String {
    let (layer, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let (part, leaf) = rest.split_once('.').unwrap_or(("", rest));
    // Layers of the block in order, each a convolution and its norm.
    let layers: &[[&str; 2]] = match (fused, widens, squeezes) {
        (true, true, _) => &[["conv_exp", "bn1"], ["conv_pwl", "bn2"]],
        (true, false, _) => &[["conv", "bn1"]],
        (false, true, true) => &[
            ["conv_pw", "bn1"],
            ["conv_dw", "bn2"],
            ["se.conv_reduce", "se.conv_expand"],
            ["conv_pwl", "bn3"],
        ],
        (false, true, false) => &[["conv_pw", "bn1"], ["conv_dw", "bn2"], ["conv_pwl", "bn3"]],
        (false, false, true) => {
            &[["conv_dw", "bn1"], ["se.conv_reduce", "se.conv_expand"], ["conv_pw", "bn2"]]
        }
        (false, false, false) => &[["conv_dw", "bn1"], ["conv_pw", "bn2"]],
    };
    let names = layer.parse().ok().and_then(|i: usize| layers.get(i)).copied().unwrap_or([layer; 2]);
    format!("{}.{leaf}", names[usize::from(matches!(part, "1" | "fc2"))])
}

#[cfg(test)]
mod tests {
    use super::divisible_by_8;

    #[test]
    fn channels_are_torchvisions() {
        let widths = [0.35, 0.5, 0.75, 1.4].map(|w| [32.0, 24.0, 96.0].map(|c| divisible_by_8(c * w)));
        assert_eq!(widths, [[16, 8, 32], [16, 16, 48], [24, 24, 72], [48, 32, 136]]);
    }
}
