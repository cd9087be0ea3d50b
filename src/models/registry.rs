//! The registry of networks by name.

use std::sync::{Arc, PoisonError, RwLock};

use super::efficientnet::{V2_L, V2_M, V2_S};
use super::manifest::{self, Weights};
use super::resnet::Block;
use super::vgg::TABLE;
use super::{
    Architecture, BnInception, Channels, DenseNet, EfficientNet, Filter, GoogLeNet, InceptionV3, MobileNetV1,
    MobileNetV2, MobileNetV3, Preprocess, Resnet, SqueezeNet, Vgg, unknown,
};
use crate::nn::{Norm, PaddingStyle};
use crate::{Error, Result};

/// The registry's entry for a network.
#[derive(Debug)]
pub struct Model {
    /// torchvision's name, where it has one.
    pub name: &'static str,
    /// Other names. Besides these, timm's weight tags and its prefixes `tf_` and `timm/` are understood.
    pub aliases: &'static [&'static str],
    /// One line of description.
    pub about: &'static str,
    /// Number of classes of the usual weights.
    pub classes: usize,
    /// Side of the usual input, pixels.
    pub input: usize,
    /// Whether the network comes in widths other than 1.
    pub widths: bool,
    /// Preprocessing of its usual weights.
    preprocess: Preprocess,
    build: fn(f64) -> Arc<dyn Architecture>,
}

/// A centre crop with ImageNet's statistics: short side, crop, filter.
const fn view(resize: usize, crop: usize, filter: Filter) -> Preprocess {
    Preprocess::cropped(resize, crop, filter)
}

/// The same preprocessing with a mean and standard deviation of 0.5.
const fn half(view: Preprocess) -> Preprocess {
    Preprocess { mean: [0.5; 3], std: [0.5; 3], ..view }
}

/// Preprocessing of most of torchvision's weights.
const USUAL: Preprocess = view(256, 224, Filter::Bilinear);
/// Images of 32x32.
const CIFAR: Preprocess = view(32, 32, Filter::Bilinear);
/// Preprocessing of the published BN-Inception: blue, green, red from 0 to 255, minus Caffe's means.
const CAFFE: Preprocess = Preprocess {
    channels: Channels::Bgr,
    mean: [128.0 / 255.0, 117.0 / 255.0, 104.0 / 255.0],
    std: [1.0 / 255.0; 3],
    ..USUAL
};
/// Preprocessing of most of timm's weights.
const BICUBIC: Preprocess = view(256, 224, Filter::Bicubic);

