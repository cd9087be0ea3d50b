//! The model card of an exported network: what the network predicts, its training data, its metrics and how to use
//! it, in the form of the Hugging Face hub (front matter in YAML, then Markdown).

use std::path::{Component, Path};

use askama::Template;

use super::exported::Exported;
use super::python::program;
use crate::data::GroupBy;
use crate::models::manifest::{self, Weights};
use crate::models::{Channels, Filter, Naming, Network, Precision, registry};
use crate::nn::PaddingStyle;
use crate::task::{self, Ability, TaskRef};
use crate::text::grouped;
use crate::train::{Best, Config, HeadSolver, RunFile, read_best, read_metrics};
use crate::{Error, Result};

/// Number of classes that are named.
const NAMED: usize = 100;

/// A name and what is said of it.
type Row = (String, String);
type Named = (&'static str, String);

fn rows(named: Vec<Named>) -> Vec<Row> {
    named.into_iter().map(|(name, text)| (name.to_string(), text)).collect()
}

/// The content of a card.
#[derive(Debug, Template)]
#[template(path = "card.md", escape = "none")]
pub struct Card {
    /// SPDX in lower case, where it is known.
    licence: Option<String>,
    library: &'static str,
    /// Repository of the initial weights, where it is known.
    base_model: Option<String>,
    /// The hub's name of the task, where it has one.
    pipeline: Option<&'static str>,
    tags: Vec<String>,
    title: String,
    what: String,
    network: Vec<Row>,
    /// Heading of the classes.
    outputs: &'static str,
    classes: Vec<String>,
    more_classes: usize,
    data: Vec<Row>,
    origin: String,
    teaching: Vec<Row>,
    measures: Vec<Row>,
    preprocessing: String,
    file: String,
    python: Option<String>,
    /// Why the card has no Python.
    obstacle: String,
    limits: Vec<String>,
}

impl Card {
    /// The card of the exported `net`, with what its run folder knows.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Data`] and [`Error::Weights`] about files of the run.
    pub fn new(net: &Network, run: Option<&Path>, exported: Exported<'_>) -> Result<Self> {
        let run = run.map(Run::read).transpose()?;
        let (task, classes) = (task::of(net)?, net.classes());
        let obstacle = net.obstacle(exported.naming);
        let library = match (exported.naming, obstacle) {
            (_, Some(_)) => "defrost",
            (Naming::Torchvision, _) => "torchvision",
            (Naming::Timm, _) => "timm",
        };
        let about = task.card(classes);
        let architecture = &net.config().model;
        let subject = run.as_ref().map_or_else(|| "images".to_string(), Run::subject);
        let base = run.as_ref().and_then(|run| base(&run.file.arguments));
        let mut tags: Vec<String> = vec!["defrost".into(), "transfer-learning".into(), architecture.clone()];
        tags.splice(0..0, about.pipeline.map(String::from));
        Ok(Card {
            licence: base.map(|base| base.licence.clone()),
            library,
            base_model: base.map(|base| base.repository.clone()),
            pipeline: about.pipeline,
            tags,
            title: format!("{architecture} for {subject}"),
            what: format!(
                "This network {}. It is a {architecture} trained with \
                 [Defrost](https://crates.io/crates/defrost).",
                about.what
            ),
            network: rows(network(net, library, exported)?),
            outputs: about.outputs,
            classes: classes.iter().take(NAMED).map(|class| plain(class)).collect(),
            more_classes: classes.len().saturating_sub(NAMED),
            data: run.as_ref().map_or(Vec::new(), |run| rows(run.data())),
            origin: origin(run.as_ref(), base),
            teaching: run.as_ref().map_or(Vec::new(), |run| rows(run.teaching())),
            measures: run.as_ref().map_or(Vec::new(), |run| run.metrics(task)),
            preprocessing: preprocessing(net),
            file: exported.name(),
            python: if obstacle.is_none() { Some(program(net, exported)?) } else { None },
            obstacle: obstacle.map_or(String::new(), |why| {
                let library = if exported.naming == Naming::Timm { "timm" } else { "torchvision" };
                format!("It does not load into {library}: {why}.")
            }),
            limits: limits(net, task, &about, run.as_ref(), exported.precision),
        })
    }

    /// As Markdown.
    ///
    /// # Errors
    /// [`Error::Data`], which a card of [`Card::new`] does not give.
    pub fn markdown(&self) -> Result<String> {
        let text =
            self.render().map_err(|e| Error::Data(format!("the model card cannot be written: {e}")))?;
        Ok(text.trim_end().to_string() + "\n")
    }
}

/// What a run folder knows of its network.
struct Run {
    file: RunFile,
    best: Option<Best>,
    /// Whether the validation set was split off the training set.
    drawn: bool,
    /// Epochs done, and the training accuracy of the chosen epoch.
    epochs: usize,
    train_accuracy: Option<f64>,
}

impl Run {
    fn read(folder: &Path) -> Result<Self> {
        let file = RunFile::read(folder)?;
        let (best, metrics) = (read_best(folder)?, read_metrics(folder)?);
        let kept = metrics.iter().find(|m| best.is_some_and(|best| best.epoch == m.epoch));
        let train_accuracy = kept.map(|m| m.train_accuracy);
        let drawn = folder.join("split.json").exists();
        Ok(Run { file, best, drawn, epochs: metrics.last().map_or(0, |m| m.epoch), train_accuracy })
    }

    /// The training data, by the name of its folder or table; the path above it is private.
    fn subject(&self) -> String {
        let data = &self.file.arguments.data;
        let name =
            if data.extension().is_some_and(|e| e == "csv") { data.file_stem() } else { data.file_name() };
        name.map_or_else(|| "images".into(), |name| plain(&name.to_string_lossy()))
    }

    fn data(&self) -> Vec<Named> {
        let Config { open, val_fraction, seed, .. } = &self.file.arguments;
        let mut rows = vec![
            ("data", self.subject()),
            ("images to learn from", grouped(self.file.train_images)),
            ("images to validate with", grouped(self.file.val_images)),
        ];
        let together = match &open.group_by {
            None => String::new(),
            Some(GroupBy::Parent) => "; images of one folder stay together".into(),
            Some(rule) => format!("; images of one group ({}) stay together", plain(&rule.to_string())),
        };
        let division = match self.drawn {
            true => format!("{}% held out at random (seed {seed}){together}", val_fraction * 100.0),
            false => "the data's own".into(),
        };
        rows.push(("division", division));
        rows
    }

    fn teaching(&self) -> Vec<Named> {
        let config = &self.file.arguments;
        let mut rows = vec![("strategy", config.strategy.about().to_string())];
        rows.extend(frozen(config).map(|frozen| ("frozen", frozen)));
        if let Some(best) = self.best {
            rows.push(("epochs", format!("{}; the weights of epoch {} are kept", self.epochs, best.epoch)));
        }
        let solved = config.head_solver == HeadSolver::Lbfgs;
        rows.extend([
            ("head", if solved { "solved for by L-BFGS" } else { "steps of the optimizer" }.to_string()),
            ("optimizer", name_of(&config.optimizer)),
        ]);
        if let Some(teacher) = config.teacher.as_ref().and_then(|teacher| teacher.file_name()) {
            rows.push(("teacher", plain(&teacher.to_string_lossy())));
        }
        rows.extend([
            ("seed", config.seed.to_string()),
            ("device", plain(&self.file.device)),
            ("Defrost", self.file.defrost.clone()),
        ]);
        rows
    }

    fn metrics(&self, task: TaskRef) -> Vec<Row> {
        let Some(Best { score, .. }) = self.best else { return Vec::new() };
        let (names, images) =
            (task.metric(), if score.count > 0 { score.count } else { self.file.val_images });
        let mut rows =
            vec![(format!("validation {}", names.val), names.with_interval(score.accuracy, images))];
        if let Some(value) = self.train_accuracy {
            let training = format!("{}, on images as they were augmented", names.value(value));
            rows.push((format!("training {}", names.train), training));
        }
        rows.push(("validation loss".into(), format!("{:.4}", score.loss)));
        rows
    }
}

/// The published weights that a training began with, where they were downloaded from the hub.
fn base(config: &Config) -> Option<&'static Weights> {
    let names = config.weights.as_ref()?.components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    // models--timm--resnet50.tv_in1k, as the hub's cache names its folders.
    let mut repositories =
        names.filter_map(|name| Some(name.strip_prefix("models--")?.replacen("--", "/", 1)));
    repositories.find_map(|repository| manifest::all().iter().find(|w| w.repository == repository))
}

