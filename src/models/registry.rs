//! All networks by name.

use std::sync::Arc;

use super::efficientnet::{V2_L, V2_M, V2_S};
use super::preprocess::{IMAGENET_MEAN, IMAGENET_STD};
use super::resnet::Block;
use super::vgg::TABLE;
use super::{
    Architecture, BnInception, DenseNet, EfficientNet, Filter, GoogLeNet, InceptionV3, MobileNetV1,
    MobileNetV2, MobileNetV3, Preprocess, Resnet, SqueezeNet, Vgg, unknown,
};
use crate::nn::{Norm, PaddingStyle};
use crate::{Error, Result};

/// A network that can be built.
#[derive(Debug)]
pub struct Model {
    /// torchvision's name, where it has one.
    pub name: &'static str,
    /// Other names; timm's weight tags, its `tf_` and `timm/` are understood besides.
    pub aliases: &'static [&'static str],
    /// One line for people.
    pub about: &'static str,
    /// Classes of the usual weights.
    pub classes: usize,
    /// Side of the usual input, pixels.
    pub input: usize,
    /// Whether it comes in widths other than 1.
    pub widths: bool,
    /// What its usual weights do to a picture.
    preprocess: Preprocess,
    build: fn(f64) -> Arc<dyn Architecture>,
}

/// What weights do to a picture: short side, crop, filter; ImageNet's statistics.
const fn view(resize: usize, crop: usize, filter: Filter) -> Preprocess {
    Preprocess { resize, crop, filter, mean: IMAGENET_MEAN, std: IMAGENET_STD }
}

/// The same with a mean and a deviation of 0.5.
const fn half(view: Preprocess) -> Preprocess {
    Preprocess { mean: [0.5; 3], std: [0.5; 3], ..view }
}

/// torchvision's view of most weights.
const USUAL: Preprocess = view(256, 224, Filter::Bilinear);
/// Pictures of 32x32.
const CIFAR: Preprocess = view(32, 32, Filter::Bilinear);
/// timm's of most weights.
const BICUBIC: Preprocess = view(256, 224, Filter::Bicubic);

macro_rules! models {
    ($($name:literal $(| $alias:literal)*, $about:literal, $view:expr $(, widths $widths:literal)? => $build:expr;)*) => {
        /// All networks.
        pub static MODELS: &[Model] = &[$(Model {
            name: $name,
            aliases: &[$($alias),*],
            about: $about,
            classes: if $view.crop == CIFAR.crop { 10 } else { 1000 },
            input: $view.crop,
            widths: false $(|| $widths)?,
            preprocess: $view,
            build: $build,
        }),*];
    };
}

fn resnet(block: Block, blocks: [usize; 4]) -> Resnet {
    Resnet::imagenet(block, blocks)
}

fn effnet(width: f64, depth: f64, dropout: f32) -> Arc<dyn Architecture> {
    Arc::new(EfficientNet::scaled(width, depth, dropout))
}

/// The larger ones, whose weights have other constants.
fn large(width: f64, depth: f64, dropout: f32) -> Arc<dyn Architecture> {
    Arc::new(EfficientNet::scaled(width, depth, dropout).norm_of_large())
}

fn lite(width: f64, depth: f64, dropout: f32) -> Arc<dyn Architecture> {
    Arc::new(EfficientNet::lite(width, depth, dropout))
}

const B: Filter = Filter::Bicubic;