macro_rules! models {
    ($($name:literal $(| $alias:literal)*, $about:literal, $view:expr $(, widths $widths:literal)? => $build:expr;)*) => {
        /// The library's networks.
        pub static MODELS: &[Model] = &[$(Model {
            name: $name,
            aliases: &[$($alias),*],
            about: $about,
            classes: if $view.size[0] == CIFAR.size[0] { 10 } else { 1000 },
            input: $view.size[0],
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

/// The larger EfficientNets, whose weights have other batch norm constants.
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
    "resnet20" | "resnet20_cifar10" | "cifar10_resnet20", "ResNet for 32x32 images, 20 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(3));
    "resnet32" | "resnet32_cifar10" | "cifar10_resnet32", "ResNet for 32x32 images, 32 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(5));
    "resnet44" | "resnet44_cifar10" | "cifar10_resnet44", "ResNet for 32x32 images, 44 layers", CIFAR
        => |_| Arc::new(Resnet::cifar(7));
    "resnet56" | "resnet56_cifar10" | "cifar10_resnet56", "ResNet for 32x32 images, 56 layers", CIFAR
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
    "bn_inception" | "bninception" | "inception_v2", "BN-Inception (Inception v2), in Caffe's layout", CAFFE
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

/// Published accuracy of a checkpoint on ImageNet's validation set, per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Published {
    /// torchvision's name of the weights.
    pub weights: &'static str,
    /// Top-1 accuracy.
    pub top1: f32,
    /// Top-5 accuracy.
    pub top5: f32,
}

/// torchvision's published accuracy of its own checkpoints (version 0.29).
#[rustfmt::skip]
const PUBLISHED: &[(&str, &str, f32, f32)] = &[
    ("vgg11", "IMAGENET1K_V1", 69.020, 88.628),
    ("vgg11_bn", "IMAGENET1K_V1", 70.370, 89.810),
    ("vgg13", "IMAGENET1K_V1", 69.928, 89.246),
    ("vgg13_bn", "IMAGENET1K_V1", 71.586, 90.374),
    ("vgg16", "IMAGENET1K_V1", 71.592, 90.382),
    ("vgg16_bn", "IMAGENET1K_V1", 73.360, 91.516),
    ("vgg19", "IMAGENET1K_V1", 72.376, 90.876),
    ("vgg19_bn", "IMAGENET1K_V1", 74.218, 91.842),
    ("resnet18", "IMAGENET1K_V1", 69.758, 89.078),
    ("resnet34", "IMAGENET1K_V1", 73.314, 91.420),
    ("resnet50", "IMAGENET1K_V1", 76.130, 92.862),
    ("resnet50", "IMAGENET1K_V2", 80.858, 95.434),
    ("resnet101", "IMAGENET1K_V1", 77.374, 93.546),
    ("resnet101", "IMAGENET1K_V2", 81.886, 95.780),
    ("resnet152", "IMAGENET1K_V1", 78.312, 94.046),
    ("resnet152", "IMAGENET1K_V2", 82.284, 96.002),
    ("resnext50_32x4d", "IMAGENET1K_V1", 77.618, 93.698),
    ("resnext50_32x4d", "IMAGENET1K_V2", 81.198, 95.340),
    ("resnext101_32x8d", "IMAGENET1K_V1", 79.312, 94.526),
    ("resnext101_32x8d", "IMAGENET1K_V2", 82.834, 96.228),
    ("resnext101_64x4d", "IMAGENET1K_V1", 83.246, 96.454),
    ("wide_resnet50_2", "IMAGENET1K_V1", 78.468, 94.086),
    ("wide_resnet50_2", "IMAGENET1K_V2", 81.602, 95.758),
    ("wide_resnet101_2", "IMAGENET1K_V1", 78.848, 94.284),
    ("wide_resnet101_2", "IMAGENET1K_V2", 82.510, 96.020),
    ("googlenet", "IMAGENET1K_V1", 69.778, 89.530),
    ("inception_v3", "IMAGENET1K_V1", 77.294, 93.450),
    ("mobilenet_v2", "IMAGENET1K_V1", 71.878, 90.286),
    ("mobilenet_v2", "IMAGENET1K_V2", 72.154, 90.822),
    ("mobilenet_v3_large", "IMAGENET1K_V1", 74.042, 91.340),
    ("mobilenet_v3_large", "IMAGENET1K_V2", 75.274, 92.566),
    ("mobilenet_v3_small", "IMAGENET1K_V1", 67.668, 87.402),
    ("densenet121", "IMAGENET1K_V1", 74.434, 91.972),
    ("densenet161", "IMAGENET1K_V1", 77.138, 93.560),
    ("densenet169", "IMAGENET1K_V1", 75.600, 92.806),
    ("densenet201", "IMAGENET1K_V1", 76.896, 93.370),
    ("efficientnet_b0", "IMAGENET1K_V1", 77.692, 93.532),
    ("efficientnet_b1", "IMAGENET1K_V1", 78.642, 94.186),
    ("efficientnet_b1", "IMAGENET1K_V2", 79.838, 94.934),
    ("efficientnet_b2", "IMAGENET1K_V1", 80.608, 95.310),
    ("efficientnet_b3", "IMAGENET1K_V1", 82.008, 96.054),
    ("efficientnet_b4", "IMAGENET1K_V1", 83.384, 96.594),
    ("efficientnet_b5", "IMAGENET1K_V1", 83.444, 96.628),
    ("efficientnet_b6", "IMAGENET1K_V1", 84.008, 96.916),
    ("efficientnet_b7", "IMAGENET1K_V1", 84.122, 96.908),
    ("efficientnet_v2_s", "IMAGENET1K_V1", 84.228, 96.878),
    ("efficientnet_v2_m", "IMAGENET1K_V1", 85.112, 97.156),
    ("efficientnet_v2_l", "IMAGENET1K_V1", 85.808, 97.788),
    ("squeezenet1_0", "IMAGENET1K_V1", 58.092, 80.420),
    ("squeezenet1_1", "IMAGENET1K_V1", 58.178, 80.624),
];

/// Published accuracies of a model's checkpoints, the first recipe first.
pub fn published(model: &str) -> Vec<Published> {
    let own = PUBLISHED.iter().filter(|row| row.0 == model);
    own.map(|&(_, weights, top1, top5)| Published { weights, top1, top5 }).collect()
}

impl Model {
    /// A network of the host program: its layers, and the preprocessing of its weights. `name` is in lower case.
    pub fn new(
        name: &'static str,
        about: &'static str,
        preprocess: Preprocess,
        build: fn(f64) -> Arc<dyn Architecture>,
    ) -> Self {
        let input = preprocess.size[0];
        Model { name, aliases: &[], about, classes: 2, input, widths: false, preprocess, build }
    }

    /// Its architecture, with `width` times the channels.
    pub fn build(&self, width: f64) -> Arc<dyn Architecture> {
        (self.build)(width)
    }

    /// Preprocessing of its usual weights.
    pub fn preprocess(&self) -> Preprocess {
        self.preprocess.clone()
    }

    /// Path of the layer whose output is cached when only the head is trained.
    pub fn features_path(&self) -> &'static str {
        self.build(1.0).features_path()
    }

    /// Path of the layer that a new task replaces.
    pub fn head(&self) -> &'static str {
        self.build(1.0).head_path()
    }
}

/// The meaning of a name.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The network.
    pub model: &'static Model,
    /// The width in the name: `mobilenet_v2_035`, `mobilenet_v2_0.35`.
    pub width: Option<f64>,
    /// Preprocessing of the weights that the name's tag stands for.
    pub preprocess: Preprocess,
    /// Padding of the weights' convolutions: timm's `tf_` networks pad as TensorFlow does.
    pub padding: PaddingStyle,
    /// Batch norm constants of the weights, where they differ from the library's own.
    pub norm: Option<Norm>,
}

/// Networks that the host program registered.
static OWN: RwLock<Vec<&'static Model>> = RwLock::new(Vec::new());

/// Registers a network of the host program: it can be created by its name, its checkpoints opened and its runs
/// resumed like those of any other network.
///
/// # Errors
/// [`Error::Usage`] where another network has this name.
pub fn register(model: Model) -> Result<()> {
    let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = |m: &&Model| m.name == model.name || m.aliases.contains(&model.name);
    if MODELS.iter().chain(own.iter().copied()).any(|m| known(&m)) {
        return Err(Error::Usage(format!(
            "there is a network '{}' already: give yours another name",
            model.name
        )));
    }
    own.push(Box::leak(Box::new(model)));
    Ok(())
}

/// All networks, registered ones last.
pub fn all() -> Vec<&'static Model> {
    let own = OWN.read().unwrap_or_else(PoisonError::into_inner);
    MODELS.iter().chain(own.iter().copied()).collect()
}

