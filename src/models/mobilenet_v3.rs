//! MobileNetV3: Howard et al. 2019, arXiv:1905.02244.
//!
//! MobileNetV2's blocks with squeeze-and-excite, hard swish in the deeper layers, and a cheaper end: the last
//! widening layer comes after the mean over the image.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph, Layout, Linear, Norm, ParamSpec};
use crate::ops::Activation;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{conv_norm, divisible_by_8, mean_vector, squeeze_excite, timm_block};

/// A row of tables 1 and 2: one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Side of the filters.
    pub kernel: usize,
    /// Channels inside the block.
    pub expanded: usize,
    /// Output channels.
    pub channels: usize,
    /// Whether the block has squeeze-and-excite.
    pub squeezes: bool,
    /// ReLU or hard swish.
    pub activation: Activation,
    /// Stride of the block.
    pub stride: usize,
}

const fn row(
    kernel: usize,
    expanded: usize,
    channels: usize,
    squeezes: bool,
    activation: Activation,
    stride: usize,
) -> Row {
    Row { kernel, expanded, channels, squeezes, activation, stride }
}

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::HardSwish;

/// Table 1 of the paper: the large network.
#[rustfmt::skip]
pub const LARGE: [Row; 15] = [
    row(3,  16,  16, false, RE, 1), // 112 x 112
    row(3,  64,  24, false, RE, 2), //  56 x  56
    row(3,  72,  24, false, RE, 1),
    row(5,  72,  40, true,  RE, 2), //  28 x  28
    row(5, 120,  40, true,  RE, 1),
    row(5, 120,  40, true,  RE, 1),
    row(3, 240,  80, false, HS, 2), //  14 x  14
    row(3, 200,  80, false, HS, 1),
    row(3, 184,  80, false, HS, 1),
    row(3, 184,  80, false, HS, 1),
    row(3, 480, 112, true,  HS, 1),
    row(3, 672, 112, true,  HS, 1),
    row(5, 672, 160, true,  HS, 2), //   7 x   7
    row(5, 960, 160, true,  HS, 1),
    row(5, 960, 160, true,  HS, 1),
];

/// Table 2 of the paper: the small network.
#[rustfmt::skip]
pub const SMALL: [Row; 11] = [
    row(3,  16,  16, true,  RE, 2), //  56 x  56
    row(3,  72,  24, false, RE, 2), //  28 x  28
    row(3,  88,  24, false, RE, 1),
    row(5,  96,  40, true,  HS, 2), //  14 x  14
    row(5, 240,  40, true,  HS, 1),
    row(5, 240,  40, true,  HS, 1),
    row(5, 120,  48, true,  HS, 1),
    row(5, 144,  48, true,  HS, 1),
    row(5, 288,  96, true,  HS, 2), //   7 x   7
    row(5, 576,  96, true,  HS, 1),
    row(5, 576,  96, true,  HS, 1),
];

/// MobileNetV3.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV3 {
    /// Width multiplier of all channels.
    pub width: f64,
    /// The blocks.
    pub table: &'static [Row],
    /// Number of blocks in each of timm's stages.
    stages: &'static [usize],
    /// Input features of the last layer.
    pub last: usize,
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl MobileNetV3 {
    /// Table 1 with `width` times the channels.
    pub fn large(width: f64) -> Self {
        MobileNetV3 {
            width,
            table: &LARGE,
            stages: &[1, 2, 3, 4, 2, 3],
            last: divisible_by_8(1280.0 * width),
            dropout: 0.2,
        }
    }

    /// Table 2 with `width` times the channels.
    pub fn small(width: f64) -> Self {
        MobileNetV3 {
            width,
            table: &SMALL,
            stages: &[1, 2, 3, 2, 3],
            last: divisible_by_8(1024.0 * width),
            dropout: 0.2,
        }
    }

    fn channels(&self, channels: usize) -> usize {
        divisible_by_8(channels as f64 * self.width)
    }

    fn block(&self, g: &mut Graph<'_>, x: ValueId, row: &Row) -> Result<ValueId> {
        let channels = g.tape.shape(x).channels();
        let (inside, out_channels) = (self.channels(row.expanded), self.channels(row.channels));
        let y = g.at("block", |g| {
            let (mut y, mut names) = (x, 0..);
            let mut next = || names.next().unwrap_or_default();
            if inside != channels {
                y = conv_norm(g, next(), y, Conv2d::same(inside, 1, 1), row.activation)?;
            }
            let each = Conv2d { groups: inside, ..Conv2d::same(inside, row.kernel, row.stride) };
            y = conv_norm(g, next(), y, each, row.activation)?;
            if row.squeezes {
                let squeeze = divisible_by_8((inside / 4) as f64);
                y = squeeze_excite(g, next(), y, squeeze, [Activation::Relu, Activation::HardSigmoid])?;
            }
            conv_norm(g, next(), y, Conv2d::same(out_channels, 1, 1), Activation::Identity)
        })?;
        if row.stride == 1 && channels == out_channels { g.add("add", x, y) } else { Ok(y) }
    }
}

