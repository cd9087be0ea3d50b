//! Numbers for each image: mean squared error.

mod metrics;

pub use metrics::{OutputErrors, Regression};

use super::{Card, MetricNames, Metrics, Mistake, Raw, Score, Task, Unit};
use crate::Result;
use crate::data::{Dataset, Target, TargetKind};
use crate::ops::LossKind;
use crate::text::count;

pub(super) const NAME: &str = "regression";
pub(super) const HELP: &str = "regression: numbers belong to it.";

/// See the [module](self).
#[derive(Debug)]
pub(super) struct RegressionTask;

/// Mean and variance of value `c` over the examples of a set.
fn moments(set: &Dataset, c: usize) -> [f64; 2] {
    let n = set.len().max(1) as f64;
    let values = || set.samples.iter().filter_map(|s| s.target.numbers().get(c)).map(|&x| f64::from(x));
    let mean = values().sum::<f64>() / n;
    [mean, values().map(|x| (x - mean).powi(2)).sum::<f64>() / n]
}

impl Task for RegressionTask {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> &'static str {
        "numbers belong to each image"
    }

    fn targets(&self) -> TargetKind {
        TargetKind::Values
    }

    fn target_loss(&self) -> Option<LossKind> {
        Some(LossKind::Squares)
    }

    /// The means of the values.
    fn initial_outputs(&self, set: &Dataset) -> Option<Vec<f32>> {
        Some((0..set.classes.len()).map(|c| moments(set, c)[0] as f32).collect())
    }

    fn training_metric(&self, squares: f64, set: &Dataset) -> f64 {
        let outputs = set.classes.len();
        let variance = (0..outputs).map(|c| moments(set, c)[1]).sum::<f64>() / outputs.max(1) as f64;
        1.0 - squares / variance.max(f64::MIN_POSITIVE)
    }

    fn metric(&self) -> MetricNames {
        MetricNames::both("R2", Unit::Number)
    }

    fn score(&self, raw: Raw<'_>) -> Result<Score> {
        let targets = raw.numbers();
        let found = Regression::new(raw.outputs, &targets, raw.classes.len())?;
        let squares = raw.outputs.iter().zip(&targets).map(|(x, t)| f64::from(x - t).powi(2));
        let loss = squares.sum::<f64>() / raw.outputs.len().max(1) as f64;
        Ok(Score { accuracy: found.average.r2, loss, selection_loss: loss, count: found.count })
    }

    fn measure(&self, raw: Raw<'_>, _: Option<f64>) -> Result<Box<dyn Metrics>> {
        Ok(Box::new(Regression::new(raw.outputs, &raw.numbers(), raw.classes.len())?))
    }

    fn predict(&self, outputs: &[f32], _: Option<f64>) -> Vec<f32> {
        outputs.to_vec()
    }

    fn ranks(&self) -> bool {
        false
    }

    /// Every prediction counts, by its error.
    fn mistake(&self, outputs: &[f32], target: &Target, _: Option<f64>) -> Option<Mistake> {
        let pairs = outputs.iter().zip(target.numbers());
        let loss = pairs.map(|(&x, &t)| (f64::from(x) - f64::from(t)).powi(2)).sum();
        Some(Mistake { loss, classes: None })
    }

    fn predicted(&self, outputs: &[f32]) -> Target {
        Target::Values(outputs.into())
    }

    fn card(&self, classes: &[String]) -> Card {
        Card {
            what: format!("tells {} of an image", count(classes.len(), "number", "numbers")),
            pipeline: None,
            outputs: "Numbers",
            limits: Vec::new(),
        }
    }

    fn count_text(&self, classes: usize) -> String {
        count(classes, "number", "numbers")
    }

    fn python(&self, _: Option<f64>) -> String {
        "net(image)[0]".into()
    }
}
