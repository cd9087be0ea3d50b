//! EfficientNet: Tan and Le 2019, arXiv:1905.11946; its Lite form for phones; and EfficientNetV2: Tan and Le 2021,
//! arXiv:2104.00298.
//!
//! One table of blocks, scaled in width and depth together. The Lite form has no squeeze-and-excite, uses ReLU6 in
//! place of SiLU, and does not scale its first and last stages. V2 begins with fused blocks, whose 3x3 filters see
//! all channels.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph, Norm};
use crate::ops::Activation;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{conv_norm, divisible_by_8, mean_vector, squeeze_excite, timm_block};

/// A stage: a row of table 1 of the first paper, or of table 4 of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Whether the filters see all channels (fused block) or each filter only its own channel (depthwise).
    pub fused: bool,
    /// Expansion: channels inside a block over input channels.
    pub expansion: usize,
    /// Side of the filters.
    pub kernel: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Output channels.
    pub channels: usize,
    /// Number of blocks.
    pub blocks: usize,
}

const fn row(expansion: usize, kernel: usize, stride: usize, channels: usize, blocks: usize) -> Stage {
    Stage { fused: false, expansion, kernel, stride, channels, blocks }
}

const fn fused(expansion: usize, stride: usize, channels: usize, blocks: usize) -> Stage {
    Stage { fused: true, expansion, kernel: 3, stride, channels, blocks }
}

/// EfficientNet-B0. The stem is a 3x3 convolution to 32 channels with stride 2.
#[rustfmt::skip]
pub const B0: [Stage; 7] = [
    row(1, 3, 1,  16, 1), // 112 x 112
    row(6, 3, 2,  24, 2), //  56 x  56
    row(6, 5, 2,  40, 2), //  28 x  28
    row(6, 3, 2,  80, 3), //  14 x  14
    row(6, 5, 1, 112, 3),
    row(6, 5, 2, 192, 4), //   7 x   7
    row(6, 3, 1, 320, 1),
];

/// EfficientNetV2-S. The stem has 24 channels.
#[rustfmt::skip]
pub const V2_S: [Stage; 6] = [
    fused(1,    1,  24,  2),
    fused(4,    2,  48,  4),
    fused(4,    2,  64,  4),
    row(  4, 3, 2, 128,  6),
    row(  6, 3, 1, 160,  9),
    row(  6, 3, 2, 256, 15),
];

/// EfficientNetV2-M. The stem has 24 channels.
#[rustfmt::skip]
pub const V2_M: [Stage; 7] = [
    fused(1,    1,  24,  3),
    fused(4,    2,  48,  5),
    fused(4,    2,  80,  5),
    row(  4, 3, 2, 160,  7),
    row(  6, 3, 1, 176, 14),
    row(  6, 3, 2, 304, 18),
    row(  6, 3, 1, 512,  5),
];

/// EfficientNetV2-L. The stem has 32 channels.
#[rustfmt::skip]
pub const V2_L: [Stage; 7] = [
    fused(1,    1,  32,  4),
    fused(4,    2,  64,  7),
    fused(4,    2,  96,  7),
    row(  4, 3, 2, 192, 10),
    row(  6, 3, 1, 224, 19),
    row(  6, 3, 2, 384, 25),
    row(  6, 3, 1, 640,  7),
];

/// An EfficientNet.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficientNet {
    /// Channels of the first convolution.
    pub stem: usize,
    /// The stages, with their scaled widths and depths.
    pub stages: Vec<Stage>,
    /// Channels of the last convolution.
    pub last: usize,
    /// Activation between layers.
    pub activation: Activation,
    /// Whether blocks have squeeze-and-excite.
    pub squeezes: bool,
    /// Dropout before the last layer.
    pub dropout: f32,
    /// Stochastic depth: the probability that the last block is skipped for an image. The probability grows linearly
    /// from 0 at the first block.
    pub stochastic_depth: f32,
    /// Batch norm constants of torchvision's weights.
    norm: Norm,
}

impl EfficientNet {
    /// B0 with `width` times the channels and `depth` times the blocks: the paper's compound scaling.
    pub fn scaled(width: f64, depth: f64, dropout: f32) -> Self {
        let wide = |channels: usize| divisible_by_8(channels as f64 * width);
        let deep = |blocks: usize| (blocks as f64 * depth).ceil() as usize;
        let stages = B0.map(|s| Stage { channels: wide(s.channels), blocks: deep(s.blocks), ..s }).to_vec();
        let last = 4 * wide(320);
        EfficientNet {
            stem: wide(32),
            stages,
            last,
            activation: Activation::Silu,
            squeezes: true,
            dropout,
            stochastic_depth: 0.2,
            norm: Norm::default(),
        }
    }

    /// Sets the batch norm constants of torchvision's larger networks.
    #[must_use]
    pub fn norm_of_large(mut self) -> Self {
        self.norm = Norm { eps: 1e-3, momentum: 0.01 };
        self
    }

