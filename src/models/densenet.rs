//! DenseNet: Huang, Liu, van der Maaten, Weinberger 2016, arXiv:1608.06993, in the form DenseNet-BC.
//!
//! Every layer of a block sees the concatenated channels of all layers before it, and adds `growth` new ones. Between
//! blocks, a 1x1 convolution halves the channels and an average pool halves the image.
//!
//! Table 1 of the paper. The growth rate is 32; in the 161-layer network it is 48:
//!
//! | block | output | 121 | 161 | 169 | 201 |
//! |-------|--------|-----|-----|-----|-----|
//! | stem  | 56x56  | 7x7, 2 growth channels, stride 2; 3x3 max pool, stride 2 | | | |
//! | 1     | 56x56  | 6   | 6   | 6   | 6   |
//! | 2     | 28x28  | 12  | 12  | 12  | 12  |
//! | 3     | 14x14  | 24  | 36  | 32  | 48  |
//! | 4     | 7x7    | 16  | 24  | 32  | 32  |

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{mean_vector, pool, pool_same};

/// A densely connected network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenseNet {
    /// Growth rate k: channels that each layer adds.
    pub growth: usize,
    /// Output channels of the stem.
    pub stem: usize,
    /// Number of layers in each block.
    pub blocks: [usize; 4],
}

impl DenseNet {
    /// A column of table 1.
    pub fn new(growth: usize, blocks: [usize; 4]) -> Self {
        DenseNet { growth, stem: 2 * growth, blocks }
    }

    /// The new channels of one layer: norm, ReLU, 1x1 to four times the growth, norm, ReLU, 3x3.
    fn layer(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.batch_norm("norm1", x)?;
        let x = g.relu("relu1", x)?;
        let x = g.conv2d("conv1", x, Conv2d::same(4 * self.growth, 1, 1))?;
        let x = g.batch_norm("norm2", x)?;
        let x = g.relu("relu2", x)?;
        g.conv2d("conv2", x, Conv2d::same(self.growth, 3, 1))
    }
}

impl Architecture for DenseNet {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.at("features", |g| {
            let x = g.conv2d("conv0", x, Conv2d::same(self.stem, 7, 2))?;
            let x = g.batch_norm("norm0", x)?;
            let x = g.relu("relu0", x)?;
            let mut x = g.max_pool("pool0", x, pool_same(3, 2))?;
            for (&layers, block) in self.blocks.iter().zip(1..) {
                x = g.at(format_args!("denseblock{block}"), |g| {
                    (1..=layers).try_fold(x, |x, layer| {
                        g.at(format_args!("denselayer{layer}"), |g| {
                            let new = self.layer(g, x)?;
                            g.concat("cat", &[x, new])
                        })
                    })
                })?;
                if block < self.blocks.len() {
                    x = g.at(format_args!("transition{block}"), |g| {
                        let x = g.batch_norm("norm", x)?;
                        let x = g.relu("relu", x)?;
                        let channels = g.tape.shape(x).channels();
                        let x = g.conv2d("conv", x, Conv2d::same(channels / 2, 1, 1))?;
                        g.avg_pool("pool", x, pool(2, 2), true)
                    })?;
                }
            }
            g.batch_norm("norm5", x)
        })?;
        let x = g.relu("relu", x)?;
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.linear_head("classifier", features, classes)
    }

    fn head_path(&self) -> &'static str {
        "classifier"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "relu".into()
    }

    fn groups(&self) -> Vec<String> {
        ["features.conv0", "features.denseblock3", "classifier"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }

    /// torchvision's published files use `norm.1`, `conv.2` where its module uses `norm1`, `conv2`.
    fn former_name(&self, path: &str) -> Option<String> {
        let (layer, leaf) = path.rsplit_once('.')?;
        let at = layer.contains(".denselayer").then(|| layer.len().checked_sub(1))??;
        Some(format!("{}.{}.{leaf}", &layer[..at], &layer[at..]))
    }
}
