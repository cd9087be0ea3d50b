//! What a network is worth on a set of examples, in the forms that every task has: figures, a table, JSON.

use std::any::Any;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Calibration;

/// What weights are worth on the validation examples: what epochs are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Score {
    /// The task's metric, the larger the better: accuracy, mean average precision, R2.
    pub accuracy: f64,
    /// Mean loss.
    pub loss: f64,
    /// What epochs are compared by: the mean loss of single labels at the temperature that suits the epoch best, so
    /// that an epoch is not preferred for being less sure of itself; else the mean loss.
    pub rank: f64,
    /// Validation examples behind these figures.
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
    /// What else there is to say: how many that is of how many, an interval.
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
    /// Of the class or value.
    pub name: String,
    /// As shown, and as sorted by.
    pub cells: Vec<(String, f64)>,
    /// A share and its interval, 0 to 1, that a page draws as a bar.
    pub bar: Option<[f64; 3]>,
    /// How good it is: of many rows the worst are shown.
    pub score: f64,
    /// Whether it occurs at all, as a target or as a prediction.
    pub occurs: bool,
}

/// Metrics of each class or value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// What a row is of: `class`.
    pub of: &'static str,
    /// Headings of the columns behind the first.
    pub head: Vec<&'static str>,
    /// What the bars are of, where there are any.
    pub bar: Option<&'static str>,
    /// What `score` is called: `F1`.
    pub score: &'static str,
    /// One for each class or value.
    pub rows: Vec<Row>,
    /// Means over them: name and cells.
    pub means: Vec<(&'static str, Vec<String>)>,
    /// What the columns mean, for those who do not know.
    pub note: &'static str,
}

/// What a network is worth on a set of examples. [`Evaluation::metrics_of`] gives the type behind it.
///
/// [`Evaluation::metrics_of`]: crate::train::Evaluation::metrics_of
pub trait Metrics: fmt::Debug + Send + Sync {
    /// The type behind the trait.
    fn as_any(&self) -> &dyn Any;

    /// How many examples counted.
    fn count(&self) -> usize;

    /// Single figures, the most important one first.
    fn figures(&self) -> Vec<Figure>;

    /// Figures of each class or value.
    fn table(&self, classes: &[String]) -> Table;

    /// All of it, an object, with the names of the classes.
    fn json(&self, classes: &[String]) -> Value;

    /// How many examples of each class (row) are predicted as each class (column), where that can be said.
    fn confusion(&self) -> Option<&[Vec<usize>]> {
        None
    }

    /// How far confidence and accuracy agree, where there are probabilities.
    fn calibration(&self) -> Option<&Calibration> {
        None
    }
}

/// Pairs of a class and another that examples of it are predicted as, with how many; the most first.
pub fn most_confused(confusion: &[Vec<usize>]) -> Vec<(usize, usize, usize)> {
    let rows = confusion.iter().enumerate();
    let cells =
        rows.flat_map(|(c, row)| row.iter().enumerate().map(move |(predicted, &n)| (c, predicted, n)));
    let mut pairs: Vec<_> = cells.filter(|&(c, predicted, n)| c != predicted && n > 0).collect();
    pairs.sort_by_key(|&(.., n)| std::cmp::Reverse(n));
    pairs
}

/// Fields of a struct with the names of the classes put into the objects of its array `key`.
pub(super) fn named(metrics: &impl Serialize, task: &str, key: &str, classes: &[String]) -> Value {
    let mut fields = serde_json::to_value(metrics).unwrap_or(Value::Null);
    for (scores, class) in fields[key].as_array_mut().into_iter().flatten().zip(classes) {
        scores["class"] = class.as_str().into();
    }
    fields["task"] = task.into();
    fields
}
