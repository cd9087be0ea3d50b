//! The layers that models are built of. Each layer chooses its op by its geometry.

use std::fmt::Display;

use super::{Graph, Kind, Layout, Mode, PaddingStyle};
use crate::ops::{
    Activate, Activation, AdaptiveAvgPool, Add, AvgPool, Concat, Conv, Depthwise, Dropout, Epilogue, Matmul,
    MaxPool, Mul, Padding, PoolWindow, Reshape, Window,
};
use crate::rng;
use crate::tape::ValueId;
use crate::{Error, Result};

/// A convolution layer. `Conv2d { out_channels: 64, kernel: [3, 3], ..Default::default() }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conv2d {
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the filters.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Zeros around the image: rows at top and bottom, columns at left and right.
    pub padding: [usize; 2],
    /// Step between the taps of a filter.
    pub dilation: [usize; 2],
    /// Independent groups of channels.
    pub groups: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
}

impl Default for Conv2d {
    /// A 1x1 convolution without bias; the caller sets the channels.
    fn default() -> Self {
        Conv2d {
            out_channels: 0,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            bias: false,
        }
    }
}

impl Conv2d {
    /// A square filter of odd size that keeps the image's size except for the stride; no bias.
    pub fn same(out_channels: usize, kernel: usize, stride: usize) -> Self {
        let (kernel, padding) = ([kernel; 2], [kernel / 2; 2]);
        Conv2d { out_channels, kernel, stride: [stride; 2], padding, ..Self::default() }
    }

    fn window(&self, style: PaddingStyle, [height, width]: [usize; 2]) -> Window {
        let pads = |axis: usize, size: usize| match (style, self.padding[axis]) {
            (_, 0) => [0, 0],
            (PaddingStyle::Symmetric, p) => [p, p],
            (PaddingStyle::TfSame, _) => {
                same_padding(size, self.kernel[axis], self.stride[axis], self.dilation[axis])
            }
        };
        let ([top, bottom], [left, right]) = (pads(0, height), pads(1, width));
        let padding = Padding { top, left, bottom, right };
        Window { kernel: self.kernel, stride: self.stride, padding, dilation: self.dilation }
    }
}

/// Padding before and after, of TensorFlow's SAME: the output has `ceil(size / stride)` pixels; the smaller half of
/// the zeros lies before.
fn same_padding(size: usize, kernel: usize, stride: usize, dilation: usize) -> [usize; 2] {
    let reach = (size.div_ceil(stride).max(1) - 1) * stride + (kernel - 1) * dilation + 1;
    let total = reach.saturating_sub(size);
    [total / 2, total - total / 2]
}

/// A linear layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// Features of the output.
    pub out_features: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// Channels, height and width of the flattened image, where it had more than one pixel: PyTorch flattens channels
    /// first, so the weights are reordered.
    pub after_flatten: Option<(usize, usize, usize)>,
}

impl Linear {
    /// A layer with bias on a vector.
    pub fn new(out_features: usize) -> Self {
        Linear { out_features, bias: true, after_flatten: None }
    }
}

