//! Mean average precision, precision and recall by label.

use std::any::Any;

use serde::Serialize;
use serde_json::Value;

use super::super::Task;
use super::super::metrics::{Figure, Metrics, Row, Table, named};
use super::super::scores::{
    ClassScores, PRECISION_AND_RECALL, Scores, binary_cross_entropy, check_rows, mean_cells, share,
};
use super::MultiLabelTask;
use crate::Result;
use crate::text::{grouped, percent};

/// Metrics of one label of several.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LabelScores {
    /// Precision, recall and F1 at a probability of 0.5.
    #[serde(flatten)]
    pub class: ClassScores,
    /// Mean precision over the recalls, by steps; none where no image has the label.
    pub average_precision: Option<f64>,
}

/// Metrics where each image has any number of labels, each with a probability of its own (sigmoid).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MultiLabel {
    /// Images that count.
    pub count: usize,
    /// Mean binary cross-entropy over images and labels.
    pub loss: f64,
    /// Share of images all of whose labels are correct.
    pub exact: f64,
    /// Metrics of each label.
    pub classes: Vec<LabelScores>,
    /// Mean over the labels that occur, as a target or as a prediction.
    pub macro_average: Scores,
    /// Metrics over all labels of all images together.
    pub micro_average: Scores,
    /// Mean average precision of the labels that some image has: mAP.
    pub mean_average_precision: f64,
}

/// Mean precision over the recalls, at each distinct score: sum over n of (R_n - R_n-1) P_n.
fn average_precision(mut scored: Vec<(f32, bool)>) -> Option<f64> {
    let positives = scored.iter().filter(|(_, is)| *is).count();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut right, mut seen, mut sum) = (0, 0, 0.0);
    for equal in scored.chunk_by(|a, b| a.0 == b.0) {
        let hits = equal.iter().filter(|(_, is)| *is).count();
        (right, seen) = (right + hits, seen + equal.len());
        sum += hits as f64 * share(right, seen);
    }
    (positives > 0).then(|| sum / positives as f64)
}

impl MultiLabel {
    /// From logits `[N, classes]` and targets `[N, classes]`, 1 where the image has the label, else 0. A label
    /// counts as predicted where its probability is above 0.5.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where their sizes do not fit.
    pub fn new(logits: &[f32], targets: &[f32], classes: usize) -> Result<Self> {
        check_rows("logits", logits.len(), classes, None)?;
        let count = logits.len() / classes;
        check_rows("targets", targets.len(), classes, Some(count))?;
        let column = |c: usize| logits[c..].iter().zip(&targets[c..]).step_by(classes);
        let counts = |c: usize| {
            column(c).fold([0; 3], |[right, predicted, support], (&logit, &target)| {
                let (called, is) = (logit > 0.0, target > 0.5);
                [
                    right + usize::from(called && is),
                    predicted + usize::from(called),
                    support + usize::from(is),
                ]
            })
        };
        let counts: Vec<[usize; 3]> = (0..classes).filter(|_| count > 0).map(counts).collect();
        let label = |(c, &[right, predicted, support]): (usize, &[usize; 3])| LabelScores {
            class: ClassScores::new(right, predicted, support),
            average_precision: average_precision(column(c).map(|(&x, &t)| (x, t > 0.5)).collect()),
        };
        let of_label: Vec<LabelScores> = counts.iter().enumerate().map(label).collect();
        let [right, predicted, support] =
            counts.iter().fold([0; 3], |sum, label| std::array::from_fn(|i| sum[i] + label[i]));
        let loss = logits.iter().zip(targets).map(|(&x, &t)| binary_cross_entropy(x.into(), t.into()));
        let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
        let is_right = |(x, t): &(&f32, &f32)| (**x > 0.0) == (**t > 0.5);
        let exact = rows.filter(|(x, t)| x.iter().zip(*t).all(|pair| is_right(&pair))).count();
        let precisions: Vec<f64> = of_label.iter().filter_map(|label| label.average_precision).collect();
        Ok(MultiLabel {
            count,
            loss: loss.sum::<f64>() / logits.len().max(1) as f64,
            exact: share(exact, count),
            macro_average: ClassScores::macro_average(of_label.iter().map(|label| &label.class)),
            micro_average: Scores::new(right, predicted, support),
            mean_average_precision: precisions.iter().sum::<f64>() / precisions.len().max(1) as f64,
            classes: of_label,
        })
    }
}

impl Metrics for MultiLabel {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn count(&self) -> usize {
        self.count
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::new("mAP", percent(self.mean_average_precision), "mean average precision of the labels"),
            Figure::new("exact", percent(self.exact), "all labels of an image correct"),
            Figure::new("loss", format!("{:.4}", self.loss), ""),
        ]
    }

    fn table(&self, classes: &[String]) -> Table {
        let row = |(name, label): (&String, &LabelScores)| {
            let (s, share) = (label.class.scores, |x: f64| (percent(x), x));
            Row {
                name: name.clone(),
                cells: vec![
                    (grouped(label.class.support), label.class.support as f64),
                    share(s.precision),
                    share(s.recall),
                    share(s.f1),
                    label.average_precision.map_or_else(|| ("-".into(), -1.0), share),
                ],
                bar: None,
                score: s.f1,
                occurs: label.class.support + label.class.predicted > 0,
            }
        };
        Table {
            of: "class",
            head: vec!["images", "precision", "recall", "F1", "AP"],
            bar: None,
            score: "F1",
            rows: classes.iter().zip(&self.classes).map(row).collect(),
            means: vec![
                ("mean", mean_cells(&self.macro_average)),
                ("all together", mean_cells(&self.micro_average)),
            ],
            note: PRECISION_AND_RECALL,
        }
    }

    fn json(&self, classes: &[String]) -> Value {
        named(self, MultiLabelTask.name(), "classes", classes)
    }
}
