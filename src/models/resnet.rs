//! ResNet: He, Zhang, Ren, Sun 2015, arXiv:1512.03385.
//!
//! Table 1 of the paper. Every stage but the first halves the image:
//!
//! | layer  | output  | 18           | 34           | 50           | 101           | 152           |
//! |--------|---------|--------------|--------------|--------------|---------------|---------------|
//! | conv1  | 112x112 | 7x7, 64, stride 2 | | | | |
//! | layer1 | 56x56   | 3x3 max pool, stride 2, then 2 basic, 64 | 3 basic | 3 bottleneck | 3 bottleneck | 3 bottleneck |
//! | layer2 | 28x28   | 2 basic, 128 | 4 basic      | 4 bottleneck | 4 bottleneck  | 8 bottleneck  |
//! | layer3 | 14x14   | 2 basic, 256 | 6 basic      | 6 bottleneck | 23 bottleneck | 36 bottleneck |
//! | layer4 | 7x7     | 2 basic, 512 | 3 basic      | 3 bottleneck | 3 bottleneck  | 3 bottleneck  |
//! | fc     | 1x1     | mean over the image, linear | | | | |
//!
//! ResNeXt (Xie et al. 2016, arXiv:1611.05431) has bottlenecks with a grouped 3x3 convolution. Wide ResNet (Zagoruyko
//! and Komodakis 2016, arXiv:1605.07146) has bottlenecks with twice the inner channels.
//!
//! The CIFAR form (section 4.2) has 6n + 2 layers: 3x3, 16; then n basic blocks each of 16, 32 and 64 channels at 32,
//! 16 and 8 pixels; then mean and linear. Its option-A shortcut takes every second pixel and sets new channels to
//! zero. Here the shortcut is a 1x1 convolution of zeros and ones with a batch norm, so that it can be loaded and
//! trained like any other layer.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{mean_vector, pool_same};

/// The block of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// 3x3, 3x3.
    Basic,
    /// 1x1, 3x3, 1x1 with four times the channels.
    Bottleneck,
}

/// The layers before the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// 7x7 stride 2, then 3x3 max pool stride 2.
    ImageNet,
    /// 3x3.
    Cifar,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Number of blocks.
    pub blocks: usize,
    /// Channels of the 3x3 convolutions.
    pub channels: usize,
    /// Stride of the first block.
    pub stride: usize,
}

/// A residual network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resnet {
    /// The layers before the stages.
    pub stem: Stem,
    /// The block of all stages.
    pub block: Block,
    /// Groups of a bottleneck's 3x3 convolution, and channels per group in the stage with 64 channels.
    pub cardinality: [usize; 2],
    /// The stages: `layer1`, `layer2`, ...
    pub stages: Vec<Stage>,
}

impl Resnet {
    /// A column of the table.
    pub fn imagenet(block: Block, blocks: [usize; 4]) -> Self {
        Self::new(Stem::ImageNet, block, &blocks, 64)
    }

    /// The CIFAR form with `6 n + 2` layers.
    pub fn cifar(n: usize) -> Self {
        Self::new(Stem::Cifar, Block::Basic, &[n; 3], 16)
    }

    fn new(stem: Stem, block: Block, blocks: &[usize], width: usize) -> Self {
        let stage = |(i, &blocks)| Stage { blocks, channels: width << i, stride: if i == 0 { 1 } else { 2 } };
        let cardinality = [1, 64];
        Resnet { stem, block, cardinality, stages: blocks.iter().enumerate().map(stage).collect() }
    }

    /// The same network with bottlenecks in `groups` groups of `width` channels (in the first stage): ResNeXt, Wide
    /// ResNet.
    #[must_use]
    pub fn wide(self, groups: usize, width: usize) -> Self {
        Resnet { cardinality: [groups, width], ..self }
    }
}

impl Block {
    /// Output channels of a block, as a multiple of the stage's channels.
    fn expansion(self) -> usize {
        match self {
            Block::Basic => 1,
            Block::Bottleneck => 4,
        }
    }

    fn record(
        self,
        g: &mut Graph<'_>,
        x: ValueId,
        channels: usize,
        stride: usize,
        [groups, width]: [usize; 2],
    ) -> Result<ValueId> {
        let mut y = match self {
            Block::Basic => {
                let y = g.conv2d("conv1", x, Conv2d::same(channels, 3, stride))?;
                let y = g.batch_norm("bn1", y)?;
                let y = g.relu("relu", y)?;
                let y = g.conv2d("conv2", y, Conv2d::same(channels, 3, 1))?;
                g.batch_norm("bn2", y)?
            }
            Block::Bottleneck => {
                let inside = channels * width / 64 * groups;
                let y = g.conv2d("conv1", x, Conv2d::same(inside, 1, 1))?;
                let y = g.batch_norm("bn1", y)?;
                let y = g.relu("relu", y)?;
                let y = g.conv2d("conv2", y, Conv2d { groups, ..Conv2d::same(inside, 3, stride) })?;
                let y = g.batch_norm("bn2", y)?;
                let y = g.relu("relu", y)?;
                let y = g.conv2d("conv3", y, Conv2d::same(channels * 4, 1, 1))?;
                g.batch_norm("bn3", y)?
            }
        };
        let out_channels = channels * self.expansion();
        let mut shortcut = x;
        if stride != 1 || g.tape.shape(x).channels() != out_channels {
            shortcut = g.at("downsample", |g| {
                let x = g.conv2d(0, x, Conv2d::same(out_channels, 1, stride))?;
                g.batch_norm(1, x)
            })?;
        }
        y = g.add("add", y, shortcut)?;
        g.relu("relu", y)
    }
}

impl Architecture for Resnet {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let mut x = match self.stem {
            Stem::ImageNet => {
                let x = g.conv2d("conv1", x, Conv2d::same(64, 7, 2))?;
                let x = g.batch_norm("bn1", x)?;
                let x = g.relu("relu", x)?;
                g.max_pool("maxpool", x, pool_same(3, 2))?
            }
            Stem::Cifar => {
                let x = g.conv2d("conv1", x, Conv2d::same(16, 3, 1))?;
                let x = g.batch_norm("bn1", x)?;
                g.relu("relu", x)?
            }
        };
        for (i, stage) in self.stages.iter().enumerate() {
            x = g.at(format_args!("layer{}", i + 1), |g| {
                (0..stage.blocks).try_fold(x, |x, block| {
                    let stride = if block == 0 { stage.stride } else { 1 };
                    g.at(block, |g| self.block.record(g, x, stage.channels, stride, self.cardinality))
                })
            })?;
        }
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.linear_head("fc", features, classes)
    }

    fn head_path(&self) -> &'static str {
        "fc"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        format!("layer{}", self.stages.len())
    }

    fn groups(&self) -> Vec<String> {
        let second = format!("layer{}", self.stages.len() / 2 + 1);
        vec!["conv1".into(), second, "fc".into()]
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}
