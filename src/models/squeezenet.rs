//! SqueezeNet: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer 2016, arXiv:1602.07360.
//!
//! A fire module narrows by a 1x1 convolution, then widens by parallel 1x1 and 3x3 convolutions. The last layer is a
//! convolution on the remaining small image, followed by ReLU and the mean over the image. So the features of this
//! network are a small image, not a vector.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::ops::PoolWindow;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::pool;

/// A step of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// 3x3 max pool with stride 2.
    Pool,
    /// Fire module: squeezes to the first number of channels; expands to the second number by 1x1 and again by 3x3.
    Fire(usize, usize),
}

use Step::{Fire, Pool};

/// Version 1.0: 7x7 with 96 channels, then these steps.
#[rustfmt::skip]
pub const V1_0: &[Step] = &[
    Pool, Fire(16, 64), Fire(16, 64), Fire(32, 128),
    Pool, Fire(32, 128), Fire(48, 192), Fire(48, 192), Fire(64, 256),
    Pool, Fire(64, 256),
];

/// Version 1.1: 3x3 with 64 channels, then these steps; 2.4 times less work.
#[rustfmt::skip]
pub const V1_1: &[Step] = &[
    Pool, Fire(16, 64), Fire(16, 64),
    Pool, Fire(32, 128), Fire(32, 128),
    Pool, Fire(48, 192), Fire(48, 192), Fire(64, 256), Fire(64, 256),
];

/// SqueezeNet.
#[derive(Debug, Clone, PartialEq)]
pub struct SqueezeNet {
    /// Side of the first filters, and their number.
    pub stem: (usize, usize),
    /// The steps after the first convolution.
    pub steps: &'static [Step],
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl SqueezeNet {
    /// The paper's network.
    pub fn v1_0() -> Self {
        SqueezeNet { stem: (7, 96), steps: V1_0, dropout: 0.5 }
    }

    /// The smaller network with the same accuracy.
    pub fn v1_1() -> Self {
        SqueezeNet { stem: (3, 64), steps: V1_1, dropout: 0.5 }
    }
}

fn conv_relu(g: &mut Graph<'_>, name: &str, x: ValueId, channels: usize, kernel: usize) -> Result<ValueId> {
    let x = g.conv2d(name, x, Conv2d { bias: true, ..Conv2d::same(channels, kernel, 1) })?;
    g.relu(format_args!("{name}_activation"), x)
}

impl Architecture for SqueezeNet {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        g.at("features", |g| {
            let (kernel, channels) = self.stem;
            let stem = Conv2d { bias: true, padding: [0, 0], ..Conv2d::same(channels, kernel, 2) };
            let x = g.conv2d(0, x, stem)?;
            let x = g.relu(1, x)?;
            self.steps.iter().zip(2..).try_fold(x, |x, (step, index)| match *step {
                Pool => g.max_pool(index, x, PoolWindow { ceil_mode: true, ..pool(3, 2) }),
                Fire(squeeze, expand) => g.at(index, |g| {
                    let x = conv_relu(g, "squeeze", x, squeeze, 1)?;
                    let left = conv_relu(g, "expand1x1", x, expand, 1)?;
                    let right = conv_relu(g, "expand3x3", x, expand, 3)?;
                    g.concat("cat", &[left, right])
                }),
            })
        })
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.at("classifier", |g| {
            let x = g.dropout(0, features, self.dropout)?;
            let x = g.head("1", x, classes, |g, name, x, outputs| {
                g.conv2d(name, x, Conv2d { bias: true, ..Conv2d::same(outputs, 1, 1) })
            })?;
            let x = g.relu(2, x)?;
            let x = g.adaptive_avg_pool(3, x, [1, 1])?;
            g.flatten("flatten", x)
        })
    }

    fn head_path(&self) -> &'static str {
        "classifier.1"
    }

    fn features_path(&self) -> &'static str {
        "features.12.cat"
    }

    fn last_map(&self) -> String {
        "features.12".into()
    }

    fn groups(&self) -> Vec<String> {
        ["features.0", "features.7", "classifier"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }
}