models! {
    "resnet18", "ResNet, 18 layers, basic blocks", USUAL => |_| Arc::new(resnet(Block::Basic, [2, 2, 2, 2]));
    "resnet34", "ResNet, 34 layers, basic blocks", USUAL => |_| Arc::new(resnet(Block::Basic, [3, 4, 6, 3]));
    "resnet50", "ResNet, 50 layers, bottlenecks", USUAL => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 6, 3]));
    "resnet101", "ResNet, 101 layers, bottlenecks", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 23, 3]));
    "resnet152", "ResNet, 152 layers, bottlenecks", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 8, 36, 3]));
    "resnext50_32x4d", "ResNeXt, 50 layers, 32 groups of 4", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 6, 3]).wide(32, 4));
    "resnext101_32x8d", "ResNeXt, 101 layers, 32 groups of 8", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 23, 3]).wide(32, 8));
    "resnext101_64x4d", "ResNeXt, 101 layers, 64 groups of 4", view(232, 224, Filter::Bilinear)
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 23, 3]).wide(64, 4));
    "wide_resnet50_2", "ResNet, 50 layers, twice as wide inside", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 6, 3]).wide(1, 128));
    "wide_resnet101_2", "ResNet, 101 layers, twice as wide inside", USUAL
        => |_| Arc::new(resnet(Block::Bottleneck, [3, 4, 23, 3]).wide(1, 128));
    "resnet20" | "resnet20_cifar10" | "cifar10_resnet20", "ResNet for 32x32 pictures, 20 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(3));
    "resnet32" | "resnet32_cifar10" | "cifar10_resnet32", "ResNet for 32x32 pictures, 32 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(5));
    "resnet44" | "resnet44_cifar10" | "cifar10_resnet44", "ResNet for 32x32 pictures, 44 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(7));
    "resnet56" | "resnet56_cifar10" | "cifar10_resnet56", "ResNet for 32x32 pictures, 56 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(9));
    "mobilenet_v1" | "mobilenetv1" | "mobilenetv1_100", "MobileNet v1; other widths as mobilenet_v1_025",
        half(BICUBIC), widths true => |width| Arc::new(MobileNetV1::new(width));
    "mobilenet_v2" | "mobilenetv2", "MobileNetV2; other widths as mobilenet_v2_035", USUAL, widths true
        => |width| Arc::new(MobileNetV2::new(width));
    "mobilenet_v3_large" | "mobilenetv3_large", "MobileNetV3, large; other widths as mobilenet_v3_large_075",
        USUAL, widths true => |width| Arc::new(MobileNetV3::large(width));
    "mobilenet_v3_small" | "mobilenetv3_small", "MobileNetV3, small; other widths as mobilenet_v3_small_075",
        USUAL, widths true => |width| Arc::new(MobileNetV3::small(width));
    "efficientnet_b0", "EfficientNet-B0", BICUBIC => |_| effnet(1.0, 1.0, 0.2);
    "efficientnet_b1", "EfficientNet-B1", view(256, 240, B) => |_| effnet(1.0, 1.1, 0.2);
    "efficientnet_b2", "EfficientNet-B2", view(288, 288, B) => |_| effnet(1.1, 1.2, 0.3);
    "efficientnet_b3", "EfficientNet-B3", view(320, 300, B) => |_| effnet(1.2, 1.4, 0.3);
    "efficientnet_b4", "EfficientNet-B4", view(384, 380, B) => |_| effnet(1.4, 1.8, 0.4);
    "efficientnet_b5", "EfficientNet-B5", view(456, 456, B) => |_| large(1.6, 2.2, 0.4);
    "efficientnet_b6", "EfficientNet-B6", view(528, 528, B) => |_| large(1.8, 2.6, 0.5);
    "efficientnet_b7", "EfficientNet-B7", view(600, 600, B) => |_| large(2.0, 3.1, 0.5);
    "efficientnet_lite0", "EfficientNet-Lite0, for phones", BICUBIC => |_| lite(1.0, 1.0, 0.2);
    "efficientnet_v2_s" | "efficientnetv2_s", "EfficientNetV2-S", view(384, 384, Filter::Bilinear)
        => |_| Arc::new(EfficientNet::v2(&V2_S, 0.2));
    "efficientnet_v2_m" | "efficientnetv2_m", "EfficientNetV2-M", view(480, 480, Filter::Bilinear)
        => |_| Arc::new(EfficientNet::v2(&V2_M, 0.3));
    "efficientnet_v2_l" | "efficientnetv2_l", "EfficientNetV2-L", half(view(480, 480, B))
        => |_| Arc::new(EfficientNet::v2(&V2_L, 0.4));
    "densenet121", "DenseNet, 121 layers", USUAL => |_| Arc::new(DenseNet::new(32, [6, 12, 24, 16]));
    "densenet161", "DenseNet, 161 layers", USUAL => |_| Arc::new(DenseNet::new(48, [6, 12, 36, 24]));
    "densenet169", "DenseNet, 169 layers", USUAL => |_| Arc::new(DenseNet::new(32, [6, 12, 32, 32]));
    "densenet201", "DenseNet, 201 layers", USUAL => |_| Arc::new(DenseNet::new(32, [6, 12, 48, 32]));
    "googlenet" | "inception_v1", "GoogLeNet (Inception v1)", half(USUAL) => |_| Arc::new(GoogLeNet::default());
    "bn_inception" | "bninception" | "inception_v2", "BN-Inception (Inception v2), in Caffe's layout", USUAL
        => |_| Arc::new(BnInception);
    "inception_v3", "Inception v3", half(view(342, 299, Filter::Bilinear))
        => |_| Arc::new(InceptionV3::default());
    "squeezenet1_0", "SqueezeNet 1.0", USUAL => |_| Arc::new(SqueezeNet::v1_0());
    "squeezenet1_1", "SqueezeNet 1.1", USUAL => |_| Arc::new(SqueezeNet::v1_1());
    "vgg11", "VGG, 11 layers", USUAL => |_| Arc::new(Vgg::new(TABLE[0].1, false));
    "vgg13", "VGG, 13 layers", USUAL => |_| Arc::new(Vgg::new(TABLE[1].1, false));
    "vgg16", "VGG, 16 layers", USUAL => |_| Arc::new(Vgg::new(TABLE[2].1, false));
    "vgg19", "VGG, 19 layers", USUAL => |_| Arc::new(Vgg::new(TABLE[3].1, false));
    "vgg11_bn", "VGG, 11 layers, batch norm", USUAL => |_| Arc::new(Vgg::new(TABLE[0].1, true));
    "vgg13_bn", "VGG, 13 layers, batch norm", USUAL => |_| Arc::new(Vgg::new(TABLE[1].1, true));
    "vgg16_bn", "VGG, 16 layers, batch norm", USUAL => |_| Arc::new(Vgg::new(TABLE[2].1, true));
    "vgg19_bn", "VGG, 19 layers, batch norm", USUAL => |_| Arc::new(Vgg::new(TABLE[3].1, true));
}

