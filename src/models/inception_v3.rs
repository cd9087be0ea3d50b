//! Inception v3: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, arXiv:1512.00567, in torchvision's form.
//!
//! Small filters replace large ones: two 3x3 for 5x5 (figure 5, modules 5b to 5d), 1x7 and 7x1 for 7x7 (figure 6,
//! modules 6b to 6e). In the last modules, 1x3 and 3x1 are parallel (figure 7).

use crate::Result;
use crate::nn::init::LinearInit;
use crate::nn::{Conv2d, Graph, Linear, Norm};
use crate::tape::ValueId;

use super::blocks::{basic_conv, mean_vector, pool, pool_same};
use super::{Architecture, Auxiliary};

/// Inception v3.
#[derive(Debug, Clone, PartialEq)]
pub struct InceptionV3 {
    /// Dropout before the last layer.
    pub dropout: f32,
}

impl Default for InceptionV3 {
    fn default() -> Self {
        InceptionV3 { dropout: 0.5 }
    }
}

/// Convolutions in sequence: name, channels, height and width of the filters, stride. Filters with stride 1 are
/// padded to keep the size, those with stride 2 have no padding.
fn chain(g: &mut Graph<'_>, x: ValueId, convs: &[(&str, usize, [usize; 2], usize)]) -> Result<ValueId> {
    convs.iter().try_fold(x, |x, &(name, out_channels, kernel, stride)| {
        let padding = if stride == 1 { kernel.map(|k| k / 2) } else { [0, 0] };
        basic_conv(
            g,
            name,
            x,
            Conv2d { out_channels, kernel, stride: [stride; 2], padding, ..Conv2d::default() },
        )
    })
}

/// Average pool 3x3, then 1x1.
fn branch_pool(g: &mut Graph<'_>, x: ValueId, channels: usize) -> Result<ValueId> {
    let x = g.avg_pool("pool", x, pool_same(3, 1), true)?;
    basic_conv(g, "branch_pool", x, Conv2d::same(channels, 1, 1))
}

/// torchvision's `InceptionA`: figure 5.
fn module_a(g: &mut Graph<'_>, x: ValueId, pooled: usize) -> Result<ValueId> {
    let a = chain(g, x, &[("branch1x1", 64, [1, 1], 1)])?;
    let b = chain(g, x, &[("branch5x5_1", 48, [1, 1], 1), ("branch5x5_2", 64, [5, 5], 1)])?;
    let c = chain(
        g,
        x,
        &[
            ("branch3x3dbl_1", 64, [1, 1], 1),
            ("branch3x3dbl_2", 96, [3, 3], 1),
            ("branch3x3dbl_3", 96, [3, 3], 1),
        ],
    )?;
    let d = branch_pool(g, x, pooled)?;
    g.concat("cat", &[a, b, c, d])
}

/// `InceptionB`: 35x35 to 17x17.
fn module_b(g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
    let a = chain(g, x, &[("branch3x3", 384, [3, 3], 2)])?;
    let b = chain(
        g,
        x,
        &[
            ("branch3x3dbl_1", 64, [1, 1], 1),
            ("branch3x3dbl_2", 96, [3, 3], 1),
            ("branch3x3dbl_3", 96, [3, 3], 2),
        ],
    )?;
    let c = g.max_pool("pool", x, pool(3, 2))?;
    g.concat("cat", &[a, b, c])
}

/// `InceptionC`: figure 6.
fn module_c(g: &mut Graph<'_>, x: ValueId, c7: usize) -> Result<ValueId> {
    let a = chain(g, x, &[("branch1x1", 192, [1, 1], 1)])?;
    let b = chain(
        g,
        x,
        &[("branch7x7_1", c7, [1, 1], 1), ("branch7x7_2", c7, [1, 7], 1), ("branch7x7_3", 192, [7, 1], 1)],
    )?;
    let c = chain(
        g,
        x,
        &[
            ("branch7x7dbl_1", c7, [1, 1], 1),
            ("branch7x7dbl_2", c7, [7, 1], 1),
            ("branch7x7dbl_3", c7, [1, 7], 1),
            ("branch7x7dbl_4", c7, [7, 1], 1),
            ("branch7x7dbl_5", 192, [1, 7], 1),
        ],
    )?;
    let d = branch_pool(g, x, 192)?;
    g.concat("cat", &[a, b, c, d])
}

