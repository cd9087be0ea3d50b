//! MobileNetV2: Sandler, Howard, Zhu, Zhmoginov, Chen 2018, arXiv:1801.04381.
//!
//! A block widens its input by a 1x1 convolution, applies a depthwise convolution, and narrows the result by a 1x1
//! convolution without activation. Where neither size nor channels change, the block adds its input to the result.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::ops::Activation;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{conv_norm, divisible_by_8, mean_vector};

const RELU6: Activation = Activation::Relu6;

/// A row of table 2: `blocks` inverted residuals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Expansion t: channels inside a block over input channels.
    pub expansion: usize,
    /// Output channels c, before the width multiplier.
    pub channels: usize,
    /// Number of blocks n.
    pub blocks: usize,
    /// Stride s of the first block.
    pub stride: usize,
}

/// Table 2 of the paper. Before the rows comes a 3x3 convolution to 32 channels with stride 2; after them a 1x1
/// convolution to 1280 channels, the mean over the image, dropout and a linear layer.
#[rustfmt::skip]
pub const TABLE: [Row; 7] = [
    Row { expansion: 1, channels:  16, blocks: 1, stride: 1 }, // 112 x 112
    Row { expansion: 6, channels:  24, blocks: 2, stride: 2 }, //  56 x  56
    Row { expansion: 6, channels:  32, blocks: 3, stride: 2 }, //  28 x  28
    Row { expansion: 6, channels:  64, blocks: 4, stride: 2 }, //  14 x  14
    Row { expansion: 6, channels:  96, blocks: 3, stride: 1 },
    Row { expansion: 6, channels: 160, blocks: 3, stride: 2 }, //   7 x   7
    Row { expansion: 6, channels: 320, blocks: 1, stride: 1 },
];

/// MobileNetV2 of any width.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV2 {
    /// Width multiplier of all channels; the last layer never has fewer than 1280.
    pub width: f64,
    /// The rows of blocks.
    pub table: [Row; 7],
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl MobileNetV2 {
    /// The paper's network, with `width` times the channels.
    pub fn new(width: f64) -> Self {
        MobileNetV2 { width, table: TABLE, dropout: 0.2 }
    }

    fn channels(&self, channels: usize, at_least: f64) -> usize {
        divisible_by_8(channels as f64 * self.width.max(at_least))
    }
}

fn inverted_residual(
    g: &mut Graph<'_>,
    x: ValueId,
    expansion: usize,
    out_channels: usize,
    stride: usize,
) -> Result<ValueId> {
    let channels = g.tape.shape(x).channels();
    let hidden = channels * expansion;
    let y = g.at("conv", |g| {
        let (mut y, mut next) = (x, 0);
        if expansion != 1 {
            y = conv_norm(g, next, y, Conv2d::same(hidden, 1, 1), RELU6)?;
            next += 1;
        }
        y = conv_norm(g, next, y, Conv2d { groups: hidden, ..Conv2d::same(hidden, 3, stride) }, RELU6)?;
        y = g.conv2d(next + 1, y, Conv2d::same(out_channels, 1, 1))?;
        g.batch_norm(next + 2, y)
    })?;
    if stride == 1 && channels == out_channels { g.add("add", x, y) } else { Ok(y) }
}

impl Architecture for MobileNetV2 {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.at("features", |g| {
            let mut x = conv_norm(g, 0, x, Conv2d::same(self.channels(32, 0.0), 3, 2), RELU6)?;
            let mut index = 1;
            for row in &self.table {
                let out_channels = self.channels(row.channels, 0.0);
                for block in 0..row.blocks {
                    let stride = if block == 0 { row.stride } else { 1 };
                    x = g.at(index, |g| inverted_residual(g, x, row.expansion, out_channels, stride))?;
                    index += 1;
                }
            }
            conv_norm(g, index, x, Conv2d::same(self.channels(1280, 1.0), 1, 1), RELU6)
        })?;
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.at("classifier", |g| {
            let x = g.dropout(0, features, self.dropout)?;
            g.linear_head("1", x, classes)
        })
    }

    fn head_path(&self) -> &'static str {
        "classifier.1"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        format!("features.{}", self.table.iter().map(|row| row.blocks).sum::<usize>() + 1)
    }

    fn groups(&self) -> Vec<String> {
        ["features.0", "features.7", "classifier"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }

    /// `features.4.conv.1.0.weight` is timm's `blocks.2.0.conv_dw.weight`.
    fn timm_name(&self, path: &str) -> String {
        if let Some(leaf) = path.strip_prefix("classifier.1.") {
            return format!("classifier.{leaf}");
        }
        let mut parts = path.split('.').skip(1);
        let Some(index) = parts.next().and_then(|i| i.parse::<usize>().ok()) else { return path.into() };
        let rest: Vec<&str> = parts.collect();
        let blocks: usize = self.table.iter().map(|row| row.blocks).sum();
        let names = match index {
            0 => ["conv_stem", "bn1"],
            i if i > blocks => ["conv_head", "bn2"],
            _ => {
                let (mut row, mut block) = (0, index - 1);
                while block >= self.table[row].blocks {
                    block -= self.table[row].blocks;
                    row += 1;
                }
                let leaf = rest.last().copied().unwrap_or_default();
                // Inside a block: the index of the layer in `conv`, and whether the tensor belongs to the convolution
                // or the norm.
                let layer = rest.get(1..rest.len().saturating_sub(1)).unwrap_or_default().join(".");
                let name = match (self.table[row].expansion, layer.as_str()) {
                    (1, "0.0") => "conv_dw",
                    (1, "0.1") => "bn1",
                    (1, "1") => "conv_pw",
                    (1, _) => "bn2",
                    (_, "0.0") => "conv_pw",
                    (_, "0.1") => "bn1",
                    (_, "1.0") => "conv_dw",
                    (_, "1.1") => "bn2",
                    (_, "2") => "conv_pwl",
                    _ => "bn3",
                };
                return format!("blocks.{row}.{block}.{name}.{leaf}");
            }
        };
        let leaf = rest.last().copied().unwrap_or_default();
        format!("{}.{leaf}", names[usize::from(rest.first() == Some(&"1"))])
    }
}
