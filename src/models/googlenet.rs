//! GoogLeNet, Inception v1: Szegedy et al. 2014, arXiv:1409.4842, in torchvision's form: with batch norm, and with
//! 3x3 filters in the branch that has 5x5 filters in the paper.

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph, Linear, Norm};
use crate::ops::PoolWindow;
use crate::tape::ValueId;

use super::blocks::{basic_conv, mean_vector, pool, pool_same};
use super::{Architecture, Auxiliary};

/// Channels of a module's branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; 3x3 max pool then 1x1.
type Branches = (usize, [usize; 2], [usize; 2], usize);

/// A module or a pool after the stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Module(&'static str, Branches),
    Pool(&'static str, usize),
}

use Step::{Module, Pool};

/// Table 1 of the paper from inception (3a) on.
#[rustfmt::skip]
const TABLE: [Step; 11] = [
    Module("inception3a", ( 64, [ 96, 128], [16,  32],  32)), // 28 x 28
    Module("inception3b", (128, [128, 192], [32,  96],  64)),
    Pool("maxpool3", 3),
    Module("inception4a", (192, [ 96, 208], [16,  48],  64)), // 14 x 14
    Module("inception4b", (160, [112, 224], [24,  64],  64)),
    Module("inception4c", (128, [128, 256], [24,  64],  64)),
    Module("inception4d", (112, [144, 288], [32,  64],  64)),
    Module("inception4e", (256, [160, 320], [32, 128], 128)),
    Pool("maxpool4", 2),
    Module("inception5a", (256, [160, 320], [32, 128], 128)), //  7 x  7
    Module("inception5b", (384, [192, 384], [48, 128], 128)),
];

/// GoogLeNet.
#[derive(Debug, Clone, PartialEq)]
pub struct GoogLeNet {
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl Default for GoogLeNet {
    fn default() -> Self {
        GoogLeNet { dropout: 0.2 }
    }
}

/// A max pool whose last window may extend past the edge (`ceil_mode`).
fn ceil(kernel: usize) -> PoolWindow {
    PoolWindow { ceil_mode: true, ..pool(kernel, 2) }
}

fn module(g: &mut Graph<'_>, x: ValueId, (one, three, five, pooled): Branches) -> Result<ValueId> {
    let a = basic_conv(g, "branch1", x, Conv2d::same(one, 1, 1))?;
    let mut two = |name, [narrow, wide]: [usize; 2]| {
        g.at(name, |g| {
            let x = basic_conv(g, 0, x, Conv2d::same(narrow, 1, 1))?;
            basic_conv(g, 1, x, Conv2d::same(wide, 3, 1))
        })
    };
    let (b, c) = (two("branch2", three)?, two("branch3", five)?);
    let d = g.at("branch4", |g| {
        let x = g.max_pool(0, x, PoolWindow { ceil_mode: true, ..pool_same(3, 1) })?;
        basic_conv(g, 1, x, Conv2d::same(pooled, 1, 1))
    })?;
    g.concat("cat", &[a, b, c, d])
}

/// An auxiliary head: adaptive average pool to 4x4, 1x1 to 128 channels, two linear layers.
fn auxiliary(g: &mut Graph<'_>, x: ValueId, classes: usize) -> Result<ValueId> {
    let x = g.adaptive_avg_pool("avgpool", x, [4, 4])?;
    let x = basic_conv(g, "conv", x, Conv2d::same(128, 1, 1))?;
    let x = g.flatten("flatten", x)?;
    let x = g.linear("fc1", x, Linear { after_flatten: Some((128, 4, 4)), ..Linear::new(1024) })?;
    let x = g.relu("relu", x)?;
    let x = g.dropout("dropout", x, 0.7)?;
    g.linear("fc2", x, Linear::new(classes))
}

impl Architecture for GoogLeNet {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = basic_conv(g, "conv1", x, Conv2d::same(64, 7, 2))?;
        let x = g.max_pool("maxpool1", x, ceil(3))?;
        let x = basic_conv(g, "conv2", x, Conv2d::same(64, 1, 1))?;
        let x = basic_conv(g, "conv3", x, Conv2d::same(192, 3, 1))?;
        let x = g.max_pool("maxpool2", x, ceil(3))?;
        let x = TABLE.iter().try_fold(x, |x, step| match *step {
            Pool(name, kernel) => g.max_pool(name, x, ceil(kernel)),
            Module(name, branches) => {
                let x = g.at(name, |g| module(g, x, branches))?;
                match name {
                    "inception4a" => g.auxiliary("aux1", |g, classes| auxiliary(g, x, classes))?,
                    "inception4d" => g.auxiliary("aux2", |g, classes| auxiliary(g, x, classes))?,
                    _ => {}
                }
                Ok(x)
            }
        })?;
        mean_vector(g, x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        let x = g.dropout("dropout", features, self.dropout)?;
        g.linear_head("fc", x, classes)
    }

    fn head_path(&self) -> &'static str {
        "fc"
    }

    fn auxiliary(&self) -> Option<Auxiliary> {
        Some(Auxiliary { layers: &["aux1", "aux2"], heads: &["aux1.fc2", "aux2.fc2"], weight: 0.3 })
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "inception5b".into()
    }

    fn groups(&self) -> Vec<String> {
        ["conv1", "inception4b", "fc"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.01)
    }

    fn norm(&self) -> Norm {
        Norm { eps: 1e-3, ..Norm::default() }
    }

    fn timm_norm(&self) -> Norm {
        self.norm()
    }
}
