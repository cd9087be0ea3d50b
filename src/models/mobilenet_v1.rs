//! MobileNet v1: Howard et al. 2017, arXiv:1704.04861. torchvision does not have this network; the names are timm's.
//!
//! Every block is a depthwise convolution followed by a 1x1 convolution.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::ops::Activation;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{divisible_by_8, mean_vector};

/// Table 1 of the paper: channels at width 1, blocks, stride of the first block. The stem is a 3x3 convolution to 32
/// channels with stride 2.
#[rustfmt::skip]
pub const TABLE: [(usize, usize, usize); 5] = [
    (  64, 1, 1), // 112 x 112
    ( 128, 2, 2), //  56 x  56
    ( 256, 2, 2), //  28 x  28
    ( 512, 6, 2), //  14 x  14
    (1024, 2, 2), //   7 x   7
];

/// MobileNet v1 of any width.
#[derive(Debug, Clone, PartialEq)]
pub struct MobileNetV1 {
    /// Width multiplier of all channels: the paper's alpha.
    pub width: f64,
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl MobileNetV1 {
    /// The paper's network, with `width` times the channels.
    pub fn new(width: f64) -> Self {
        MobileNetV1 { width, dropout: 0.2 }
    }

    fn channels(&self, channels: usize) -> usize {
        divisible_by_8(channels as f64 * self.width)
    }
}

/// Convolution, batch norm, ReLU6.
fn conv_norm(g: &mut Graph<'_>, [conv_name, norm]: [&str; 2], x: ValueId, conv: Conv2d) -> Result<ValueId> {
    let x = g.conv2d(conv_name, x, conv)?;
    let x = g.batch_norm(norm, x)?;
    g.activation(format_args!("{norm}.act"), x, Activation::Relu6)
}

impl Architecture for MobileNetV1 {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = conv_norm(g, ["conv_stem", "bn1"], x, Conv2d::same(self.channels(32), 3, 2))?;
        let x = g.at("blocks", |g| {
            TABLE.iter().enumerate().try_fold(x, |x, (stage, &(channels, blocks, stride))| {
                (0..blocks).try_fold(x, |x, block| {
                    g.at(format_args!("{stage}.{block}"), |g| {
                        let inside = g.tape.shape(x).channels();
                        let stride = if block == 0 { stride } else { 1 };
                        let each = Conv2d { groups: inside, ..Conv2d::same(inside, 3, stride) };
                        let x = conv_norm(g, ["conv_dw", "bn1"], x, each)?;
                        conv_norm(g, ["conv_pw", "bn2"], x, Conv2d::same(self.channels(channels), 1, 1))
                    })
                })
            })
        })?;
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        let x = g.dropout("dropout", features, self.dropout)?;
        g.linear_head("classifier", x, classes)
    }

    fn head_path(&self) -> &'static str {
        "classifier"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "blocks.4.1".into()
    }

    fn groups(&self) -> Vec<String> {
        ["conv_stem", "blocks.3", "classifier"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }
}