/// The network that `name` stands for: torchvision's or timm's name, optionally with a width (`mobilenetv2_140`) or a
/// tag of weights (`timm/resnet50.a1_in1k`).
///
/// # Errors
/// [`Error::Usage`] with the most similar name.
pub fn find(name: &str) -> Result<Choice> {
    let models = all();
    let plain = name.trim().to_lowercase();
    let plain = plain.strip_prefix("timm/").unwrap_or(&plain);
    let manifest_entry = manifest::all().iter().find(|w| w.name == plain);
    // Prefix of timm's conversions from TensorFlow.
    let (plain, tensorflow) = plain.strip_prefix("tf_").map_or((plain, false), |rest| (rest, true));
    // A tag follows a dot; the fraction of a width does, too.
    let dot = plain
        .char_indices()
        .find(|&(i, c)| c == '.' && !plain[i + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let (plain, tag) = dot.map_or((plain, None), |(i, _)| (&plain[..i], Some(&plain[i + 1..])));
    let named = |m: &Model, name: &str| m.name == name || m.aliases.contains(&name);
    let (model, width) = match models.iter().copied().find(|m| named(m, plain)) {
        Some(model) => (model, None),
        None => {
            let split = plain.rsplit_once('_').and_then(|(base, digits)| {
                let width = if digits.contains('.') {
                    digits.parse().ok()?
                } else {
                    digits.parse::<u32>().ok().filter(|_| digits.len() == 3).map(f64::from)? / 100.0
                };
                let model = models.iter().copied().find(|m| m.widths && named(m, base))?;
                (0.05..=4.0).contains(&width).then_some((model, Some(width)))
            });
            split.ok_or_else(|| unknown("model", name, models.iter().map(|m| m.name)))?
        }
    };
    let preprocess = match tag {
        None => usual(model, tensorflow),
        Some(tag) => manifest_entry
            .map(Weights::preprocess)
            .or_else(|| tagged(usual(model, tensorflow), tag))
            .ok_or_else(|| {
                let known = manifest::all().iter().filter(|w| w.model == model.name).map(|w| w.name.as_str());
                let known: Vec<&str> = known.chain(TAGS.iter().copied()).collect();
                Error::Usage(format!(
                    "unknown weights '{tag}' of {}; known are {}",
                    model.name,
                    known.join(", ")
                ))
            })?,
    };
    let (padding, norm) = match tensorflow {
        true => (PaddingStyle::TfSame, Some(Norm { eps: 1e-3, ..Norm::default() })),
        false => (PaddingStyle::Symmetric, None),
    };
    Ok(Choice { model, width, preprocess, padding, norm })
}

/// Preprocessing of a model's weights where the name has no tag.
fn usual(model: &Model, tensorflow: bool) -> Preprocess {
    match tensorflow {
        true if model.name.starts_with("efficientnet_b") => Preprocess { filter: B, ..model.preprocess() },
        true => half(Preprocess { filter: B, ..model.preprocess() }),
        false => model.preprocess(),
    }
}

/// Tags of pretrained weights besides those in the manifest: torchvision's, and timm's for many models.
const TAGS: &[&str] =
    &["imagenet1k_v1", "imagenet1k_v2", "tv_in1k", "tv2_in1k", "a1_in1k", "a2_in1k", "a3_in1k", "ra_in1k"];

fn tagged(usual: Preprocess, tag: &str) -> Option<Preprocess> {
    // timm: floor(crop / 0.95), floor(crop / 0.875).
    let wide = |percent: usize| usual.size[0] * 1000 / percent;
    match tag {
        "imagenet1k_v1" | "tv_in1k" => Some(usual),
        "imagenet1k_v2" | "tv2_in1k" => {
            let resize = if usual.size[0] == 240 { 255 } else { 232 };
            Some(Preprocess { resize, filter: Filter::Bilinear, ..usual })
        }
        "a1_in1k" | "a2_in1k" | "a3_in1k" => Some(Preprocess { resize: wide(950), filter: B, ..usual }),
        "ra_in1k" => Some(Preprocess { resize: wide(875), filter: B, ..usual }),
        _ => None,
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
