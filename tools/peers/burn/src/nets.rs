//! MobileNetV2, ResNet-18, ResNet-50 and VGG-16 as a list of blocks and a head, so that one can be cut in two.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, activation};

#[derive(Debug, Clone, Copy)]
enum Activation {
    Identity,
    Relu,
    Relu6,
}

impl Activation {
    fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::Identity => x,
            Activation::Relu => activation::relu(x),
            Activation::Relu6 => activation::relu6(x),
        }
    }
}

/// Convolution, batch norm perhaps, activation.
#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: Option<BatchNorm>,
    #[module(skip)]
    activation: Activation,
}

impl ConvNorm {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv.forward(x);
        self.activation.forward(match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        })
    }
}

/// Convolutions one after the other. `shortcut` is the way around them, if there is one: no convolution, or one.
#[derive(Module, Debug)]
pub struct Block {
    #[module(skip)]
    path: String,
    layers: Vec<ConvNorm>,
    shortcut: Option<Vec<ConvNorm>>,
    #[module(skip)]
    activation: Activation,
    pool: Option<MaxPool2d>,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let through = |layers: &[ConvNorm], x: Tensor<4>| layers.iter().fold(x, |x, layer| layer.forward(x));
        let y = match &self.shortcut {
            Some(shortcut) => through(&self.layers, x.clone()) + through(shortcut, x),
            None => through(&self.layers, x),
        };
        let y = self.activation.forward(y);
        match &self.pool {
            Some(pool) => pool.forward(y),
            None => y,
        }
    }
}

/// Mean over the image or parts of it, dropout before the last linear layer, relu between them.
#[derive(Module, Debug)]
struct Head {
    pool: AdaptiveAvgPool2d,
    dropout: Dropout,
    hidden: Vec<Linear>,
    linear: Linear,
}

/// A network.
#[derive(Module, Debug)]
pub struct Net {
    pub blocks: Vec<Block>,
    head: Head,
}

/// What the last of `blocks` gives.
pub fn run(blocks: &[Block], x: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(x, |x, block| block.forward(x))
}

impl Net {
    /// The network `name` of torchvision, with random numbers.
    pub fn new(name: &str, classes: usize, device: &Device) -> Result<Self, String> {
        match name {
            "mobilenet_v2" => Ok(mobilenet_v2(classes, device)),
            "resnet18" => Ok(resnet([2, 2, 2, 2], false, classes, device)),
            "resnet50" => Ok(resnet([3, 4, 6, 3], true, classes, device)),
            "vgg16" => Ok(vgg16(classes, device)),
            _ => Err(format!(
                "'{name}' is not written for burn; known are mobilenet_v2, resnet18, resnet50, vgg16"
            )),
        }
    }

    /// Takes the blocks up to and including `layer` away and returns them.
    pub fn split_off_front(&mut self, layer: &str) -> Result<Vec<Block>, String> {
        let inside = |path: &str| path == layer || path.starts_with(&format!("{layer}."));
        let last = self.blocks.iter().rposition(|block| inside(&block.path));
        let last = last.ok_or(format!("--freeze-through {layer}: no block is called so"))?;
        Ok(self.blocks.drain(..=last).collect())
    }

    /// Logits.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.head.pool.forward(run(&self.blocks, x)).flatten(1, 3);
        let hidden = |x, layer: &Linear| self.head.dropout.forward(activation::relu(layer.forward(x)));
        let x = if self.head.hidden.is_empty() { self.head.dropout.forward(x) } else { x };
        self.head.linear.forward(self.head.hidden.iter().fold(x, hidden))
    }
}

/// How many parameters there are. `num_params` counts running statistics too.
pub fn parameters(module: &impl Module) -> usize {
    #[derive(Default)]
    struct Count {
        running: bool,
        numbers: usize,
    }
    impl ModuleVisitor for Count {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.running = name.starts_with("running_");
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.numbers += if self.running { 0 } else { param.lazy_shape().num_elements() };
        }
    }
    let mut count = Count::default();
    module.visit(&mut count);
    count.numbers
}

/// Makes layers one after the other, each as wide as the last one's output.
struct Maker<'a> {
    device: &'a Device,
    channels: usize,
    blocks: Vec<Block>,
    /// Whether convolutions have a batch norm behind them, and no bias.
    norms: bool,
}