    /// The Lite form with the same scaling.
    pub fn lite(width: f64, depth: f64, dropout: f32) -> Self {
        let mut lite = Self::scaled(width, depth, dropout);
        let ends = [0, lite.stages.len() - 1];
        for end in ends {
            lite.stages[end].blocks = B0[end].blocks;
        }
        // As in timm, which has no drop path by default.
        let (activation, stochastic_depth) = (Activation::Relu6, 0.0);
        EfficientNet { stem: 32, last: 1280, activation, squeezes: false, stochastic_depth, ..lite }
    }

    /// A network from a table of the second paper.
    pub fn v2(stages: &[Stage], dropout: f32) -> Self {
        let stem = stages[0].channels;
        let plain = Self::scaled(1.0, 1.0, dropout);
        EfficientNet {
            stem,
            stages: stages.to_vec(),
            last: 1280,
            norm: Norm { eps: 1e-3, momentum: 0.1 },
            ..plain
        }
    }

    /// A block. Where it has a shortcut, the block is skipped for an image with probability `p` (stochastic depth).
    fn block(&self, g: &mut Graph<'_>, x: ValueId, stage: &Stage, stride: usize, p: f32) -> Result<ValueId> {
        let channels = g.tape.shape(x).channels();
        let inside = divisible_by_8((channels * stage.expansion) as f64);
        let (act, plain) = (self.activation, Activation::Identity);
        let y = g.at("block", |g| {
            let filter = Conv2d::same(inside, stage.kernel, stride);
            let narrow = Conv2d::same(stage.channels, 1, 1);
            match (stage.fused, inside == channels) {
                (true, true) => conv_norm(g, 0, x, Conv2d::same(stage.channels, stage.kernel, stride), act),
                (true, false) => {
                    let y = conv_norm(g, 0, x, filter, act)?;
                    conv_norm(g, 1, y, narrow, plain)
                }
                (false, same) => {
                    let (mut y, mut names) = (x, 0..);
                    let mut next = || names.next().unwrap_or_default();
                    if !same {
                        y = conv_norm(g, next(), y, Conv2d::same(inside, 1, 1), act)?;
                    }
                    y = conv_norm(g, next(), y, Conv2d { groups: inside, ..filter }, act)?;
                    if self.squeezes {
                        let squeeze = (channels / 4).max(1);
                        y = squeeze_excite(g, next(), y, squeeze, [act, Activation::Sigmoid])?;
                    }
                    conv_norm(g, next(), y, narrow, plain)
                }
            }
        })?;
        if stride != 1 || channels != stage.channels {
            return Ok(y);
        }
        let y = g.stochastic_depth("stochastic_depth", y, p)?;
        g.add("add", x, y)
    }
}

impl Architecture for EfficientNet {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.at("features", |g| {
            let mut x = conv_norm(g, 0, x, Conv2d::same(self.stem, 3, 2), self.activation)?;
            let blocks: usize = self.stages.iter().map(|stage| stage.blocks).sum();
            let mut shares = (0..blocks).map(|number| self.stochastic_depth * number as f32 / blocks as f32);
            for (stage, index) in self.stages.iter().zip(1..) {
                for block in 0..stage.blocks {
                    let stride = if block == 0 { stage.stride } else { 1 };
                    let p = shares.next().unwrap_or_default();
                    x = g.at(format_args!("{index}.{block}"), |g| self.block(g, x, stage, stride, p))?;
                }
            }
            conv_norm(g, self.stages.len() + 1, x, Conv2d::same(self.last, 1, 1), self.activation)
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
        format!("features.{}", self.stages.len() + 1)
    }

    fn groups(&self) -> Vec<String> {
        vec!["features.0".into(), format!("features.{}", self.stages.len() / 2 + 1), "classifier".into()]
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }

    fn norm(&self) -> Norm {
        self.norm
    }

    /// `features.2.0.block.1.0.weight` is timm's `blocks.1.0.conv_dw.weight`.
    fn timm_name(&self, path: &str) -> String {
        if let Some(leaf) = path.strip_prefix("classifier.1.") {
            return format!("classifier.{leaf}");
        }
        let mut parts = path.splitn(3, '.').skip(1);
        let Some(index) = parts.next().and_then(|i| i.parse::<usize>().ok()) else { return path.into() };
        let rest = parts.next().unwrap_or_default();
        let (part, leaf) = rest.split_once('.').unwrap_or((rest, ""));
        let Some(stage) = index.checked_sub(1).and_then(|i| self.stages.get(i)) else {
            let names = if index == 0 { ["conv_stem", "bn1"] } else { ["conv_head", "bn2"] };
            return format!("{}.{leaf}", names[usize::from(part == "1")]);
        };
        let (widens, squeezes) = (stage.expansion != 1, self.squeezes);
        let rest = leaf.strip_prefix("block.").unwrap_or(leaf);
        format!("blocks.{}.{part}.{}", index - 1, timm_block(rest, widens, stage.fused, squeezes))
    }
}
