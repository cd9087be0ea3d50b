//! The lines of Python that load an exported network and predict an image.

use askama::Template;

use super::exported::Exported;
use crate::models::{Channels, Filter, Naming, Network, Placement, Preprocess};
use crate::task;
use crate::{Error, Result};

#[derive(Template)]
#[template(path = "torchvision.py", escape = "none")]
struct Torchvision<'a> {
    file: &'a str,
    architecture: &'a str,
    arguments: String,
    /// Epsilon of the batch norms, where it is not the library's own.
    eps: Option<f32>,
    /// Transforms from an image to the network's input's size.
    placement: String,
    mean: String,
    std: String,
    answer: String,
}

#[derive(Template)]
#[template(path = "timm.py", escape = "none")]
struct Timm {
    answer: String,
}

/// A program that predicts `image.jpg`, run in the folder of the exported file.
pub(super) fn program(net: &Network, exported: Exported<'_>) -> Result<String> {
    let rendered = match exported.naming {
        Naming::Torchvision => torchvision(net, &exported.name())?.render(),
        Naming::Timm => Timm { answer: answer(net)? }.render(),
    };
    rendered
        .map(|text| text.trim_end().to_string())
        .map_err(|e| Error::Data(format!("the model card cannot be written: {e}")))
}

fn torchvision<'a>(net: &'a Network, file: &'a str) -> Result<Torchvision<'a>> {
    let config = net.config();
    let mut arguments = String::new();
    if config.width != 1.0 {
        arguments += &format!(", width_mult={}", config.width);
    }
    if net.architecture().auxiliary().is_some() {
        let there = if config.auxiliary { "True" } else { "False" };
        arguments += &format!(", aux_logits={there}, init_weights=False");
    }
    let preprocess = net.preprocess();
    Ok(Torchvision {
        file,
        architecture: &config.model,
        arguments,
        eps: Some(config.norm.eps).filter(|eps| *eps != net.architecture().norm().eps),
        placement: placement(preprocess)?,
        mean: format!("{:?}", preprocess.mean),
        std: format!("{:?}", preprocess.std),
        answer: answer(net)?,
    })
}

/// torchvision's transforms that place an image as the network wants it.
fn placement(preprocess: &Preprocess) -> Result<String> {
    let Preprocess { size: [height, width], resize, placement, .. } = *preprocess;
    let filter = match preprocess.filter {
        Filter::Bilinear => "transforms.InterpolationMode.BILINEAR",
        Filter::Bicubic => "transforms.InterpolationMode.BICUBIC",
    };
    match (placement, preprocess.channels) {
        (Placement::Crop, Channels::Rgb) if height == width => {
            Ok(format!("transforms.Resize({resize}, {filter}),\n    transforms.CenterCrop({width}),"))
        }
        (Placement::Stretch, Channels::Rgb) => {
            Ok(format!("transforms.Resize(({height}, {width}), {filter}),"))
        }
        _ => Err(Error::Usage(format!(
            "torchvision has no transform for the network's input ({}; {:?})",
            preprocess.in_words(),
            preprocess.channels
        ))),
    }
}

/// From an image to its predictions.
fn answer(net: &Network) -> Result<String> {
    let task = task::of(net)?;
    let shown = match task.ranks() {
        false => "for name, value in zip(classes, outputs.tolist()):\n    print(f\"{value:12.4f}  {name}\")",
        true => {
            "for index in outputs.argsort(descending=True)[:5].tolist():\n    \
             print(f\"{outputs[index]:8.2%}  {classes[index]}\")"
        }
    };
    Ok(format!(
        "image = ImageOps.exif_transpose(Image.open(\"image.jpg\")).convert(\"RGB\")\n\
         image = prepare(image).unsqueeze(0)\n\
         with torch.no_grad():\n    outputs = {}\n{shown}",
        task.python(net.config().temperature)
    ))
}
