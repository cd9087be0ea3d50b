//! What predictions are worth: accuracy, confusion, precision and recall by class, calibration; for labels that
//! exclude one another, for labels that do not, and for numbers. From logits and truth alone, so that whoever has
//! these can measure.

use serde::Serialize;

use super::calibration::Calibration;
use crate::{Error, Result};

/// What a network is worth on a data set, by the kind of its task.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Measures {
    /// Each picture has one class.
    SingleLabel(SingleLabel),
    /// Each picture has any number of classes.
    MultiLabel(MultiLabel),
    /// Each picture has numbers.
    Regression(Regression),
}

/// Precision, recall and their harmonic mean, 0 to 1. A share of nothing is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Scores {
    /// Of those called so, the share that is.
    pub precision: f64,
    /// Of those that are so, the share that is called so.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// What a network is worth on one class.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct ClassScores {
    /// Precision, recall, F1.
    #[serde(flatten)]
    pub scores: Scores,
    /// Pictures of the class.
    pub support: usize,
    /// Pictures called so.
    pub predicted: usize,
}

/// Measures of a task where each picture has one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SingleLabel {
    /// Pictures that count.
    pub count: usize,
    /// Share of pictures whose most likely class is right, 0 to 1.
    pub top1: f64,
    /// Wilson's 95% interval of it.
    pub top1_interval: (f64, f64),
    /// Share of pictures with the right class among the five most likely.
    pub top5: f64,
    /// Wilson's 95% interval of it.
    pub top5_interval: (f64, f64),
    /// Mean cross-entropy.
    pub loss: f64,
    /// Of each class.
    pub classes: Vec<ClassScores>,
    /// Mean over the classes that occur as a label or as an answer, as scikit-learn has it.
    pub macro_average: Scores,
    /// The same weighted by the classes' pictures.
    pub weighted_average: Scores,
    /// Whether a probability of 0.9 is right nine times out of ten.
    pub calibration: Calibration,
    /// How many pictures of each class (row) were called each class (column).
    pub confusion: Vec<Vec<usize>>,
}

/// What a network is worth on one label of several.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LabelScores {
    /// At a probability of 0.5.
    #[serde(flatten)]
    pub class: ClassScores,
    /// Mean precision over the recalls, by steps; none where no picture has the label.
    pub average_precision: Option<f64>,
}

/// Measures of a task where each picture has any number of labels, each with a probability of its own (sigmoid).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MultiLabel {
    /// Pictures that count.
    pub count: usize,
    /// Mean binary cross-entropy over pictures and labels.
    pub loss: f64,
    /// Share of pictures all of whose labels are right.
    pub exact: f64,
    /// Of each label.
    pub classes: Vec<LabelScores>,
    /// Mean over the labels that occur, given or predicted.
    pub macro_average: Scores,
    /// Over all labels of all pictures together.
    pub micro_average: Scores,
    /// Mean average precision of the labels that some picture has: mAP.
    pub mean_average_precision: f64,
}

/// How far one predicted number is off.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct OutputErrors {
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Share of the variance that is explained: 1 is all, 0 as good as always saying the mean.
    pub r2: f64,
}

/// Measures of a task where each picture has numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Regression {
    /// Pictures that count.
    pub count: usize,
    /// Of each number.
    pub outputs: Vec<OutputErrors>,
    /// Mean over the numbers.
    pub average: OutputErrors,
}

