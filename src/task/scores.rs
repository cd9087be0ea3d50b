//! Shares, ranks and losses that several tasks use as metrics, from outputs and targets alone.

use serde::Serialize;

use crate::{Error, Result};

/// Precision, recall and their harmonic mean, 0 to 1. A share of an empty set is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Scores {
    /// Share of the images predicted as the class that have the class.
    pub precision: f64,
    /// Share of the images of the class that are predicted as it.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// Metrics of one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ClassScores {
    /// Precision, recall, F1.
    #[serde(flatten)]
    pub scores: Scores,
    /// Images of the class.
    pub support: usize,
    /// Images predicted as the class.
    pub predicted: usize,
}

/// Wilson's 95% interval of a share of `right` out of `count`, 0 to 1.
pub fn interval(right: usize, count: usize) -> (f64, f64) {
    let (n, z) = (count.max(1) as f64, 1.959_963_984_540_054);
    let p = right as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Number of classes that are more likely than `label`. Of equal logits the first counts as larger; NaN counts as the
/// largest. None where the label's own logit is NaN.
fn rank(row: &[f32], label: usize) -> Option<usize> {
    let own = row[label];
    let above = |&(c, &x): &(usize, &f32)| c != label && (x > own || (x == own && c < label) || x.is_nan());
    (!own.is_nan()).then(|| row.iter().enumerate().filter(above).count())
}

/// The class that logits predict for an image of `label`: `label` where it is among the largest.
pub(crate) fn predicted(row: &[f32], label: usize) -> usize {
    match rank(row, label) {
        Some(0) => label,
        _ => (0..row.len()).find(|&c| c != label && rank(row, c).is_none_or(|r| r == 0)).unwrap_or(label),
    }
}

/// The index of the largest number, the first of equal ones.
pub(crate) fn largest(row: &[f32]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap_or(0)
}

/// log of the sum of exponentials.
pub(crate) fn log_sum_exp(row: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = row.clone().fold(f64::NEG_INFINITY, f64::max);
    top + row.map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// Sums over images.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) top1: usize,
    pub(crate) top5: usize,
    pub(crate) loss: f64,
    pub(crate) count: usize,
}

impl Tally {
    /// Counts rows of logits against their labels.
    pub(crate) fn add(&mut self, logits: &[f32], labels: &[u32]) {
        let classes = logits.len() / labels.len().max(1);
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let rank = rank(row, label as usize);
            self.loss += log_sum_exp(row.iter().map(|&x| x.into())) - f64::from(row[label as usize]);
            self.top1 += usize::from(rank == Some(0));
            self.top5 += usize::from(rank.is_some_and(|rank| rank < 5));
            self.count += 1;
        }
    }

    pub(crate) fn top1(&self) -> f64 {
        self.top1 as f64 / self.count.max(1) as f64
    }

    pub(crate) fn mean_loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }
}

/// `part` of `whole`, 0 where `whole` is 0.
pub(crate) fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl Scores {
    /// From the counts of correct predictions of the class, of all predictions of the class, and of all images of the
    /// class.
    pub(crate) fn new(right: usize, predicted: usize, support: usize) -> Self {
        let f1 = share(2 * right, predicted + support);
        Scores { precision: share(right, predicted), recall: share(right, support), f1 }
    }

    /// The mean, with weights.
    pub(crate) fn mean(weighted: impl Iterator<Item = (Scores, f64)>) -> Self {
        let (mut sum, mut weights) = (Scores::default(), 0.0);
        for (s, w) in weighted {
            sum.precision += w * s.precision;
            sum.recall += w * s.recall;
            sum.f1 += w * s.f1;
            weights += w;
        }
        let mean = |x: f64| if weights > 0.0 { x / weights } else { 0.0 };
        Scores { precision: mean(sum.precision), recall: mean(sum.recall), f1: mean(sum.f1) }
    }
}

