//! Texts of the tasks for tables, reports and model cards.

use super::scores::interval;
use crate::text::{grouped, percent};

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share of the examples, per cent: it has an interval.
    Proportion,
    /// Another number from 0 to 1, per cent.
    Share,
    /// A plain number.
    Number,
}

/// Names of the metric that is printed for each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricNames {
    /// On training examples.
    pub train: &'static str,
    /// On validation examples.
    pub val: &'static str,
    /// How it is shown.
    pub unit: Unit,
}

impl MetricNames {
    /// The same name for both.
    pub const fn both(name: &'static str, unit: Unit) -> Self {
        MetricNames { train: name, val: name, unit }
    }

    /// A value as text, without its name.
    pub fn value(&self, value: f64) -> String {
        match self.unit {
            Unit::Proportion | Unit::Share => percent(value),
            Unit::Number => format!("{value:.4}"),
        }
    }

    /// Name and value on training examples: "accuracy 94.77%".
    pub fn train_text(&self, value: f64) -> String {
        format!("{} {}", self.train, self.value(value))
    }

    /// Name and value on validation examples.
    pub fn val_text(&self, value: f64) -> String {
        format!("{} {}", self.val, self.value(value))
    }

    /// A value on so many examples, with its 95% interval where it has one.
    pub fn with_interval(&self, value: f64, examples: usize) -> String {
        let text = format!("{} of {} images", self.value(value), grouped(examples));
        if self.unit != Unit::Proportion {
            return text;
        }
        let (low, high) = interval((value * examples as f64).round() as usize, examples);
        format!("{text} (95% interval {} to {})", percent(low), percent(high))
    }

    /// Both names, one where they are the same.
    pub fn title(&self) -> String {
        if self.train == self.val { self.val.into() } else { format!("{}, {}", self.train, self.val) }
    }
}

/// A wrong prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mistake {
    /// Its loss, by which mistakes are ordered.
    pub loss: f64,
    /// The class and the predicted class, where there are classes.
    pub classes: Option<(usize, usize)>,
}

/// The texts of a task on a model card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// What the network predicts, after "This network": "tells which of 3 classes an image shows".
    pub what: String,
    /// The hub's name for it, where it has one: `image-classification`.
    pub pipeline: Option<&'static str>,
    /// Heading of the list of classes or values.
    pub outputs: &'static str,
    /// The limitations of the network.
    pub limits: Vec<&'static str>,
}
