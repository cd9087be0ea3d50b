//! All networks by name.

use std::sync::Arc;

use super::resnet::Block;
use super::vgg::TABLE;
use super::{Architecture, Filter, MobileNetV2, Preprocess, Resnet, Vgg, unknown};
use crate::{Error, Result};

/// A network that can be built.
#[derive(Debug)]
pub struct Model {
    /// torchvision's name, where it has one.
    pub name: &'static str,
    /// Other names; timm's weight tags and `timm/` are understood besides.
    pub aliases: &'static [&'static str],
    /// One line for people.
    pub about: &'static str,
    /// Classes of the usual weights.
    pub classes: usize,
    /// Side of the usual input, pixels.
    pub input: usize,
    /// Whether it comes in widths other than 1.
    pub widths: bool,
    build: fn(f64) -> Arc<dyn Architecture>,
}

macro_rules! models {
    ($($name:literal $(| $alias:literal)*, $about:literal, $of:ident, $widths:literal => $build:expr;)*) => {
        /// All networks.
        pub static MODELS: &[Model] = &[$(Model {
            name: $name,
            aliases: &[$($alias),*],
            about: $about,
            classes: $of.0,
            input: $of.1,
            widths: $widths,
            build: $build,
        }),*];
    };
}

/// Classes and input side of the usual weights.
const IMAGENET: (usize, usize) = (1000, 224);
const CIFAR: (usize, usize) = (10, 32);

models! {
    "resnet18", "ResNet, 18 layers, basic blocks", IMAGENET, false
        => |_| Arc::new(Resnet::imagenet(Block::Basic, [2, 2, 2, 2]));
    "resnet34", "ResNet, 34 layers, basic blocks", IMAGENET, false
        => |_| Arc::new(Resnet::imagenet(Block::Basic, [3, 4, 6, 3]));
    "resnet50", "ResNet, 50 layers, bottlenecks", IMAGENET, false
        => |_| Arc::new(Resnet::imagenet(Block::Bottleneck, [3, 4, 6, 3]));
    "resnet101", "ResNet, 101 layers, bottlenecks", IMAGENET, false
        => |_| Arc::new(Resnet::imagenet(Block::Bottleneck, [3, 4, 23, 3]));
    "resnet152", "ResNet, 152 layers, bottlenecks", IMAGENET, false
        => |_| Arc::new(Resnet::imagenet(Block::Bottleneck, [3, 8, 36, 3]));
    "resnet20" | "resnet20_cifar10" | "cifar10_resnet20", "ResNet for 32x32 pictures, 20 layers", CIFAR, false
        => |_| Arc::new(Resnet::cifar(3));
    "resnet32" | "resnet32_cifar10" | "cifar10_resnet32", "ResNet for 32x32 pictures, 32 layers", CIFAR, false
        => |_| Arc::new(Resnet::cifar(5));
    "resnet44" | "resnet44_cifar10" | "cifar10_resnet44", "ResNet for 32x32 pictures, 44 layers", CIFAR, false
        => |_| Arc::new(Resnet::cifar(7));
    "resnet56" | "resnet56_cifar10" | "cifar10_resnet56", "ResNet for 32x32 pictures, 56 layers", CIFAR, false
        => |_| Arc::new(Resnet::cifar(9));
    "mobilenet_v2" | "mobilenetv2", "MobileNetV2; other widths as mobilenet_v2_035", IMAGENET, true
        => |width| Arc::new(MobileNetV2::new(width));
    "vgg11", "VGG, 11 layers", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[0].1, false));
    "vgg13", "VGG, 13 layers", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[1].1, false));
    "vgg16", "VGG, 16 layers", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[2].1, false));
    "vgg19", "VGG, 19 layers", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[3].1, false));
    "vgg11_bn", "VGG, 11 layers, batch norm", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[0].1, true));
    "vgg13_bn", "VGG, 13 layers, batch norm", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[1].1, true));
    "vgg16_bn", "VGG, 16 layers, batch norm", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[2].1, true));
    "vgg19_bn", "VGG, 19 layers, batch norm", IMAGENET, false => |_| Arc::new(Vgg::new(TABLE[3].1, true));
}

impl Model {
    /// Its layers, `width` times as wide.
    pub fn build(&self, width: f64) -> Arc<dyn Architecture> {
        (self.build)(width)
    }

    /// What its usual weights do to a picture.
    pub fn preprocess(&self) -> Preprocess {
        if self.input == 224 { Preprocess::default() } else { Preprocess::whole(self.input) }
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
    let preprocess = tagged(&model.preprocess(), tag).ok_or_else(|| {
        Error::Usage(format!(
            "unknown weights '{}' of {}; known are {}",
            tag.unwrap_or_default(),
            model.name,
            TAGS.join(", ")
        ))
    })?;
    Ok(Choice { model, width, preprocess })
}

/// Tags of pretrained weights, torchvision's and timm's.
const TAGS: &[&str] =
    &["imagenet1k_v1", "imagenet1k_v2", "tv_in1k", "tv2_in1k", "a1_in1k", "a2_in1k", "a3_in1k", "ra_in1k"];

fn tagged(default: &Preprocess, tag: Option<&str>) -> Option<Preprocess> {
    let usual = default.clone();
    match tag {
        None | Some("imagenet1k_v1" | "tv_in1k") => Some(usual),
        Some("imagenet1k_v2" | "tv2_in1k") => Some(Preprocess { resize: 232, ..usual }),
        // timm: floor(224 / 0.95).
        Some("a1_in1k" | "a2_in1k" | "a3_in1k") => {
            Some(Preprocess { resize: 235, filter: Filter::Bicubic, ..usual })
        }
        Some("ra_in1k") => Some(Preprocess { filter: Filter::Bicubic, ..usual }),
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
