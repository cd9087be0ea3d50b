//! `defrost explain`: shows which part of an image raises the score of a class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::network::NetworkOptions;
use super::output::{Output, Style, escaped};
use super::predict::{decode, expand};
use super::{Session, positive, usage_error};
use crate::data::{Image, Skipped};
use crate::explain::{Explainer, Map, Method, beside, overlay};
use crate::models::{Network, imagenet};
use crate::task;
use crate::{Error, Result, did_you_mean};

const EXAMPLES: &str = "\
Examples:
  defrost explain runs/photos image.jpg -o why.png
  defrost explain runs/photos holidays/ --class bees -o bees/
  defrost explain --model resnet50 image.jpg --method grad-cam++ --layer layer3
  defrost explain runs/photos image.jpg --method smoothgrad --samples 50";

/// Show which part of an image raises the score of a class
///
/// Writes a PNG for each image: the crop that the network saw and, beside it, the crop in grey under a map, from dark
/// to bright yellow where pixels raise the score of the class most. Frozen layers make no difference. Images that
/// cannot be read are reported; the command fails only where none can be read.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// A run folder or checkpoint (not with --weights), then images and folders of images
    #[arg(required = true, value_names = ["RUN", "IMAGES"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    network: NetworkOptions,
    /// Where to write: a .png for one image, else a folder; its files are named IMAGE-CLASS-METHOD.png
    #[arg(short, long, value_name = "FILE.png|FOLDER", default_value = "explained")]
    out: PathBuf,
    /// Method: grad-cam, grad-cam++ (where a class is there more than once), or smoothgrad (single pixels)
    #[arg(long, value_enum, default_value = "grad-cam")]
    method: Choice,
    /// The class to explain, by name or number [default: the predicted one]
    #[arg(long, value_name = "NAME|INDEX")]
    class: Option<String>,
    /// The layer or module whose activations make the map, not with smoothgrad [default: the last that has maps]
    #[arg(long, value_name = "LAYER")]
    layer: Option<String>,
    /// Noisy versions of each image for smoothgrad; the time grows in proportion [default: 25]
    #[arg(long, value_name = "N", value_parser = positive)]
    samples: Option<usize>,
    /// Images at a time
    #[arg(long, value_name = "N", default_value = "16", value_parser = positive)]
    batch: usize,
}

/// A method, by its name.
#[derive(Debug, Clone, Copy)]
struct Choice(Method);

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Choice; 3] = [Choice(Method::ALL[0]), Choice(Method::ALL[1]), Choice(Method::ALL[2])];
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()))
    }
}

impl Explain {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        let (net, paths) = self.network.open(session, &self.paths)?;
        if paths.is_empty() {
            return Err(usage_error("give images, or folders of images: defrost explain RUN IMAGES..."));
        }
        let Choice(method) = self.method;
        if self.samples.is_some() && method != Method::SmoothGrad {
            return Err(usage_error(format!("--samples belongs to --method {}", Method::SmoothGrad)));
        }
        let class = self.class.as_deref().map(|name| class_of(&net, name)).transpose()?;
        let mut images = Vec::new();
        let (mut done, mut failed) = (0, 0);
        for path in paths.iter().flat_map(|path| expand(path)) {
            match path {
                Ok(path) => images.push(path),
                Err(skipped) => {
                    out.unreadable(&skipped);
                    failed += 1;
                }
            }
        }
        let mut names = Names::new(&self.out, &images)?;
        if !images.is_empty() {
            let device = session.device()?;
            let samples = self.samples.unwrap_or(Explainer::SAMPLES);
            let batch = match method {
                // The noisy versions of an image, in equal batches.
                Method::SmoothGrad => samples.div_ceil(samples.div_ceil(self.batch)),
                _ => self.batch.min(images.len()),
            };
            let explainer = Explainer::new(&device, &net, method, self.layer.as_deref(), batch)?;
            let mut explainer = explainer.samples(samples);
            for group in images.chunks(self.batch) {
                let (good, crops, unread) = decode(out, &net, group.iter().cloned().map(Ok).collect());
                failed += unread;
                let maps = explainer.maps(&crops, &vec![class; crops.len()])?;
                for ((path, rgb), map) in good.iter().zip(crops).zip(maps) {
                    if !map.is_finite() {
                        let reason = "the network's outputs are NaN or infinite: its weights are damaged, or their \
                                      training diverged";
                        out.unreadable(&Skipped { path: path.clone(), reason: reason.into() });
                        failed += 1;
                        continue;
                    }
                    let crop = Image { width: map.width, height: map.height, rgb };
                    let to = names.of(path, &net.classes()[map.class], method);
                    beside(&[&crop, &overlay(&crop, &map)?])?.write_png(&to)?;
                    self.show(out, &net, path, &to, &map, explainer.layer());
                    done += 1;
                }
            }
        }
        if out.json {
            let seconds = began.elapsed().as_secs_f64();
            out.event("done", json!({ "count": done, "skipped": failed, "seconds": seconds }));
        }
        match failed {
            n if done == 0 => {
                Err(Error::Data(format!("none of the images could be read or explained ({n} tried)")))
            }
            _ => Ok(()),
        }
    }

    /// Prints what was explained, and where it was written.
    fn show(&self, out: &Output, net: &Network, path: &Path, to: &Path, map: &Map, layer: Option<&str>) {
        let (class, Choice(method)) = (&net.classes()[map.class], self.method);
        let number = task::of(net).is_ok_and(|task| !task.ranks());
        if map.is_empty() {
            out.warn(format_args!("{}: nothing that {method} can show speaks for '{class}'", path.display()));
        }
        if out.json {
            let mut event = json!({
                "path": path.to_string_lossy(),
                "output": to.to_string_lossy(),
                "method": method.name(),
                "layer": layer,
                "class": class,
                "index": map.class,
                "logit": map.logit,
            });
            event[if number { "value" } else { "probability" }] = map.answer.into();
            if net.knows_imagenet() {
                event["wnid"] = imagenet::classes()[map.class].wnid.into();
            }
            out.event("explanation", event);
            return;
        }
        out.line(out.style(Style::Bold, path.display()));
        match number {
            true => out.line(format_args!("  {:>12.4}  {}", map.answer, escaped(class))),
            false => out.line(format_args!("  {:6.2}%  {}", map.answer * 100.0, escaped(class))),
        }
        out.line(format_args!("  {}", escaped(to.display())));
    }
}