impl Model {
    /// Its layers, `width` times as wide.
    pub fn build(&self, width: f64) -> Arc<dyn Architecture> {
        (self.build)(width)
    }

    /// What its usual weights do to a picture.
    pub fn preprocess(&self) -> Preprocess {
        self.preprocess.clone()
    }

    /// Path of the layer whose output is kept when only the head learns.
    pub fn cut(&self) -> &'static str {
        self.build(1.0).cut()
    }

    /// Path of the layer that is replaced for a new task.
    pub fn head(&self) -> &'static str {
        self.build(1.0).head_path()
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The network.
    pub model: &'static Model,
    /// The width in the name: `mobilenet_v2_035`, `mobilenet_v2_0.35`.
    pub width: Option<f64>,
    /// What the weights that the name's tag stands for do to a picture.
    pub preprocess: Preprocess,
    /// How their convolutions pad: timm's `tf_` networks as TensorFlow.
    pub padding: PaddingStyle,
    /// Constants of their batch norms, where they are not the library's own.
    pub norm: Option<Norm>,
}

/// The network that `name` stands for: torchvision's name or timm's, with a width
/// (`mobilenetv2_140`) or a tag of weights (`timm/resnet50.a1_in1k`).
///
/// # Errors
/// [`Error::Usage`] with the nearest name.
pub fn find(name: &str) -> Result<Choice> {
    let all = MODELS.iter().map(|m| m.name);
    let plain = name.trim().to_lowercase();
    let plain = plain.strip_prefix("timm/").unwrap_or(&plain);
    // timm's conversions from TensorFlow.
    let (plain, tensorflow) = plain.strip_prefix("tf_").map_or((plain, false), |rest| (rest, true));
    // A tag follows a dot; so do the digits of a width.
    let dot = plain
        .char_indices()
        .find(|&(i, c)| c == '.' && !plain[i + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let (plain, tag) = dot.map_or((plain, None), |(i, _)| (&plain[..i], Some(&plain[i + 1..])));
    let named = |m: &&Model, name: &str| m.name == name || m.aliases.contains(&name);
    let (model, width) = match MODELS.iter().find(|m| named(m, plain)) {
        Some(model) => (model, None),
        None => {
            let split = plain.rsplit_once('_').and_then(|(base, digits)| {
                let width = if digits.contains('.') {
                    digits.parse().ok()?
                } else {
                    digits.parse::<u32>().ok().filter(|_| digits.len() == 3).map(f64::from)? / 100.0
                };
                let model = MODELS.iter().find(|m| m.widths && named(m, base))?;
                (0.05..=4.0).contains(&width).then_some((model, Some(width)))
            });
            split.ok_or_else(|| unknown("model", name, all))?
        }
    };
    let usual = match tensorflow {
        true if model.name.starts_with("efficientnet_b") => Preprocess { filter: B, ..model.preprocess() },
        true => half(Preprocess { filter: B, ..model.preprocess() }),
        false => model.preprocess(),
    };
    let preprocess = tagged(usual, tag).ok_or_else(|| {
        Error::Usage(format!(
            "unknown weights '{}' of {}; known are {}",
            tag.unwrap_or_default(),
            model.name,
            TAGS.join(", ")
        ))
    })?;
    let (padding, norm) = match tensorflow {
        true => (PaddingStyle::TfSame, Some(Norm { eps: 1e-3, ..Norm::default() })),
        false => (PaddingStyle::Symmetric, None),
    };
    Ok(Choice { model, width, preprocess, padding, norm })
}

/// Tags of pretrained weights, torchvision's and timm's.
const TAGS: &[&str] = &[
    "imagenet1k_v1",
    "imagenet1k_v2",
    "tv_in1k",
    "tv2_in1k",
    "a1_in1k",
    "a2_in1k",
    "a3_in1k",
    "ra_in1k",
    "lamb_in1k",
    "ra4_e3600_r224_in1k",
    "in1k",
];

fn tagged(usual: Preprocess, tag: Option<&str>) -> Option<Preprocess> {
    // timm: floor(crop / 0.95), floor(crop / 0.875).
    let wide = |percent: usize| usual.crop * 1000 / percent;
    match tag {
        None | Some("imagenet1k_v1" | "tv_in1k") => Some(usual),
        Some("imagenet1k_v2" | "tv2_in1k") => {
            let resize = if usual.crop == 240 { 255 } else { 232 };
            Some(Preprocess { resize, filter: Filter::Bilinear, ..usual })
        }
        Some("a1_in1k" | "a2_in1k" | "a3_in1k") => Some(Preprocess { resize: wide(950), filter: B, ..usual }),
        Some("ra_in1k" | "lamb_in1k") => Some(Preprocess { resize: wide(875), filter: B, ..usual }),
        Some("ra4_e3600_r224_in1k") => Some(half(Preprocess { resize: wide(875), filter: B, ..usual })),
        Some("in1k") => Some(Preprocess { resize: wide(875), ..usual }),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_libraries_are_found() -> Result<()> {
        let found = |name| find(name).map(|c| (c.model.name, c.width, c.preprocess.resize));
        assert_eq!(found("resnet50")?, ("resnet50", None, 256));
        assert_eq!(found("timm/resnet50.a1_in1k")?, ("resnet50", None, 235));
        assert_eq!(found("mobilenetv2_140.ra_in1k")?, ("mobilenet_v2", Some(1.4), 256));
        assert_eq!(found("mobilenet_v2_035")?, ("mobilenet_v2", Some(0.35), 256));
        assert_eq!(found("mobilenet_v2_0.35")?, ("mobilenet_v2", Some(0.35), 256));
        assert_eq!(found("resnet20_cifar10")?, ("resnet20", None, 32));
        for wrong in
            ["resnet", "resnet5", "mobilenet_v2_9", "mobilenetv2_110d", "vgg16_035", "", ".", "resnet50.x"]
        {
            assert!(matches!(find(wrong), Err(Error::Usage(_))), "{wrong}");
        }
        assert!(find("resnet_50").is_err_and(|e| e.to_string().contains("did you mean 'resnet50'")));
        Ok(())
    }
}
