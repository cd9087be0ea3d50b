//! A parameter: its path, its shape in PyTorch, and its layout on the device.

use rayon::prelude::*;

/// The kind of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Weight of a convolution or a linear layer.
    Weight,
    /// Bias of a convolution or a linear layer.
    Bias,
    /// Scale of a batch norm.
    NormWeight,
    /// Shift of a batch norm.
    NormBias,
    /// Running mean of a batch norm: a buffer, never trained by gradient.
    RunningMean,
    /// Running variance of a batch norm: a buffer, never trained by gradient.
    RunningVar,
}

impl Kind {
    /// Whether an optimizer may change it; running statistics are no parameters.
    pub fn is_learnable(self) -> bool {
        !matches!(self, Kind::RunningMean | Kind::RunningVar)
    }
}

/// The layout of a tensor on the device, given its layout in PyTorch. Activations are NHWC there, so output channels
/// come last in every weight: neighbouring lanes read neighbouring numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// The same as in PyTorch.
    Plain,
    /// Convolution: `[out, in / groups, height, width]` -> `[height, width, in / groups, out]`.
    Conv,
    /// 1x1 convolution, a matrix product: `[out, in, 1, 1]` -> `[in, out]`.
    Pointwise,
    /// Depthwise convolution: `[channels, 1, height, width]` -> `[height, width, channels]`.
    Depthwise,
    /// Linear layer: `[out, in]` -> `[in, out]`.
    Linear,
    /// Linear layer after a flattened image: PyTorch flattens channels first, here they are last.
    /// `[out, channels * height * width]` -> `[height * width * channels, out]`.
    LinearAfterFlatten {
        /// Channels of the flattened activation.
        channels: usize,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
    },
}

impl Layout {
    /// The device's shape of a tensor that has `shape` in PyTorch.
    pub fn device_shape(&self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Layout::Conv, &[o, i, h, w]) => vec![h, w, i, o],
            (Layout::Pointwise, &[o, i, ..])
            | (Layout::Linear | Layout::LinearAfterFlatten { .. }, &[o, i]) => {
                vec![i, o]
            }
            (Layout::Depthwise, &[c, _, h, w]) => vec![h, w, c],
            _ => shape.to_vec(),
        }
    }

    /// Every layout reverses the order of three axes of the tensor; these are their extents in PyTorch's order. None
    /// where the layout is the same as in PyTorch.
    fn axes(&self, shape: &[usize]) -> Option<[usize; 3]> {
        match (self, shape) {
            (Layout::Conv | Layout::Depthwise, &[o, i, h, w]) => Some([o, i, h * w]),
            (Layout::Pointwise, &[o, i, ..]) | (Layout::Linear, &[o, i]) => Some([o, i, 1]),
            (&Layout::LinearAfterFlatten { channels, height, width }, &[o, _]) => {
                Some([o, channels, height * width])
            }
            _ => None,
        }
    }

    /// PyTorch's order -> the device's.
    pub fn pack(&self, shape: &[usize], tensor: &[f32]) -> Vec<f32> {
        self.axes(shape).map_or_else(|| tensor.to_vec(), |axes| reverse_axes(axes, tensor))
    }

    /// The device's order -> PyTorch's: the exact inverse of [`Layout::pack`].
    pub fn unpack(&self, shape: &[usize], tensor: &[f32]) -> Vec<f32> {
        self.axes(shape).map_or_else(|| tensor.to_vec(), |[a, b, c]| reverse_axes([c, b, a], tensor))
    }
}

/// `[a, b, c]` -> `[c, b, a]`. Output rows are written in bands of one cache line's numbers, and within a band in
/// blocks of `a`, so that each line read is used completely while it is in the first cache.
fn reverse_axes([a, b, c]: [usize; 3], source: &[f32]) -> Vec<f32> {
    const BAND: usize = 16;
    const BLOCK: usize = 64;
    assert_eq!(source.len(), a * b * c, "a tensor of [{a}, {b}, {c}] has {} numbers", source.len());
    let mut target = vec![0.0; source.len()];
    if a == 0 || b == 0 || c == 0 {
        return target;
    }
    target.par_chunks_mut(BAND * a).enumerate().for_each(|(band, rows)| {
        for start in (0..a).step_by(BLOCK) {
            let end = (start + BLOCK).min(a);
            for (i, row) in rows.chunks_exact_mut(a).enumerate() {
                let (at_c, at_b) = ((band * BAND + i) / b, (band * BAND + i) % b);
                for (at_a, number) in row[start..end].iter_mut().enumerate() {
                    *number = source[((start + at_a) * b + at_b) * c + at_c];
                }
            }
        }
    });
    target
}

/// A parameter or buffer as the network declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSpec {
    /// torchvision's name: `layer1.0.conv1.weight`.
    pub path: String,
    /// Shape in PyTorch.
    pub shape: Vec<usize>,
    /// Its layout on the device.
    pub layout: Layout,
    /// Its kind.
    pub kind: Kind,
    /// Position of its layer in the order of the forward pass.
    pub layer: usize,
}

impl ParamSpec {
    /// How many numbers it holds.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its shape on the device.
    pub fn device_shape(&self) -> Vec<usize> {
        self.layout.device_shape(&self.shape)
    }

    /// PyTorch's order -> the device's.
    pub fn pack(&self, tensor: &[f32]) -> Vec<f32> {
        self.layout.pack(&self.shape, tensor)
    }

    /// The device's order -> PyTorch's.
    pub fn unpack(&self, tensor: &[f32]) -> Vec<f32> {
        self.layout.unpack(&self.shape, tensor)
    }

    /// Path of the layer it belongs to: `layer1.0.conv1`.
    pub fn layer_path(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(layer, _)| layer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32).collect()
    }

    #[test]
    fn pack_then_unpack_gives_the_same_bytes() {
        let cases: &[(Layout, &[usize])] = &[
            (Layout::Plain, &[7]),
            (Layout::Conv, &[5, 3, 3, 2]),
            (Layout::Conv, &[70, 33, 3, 3]),
            (Layout::Pointwise, &[130, 67, 1, 1]),
            (Layout::Depthwise, &[65, 1, 3, 3]),
            (Layout::Linear, &[10, 129]),
            (Layout::LinearAfterFlatten { channels: 5, height: 2, width: 3 }, &[67, 30]),
        ];
        for (layout, shape) in cases {
            let tensor = counted(shape.iter().product());
            let packed = layout.pack(shape, &tensor);
            assert_eq!(layout.device_shape(shape).iter().product::<usize>(), packed.len());
            assert_eq!(layout.unpack(shape, &packed), tensor, "{layout:?} {shape:?}");
        }
    }

    #[test]
    fn every_number_lands_where_the_layout_says() {
        let [o, i, h, w] = [5, 3, 2, 4];
        let tensor = counted(o * i * h * w);
        let packed = Layout::Conv.pack(&[o, i, h, w], &tensor);
        let flat = Layout::LinearAfterFlatten { channels: i, height: h, width: w };
        assert_eq!(flat.pack(&[o, i * h * w], &tensor), packed);
        for at_o in 0..o {
            for at_i in 0..i {
                for y in 0..h {
                    for x in 0..w {
                        let from = ((at_o * i + at_i) * h + y) * w + x;
                        assert_eq!(packed[((y * w + x) * i + at_i) * o + at_o], tensor[from]);
                    }
                }
            }
        }
        assert_eq!(Layout::Linear.pack(&[2, 3], &counted(6)), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }
}