/// The class of this name, ImageNet's wnid or number.
fn class_of(net: &Network, name: &str) -> Result<usize> {
    let classes = net.classes();
    let named = |wanted: &str| classes.iter().position(|class| class.eq_ignore_ascii_case(wanted));
    let wnid = || imagenet::index_of(name).filter(|_| net.knows_imagenet());
    let number = || name.parse().ok().filter(|&index: &usize| index < classes.len());
    let exact = classes.iter().position(|class| class == name);
    exact.or_else(|| named(name)).or_else(wnid).or_else(number).ok_or_else(|| {
        let hint = did_you_mean(name, classes.iter().map(String::as_str));
        let known = match classes.len() {
            1..=20 => classes.join(", "),
            n => format!("{n} classes; their numbers are 0 to {}", n - 1),
        };
        usage_error(format!("--class {name}: there is no such class{hint}; the network knows {known}"))
    })
}

/// Output paths: never that of a given image, and no path twice.
struct Names {
    out: PathBuf,
    /// Whether `out` is the one file.
    file: bool,
    images: BTreeSet<PathBuf>,
    /// Names used so far, in lower case: some file systems do not distinguish case.
    given: BTreeSet<String>,
}

impl Names {
    fn new(out: &Path, images: &[PathBuf]) -> Result<Self> {
        let file = out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) && !out.is_dir();
        let shown = out.display();
        if file && images.len() > 1 {
            return Err(usage_error(format!(
                "--out {shown}: one file for {} images; name a folder",
                images.len()
            )));
        }
        if !file && out.is_file() {
            return Err(usage_error(format!("--out {shown}: results are PNGs; name a .png or a folder")));
        }
        let images: BTreeSet<PathBuf> = images.iter().map(|path| resolved(path)).collect();
        if file && images.contains(&resolved(out)) {
            return Err(usage_error(format!("--out {shown}: that is the image itself; name another file")));
        }
        Ok(Names { out: out.into(), file, images, given: BTreeSet::new() })
    }

    /// `out/IMAGE-CLASS-METHOD.png`, followed by a number where the name is used already.
    fn of(&mut self, image: &Path, class: &str, method: Method) -> PathBuf {
        if self.file {
            return self.out.clone();
        }
        let stem = image.file_stem().unwrap_or_default().to_string_lossy();
        let base = format!("{stem}-{}-{method}", in_file_names(class));
        let (mut name, mut number) = (format!("{base}.png"), 1);
        while self.images.contains(&resolved(&self.out.join(&name)))
            || !self.given.insert(name.to_lowercase())
        {
            number += 1;
            name = format!("{base}-{number}.png");
        }
        self.out.join(name)
    }
}

/// A path with links resolved, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let whole = path.canonicalize();
    whole.unwrap_or_else(|_| match (path.parent().map(|p| p.canonicalize()), path.file_name()) {
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    })
}

/// A class as a part of a file name: characters that may trouble a file system or a shell become `_`.
fn in_file_names(class: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-+.".contains(c) { c } else { '_' };
    class.chars().take(40).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_never_overwrite_an_image_nor_one_another() {
        let place = tempfile::tempdir().expect("a folder");
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("cat.png"), "").expect("a file");
        let images = [at("cat.png"), at("cat-my_cat-grad-cam.png"), at("b/cat.jpg")];
        let mut names = Names::new(place.path(), &images).expect("a folder");
        let mut name = |image: &Path| names.of(image, "my cat", Method::GradCam);
        assert_eq!(name(&images[0]), at("cat-my_cat-grad-cam-2.png"));
        assert_eq!(name(&images[2]), at("cat-my_cat-grad-cam-3.png"));
        assert_eq!(name(&images[1]), at("cat-my_cat-grad-cam-my_cat-grad-cam.png"));

        assert!(Names::new(&at("why.png"), &images).is_err());
        assert!(Names::new(&at("cat.png"), &images[..1]).is_err());
        let mut one = Names::new(&at("why.png"), &images[..1]).expect("one file");
        assert_eq!(one.of(&images[0], "x", Method::SmoothGrad), at("why.png"));
    }
}