fn origin(run: Option<&Run>, base: Option<&Weights>) -> String {
    let Some(Run { file: RunFile { arguments, .. }, .. }) = run else {
        return "How the network was trained is not known: it was exported from a checkpoint without its run.".into();
    };
    match (base, &arguments.weights) {
        (Some(Weights { repository, licence, .. }), _) => format!(
            "It began with the weights [{repository}](https://huggingface.co/{repository}), whose licence is {licence}."
        ),
        (None, Some(weights)) => format!(
            "It began with weights from the file {}; where that came from, and under which licence, Defrost does not \
             know.",
            plain(&weights.file_name().unwrap_or_default().to_string_lossy())
        ),
        (None, None) => "It began with random initial weights, without pretraining.".into(),
    }
}

fn network(net: &Network, library: &str, exported: Exported<'_>) -> Result<Vec<Named>> {
    let Exported { file, precision, .. } = exported;
    let config = net.config();
    let about = registry::find(&config.model)?.model.about.split(';').next().unwrap_or_default();
    let mut rows = vec![("architecture", format!("{} ({about})", config.model))];
    if config.width != 1.0 {
        rows.push(("width", config.width.to_string()));
    }
    if let Some(hidden) = config.hidden {
        rows.push(("hidden layer of the head", format!("{} features", grouped(hidden))));
    }
    if config.padding == PaddingStyle::TfSame {
        rows.push(("padding", "as TensorFlow pads (SAME)".into()));
    }
    let bytes = std::fs::metadata(file).map_err(|e| Error::io(file, "read", e))?.len();
    let numbers = if precision == Precision::Half { "f16" } else { "f32" };
    rows.extend([
        ("parameters", grouped(net.parameters())),
        ("multiply-adds", format!("{:.1} million an image", net.mult_adds()? / 1e6)),
        (
            "file",
            format!(
                "{:.1} MiB, {numbers}, tensors under the names of {library}",
                bytes as f64 / f64::from(1 << 20)
            ),
        ),
    ]);
    if let Some(temperature) = config.temperature {
        rows.push((
            "temperature",
            format!("{temperature:.3}: what its outputs are divided by for probabilities"),
        ));
    }
    Ok(rows)
}

