//! Few-shot evaluation of a network's features: in each trial, a few images per class are drawn from the training
//! part and a classifier is fitted to them; the validation part measures its accuracy.

use rayon::prelude::*;
use serde::Serialize;

use crate::plan::Device;
use crate::rng::Stream;
use crate::train::cache::features::Vectors;
use crate::train::events::{Event, Observer, Silent};
use crate::train::head::solver::{SolverOptions, solve};
use crate::{Error, Result};

/// Settings of a few-shot evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FewshotOptions {
    /// Images per class; one measurement for each.
    pub shots: Vec<usize>,
    /// Number of random draws.
    pub trials: usize,
    /// Seed of the draws.
    pub seed: u64,
}

options!(FewshotOptions);

/// A classifier on a few features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The nearest class mean, on features that are centred on the mean of the drawn ones and scaled to length 1
    /// (CL2N in SimpleShot, Wang et al. 2019).
    NearestMean,
    /// Logistic regression by [`crate::train::solve_head`]'s solver.
    LogisticRegression,
}

/// All methods.
const METHODS: [Method; 2] = [Method::NearestMean, Method::LogisticRegression];

/// Accuracy of a method with a number of images per class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fewshot {
    /// Images per class.
    pub shots: usize,
    /// The classifier.
    pub method: Method,
    /// Accuracy on all validation images in each trial, 0 to 1.
    pub trials: Vec<f64>,
    /// Mean accuracy over the trials.
    pub mean: f64,
    /// Student's 95% confidence interval of the mean over random draws, for these validation images; none for a
    /// single trial.
    pub interval: Option<(f64, f64)>,
}

/// Fits classifiers to `shots` images per class of `train`, drawn anew in each trial, and measures their accuracy on
/// `val`. Within a trial, the images of a smaller number of shots are among those of a larger one. The results are
/// ordered by shots, then by method.
///
/// # Errors
/// [`Error::Usage`] for no shot or trial, and where a class has fewer images than shots; from the device.
pub fn fewshot(
    device: &Device,
    train: &Vectors,
    val: &Vectors,
    classes: &[String],
    options: &FewshotOptions,
    observer: &mut dyn Observer,
) -> Result<Vec<Fewshot>> {
    let mut of_class = vec![Vec::new(); classes.len()];
    for (i, &label) in train.labels.iter().enumerate() {
        of_class[label as usize].push(i);
    }
    check(options, classes, &of_class)?;
    let (mut found, mut done) = (Vec::new(), 0);
    for &shots in &options.shots {
        let mut trials = METHODS.map(|_| Vec::new());
        for trial in 0..options.trials {
            let drawn = draw(train, &of_class, shots, [options.seed, trial as u64]);
            for (method, accuracies) in METHODS.iter().zip(&mut trials) {
                accuracies.push(method.accuracy(device, &drawn, val, classes.len())?);
            }
            done += 1;
            observer.event(&Event::progress("trials", done, options.shots.len() * options.trials));
        }
        let results = METHODS.into_iter().zip(trials);
        found.extend(results.map(|(method, trials)| {
            let (mean, interval) = mean_and_interval(&trials);
            Fewshot { shots, method, trials, mean, interval }
        }));
    }
    Ok(found)
}

fn check(options: &FewshotOptions, classes: &[String], of_class: &[Vec<usize>]) -> Result<()> {
    let most = options.shots.iter().copied().max().unwrap_or(0);
    if options.shots.contains(&0) || most == 0 || options.trials == 0 {
        return Err(Error::setting("shots", "", "at least 1 is needed, and at least 1 of `trials`"));
    }
    match classes.iter().zip(of_class).min_by_key(|(_, images)| images.len()) {
        Some((class, images)) if images.len() < most => {
            let few = match images.len() {
                1 => "1 training image".into(),
                n => format!("{n} training images"),
            };
            let reason = format!("class '{class}' has only {few} to draw from; ask for no more");
            Err(Error::setting("shots", most, reason))
        }
        _ => Ok(()),
    }
}