impl ClassScores {
    pub(crate) fn new(right: usize, predicted: usize, support: usize) -> Self {
        ClassScores { scores: Scores::new(right, predicted, support), support, predicted }
    }

    /// The mean over the classes that occur.
    pub(crate) fn macro_average<'a>(all: impl Iterator<Item = &'a ClassScores>) -> Scores {
        Scores::mean(all.filter(|c| c.support + c.predicted > 0).map(|c| (c.scores, 1.0)))
    }
}

/// Fails unless `numbers` are rows of `columns`, `rows` of them where that is known.
pub(crate) fn check_rows(what: &str, numbers: usize, columns: usize, rows: Option<usize>) -> Result<()> {
    if columns == 0 || !numbers.is_multiple_of(columns) || rows.is_some_and(|rows| rows * columns != numbers)
    {
        let rows = rows.map_or("rows".into(), |rows| format!("{rows} rows"));
        return Err(Error::Shape(format!("{numbers} {what} are not {rows} of {columns}")));
    }
    Ok(())
}

/// Fails unless `logits` are rows of `classes`, with a label of these for each.
pub(crate) fn check_labels(logits: &[f32], labels: &[u32], classes: usize) -> Result<()> {
    check_rows("logits", logits.len(), classes, Some(labels.len()))?;
    check_classes(labels, classes)
}

/// Fails unless every label is a class.
pub(crate) fn check_classes(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(Error::Shape(format!("the label {label} is none of {classes} classes"))),
        None => Ok(()),
    }
}

/// Probabilities that add up to 1.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|x| (x - top).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

/// Binary cross-entropy of a logit and a target: `max(x, 0) - x t + ln(1 + e^-|x|)`.
pub(crate) fn binary_cross_entropy(x: f64, t: f64) -> f64 {
    x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
}

/// Explains the columns of [`ClassScores`].
pub(crate) const PRECISION_AND_RECALL: &str = "Precision: of the images predicted as the class, the share that is of it. \
     Recall: of the images of the class, the share that is predicted as it. F1: their harmonic mean.";

