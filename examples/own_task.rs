//! A task of one's own: ordered classes (an exam's grades, the stage of a disease), trained by Defrost's trainer as it is.
//!
//! For K ordered classes the head has K - 1 outputs. Output k is the logit of "above class k", so the loss is a binary
//! cross-entropy for each (Li and Lin 2006; Cao, Mirjalili and Raschka 2020, CORN's sibling CORAL), a prediction is the
//! number of outputs above 0, and the metric is how far it is off. What one adds is this file: a struct with the trait,
//! and one line that registers it. Networks trained so are saved, opened, measured and reported as all others.
//!
//!     cargo run --release --example own_task

use std::any::Any;
use std::sync::Arc;

use defrost::data::{Dataset, DrawnSet, Scenes, Target, TargetKind};
use defrost::gpu::GpuOptions;
use defrost::models::{Network, shipped};
use defrost::ops::LossKind;
use defrost::plan::Device;
use defrost::task::{
    self, Card, Collated, Figure, LossOptions, MetricNames, Metrics, Mistake, Raw, Row, Score, Table,
    Targets, Task, Unit,
};
use defrost::train::{Config, Silent, Strategy, Trainer, evaluate};
use defrost::{Error, Result};

/// Classes in an order.
#[derive(Debug)]
struct Ordinal;

/// How many of the outputs are above 0: the predicted class.
fn selection_loss(outputs: &[f32]) -> usize {
    outputs.iter().filter(|x| **x > 0.0).count()
}

/// The class of a target.
fn class(target: &Target) -> Result<usize> {
    let class =
        target.class().ok_or_else(|| Error::Data("ordered classes need one class an image".into()))?;
    Ok(class as usize)
}

/// 1 for each class that this one is above.
fn thresholds(class: usize, outputs: usize) -> impl Iterator<Item = f32> {
    (0..outputs).map(move |k| f32::from(u8::from(class > k)))
}

/// max(x, 0) - x t + ln(1 + e^-|x|), summed over the outputs.
fn row_loss(outputs: &[f32], class: usize) -> f64 {
    let each = |(&x, t): (&f32, f32)| {
        let (x, t) = (f64::from(x), f64::from(t));
        x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
    };
    outputs.iter().zip(thresholds(class, outputs.len())).map(each).sum()
}

impl Task for Ordinal {
    fn name(&self) -> &'static str {
        "ordinal"
    }

    fn about(&self) -> &'static str {
        "each image shows one of ordered classes"
    }

    fn targets(&self) -> TargetKind {
        TargetKind::Class
    }

    fn outputs(&self, classes: usize) -> usize {
        classes.saturating_sub(1)
    }

    fn target_loss(&self) -> Option<LossKind> {
        Some(LossKind::Sigmoid)
    }

    fn collate(&self, targets: Targets<'_>, _: LossOptions) -> Result<Collated> {
        let outputs = self.outputs(targets.class_weights.len());
        let mut bytes = Vec::new();
        for target in targets.rows {
            thresholds(class(target)?, outputs).for_each(|t| bytes.extend(t.to_ne_bytes()));
        }
        Ok(Collated { inputs: vec![("targets", bytes)], weights: vec![1.0; targets.rows.len()] })
    }

    fn metric(&self) -> MetricNames {
        MetricNames { train: "thresholds correct", val: "closeness", unit: Unit::Share }
    }

    fn score(&self, raw: Raw<'_>) -> Result<Score> {
        let found = Distances::of(raw)?;
        let most = raw.classes.len().saturating_sub(1).max(1) as f64;
        let accuracy = 1.0 - found.mean / most;
        Ok(Score { accuracy, loss: found.loss, selection_loss: found.loss, count: found.count })
    }

    fn measure(&self, raw: Raw<'_>, _: Option<f64>) -> Result<Box<dyn Metrics>> {
        Ok(Box::new(Distances::of(raw)?))
    }

    /// The probability of each class: of being above the one below, and not above itself.
    fn predict(&self, outputs: &[f32], _: Option<f64>) -> Vec<f32> {
        let above: Vec<f32> = outputs.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let at = |k: usize| if k == 0 { 1.0 } else { above[k - 1] };
        let next = |k: usize| above.get(k).copied().unwrap_or(0.0);
        (0..=outputs.len()).map(|k| (at(k) - next(k)).max(0.0)).collect()
    }

    fn mistake(&self, outputs: &[f32], target: &Target, _: Option<f64>) -> Option<Mistake> {
        let (class, found) = (class(target).ok()?, selection_loss(outputs));
        let mistake = Mistake { loss: row_loss(outputs, class), classes: Some((class, found)) };
        (found != class).then_some(mistake)
    }

    fn predicted(&self, outputs: &[f32]) -> Target {
        Target::Class(selection_loss(outputs) as u32)
    }

    fn card(&self, classes: &[String]) -> Card {
        Card {
            what: format!("tells which of {} ordered classes an image shows", classes.len()),
            pipeline: Some("image-classification"),
            outputs: "Classes",
            limits: vec![],
        }
    }

    fn count_text(&self, classes: usize) -> String {
        format!("{classes} ordered classes")
    }

    fn python(&self, _: Option<f64>) -> String {
        "net(image)[0].sigmoid()".into()
    }
}