impl Graph<'_> {
    /// Convolution: a matrix product where it is 1x1, depthwise where every channel has its own filter.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` does not fit.
    pub fn conv2d(&mut self, name: impl Display, x: ValueId, conv: Conv2d) -> Result<ValueId> {
        self.layer(name, |g| {
            let [_, height, width, channels] = g.tape.shape(x).nhwc()?;
            let Conv2d { out_channels, kernel, groups, .. } = conv;
            if groups == 0 || channels % groups != 0 || out_channels % groups != 0 {
                return Err(Error::Shape(format!(
                    "layer {}: {channels} channels to {out_channels} in {groups} groups do not come out even",
                    g.path()
                )));
            }
            let window = conv.window(g.settings.padding, [height, width]);
            let pointwise =
                kernel == [1, 1] && conv.stride == [1, 1] && conv.padding == [0, 0] && groups == 1;
            let depthwise = groups > 1 && groups == channels && groups == out_channels;
            let layout = match (pointwise, depthwise) {
                (true, _) => Layout::Pointwise,
                (_, true) => Layout::Depthwise,
                _ => Layout::Conv,
            };
            let shape = [out_channels, channels / groups, kernel[0], kernel[1]];
            let mut operands = vec![x, g.param("weight", &shape, layout, Kind::Weight)?];
            let epilogue = g.bias(conv.bias, out_channels, &mut operands)?;
            match layout {
                Layout::Pointwise => g.tape.apply(Matmul { epilogue }, &operands),
                Layout::Depthwise => g.tape.apply(Depthwise { window, epilogue }, &operands),
                _ => g.tape.apply(Conv { window, groups, epilogue }, &operands),
            }
        })
    }

    /// Linear layer over the last axis.
    ///
    /// # Errors
    /// [`Error::Shape`] where `x` does not fit.
    pub fn linear(&mut self, name: impl Display, x: ValueId, linear: Linear) -> Result<ValueId> {
        self.layer(name, |g| {
            let features = g.tape.shape(x).channels();
            let layout = match linear.after_flatten {
                Some((channels, height, width)) if height * width > 1 => {
                    if features != channels * height * width {
                        return Err(Error::Shape(format!(
                            "layer {}: {channels} channels of {height}x{width} pixels are not {features} features",
                            g.path()
                        )));
                    }
                    Layout::LinearAfterFlatten { channels, height, width }
                }
                _ => Layout::Linear,
            };
            let weight = g.param("weight", &[linear.out_features, features], layout, Kind::Weight)?;
            let mut operands = vec![x, weight];
            let epilogue = g.bias(linear.bias, linear.out_features, &mut operands)?;
            g.tape.apply(Matmul { epilogue }, &operands)
        })
    }

    /// The last layer of a network, `layer(graph, name, x, outputs)`. With a hidden layer, it becomes PyTorch's
    /// `Sequential(Linear, ReLU, Dropout, Linear)` in its place: layer `0` computes the hidden features, layer `3`
    /// the classes.
    ///
    /// # Errors
    /// Those of `layer`.
    pub fn head(
        &mut self,
        name: &str,
        x: ValueId,
        classes: usize,
        layer: impl Fn(&mut Self, &str, ValueId, usize) -> Result<ValueId>,
    ) -> Result<ValueId> {
        let Some(hidden) = self.settings.hidden else { return layer(self, name, x, classes) };
        self.at(name, |g| {
            let x = layer(g, "0", x, hidden)?;
            let x = g.relu(1, x)?;
            let x = g.dropout(2, x, 0.5)?;
            layer(g, "3", x, classes)
        })
    }

    /// The same for a linear layer.
    ///
    /// # Errors
    /// As for [`Graph::linear`].
    pub fn linear_head(&mut self, name: &str, x: ValueId, classes: usize) -> Result<ValueId> {
        self.head(name, x, classes, |g, name, x, outputs| g.linear(name, x, Linear::new(outputs)))
    }

    fn bias(&mut self, wanted: bool, channels: usize, operands: &mut Vec<ValueId>) -> Result<Epilogue> {
        if !wanted {
            return Ok(Epilogue::default());
        }
        operands.push(self.param("bias", &[channels], Layout::Plain, Kind::Bias)?);
        Ok(Epilogue::bias())
    }

    /// An activation function.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn activation(&mut self, name: impl Display, x: ValueId, activation: Activation) -> Result<ValueId> {
        self.op(name, Activate(activation), &[x])
    }

    /// ReLU: `max(x, 0)`.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn relu(&mut self, name: impl Display, x: ValueId) -> Result<ValueId> {
        self.activation(name, x, Activation::Relu)
    }

    /// The largest value of each window.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn max_pool(&mut self, name: impl Display, x: ValueId, window: PoolWindow) -> Result<ValueId> {
        self.layer(name, |g| Ok(g.tape.record(MaxPool { window }, &[x])?[0]))
    }

    /// The mean of each window.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn avg_pool(
        &mut self,
        name: impl Display,
        x: ValueId,
        window: PoolWindow,
        count_include_pad: bool,
    ) -> Result<ValueId> {
        self.op(name, AvgPool { window, count_include_pad }, &[x])
    }

    /// The mean of `output` equal regions of the image, whatever its size.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn adaptive_avg_pool(
        &mut self,
        name: impl Display,
        x: ValueId,
        output: [usize; 2],
    ) -> Result<ValueId> {
        self.op(name, AdaptiveAvgPool { output }, &[x])
    }

    /// One vector an image; channels stay last.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn flatten(&mut self, name: impl Display, x: ValueId) -> Result<ValueId> {
        let batch = self.tape.shape(x).first().copied().unwrap_or(1);
        let features = self.tape.shape(x).numel() / batch.max(1);
        self.op(name, Reshape { shape: vec![batch, features] }, &[x])
    }

    /// Dropout: active in training, where a gradient flows through `x` or the layer belongs to the head. In the
    /// frozen backbone dropout is inactive, so that the output of the backbone can be cached.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn dropout(&mut self, name: impl Display, x: ValueId, p: f32) -> Result<ValueId> {
        let p = self.settings.dropout.unwrap_or(p);
        self.drop(name, x, p, false)
    }

    /// Stochastic depth (Huang et al. 2016, arXiv:1603.09382): skips a residual branch for an image with probability
    /// `p`. Active where [`Graph::dropout`] is; inactive where dropout is switched off for the whole network.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn stochastic_depth(&mut self, name: impl Display, x: ValueId, p: f32) -> Result<ValueId> {
        let p = if self.settings.dropout == Some(0.0) { 0.0 } else { p };
        self.drop(name, x, p, true)
    }

    fn drop(&mut self, name: impl Display, x: ValueId, p: f32, by_row: bool) -> Result<ValueId> {
        self.layer(name, |g| {
            if g.settings.mode == Mode::Eval || p == 0.0 || !(g.in_head || g.tape.requires_grad(x)) {
                return Ok(x);
            }
            let key = rng::key_of(g.path());
            let salt = (key ^ (key >> 32)) as u32;
            let step = g.step();
            g.tape.apply(Dropout { p, salt, by_row }, &[x, step])
        })
    }

    /// `a + b`.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn add(&mut self, name: impl Display, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(name, Add::default(), &[a, b])
    }

    /// `x * s`, where `s` has one number for each channel of each image: squeeze and excite.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn mul(&mut self, name: impl Display, x: ValueId, s: ValueId) -> Result<ValueId> {
        self.op(name, Mul, &[x, s])
    }

    /// Concatenates the channels of all parts.
    ///
    /// # Errors
    /// As for [`Graph::op`].
    pub fn concat(&mut self, name: impl Display, parts: &[ValueId]) -> Result<ValueId> {
        self.op(name, Concat, parts)
    }
}

#[cfg(test)]
mod tests {
    use super::same_padding;

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(same_padding(224, 3, 2, 1), [0, 1]);
        assert_eq!(same_padding(7, 3, 2, 1), [1, 1]);
        assert_eq!(same_padding(56, 3, 1, 1), [1, 1]);
        assert_eq!(same_padding(224, 7, 2, 1), [2, 3]);
        assert_eq!(same_padding(15, 1, 2, 1), [0, 0]);
        assert_eq!(same_padding(16, 3, 1, 2), [2, 2]);
    }
}