/// `InceptionD`: 17x17 to 8x8.
fn module_d(g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
    let a = chain(g, x, &[("branch3x3_1", 192, [1, 1], 1), ("branch3x3_2", 320, [3, 3], 2)])?;
    let b = chain(
        g,
        x,
        &[
            ("branch7x7x3_1", 192, [1, 1], 1),
            ("branch7x7x3_2", 192, [1, 7], 1),
            ("branch7x7x3_3", 192, [7, 1], 1),
            ("branch7x7x3_4", 192, [3, 3], 2),
        ],
    )?;
    let c = g.max_pool("pool", x, pool(3, 2))?;
    g.concat("cat", &[a, b, c])
}

/// 1x3 and 3x1 in parallel.
fn both(g: &mut Graph<'_>, x: ValueId, names: [&str; 2]) -> Result<[ValueId; 2]> {
    let a = chain(g, x, &[(names[0], 384, [1, 3], 1)])?;
    Ok([a, chain(g, x, &[(names[1], 384, [3, 1], 1)])?])
}

/// `InceptionE`: figure 7.
fn module_e(g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
    let a = chain(g, x, &[("branch1x1", 320, [1, 1], 1)])?;
    let b = chain(g, x, &[("branch3x3_1", 384, [1, 1], 1)])?;
    let [b, c] = both(g, b, ["branch3x3_2a", "branch3x3_2b"])?;
    let d = chain(g, x, &[("branch3x3dbl_1", 448, [1, 1], 1), ("branch3x3dbl_2", 384, [3, 3], 1)])?;
    let [d, e] = both(g, d, ["branch3x3dbl_3a", "branch3x3dbl_3b"])?;
    let f = branch_pool(g, x, 192)?;
    g.concat("cat", &[a, b, c, d, e, f])
}

/// The auxiliary head: average pool 5x5 with stride 3, two convolutions, a linear layer.
fn auxiliary(g: &mut Graph<'_>, x: ValueId, classes: usize) -> Result<ValueId> {
    let x = g.avg_pool("pool", x, pool(5, 3), true)?;
    let x = basic_conv(g, "conv0", x, Conv2d::same(128, 1, 1))?;
    let x = basic_conv(g, "conv1", x, Conv2d { padding: [0, 0], ..Conv2d::same(768, 5, 1) })?;
    let x = mean_vector(g, x)?;
    g.linear("fc", x, Linear::new(classes))
}

impl Architecture for InceptionV3 {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = chain(g, x, &[("Conv2d_1a_3x3", 32, [3, 3], 2)])?; // 149 x 149
        let x = basic_conv(g, "Conv2d_2a_3x3", x, Conv2d { padding: [0, 0], ..Conv2d::same(32, 3, 1) })?;
        let x = chain(g, x, &[("Conv2d_2b_3x3", 64, [3, 3], 1)])?;
        let x = g.max_pool("maxpool1", x, pool(3, 2))?; // 73 x 73
        let x = chain(g, x, &[("Conv2d_3b_1x1", 80, [1, 1], 1)])?;
        let x = basic_conv(g, "Conv2d_4a_3x3", x, Conv2d { padding: [0, 0], ..Conv2d::same(192, 3, 1) })?;
        let mut x = g.max_pool("maxpool2", x, pool(3, 2))?; // 35 x 35
        for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
            x = g.at(name, |g| module_a(g, x, pooled))?;
        }
        x = g.at("Mixed_6a", |g| module_b(g, x))?; // 17 x 17
        for (name, c7) in [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)] {
            x = g.at(name, |g| module_c(g, x, c7))?;
        }
        g.auxiliary("AuxLogits", |g, classes| auxiliary(g, x, classes))?;
        x = g.at("Mixed_7a", |g| module_d(g, x))?; // 8 x 8
        for name in ["Mixed_7b", "Mixed_7c"] {
            x = g.at(name, |g| module_e(g, x))?;
        }
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
        Some(Auxiliary { layers: &["AuxLogits"], heads: &["AuxLogits.fc"], weight: 0.4 })
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "Mixed_7c".into()
    }

    fn groups(&self) -> Vec<String> {
        ["Conv2d_1a_3x3", "Mixed_6b", "fc"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Normal(0.1)
    }

    fn norm(&self) -> Norm {
        Norm { eps: 1e-3, ..Norm::default() }
    }

    fn timm_norm(&self) -> Norm {
        self.norm()
    }
}