/// How far predictions are off, in classes.
#[derive(Debug)]
struct Distances {
    count: usize,
    mean: f64,
    loss: f64,
    /// Mean distance and examples of each class.
    classes: Vec<(f64, usize)>,
}

impl Distances {
    fn of(raw: Raw<'_>) -> Result<Self> {
        let width = raw.classes.len().saturating_sub(1).max(1);
        let (mut classes, mut loss) = (vec![(0.0, 0); raw.classes.len()], 0.0);
        for (row, target) in raw.outputs.chunks_exact(width).zip(raw.targets) {
            let class = class(target)?;
            let (sum, count) = &mut classes[class];
            (*sum, *count) = (*sum + selection_loss(row).abs_diff(class) as f64, *count + 1);
            loss += row_loss(row, class) / width as f64;
        }
        let count = raw.targets.len();
        let mean = classes.iter().map(|(sum, _)| sum).sum::<f64>() / count.max(1) as f64;
        classes.iter_mut().for_each(|(sum, n)| *sum /= (*n).max(1) as f64);
        Ok(Distances { count, mean, loss: loss / count.max(1) as f64, classes })
    }
}

impl Metrics for Distances {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn count(&self) -> usize {
        self.count
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::new("mean distance", format!("{:.3}", self.mean), "in classes: 0 is perfect"),
            Figure::new("loss", format!("{:.4}", self.loss), ""),
        ]
    }

    fn table(&self, classes: &[String]) -> Table {
        let row = |(name, &(distance, count)): (&String, &(f64, usize))| Row {
            name: name.clone(),
            cells: vec![(count.to_string(), count as f64), (format!("{distance:.3}"), distance)],
            bar: None,
            score: -distance,
            occurs: count > 0,
        };
        Table {
            of: "class",
            head: vec!["images", "mean distance"],
            score: "closeness",
            rows: classes.iter().zip(&self.classes).map(row).collect(),
            ..Table::default()
        }
    }

    fn json(&self, _: &[String]) -> serde_json::Value {
        serde_json::json!({ "task": Ordinal.name(), "count": self.count, "mean_distance": self.mean, "loss": self.loss })
    }
}

fn main() -> Result<()> {
    // The one line.
    task::register(&Ordinal)?;

    let device = Device::open(&GpuOptions::default())?;
    let set = DrawnSet::new(Scenes::Things)
        .with(|c| {
            c.side = 64;
            c.train = 12;
            c.val = 12;
        })
        .splits();
    let (train, val): (Arc<Dataset>, Arc<Dataset>) = (Arc::new(set.train), Arc::new(set.val));

    let folder = tempfile::tempdir().map_err(|e| Error::io("the temporary folder", "create", e))?;
    let weights = folder.path().join(shipped::FILE);
    shipped::write(&weights)?;
    let mut net = Network::open(&weights)?;
    task::replace_head(&mut net, &Ordinal, train.classes.clone(), None, 0)?;
    println!("{} outputs for {} ordered classes", net.outputs(), net.classes().len());

    let config = Config::default().with(|c| {
        c.strategy = Strategy::Features;
        c.task = Some("ordinal".into());
    });
    let report = Trainer::new(&device, config).fit(&mut net, &train, &val)?;
    println!("{}", report.task.metric().val_text(report.val_accuracy));

    // It travels in the file, and whoever has registered the task opens it.
    let file = folder.path().join("ordinal.safetensors");
    net.save(&file)?;
    let found = evaluate(&Network::open(&file)?, &device, val, 32, &mut Silent)?;
    for figure in found.metrics.figures() {
        println!("{}: {}", figure.name, figure.value);
    }
    let distances = found.metrics_of::<Distances>().ok_or_else(|| Error::Data("other metrics".into()))?;
    assert!(
        distances.mean < 1.5,
        "eight classes in any order are 2.6 apart by chance, not {}",
        distances.mean
    );
    Ok(())
}