impl Maker<'_> {
    fn conv(
        &mut self,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        activation: Activation,
    ) -> ConvNorm {
        let padding = kernel / 2;
        let conv = Conv2dConfig::new([self.channels, out_channels], [kernel; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .with_groups(groups)
            .with_bias(!self.norms);
        self.channels = out_channels;
        ConvNorm {
            conv: conv.init(self.device),
            norm: self.norms.then(|| BatchNormConfig::new(out_channels).init(self.device)),
            activation,
        }
    }

    fn push(
        &mut self,
        path: String,
        layers: Vec<ConvNorm>,
        shortcut: Option<Vec<ConvNorm>>,
        activation: Activation,
    ) {
        self.blocks.push(Block { path, layers, shortcut, activation, pool: None });
    }

    fn finish(self, dropout: f64, classes: usize) -> Net {
        let head = Head {
            pool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            dropout: DropoutConfig::new(dropout).init(),
            hidden: Vec::new(),
            linear: LinearConfig::new(self.channels, classes).init(self.device),
        };
        Net { blocks: self.blocks, head }
    }
}

fn mobilenet_v2(classes: usize, device: &Device) -> Net {
    use Activation::{Identity, Relu6};
    // Expansion, channels, blocks, stride.
    let table = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    let mut m = Maker { device, channels: 3, blocks: Vec::new(), norms: true };
    let stem = m.conv(32, 3, 2, 1, Relu6);
    m.push("features.0".into(), vec![stem], None, Identity);
    for (expansion, channels, blocks, stride) in table {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let (before, hidden) = (m.channels, m.channels * expansion);
            let mut layers = Vec::new();
            if expansion != 1 {
                layers.push(m.conv(hidden, 1, 1, 1, Relu6));
            }
            layers.push(m.conv(hidden, 3, stride, hidden, Relu6));
            layers.push(m.conv(channels, 1, 1, 1, Identity));
            let same = stride == 1 && before == channels;
            let shortcut = if same { Some(Vec::new()) } else { None };
            m.push(format!("features.{}", m.blocks.len()), layers, shortcut, Identity);
        }
    }
    let last = m.conv(1280, 1, 1, 1, Relu6);
    m.push(format!("features.{}", m.blocks.len()), vec![last], None, Identity);
    m.finish(0.2, classes)
}

fn resnet(blocks: [usize; 4], bottleneck: bool, classes: usize, device: &Device) -> Net {
    use Activation::{Identity, Relu};
    let mut m = Maker { device, channels: 3, blocks: Vec::new(), norms: true };
    let stem = m.conv(64, 7, 2, 1, Relu);
    m.push("conv1".into(), vec![stem], None, Identity);
    let pool = MaxPool2dConfig::new([3, 3]).with_strides([2, 2]);
    m.blocks[0].pool = Some(pool.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init());
    for (stage, (channels, count)) in [64, 128, 256, 512].into_iter().zip(blocks).enumerate() {
        for block in 0..count {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let before = m.channels;
            let layers = if bottleneck {
                // The stride lies on the 3x3, as in torchvision.
                vec![
                    m.conv(channels, 1, 1, 1, Relu),
                    m.conv(channels, 3, stride, 1, Relu),
                    m.conv(4 * channels, 1, 1, 1, Identity),
                ]
            } else {
                vec![m.conv(channels, 3, stride, 1, Relu), m.conv(channels, 3, 1, 1, Identity)]
            };
            let out = m.channels;
            let shortcut = if stride == 1 && before == out {
                Some(Vec::new())
            } else {
                m.channels = before;
                Some(vec![m.conv(out, 1, stride, 1, Identity)])
            };
            m.push(format!("layer{}.{block}", stage + 1), layers, shortcut, Relu);
        }
    }
    m.finish(0.0, classes)
}

fn vgg16(classes: usize, device: &Device) -> Net {
    use Activation::{Identity, Relu};
    let mut m = Maker { device, channels: 3, blocks: Vec::new(), norms: false };
    let mut number = 0;
    for (channels, count) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        for _ in 0..count {
            let layer = m.conv(channels, 3, 1, 1, Relu);
            m.push(format!("features.{number}"), vec![layer], None, Identity);
            number += 2;
        }
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        m.blocks.last_mut().expect("a block").pool = Some(pool);
        number += 1;
    }
    let head = Head {
        pool: AdaptiveAvgPool2dConfig::new([7, 7]).init(),
        dropout: DropoutConfig::new(0.5).init(),
        hidden: vec![
            LinearConfig::new(512 * 49, 4096).init(device),
            LinearConfig::new(4096, 4096).init(device),
        ],
        linear: LinearConfig::new(4096, classes).init(device),
    };
    Net { blocks: m.blocks, head }
}
