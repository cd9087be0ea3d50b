//! Matrix products in tiles, one a workgroup: `shaders/lib/block.wgsl`. GPUs prefer these kernels for all but small
//! products. Software adapters, where workgroup memory has no advantage, are not offered them.

use bytemuck::Pod;

use super::groups_of;
use crate::gpu::{Caps, Kernel};
use crate::tape::Launch;

/// A product divided into tiles of `side` rows by `side` columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    /// The variant's name.
    pub(super) name: &'static str,
    side: usize,
    count: usize,
}

/// Number of tiles that keeps a large GPU busy.
const ENOUGH: usize = 256;

impl Tiles {
    /// The ways to divide a product of `rows` x `columns`, each element a sum of `depth` products, the preferred
    /// first. Large tiles load less for each multiply-add; small tiles keep more of the device busy and waste less at
    /// the edges. None where the device is software, or the product so small that most of a tile would be waste.
    pub(super) fn of(rows: usize, columns: usize, depth: usize, caps: &Caps) -> Vec<Self> {
        if caps.software || rows < 32 || columns < 32 || depth < 16 {
            return Vec::new();
        }
        let cut = |name, side| Tiles { name, side, count: 0 }.over(rows, columns);
        let (large, small) = (cut("block_128", 128), cut("block_64", 64));
        // Large tiles must compute nearly as large a share of real results as small ones.
        let full = large.count * 128 * 128 <= small.count * 64 * 64 * 9 / 8;
        let mut all = if full && large.count >= ENOUGH { vec![large, small] } else { vec![small, large] };
        // Both operands' parts of vec4 in workgroup memory.
        all.retain(|s| {
            s.threads() <= caps.invocations as usize && 32 * s.tile() <= caps.workgroup_bytes as usize
        });
        all
    }

    /// The same tiles over another product.
    pub(super) fn over(self, rows: usize, columns: usize) -> Self {
        Tiles { count: rows.div_ceil(self.side) * columns.div_ceil(self.side), ..self }
    }

    /// Each thread has 8 x 8 results.
    fn threads(&self) -> usize {
        (self.side / 8).pow(2)
    }

    /// Vec4 of one operand in workgroup memory.
    fn tile(&self) -> usize {
        self.side / 4 * self.depth()
    }

    /// Depth of a step of the sum: each thread loads one block of 4 x 4 numbers.
    fn depth(&self) -> usize {
        self.side / 8
    }

    /// The number of register tiles of a thread, as the kernels with one thread a tile count them, to choose the
    /// number of splits of a sum.
    pub(super) fn count(&self) -> usize {
        self.count * super::WORKGROUP as usize
    }

    /// The dispatch of `kernel` over all tiles, `splits` times.
    pub(super) fn launch<P: Pod>(&self, kernel: Kernel, params: &P, splits: usize, caps: &Caps) -> Launch {
        let constants = [
            ("WORKGROUP", self.threads() as u32),
            ("SIDE_QUADS", self.side as u32 / 4),
            ("DEPTH", self.depth() as u32),
            ("TILE_QUADS", self.tile() as u32),
        ];
        let groups = groups_of(self.threads() as u32, self.count * splits * self.threads(), caps);
        Launch::new(kernel.with(&constants), params, groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_suit_product_and_device() {
        let gpu = Caps::webgpu_defaults();
        let names = |rows, columns, depth, caps: &Caps| -> Vec<&str> {
            Tiles::of(rows, columns, depth, caps).iter().map(|s| s.name).collect()
        };
        // 784 large tiles, all full.
        assert_eq!(names(100_352, 128, 576, &gpu), ["block_128", "block_64"]);
        // Half of every large tile would be waste; too few of them for a large GPU.
        assert_eq!(names(100_352, 64, 576, &gpu), ["block_64", "block_128"]);
        assert_eq!(names(1568, 512, 4608, &gpu), ["block_64", "block_128"]);
        // Workgroups of 64 threads only, or half of the memory.
        assert_eq!(names(1568, 512, 64, &Caps { invocations: 128, ..gpu.clone() }), ["block_64"]);
        assert_eq!(names(1568, 512, 64, &Caps { workgroup_bytes: 8 << 10, ..gpu.clone() }), ["block_64"]);
        for small in [(16, 512, 64), (512, 16, 64), (512, 64, 12)] {
            assert!(names(small.0, small.1, small.2, &gpu).is_empty(), "{small:?}");
        }
        assert!(names(100_352, 128, 576, &Caps { software: true, ..gpu }).is_empty());
    }
}
