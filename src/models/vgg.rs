//! VGG: Simonyan, Zisserman 2014, arXiv:1409.1556.
//!
//! Table 1 of the paper: 3x3 convolutions throughout, five max pools that halve the image, three linear layers. In
//! the `_bn` form, a batch norm follows every convolution.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph, Layout, Linear, ParamSpec};
use crate::ops::PoolWindow;
use crate::tape::ValueId;

use super::Architecture;

/// Convolutions per block, with 64, 128, 256, 512 and 512 channels; a max pool ends each block.
#[rustfmt::skip]
pub const TABLE: [(usize, [usize; 5]); 4] = [
    (11, [1, 1, 2, 2, 2]), // A
    (13, [2, 2, 2, 2, 2]), // B
    (16, [2, 2, 3, 3, 3]), // D
    (19, [2, 2, 4, 4, 4]), // E
];

const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];
/// Side of the image in the input of the linear layers, for any size of the network's input.
const SIDE: usize = 7;

/// A VGG network.
#[derive(Debug, Clone, PartialEq)]
pub struct Vgg {
    /// Convolutions in each block.
    pub blocks: [usize; 5],
    /// Whether a batch norm follows every convolution.
    pub batch_norm: bool,
    /// Dropout after the first two linear layers.
    pub dropout: f32,
}

impl Vgg {
    /// A column of the table.
    pub fn new(blocks: [usize; 5], batch_norm: bool) -> Self {
        Vgg { blocks, batch_norm, dropout: 0.5 }
    }

    /// Index in `features` of the first layer of a block.
    fn start_of_block(&self, block: usize) -> usize {
        let layers = if self.batch_norm { 3 } else { 2 };
        self.blocks[..block].iter().map(|convs| convs * layers + 1).sum()
    }
}

impl Architecture for Vgg {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let halve = PoolWindow {
            kernel: [2, 2],
            stride: [2, 2],
            padding: [0, 0],
            dilation: [1, 1],
            ceil_mode: false,
        };
        let x = g.at("features", |g| {
            let (mut x, mut index) = (x, 0..);
            let mut next = || index.next().unwrap_or_default();
            for (&convs, channels) in self.blocks.iter().zip(CHANNELS) {
                for _ in 0..convs {
                    x = g.conv2d(next(), x, Conv2d { bias: true, ..Conv2d::same(channels, 3, 1) })?;
                    if self.batch_norm {
                        x = g.batch_norm(next(), x)?;
                    }
                    x = g.relu(next(), x)?;
                }
                x = g.max_pool(next(), x, halve)?;
            }
            Ok(x)
        })?;
        let x = g.adaptive_avg_pool("avgpool", x, [SIDE, SIDE])?;
        let x = g.flatten("flatten", x)?;
        g.at("classifier", |g| {
            let after_flatten = Some((CHANNELS[4], SIDE, SIDE));
            let x = g.linear(0, x, Linear { after_flatten, ..Linear::new(4096) })?;
            let x = g.relu(1, x)?;
            let x = g.dropout(2, x, self.dropout)?;
            let x = g.linear(3, x, Linear::new(4096))?;
            g.relu(4, x)
        })
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.at("classifier", |g| {
            let x = g.dropout(5, features, self.dropout)?;
            g.linear_head("6", x, classes)
        })
    }

    fn head_path(&self) -> &'static str {
        "classifier.6"
    }

    fn features_path(&self) -> &'static str {
        "classifier.4"
    }

    fn last_map(&self) -> String {
        format!("features.{}", self.start_of_block(self.blocks.len()) - 2)
    }

    fn groups(&self) -> Vec<String> {
        let second = format!("features.{}", self.start_of_block(3));
        vec!["features.0".into(), second, "classifier.6".into()]
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }

    fn timm_name(&self, path: &str) -> String {
        let names = [
            ("classifier.0.", "pre_logits.fc1."),
            ("classifier.3.", "pre_logits.fc2."),
            ("classifier.6.", "head.fc."),
        ];
        let renamed = names.iter().find_map(|(ours, timms)| Some((timms, path.strip_prefix(ours)?)));
        renamed.map_or(path.into(), |(timms, leaf)| format!("{timms}{leaf}"))
    }

    /// timm's first two linear layers are convolutions on the remaining small image.
    fn timm_shape(&self, spec: &ParamSpec) -> Vec<usize> {
        match (spec.layout, spec.shape.as_slice()) {
            (Layout::LinearAfterFlatten { channels, height, width }, &[out, _]) => {
                vec![out, channels, height, width]
            }
            (Layout::Linear, &[out, inputs]) if spec.path.starts_with("classifier.3.") => {
                vec![out, inputs, 1, 1]
            }
            _ => spec.shape.clone(),
        }
    }
}