/// Draws `shots` images of each class.
fn draw(train: &Vectors, of_class: &[Vec<usize>], shots: usize, [seed, trial]: [u64; 2]) -> Vectors {
    let mut drawn = Vectors { dims: train.dims, rows: vec![], labels: vec![] };
    for (class, images) in of_class.iter().enumerate() {
        let mut images = images.clone();
        Stream::new(&[seed, trial, class as u64]).shuffle(&mut images);
        for &i in &images[..shots] {
            drawn.rows.extend_from_slice(&train.rows[i * train.dims..][..train.dims]);
            drawn.labels.push(class as u32);
        }
    }
    drawn
}

/// A linear classifier: weight `[classes, features]` and bias.
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    /// Accuracy: the share of rows whose largest output is at their label.
    fn accuracy(&self, rows: &[f32], labels: &[u32]) -> f64 {
        let dims = rows.len() / labels.len().max(1);
        let right = |(row, &label): (&[f32], &u32)| {
            let output = |(w, &b): (&[f32], &f32)| b + w.iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
            let outputs = self.weight.chunks_exact(dims).zip(&self.bias).map(output).enumerate();
            let best =
                outputs.fold((0, f32::NEG_INFINITY), |best, (c, x)| if x > best.1 { (c, x) } else { best });
            best.0 == label as usize
        };
        let rows = rows.par_chunks_exact(dims.max(1)).zip(labels);
        rows.filter(|&row| right(row)).count() as f64 / labels.len().max(1) as f64
    }
}

impl Method {
    /// Accuracy on `val` after fitting to `drawn`.
    fn accuracy(self, device: &Device, drawn: &Vectors, val: &Vectors, classes: usize) -> Result<f64> {
        Ok(match self {
            Method::NearestMean => {
                let mean = mean_row(drawn.rows.chunks_exact(drawn.dims), drawn.dims);
                let (rows, val_rows) = (centred(&drawn.rows, &mean), centred(&val.rows, &mean));
                let of = |class: usize| {
                    let own = drawn.labels.iter().zip(rows.chunks_exact(drawn.dims));
                    mean_row(
                        own.filter(|(label, _)| **label as usize == class).map(|(_, row)| row),
                        drawn.dims,
                    )
                };
                let weight: Vec<f32> = (0..classes).flat_map(of).collect();
                // The nearest mean m minimises |x - m|^2, that is, maximises x m - |m|^2 / 2.
                let half = |mean: &[f32]| -0.5 * mean.iter().map(|m| m * m).sum::<f32>();
                let bias = weight.chunks_exact(drawn.dims).map(half).collect();
                Linear { weight, bias }.accuracy(&val_rows, &val.labels)
            }
            Method::LogisticRegression => {
                let options = SolverOptions::default();
                let solved = solve(device, drawn, classes, &options, &mut Silent)?;
                Linear { weight: solved.weight, bias: solved.bias }.accuracy(&val.rows, &val.labels)
            }
        })
    }
}

fn mean_row<'a>(rows: impl Iterator<Item = &'a [f32]>, dims: usize) -> Vec<f32> {
    let (mut sum, mut count) = (vec![0.0f64; dims], 0);
    for row in rows {
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        count += 1;
    }
    sum.into_iter().map(|sum| (sum / f64::from(count.max(1))) as f32).collect()
}

/// Rows minus the mean, each scaled to length 1.
fn centred(rows: &[f32], mean: &[f32]) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(mean.len().max(1)) {
        let moved = row.iter().zip(mean).map(|(x, m)| x - m);
        let length = moved.clone().map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-12) as f32;
        all.extend(moved.map(|x| x / length));
    }
    all
}

/// The mean over trials, and its 95% confidence interval by Student's distribution.
fn mean_and_interval(trials: &[f64]) -> (f64, Option<(f64, f64)>) {
    let n = trials.len() as f64;
    let mean = trials.iter().sum::<f64>() / n.max(1.0);
    let variance = trials.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let half = student(trials.len().saturating_sub(1)) * (variance / n.max(1.0)).sqrt();
    (mean, (trials.len() > 1).then_some((mean - half, mean + half)))
}