/// Wilson's 95% interval of a share of `right` out of `count`, 0 to 1.
pub fn interval(right: usize, count: usize) -> (f64, f64) {
    let (n, z) = (count.max(1) as f64, 1.959_963_984_540_054);
    let p = right as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// How many classes are more likely than `label`; of equal logits the first counts as larger, and what is no number
/// as the largest. None where the label's own logit is no number.
fn rank(row: &[f32], label: usize) -> Option<usize> {
    let own = row[label];
    let above = |&(c, &x): &(usize, &f32)| c != label && (x > own || (x == own && c < label) || x.is_nan());
    (!own.is_nan()).then(|| row.iter().enumerate().filter(above).count())
}

/// The class that logits take a picture of `label` for.
pub(crate) fn answer(row: &[f32], label: usize) -> usize {
    match rank(row, label) {
        Some(0) => label,
        _ => (0..row.len()).find(|&c| c != label && rank(row, c).is_none_or(|r| r == 0)).unwrap_or(label),
    }
}

/// log of the sum of exponentials.
pub(crate) fn log_sum_exp(row: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = row.clone().fold(f64::NEG_INFINITY, f64::max);
    top + row.map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// Sums over pictures.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    top1: usize,
    top5: usize,
    loss: f64,
    count: usize,
}

impl Tally {
    /// Counts rows of logits against their labels.
    pub(super) fn add(&mut self, logits: &[f32], labels: &[u32]) {
        let classes = logits.len() / labels.len().max(1);
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let rank = rank(row, label as usize);
            self.loss += log_sum_exp(row.iter().map(|&x| x.into())) - f64::from(row[label as usize]);
            self.top1 += usize::from(rank == Some(0));
            self.top5 += usize::from(rank.is_some_and(|rank| rank < 5));
            self.count += 1;
        }
    }

    pub(super) fn top1(&self) -> f64 {
        self.top1 as f64 / self.count.max(1) as f64
    }

    pub(super) fn mean_loss(&self) -> f64 {
        self.loss / self.count.max(1) as f64
    }
}

/// `part` of `whole`, 0 of nothing.
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

impl Scores {
    /// From the counts of those rightly called so, of all called so, and of all that are so.
    fn new(right: usize, predicted: usize, support: usize) -> Self {
        let f1 = share(2 * right, predicted + support);
        Scores { precision: share(right, predicted), recall: share(right, support), f1 }
    }

    /// The mean, with weights.
    fn mean(weighted: impl Iterator<Item = (Scores, f64)>) -> Self {
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
    fn new(right: usize, predicted: usize, support: usize) -> Self {
        ClassScores { scores: Scores::new(right, predicted, support), support, predicted }
    }

    /// The mean over those that occur.
    fn macro_average<'a>(all: impl Iterator<Item = &'a ClassScores>) -> Scores {
        Scores::mean(all.filter(|c| c.support + c.predicted > 0).map(|c| (c.scores, 1.0)))
    }
}

/// Fails unless `numbers` are rows of `columns`, `rows` of them where that is known.
fn check_rows(what: &str, numbers: usize, columns: usize, rows: Option<usize>) -> Result<()> {
    if columns == 0 || !numbers.is_multiple_of(columns) || rows.is_some_and(|rows| rows * columns != numbers)
    {
        let rows = rows.map_or("rows".into(), |rows| format!("{rows} rows"));
        return Err(Error::Shape(format!("{numbers} {what} are not {rows} of {columns}")));
    }
    Ok(())
}

/// Fails unless `logits` are rows of `classes`, with a label of these for each.
pub(super) fn check_labels(logits: &[f32], labels: &[u32], classes: usize) -> Result<()> {
    check_rows("logits", logits.len(), classes, Some(labels.len()))?;
    check_classes(labels, classes)
}

/// Fails unless every label is a class.
pub(super) fn check_classes(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().find(|&&label| label as usize >= classes) {
        Some(label) => Err(Error::Shape(format!("the label {label} is none of {classes} classes"))),
        None => Ok(()),
    }
}

