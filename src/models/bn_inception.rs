//! BN-Inception, Inception v2: Ioffe and Szegedy 2015, arXiv:1502.03167. Layers and names are those of the published
//! Caffe model and its PyTorch ports (`inception_3a_double_3x3_reduce`; `last_linear`). torchvision and timm do not
//! have this network.
//!
//! GoogLeNet with batch norm, where two 3x3 filters replace each 5x5 filter. The published weights expect channels in
//! the order blue, green, red, from 0 to 255, minus a mean; the registry's input description says so.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph};
use crate::ops::PoolWindow;
use crate::tape::ValueId;

use super::Architecture;
use super::blocks::{mean_vector, pool, pool_same};

/// The pooling in the last branch of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooled {
    /// Average pool 3x3, then 1x1 to this many channels.
    Mean(usize),
    /// Max pool 3x3, then 1x1 to this many channels.
    Max(usize),
    /// The module halves the image: max pool 3x3 with stride 2, without a convolution.
    Halved,
}

/// A module: name; channels of 1x1 (0: no branch); of 1x1 then 3x3; of 1x1 then 3x3 then 3x3; pool.
pub type Module = (&'static str, usize, [usize; 2], [usize; 2], Pooled);

use Pooled::{Halved, Max, Mean};

/// Figure 5 of the paper.
#[rustfmt::skip]
pub const TABLE: [Module; 10] = [
    ("3a",  64, [ 64,  64], [ 64,  96], Mean( 32)), // 28 x 28
    ("3b",  64, [ 64,  96], [ 64,  96], Mean( 64)),
    ("3c",   0, [128, 160], [ 64,  96], Halved),
    ("4a", 224, [ 64,  96], [ 96, 128], Mean(128)), // 14 x 14
    ("4b", 192, [ 96, 128], [ 96, 128], Mean(128)),
    ("4c", 160, [128, 160], [128, 160], Mean(128)),
    ("4d",  96, [128, 192], [160, 192], Mean(128)),
    ("4e",   0, [128, 192], [192, 256], Halved),
    ("5a", 352, [192, 320], [160, 224], Mean(128)), //  7 x  7
    ("5b", 352, [192, 320], [192, 224], Max( 128)),
];

/// BN-Inception.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BnInception;

/// Convolution with bias, norm, ReLU: three layers under one name.
fn conv(g: &mut Graph<'_>, name: &str, x: ValueId, conv: Conv2d) -> Result<ValueId> {
    let x = g.conv2d(name, x, Conv2d { bias: true, ..conv })?;
    let x = g.batch_norm(format_args!("{name}_bn"), x)?;
    g.relu(format_args!("{name}_relu"), x)
}

fn ceil(window: PoolWindow) -> PoolWindow {
    PoolWindow { ceil_mode: true, ..window }
}

fn module(g: &mut Graph<'_>, x: ValueId, &(name, one, three, double, pooled): &Module) -> Result<ValueId> {
    let named = |layer: &str| format!("inception_{name}_{layer}");
    let stride = if pooled == Halved { 2 } else { 1 };
    let mut branches = Vec::new();
    if one > 0 {
        branches.push(conv(g, &named("1x1"), x, Conv2d::same(one, 1, 1))?);
    }
    let y = conv(g, &named("3x3_reduce"), x, Conv2d::same(three[0], 1, 1))?;
    branches.push(conv(g, &named("3x3"), y, Conv2d::same(three[1], 3, stride))?);
    let y = conv(g, &named("double_3x3_reduce"), x, Conv2d::same(double[0], 1, 1))?;
    let y = conv(g, &named("double_3x3_1"), y, Conv2d::same(double[1], 3, 1))?;
    branches.push(conv(g, &named("double_3x3_2"), y, Conv2d::same(double[1], 3, stride))?);
    let pool_name = named("pool");
    branches.push(match pooled {
        Halved => g.max_pool(pool_name, x, ceil(pool(3, 2)))?,
        Mean(channels) | Max(channels) => {
            let y = match pooled {
                Max(_) => g.max_pool(pool_name, x, ceil(pool_same(3, 1)))?,
                _ => g.avg_pool(pool_name, x, ceil(pool_same(3, 1)), true)?,
            };
            conv(g, &named("pool_proj"), y, Conv2d::same(channels, 1, 1))?
        }
    });
    g.concat(named("output"), &branches)
}

impl Architecture for BnInception {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = conv(g, "conv1_7x7_s2", x, Conv2d::same(64, 7, 2))?;
        let x = g.max_pool("pool1_3x3_s2", x, ceil(pool(3, 2)))?;
        let x = conv(g, "conv2_3x3_reduce", x, Conv2d::same(64, 1, 1))?;
        let x = conv(g, "conv2_3x3", x, Conv2d::same(192, 3, 1))?;
        let x = g.max_pool("pool2_3x3_s2", x, ceil(pool(3, 2)))?;
        let x = TABLE.iter().try_fold(x, |x, row| module(g, x, row))?;
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.linear_head("last_linear", features, classes)
    }

    fn head_path(&self) -> &'static str {
        "last_linear"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "inception_5b_output".into()
    }

    fn groups(&self) -> Vec<String> {
        ["conv1_7x7_s2", "inception_4c_1x1", "last_linear"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}