/// The 97.5% quantile of Student's distribution: a table, and Fisher's expansion (Abramowitz and Stegun 26.7.5).
fn student(freedom: usize) -> f64 {
    match freedom {
        0 => f64::INFINITY,
        1..=10 => {
            [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281][freedom - 1]
        }
        _ => {
            let (z, v) = (1.959_963_984_540_054_f64, freedom as f64);
            let terms = [
                (z.powi(3) + z) / 4.0,
                (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
                (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
            ];
            terms.iter().zip(1..).fold(z, |sum, (term, power)| sum + term / v.powi(power))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::scores::tests::waves;

    /// Random rows around a centre for each class, the classes in turn.
    fn clouds(dims: usize, classes: usize, each: usize, seed: u64, spread: f64) -> Vectors {
        let centre = |class: usize, d: usize| Stream::new(&[1, class as u64, d as u64]).normal();
        let mut stream = Stream::new(&[seed]);
        let labels: Vec<u32> = (0..classes * each).map(|i| (i % classes) as u32).collect();
        let numbers = labels.iter().flat_map(|&label| (0..dims).map(move |d| (label as usize, d)));
        let rows = numbers.map(|(c, d)| (5.0 + centre(c, d) + spread * stream.normal()) as f32).collect();
        Vectors { dims, rows, labels }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("class {i}")).collect()
    }

    #[test]
    fn more_images_tell_more() -> Result<()> {
        let (train, val) = (clouds(16, 3, 12, 2, 1.5), clouds(16, 3, 40, 3, 1.5));
        let options = FewshotOptions { shots: vec![1, 10], trials: 6, seed: 0 };
        let run =
            |options: &FewshotOptions| fewshot(&Device::Cpu, &train, &val, &names(3), options, &mut Silent);
        let found = run(&options)?;
        let order: Vec<(usize, Method)> = found.iter().map(|f| (f.shots, f.method)).collect();
        assert_eq!(order, [1, 10].map(|shots| METHODS.map(|method| (shots, method))).concat());
        for (few, more) in found[..2].iter().zip(&found[2..]) {
            assert!(few.mean > 0.5 && more.mean > few.mean + 0.05, "{few:?} {more:?}");
            let (low, high) = more.interval.unwrap_or_default();
            assert!(low < more.mean && more.mean < high && more.trials.len() == 6);
        }
        assert_eq!(run(&options)?, found, "the same seed");
        assert_ne!(run(&FewshotOptions { seed: 1, ..options })?, found, "another seed");
        Ok(())
    }

    /// Expected: SimpleShot's formula in numpy.
    #[test]
    fn the_nearest_mean_is_simpleshots() -> Result<()> {
        let drawn = Vectors { dims: 5, rows: waves(8, 5), labels: vec![0, 1, 2, 3, 0, 1, 2, 3] };
        let rows = waves(60, 5);
        let labels = (0..60).map(|i| (i / 2 % 4) as u32).collect();
        let val = Vectors { dims: 5, rows, labels };
        let found = Method::NearestMean.accuracy(&Device::Cpu, &drawn, &val, 4)?;
        assert_eq!((found * 60.0).round(), 13.0);
        Ok(())
    }

    #[test]
    fn a_class_with_too_few_images_is_named() {
        let mut train = clouds(4, 2, 5, 1, 1.0);
        train.labels[1] = 0;
        let run = |shots: &[usize], trials| {
            let options = FewshotOptions { shots: shots.to_vec(), trials, seed: 0 };
            fewshot(&Device::Cpu, &train, &train, &names(2), &options, &mut Silent)
        };
        let message = run(&[1, 5], 2).expect_err("must fail").to_string();
        assert!(message.contains("'class 1'") && message.contains('5') && message.contains('4'), "{message}");
        assert!(run(&[], 2).is_err() && run(&[0], 2).is_err() && run(&[1], 0).is_err());
        assert!(run(&[1], 1).is_ok_and(|found| found[0].interval.is_none()));
    }

    #[test]
    fn intervals_are_students() {
        for (freedom, quantile) in
            [(1, 12.7062), (3, 3.1824), (10, 2.2281), (11, 2.2010), (19, 2.0930), (99, 1.9842)]
        {
            assert!((student(freedom) - quantile).abs() < 3e-4, "{freedom}: {}", student(freedom));
        }
        let (mean, interval) = mean_and_interval(&[0.8, 0.9, 1.0]);
        let (low, high) = interval.unwrap_or_default();
        assert!((mean - 0.9).abs() < 1e-12 && (high - low - 2.0 * 4.3027 * 0.1 / 3f64.sqrt()).abs() < 1e-6);
    }
}
