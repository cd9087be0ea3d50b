//! Metrics of a network on a set of examples, in the forms that every task has: figures, a table, JSON.

use std::any::Any;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Calibration;

/// Metrics of weights on the validation examples, by which epochs are compared.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The task's metric, the larger the better: accuracy, mean average precision, R2.
    pub accuracy: f64,
    /// Mean loss.
    pub loss: f64,
    /// The loss by which epochs are compared, the lower the better. For single labels it is the mean loss at the
    /// temperature that suits the epoch best, so that a less confident epoch has no advantage; else it is the mean
    /// loss.
    #[serde(alias = "rank")]
    pub selection_loss: f64,
    /// Number of validation examples of these figures.
    #[serde(default)]
    pub count: usize,
}

/// A single figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Its name: `accuracy`.
    pub name: &'static str,
    /// With its unit: `94.77%`.
    pub value: String,
    /// A note: the counts behind a share, an interval.
    pub note: String,
}

impl Figure {
    /// A figure with a note, which may be empty.
    pub fn new(name: &'static str, value: String, note: impl Into<String>) -> Self {
        Figure { name, value, note: note.into() }
    }
}

/// A row of a [`Table`].
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the class or value.
    pub name: String,
    /// As shown, and as sorted by.
    pub cells: Vec<(String, f64)>,
    /// A share and its interval, 0 to 1, that a page draws as a bar.
    pub bar: Option<[f64; 3]>,
    /// The score of the row: of many rows the worst are shown.
    pub score: f64,
    /// Whether the class occurs, as a target or as a prediction.
    pub occurs: bool,
}

/// Metrics of each class or value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The kind of the rows: `class`.
    pub of: &'static str,
    /// Headings of all columns except the first.
    pub head: Vec<&'static str>,
    /// Heading of the bars, where there are any.
    pub bar: Option<&'static str>,
    /// Name of `score`: `F1`.
    pub score: &'static str,
    /// One for each class or value.
    pub rows: Vec<Row>,
    /// Means over the rows: name and cells.
    pub means: Vec<(&'static str, Vec<String>)>,
    /// Explains the columns to readers who do not know them.
    pub note: &'static str,
}

/// Metrics of a network on a set of examples. [`Evaluation::metrics_of`] gives the concrete type.
///
/// [`Evaluation::metrics_of`]: crate::train::Evaluation::metrics_of
pub trait Metrics: fmt::Debug + Send + Sync {
    /// The concrete type behind the trait.
    fn as_any(&self) -> &dyn Any;

    /// Number of examples that count.
    fn count(&self) -> usize;

    /// Single figures, the most important one first.
    fn figures(&self) -> Vec<Figure>;

    /// Figures of each class or value.
    fn table(&self, classes: &[String]) -> Table;

    /// All metrics, an object, with the names of the classes.
    fn json(&self, classes: &[String]) -> Value;

    /// Confusion matrix: how many examples of each class (row) are predicted as each class (column), where the task
    /// has one.
    fn confusion(&self) -> Option<&[Vec<usize>]> {
        None
    }

    /// Calibration, where there are probabilities.
    fn calibration(&self) -> Option<&Calibration> {
        None
    }
}

/// Pairs of a class and another class that its examples are predicted as, with the count; the most frequent first.
pub fn most_confused(confusion: &[Vec<usize>]) -> Vec<(usize, usize, usize)> {
    let rows = confusion.iter().enumerate();
    let cells =
        rows.flat_map(|(c, row)| row.iter().enumerate().map(move |(predicted, &n)| (c, predicted, n)));
    let mut pairs: Vec<_> = cells.filter(|&(c, predicted, n)| c != predicted && n > 0).collect();
    pairs.sort_by_key(|&(.., n)| std::cmp::Reverse(n));
    pairs
}

/// The fields of a struct, with the names of the classes added to the objects of its array `key`.
pub(super) fn named(metrics: &impl Serialize, task: &str, key: &str, classes: &[String]) -> Value {
    let mut fields = serde_json::to_value(metrics).unwrap_or(Value::Null);
    for (scores, class) in fields[key].as_array_mut().into_iter().flatten().zip(classes) {
        scores["class"] = class.as_str().into();
    }
    fields["task"] = task.into();
    fields
}