fn preprocessing(net: &Network) -> String {
    let p = net.preprocess();
    let filter = match p.filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
    };
    format!(
        "It is turned upright (EXIF); {} ({filter}, antialiased). Of each channel (red, green, blue, from 0 to 1) the \
         mean {:?} is taken away, and what is left divided by {:?}{}.",
        p.in_words(),
        p.mean,
        p.std,
        match p.channels {
            Channels::Rgb => "",
            Channels::Bgr => "; the network takes blue, green, red",
            Channels::Grey => "; the network takes grey (ITU-R 601)",
        }
    )
}

/// The layers that the settings freeze throughout.
fn frozen(config: &Config) -> Option<String> {
    let mut parts = Vec::new();
    if let Some(layer) = &config.freeze_through {
        parts.push(format!("up to and including {layer}"));
    }
    parts.extend(config.freeze.iter().cloned());
    if !config.freeze_groups.is_empty() {
        let groups: Vec<String> = config.freeze_groups.iter().map(usize::to_string).collect();
        parts.push(format!("layer groups {}", groups.join(", ")));
    }
    if parts.is_empty() && config.strategy.head_only() {
        return Some("all but the head".into());
    }
    (!parts.is_empty()).then(|| plain(&parts.join(", ")))
}

fn limits(
    net: &Network,
    task: TaskRef,
    about: &task::Card,
    run: Option<&Run>,
    precision: Precision,
) -> Vec<String> {
    let mut limits: Vec<String> = about.limits.iter().map(|text| text.to_string()).collect();
    if run.is_some_and(|run| run.best.is_some()) {
        limits.push(
            "The validation images chose the epoch that is kept, so that the figures flatter a little: images that \
             nobody has looked at tell more."
                .into(),
        );
    }
    limits.push(
        "Images from another camera, place or season than those it learned from may fare worse. Measure before you rely \
         on it: `defrost eval`."
            .into(),
    );
    if task.can(Ability::Calibration) && net.config().temperature.is_none() {
        limits.push(
            "Its probabilities were not calibrated: 90% need not mean right nine times out of ten (`defrost calibrate`)."
                .into(),
        );
    }
    if precision == Precision::Half {
        limits.push(
            "Its numbers are rounded to half precision: outputs differ in the third or fourth digit.".into(),
        );
    }
    limits.push(
        "It has the leanings of the images and weights that it comes from; nobody has looked for them. Rights to those \
         images are not a part of this card."
            .into(),
    );
    limits
}

/// The name that a setting has in `config.json`.
fn name_of(setting: &impl serde::Serialize) -> String {
    serde_json::to_value(setting).ok().and_then(|value| Some(value.as_str()?.to_string())).unwrap_or_default()
}

/// Text that Markdown prints as it is: one line, with special characters escaped.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' => out.extend(['\\', c]),
            '&' => out.push_str("&amp;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_card() {
        assert_eq!(plain("ants & bees"), "ants &amp; bees");
        assert_eq!(plain("a|b\n# <b>_"), "a\\|b \\# \\<b\\>\\_");
    }

    #[test]
    fn weights_from_the_hub_are_known_by_their_path() {
        let path = "/x/hub/models--timm--resnet50.tv_in1k/snapshots/0123abcd/model.safetensors";
        let config = |path: &str| Config { weights: Some(path.into()), ..Config::default() };
        assert_eq!(base(&config(path)).map(|w| w.licence.as_str()), Some("bsd-3-clause"));
        assert_eq!(base(&config("/x/models--me--resnet50.tv_in1k/model.safetensors")), None);
        assert_eq!(base(&config("resnet50.safetensors")), None);
        assert_eq!(base(&Config::default()), None);
    }
}