/// Cells of a row of means below the headings of a table that begins with the number of images.
pub(crate) fn mean_cells(s: &Scores) -> Vec<String> {
    std::iter::once(String::new()).chain([s.precision, s.recall, s.f1].map(crate::text::percent)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{MultiLabel, OutputErrors, Regression, SingleLabel};
    use super::*;

    /// Labels of the 60 rows of seven classes.
    pub(crate) const LABELS: [u32; 60] = [
        0, 0, 5, 1, 2, 5, 3, 2, 2, 5, 3, 1, 0, 2, 1, 1, 3, 5, 3, 0, 4, 5, 3, 0, 0, 4, 5, 1, 1, 5, 3, 1, 5, 5,
        1, 5, 0, 4, 5, 1, 1, 5, 3, 2, 5, 5, 0, 5, 0, 0, 5, 1, 2, 5, 3, 2, 5, 5, 2, 5,
    ];

    /// `[rows, columns]` of waves, the same as in the script that computed scikit-learn's figures.
    pub(crate) fn waves(rows: usize, columns: usize) -> Vec<f32> {
        let wave = |i: f64, c: f64| (3.0 * (1.7 * i + 2.3 * c + 0.5 * i * c).sin()) as f32;
        (0..rows * columns).map(|at| wave((at / columns) as f64, (at % columns) as f64)).collect()
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }

    fn all_near(found: impl IntoIterator<Item = f64>, expected: &[f64]) {
        let found: Vec<f64> = found.into_iter().collect();
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).for_each(|(&f, &e)| near(f, e));
    }

    fn scores(s: Scores) -> [f64; 3] {
        [s.precision, s.recall, s.f1]
    }

    #[test]
    fn wilson_intervals_are_the_textbook_ones() {
        let (low, high) = interval(146, 153);
        assert!((low - 0.9086).abs() < 1e-3 && (high - 0.9777).abs() < 1e-3, "{low} {high}");
        assert!(interval(0, 10).0 == 0.0 && interval(10, 10).1 > 0.999);
    }

    #[test]
    fn tallies_ranks_and_losses() {
        let mut tally = Tally::default();
        tally.add(&[1.0, 3.0, 2.0, 0.0, 0.0, 0.0, -1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 0.0], &[1, 6]);
        assert_eq!((tally.top1, tally.top5, tally.count), (1, 1, 2));
        let row = [1.0f64, 3.0, 2.0, 0.0, 0.0, 0.0, -1.0];
        let first = row.iter().map(|x| x.exp()).sum::<f64>().ln() - 3.0;
        let second = (6.0 * 5f64.exp() + 1.0).ln();
        assert!((tally.loss - first - second).abs() < 1e-6);
    }

    /// Expected: scikit-learn 1.9 on the same logits in f64; the calibration error by the formula of Guo et al.
    #[test]
    fn classes_are_measured_as_scikit_learn_does() -> Result<()> {
        let found = SingleLabel::new(&waves(60, 7), &LABELS, 7)?;
        assert_eq!((found.count, found.correct()), (60, 37));
        near(found.top1, 37.0 / 60.0);
        near(found.top5, 53.0 / 60.0);
        assert_eq!((found.top1_interval, found.top5_interval), (interval(37, 60), interval(53, 60)));
        near(found.loss, 1.746386271678638);
        let classes = &found.classes;
        all_near(classes.iter().map(|c| c.scores.precision), &[0.6, 0.875, 0.4, 0.8, 0.375, 1.0, 0.0]);
        all_near(classes.iter().map(|c| c.scores.recall), &[0.6, 7.0 / 11.0, 0.25, 0.5, 1.0, 0.75, 0.0]);
        let f1 = [0.6, 14.0 / 19.0, 4.0 / 13.0, 8.0 / 13.0, 6.0 / 11.0, 6.0 / 7.0, 0.0];
        all_near(classes.iter().map(|c| c.scores.f1), &f1);
        assert_eq!(classes.iter().map(|c| c.support).collect::<Vec<_>>(), [10, 11, 8, 8, 3, 20, 0]);
        all_near(scores(found.macro_average), &[0.5785714285714285, 0.5337662337662338, 0.5232166329910691]);
        all_near(scores(found.weighted_average), &[0.7725, 0.6166666666666667, 0.6711516553621818]);
        assert_eq!(found.confusion[0], [6, 1, 1, 1, 0, 0, 1]);
        assert_eq!(found.confusion[5], [3, 0, 1, 0, 0, 15, 1]);
        assert_eq!(found.most_confused()[..3], [(2, 6, 6), (3, 4, 3), (5, 0, 3)]);
        near(found.calibration.ece, 0.22954809363278172);
        let bins = &found.calibration.bins;
        let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
        assert_eq!(counts, [0, 0, 1, 2, 4, 11, 10, 16, 10, 2, 3, 1, 0, 0, 0]);
        all_near([bins[5].confidence, bins[5].accuracy], &[0.3743148091405876, 8.0 / 11.0]);

        // A class without images and without predictions is in no mean.
        let wider: Vec<f32> = waves(60, 7).chunks_exact(7).flat_map(|row| [row, &[-80.0]].concat()).collect();
        let wider = SingleLabel::new(&wider, &LABELS, 8)?;
        assert_eq!(wider.classes.len(), 8);
        all_near(scores(wider.macro_average), &scores(found.macro_average));
        Ok(())
    }

    #[test]
    fn equal_logits_and_what_is_no_number_count_alike_everywhere() -> Result<()> {
        let nan = f32::NAN;
        let found = SingleLabel::new(&[1.0, 1.0, 1.0, 1.0, nan, 2.0, 0.0, nan], &[0, 1, 1, 0], 2)?;
        assert_eq!((found.correct(), found.top1), (1, 0.25));
        assert_eq!(found.confusion, [[1, 1], [2, 0]]);
        Ok(())
    }

    /// Expected: scikit-learn 1.9, which counts labels that never occur as 0 in the macro average; here one does not,
    /// but is predicted.
    #[test]
    fn labels_are_measured_as_scikit_learn_does() -> Result<()> {
        let waves = waves(40, 4);
        let target = |(at, &x): (usize, &f32)| {
            let (i, c) = ((at / 4) as f64, (at % 4) as f64);
            f32::from(u8::from(f64::from(x) + 2.0 * (0.9 * i + 1.1 * c).cos() > 0.8 && at % 4 != 3))
        };
        let targets: Vec<f32> = waves.iter().enumerate().map(target).collect();
        let logits: Vec<f32> = waves.iter().map(|x| (x * 4.0).round_ties_even() / 4.0).collect();
        let found = MultiLabel::new(&logits, &targets, 4)?;
        assert_eq!(found.count, 40);
        near(found.loss, 0.6301296678499642);
        near(found.exact, 0.275);
        let labels = &found.classes;
        let precision = [14.0 / 19.0, 0.7, 18.0 / 23.0, 0.0];
        all_near(labels.iter().map(|l| l.class.scores.precision), &precision);
        all_near(labels.iter().map(|l| l.class.scores.recall), &[0.875, 1.0, 1.0, 0.0]);
        assert_eq!(labels.iter().map(|l| l.class.support).collect::<Vec<_>>(), [16, 14, 18, 0]);
        all_near(scores(found.macro_average), &[0.5548627002288329, 0.71875, 0.6253945480631277]);
        all_near(scores(found.micro_average), &[0.5609756097560976, 0.9583333333333334, 0.7076923076923077]);
        let precisions = [0.9253528589466089, 0.8779314357321876, 0.7021119273357126];
        all_near(labels.iter().filter_map(|l| l.average_precision), &precisions);
        assert_eq!(labels[3].average_precision, None);
        near(found.mean_average_precision, precisions.iter().sum::<f64>() / 3.0);
        Ok(())
    }

    /// Expected: scikit-learn 1.9.
    #[test]
    fn numbers_are_measured_as_scikit_learn_does() -> Result<()> {
        let (predictions, waves) = (waves(30, 2), waves(32, 2));
        let off = predictions.iter().zip(&waves[4..]);
        let targets: Vec<f32> =
            off.map(|(&p, &x)| (f64::from(p) + f64::from(x) * 0.3 + 0.1) as f32).collect();
        let found = Regression::new(&predictions, &targets, 2)?;
        all_near(found.outputs.iter().map(|e| e.mae), &[0.57245429, 0.58163448]);
        all_near(found.outputs.iter().map(|e| e.rmse), &[0.63829212, 0.64820943]);
        all_near(found.outputs.iter().map(|e| e.r2), &[0.82088586, 0.89681298]);
        near(found.average.r2, (0.82088586 + 0.89681298) / 2.0);
        let constant = Regression::new(&[1.0, 1.0], &[1.0, 1.0], 1)?;
        assert_eq!(constant.outputs[0], OutputErrors { mae: 0.0, rmse: 0.0, r2: 1.0 });
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let message = |outcome: Result<SingleLabel>| outcome.expect_err("must fail").to_string();
        assert!(message(SingleLabel::new(&[0.0; 5], &[0, 1], 2)).contains("5 logits"));
        assert!(message(SingleLabel::new(&[0.0; 4], &[0, 2], 2)).contains("label 2"));
        assert!(MultiLabel::new(&[0.0; 4], &[0.0; 3], 2).is_err());
        assert!(Regression::new(&[], &[], 0).is_err());
        let nothing = MultiLabel::new(&[], &[], 3).map(|m| (m.count, m.loss));
        assert!(nothing.is_ok_and(|found| found == (0, 0.0)));
    }
}