impl SingleLabel {
    /// From logits `[N, classes]` and labels `[N]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where their sizes do not fit, or a label is no class.
    pub fn new(logits: &[f32], labels: &[u32], classes: usize) -> Result<Self> {
        check_labels(logits, labels, classes)?;
        let mut tally = Tally::default();
        tally.add(logits, labels);
        let mut confusion = vec![vec![0; classes]; classes];
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let label = label as usize;
            confusion[label][answer(row, label)] += 1;
        }
        let mut predicted = vec![0; classes];
        confusion.iter().for_each(|row| predicted.iter_mut().zip(row).for_each(|(sum, n)| *sum += n));
        let scores = |c: usize| ClassScores::new(confusion[c][c], predicted[c], confusion[c].iter().sum());
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
        })
    }

    /// How many are right.
    pub fn right(&self) -> usize {
        (0..self.confusion.len()).map(|c| self.confusion[c][c]).sum()
    }

    /// Pairs of a class and what its pictures were taken for, with how many; the most first.
    pub fn most_confused(&self) -> Vec<(usize, usize, usize)> {
        let rows = self.confusion.iter().enumerate();
        let cells = rows.flat_map(|(c, row)| row.iter().enumerate().map(move |(answer, &n)| (c, answer, n)));
        let mut pairs: Vec<_> = cells.filter(|&(c, answer, n)| c != answer && n > 0).collect();
        pairs.sort_by_key(|&(.., n)| std::cmp::Reverse(n));
        pairs
    }
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
    /// From logits `[N, classes]` and targets `[N, classes]`, 1 where the picture has the label, else 0. A label
    /// counts as predicted where its probability is above 0.5.
    ///
    /// # Errors
    /// [`Error::Shape`] where their sizes do not fit.
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
        // max(x, 0) - x t + ln(1 + e^-|x|)
        let loss = logits.iter().zip(targets).map(|(&x, &t)| {
            let (x, t) = (f64::from(x), f64::from(t));
            x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
        });
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

impl Regression {
    /// From predictions and targets, both `[N, outputs]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where their sizes do not fit.
    pub fn new(predictions: &[f32], targets: &[f32], outputs: usize) -> Result<Self> {
        check_rows("predictions", predictions.len(), outputs, None)?;
        let count = predictions.len() / outputs;
        check_rows("targets", targets.len(), outputs, Some(count))?;
        let n = count.max(1) as f64;
        let errors = |o: usize| {
            let pairs = || {
                let pairs = predictions.iter().zip(targets).skip(o).step_by(outputs);
                pairs.map(|(&p, &t)| (f64::from(p), f64::from(t)))
            };
            let mean = pairs().map(|(_, t)| t).sum::<f64>() / n;
            let absolute: f64 = pairs().map(|(p, t)| (p - t).abs()).sum();
            let squares: f64 = pairs().map(|(p, t)| (p - t).powi(2)).sum();
            let spread: f64 = pairs().map(|(_, t)| (t - mean).powi(2)).sum();
            // Of what does not vary there is no share: 1 where it is met, else 0.
            let r2 = if spread > 0.0 { 1.0 - squares / spread } else { f64::from(u8::from(squares == 0.0)) };
            OutputErrors { mae: absolute / n, rmse: (squares / n).sqrt(), r2 }
        };
        let of_output: Vec<OutputErrors> = (0..outputs).map(errors).collect();
        let mean = |pick: fn(&OutputErrors) -> f64| of_output.iter().map(pick).sum::<f64>() / outputs as f64;
        let average = OutputErrors { mae: mean(|e| e.mae), rmse: mean(|e| e.rmse), r2: mean(|e| e.r2) };
        Ok(Regression { count, outputs: of_output, average })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Labels of the 60 rows of seven classes.
    pub(in crate::train) const LABELS: [u32; 60] = [
        0, 0, 5, 1, 2, 5, 3, 2, 2, 5, 3, 1, 0, 2, 1, 1, 3, 5, 3, 0, 4, 5, 3, 0, 0, 4, 5, 1, 1, 5, 3, 1, 5, 5,
        1, 5, 0, 4, 5, 1, 1, 5, 3, 2, 5, 5, 0, 5, 0, 0, 5, 1, 2, 5, 3, 2, 5, 5, 2, 5,
    ];

    /// `[rows, columns]` of waves, as the script had them that scikit-learn's figures are from.
    pub(in crate::train) fn waves(rows: usize, columns: usize) -> Vec<f32> {
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
        assert_eq!((found.count, found.right()), (60, 37));
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

        // A class that nobody has and nobody is taken for is in no mean.
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
        assert_eq!((found.right(), found.top1), (1, 0.25));
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
