//! Accuracy, confusion, precision and recall by class, calibration.

use std::any::Any;

use serde::Serialize;
use serde_json::{Value, json};

use super::super::metrics::{Figure, Metrics, Row, Table, most_confused, named};
use super::super::scores::{
    ClassScores, PRECISION_AND_RECALL, Scores, Tally, check_labels, interval, mean_cells, predicted, share,
};
use super::super::{Calibration, Task};
use super::SingleLabelTask;
use crate::Result;
use crate::text::{grouped, percent};

/// Pairs of classes that JSON lists.
const PAIRS: usize = 5;

/// Metrics where each image has one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SingleLabel {
    /// Images that count.
    pub count: usize,
    /// Accuracy: share of images whose most likely class is correct, 0 to 1.
    pub top1: f64,
    /// Wilson's 95% interval of it.
    pub top1_interval: (f64, f64),
    /// Share of images with the correct class among the five most likely.
    pub top5: f64,
    /// Wilson's 95% interval of it.
    pub top5_interval: (f64, f64),
    /// Mean cross-entropy.
    pub loss: f64,
    /// Metrics of each class.
    pub classes: Vec<ClassScores>,
    /// Mean over the classes that occur as a label or as a prediction, as in scikit-learn.
    pub macro_average: Scores,
    /// The same weighted by the classes' images.
    pub weighted_average: Scores,
    /// Calibration of the probabilities.
    pub calibration: Calibration,
    /// How many images of each class (row) are predicted as each class (column).
    pub confusion: Vec<Vec<usize>>,
    /// Where the network has a temperature: loss and calibration error without it.
    pub uncalibrated: Option<Uncalibrated>,
}

/// Loss and calibration error without the temperature.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Uncalibrated {
    /// The temperature.
    pub temperature: f64,
    /// Mean cross-entropy without the temperature.
    pub loss: f64,
    /// Expected calibration error without the temperature.
    pub ece: f64,
}

impl SingleLabel {
    /// From logits `[N, classes]` and labels `[N]`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where their sizes do not fit, or a label is not a class.
    pub fn new(logits: &[f32], labels: &[u32], classes: usize) -> Result<Self> {
        check_labels(logits, labels, classes)?;
        let mut tally = Tally::default();
        tally.add(logits, labels);
        let mut confusion = vec![vec![0; classes]; classes];
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let label = label as usize;
            confusion[label][predicted(row, label)] += 1;
        }
        let mut columns = vec![0; classes];
        confusion.iter().for_each(|row| columns.iter_mut().zip(row).for_each(|(sum, n)| *sum += n));
        let scores = |c: usize| ClassScores::new(confusion[c][c], columns[c], confusion[c].iter().sum());
        let of_class: Vec<ClassScores> = (0..classes).map(scores).collect();
        Ok(SingleLabel {
            count: tally.count,
            top1: tally.top1(),
            top1_interval: interval(tally.top1, tally.count),
            top5: share(tally.top5, tally.count),
            top5_interval: interval(tally.top5, tally.count),
            loss: tally.mean_loss(),
            macro_average: ClassScores::macro_average(of_class.iter()),
            weighted_average: Scores::mean(of_class.iter().map(|c| (c.scores, c.support as f64))),
            classes: of_class,
            calibration: Calibration::new(logits, labels, classes)?,
            confusion,
            uncalibrated: None,
        })
    }

    /// Number of correct predictions.
    pub fn correct(&self) -> usize {
        (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum()
    }

    /// Pairs of a class and the class that its images are predicted as, with the count; the most frequent first.
    pub fn most_confused(&self) -> Vec<(usize, usize, usize)> {
        most_confused(&self.confusion)
    }
}

impl Metrics for SingleLabel {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn count(&self) -> usize {
        self.count
    }

    fn figures(&self) -> Vec<Figure> {
        let (low, high) = self.top1_interval;
        let correct = format!(
            "{} of {} correct, 95% interval {} to {}",
            grouped(self.correct()),
            grouped(self.count),
            percent(low),
            percent(high)
        );
        let before = |text: String| match &self.uncalibrated {
            Some(before) => format!("{text} before the temperature of {:.3}", before.temperature),
            None => String::new(),
        };
        let without = self.uncalibrated.unwrap_or_default();
        let mut figures = vec![Figure::new("accuracy", percent(self.top1), correct)];
        if self.classes.len() > 5 {
            figures.push(Figure::new("top-5", percent(self.top5), ""));
        }
        let calibration = percent(self.calibration.ece);
        figures.extend([
            Figure::new("loss", format!("{:.4}", self.loss), before(format!("{:.4}", without.loss))),
            Figure::new(
                "ECE",
                calibration,
                match &self.uncalibrated {
                    Some(_) => before(percent(without.ece)),
                    None => "expected calibration error".into(),
                },
            ),
        ]);
        figures
    }

    fn table(&self, classes: &[String]) -> Table {
        let row = |(c, (name, class)): (usize, (&String, &ClassScores))| {
            let s = class.scores;
            let known = |x: f64| if class.support > 0 { (percent(x), x) } else { ("-".into(), -1.0) };
            let (low, high) = interval(self.confusion[c][c], class.support);
            Row {
                name: name.clone(),
                cells: vec![
                    (grouped(class.support), class.support as f64),
                    known(s.precision),
                    known(s.recall),
                    known(s.f1),
                ],
                bar: (class.support > 0).then_some([s.recall, low, high]),
                score: s.f1,
                occurs: class.support + class.predicted > 0,
            }
        };
        Table {
            of: "class",
            head: vec!["images", "precision", "recall", "F1"],
            bar: Some("recall, interval"),
            score: "F1",
            rows: classes.iter().zip(&self.classes).enumerate().map(row).collect(),
            means: vec![("mean", mean_cells(&self.macro_average))],
            note: PRECISION_AND_RECALL,
        }
    }

    fn json(&self, classes: &[String]) -> Value {
        let mut fields = named(self, SingleLabelTask.name(), "classes", classes);
        let pair = |(class, predicted, count): (usize, usize, usize)| json!({ "class": classes[class], "predicted": classes[predicted], "count": count });
        fields["most_confused"] = self.most_confused().into_iter().take(PAIRS).map(pair).collect();
        fields
    }

    fn confusion(&self) -> Option<&[Vec<usize>]> {
        Some(&self.confusion)
    }

    fn calibration(&self) -> Option<&Calibration> {
        Some(&self.calibration)
    }
}