impl Architecture for MobileNetV3 {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.at("features", |g| {
            let mut x = conv_norm(g, 0, x, Conv2d::same(self.channels(16), 3, 2), HS)?;
            for (row, index) in self.table.iter().zip(1..) {
                x = g.at(index, |g| self.block(g, x, row))?;
            }
            let wide = 6 * g.tape.shape(x).channels();
            conv_norm(g, self.table.len() + 1, x, Conv2d::same(wide, 1, 1), HS)
        })?;
        let x = mean_vector(g, x)?;
        g.at("classifier", |g| {
            let x = g.linear(0, x, Linear::new(self.last))?;
            g.activation(1, x, HS)
        })
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.at("classifier", |g| {
            let x = g.dropout(2, features, self.dropout)?;
            g.linear_head("3", x, classes)
        })
    }

    fn head_path(&self) -> &'static str {
        "classifier.3"
    }

    fn features_path(&self) -> &'static str {
        "classifier.1"
    }

    fn last_map(&self) -> String {
        format!("features.{}", self.table.len() + 1)
    }

    fn groups(&self) -> Vec<String> {
        vec!["features.0".into(), format!("features.{}", self.table.len() / 2 + 1), "classifier.3".into()]
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }

    fn norm(&self) -> Norm {
        Norm { eps: 1e-3, momentum: 0.01 }
    }

    /// `features.4.block.1.0.weight` is timm's `blocks.2.0.conv_dw.weight`. The layer after the mean is a 1x1
    /// convolution in timm.
    fn timm_name(&self, path: &str) -> String {
        if let Some(leaf) = path.strip_prefix("classifier.0.") {
            return format!("conv_head.{leaf}");
        }
        if let Some(leaf) = path.strip_prefix("classifier.3.") {
            return format!("classifier.{leaf}");
        }
        let mut parts = path.splitn(3, '.').skip(1);
        let Some(index) = parts.next().and_then(|i| i.parse::<usize>().ok()) else { return path.into() };
        let rest = parts.next().unwrap_or_default();
        // Convolution or norm of the layers outside blocks.
        let leaf = |names: [&str; 2]| match rest.split_once('.') {
            Some((part, leaf)) => format!("{}.{leaf}", names[usize::from(part == "1")]),
            None => path.into(),
        };
        if index == 0 {
            return leaf(["conv_stem", "bn1"]);
        }
        let Some(row) = self.table.get(index - 1) else {
            let last = format!("blocks.{}.0", self.stages.len());
            return format!("{last}.{}", leaf(["conv", "bn1"]));
        };
        let (mut stage, mut block) = (0, index - 1);
        while block >= self.stages[stage] {
            block -= self.stages[stage];
            stage += 1;
        }
        let inside = |i: usize| self.channels(if i == 0 { 16 } else { self.table[i - 1].channels });
        let widens = self.channels(row.expanded) != inside(index - 1);
        let rest = rest.strip_prefix("block.").unwrap_or(rest);
        format!("blocks.{stage}.{block}.{}", timm_block(rest, widens, false, row.squeezes))
    }

    fn timm_shape(&self, spec: &ParamSpec) -> Vec<usize> {
        match spec.shape[..] {
            [out, inputs] if spec.layout == Layout::Linear && spec.path.starts_with("classifier.0.") => {
                vec![out, inputs, 1, 1]
            }
            _ => spec.shape.clone(),
        }
    }
}
