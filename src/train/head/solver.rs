//! Solver for a linear head, which is a convex problem: multinomial logistic regression on cached features with an L2
//! penalty on the weight, minimised by L-BFGS. Cross-validation chooses the penalty.
//!
//! The objective is `mean over images of the cross-entropy + penalty / 2 |W|^2`; the bias has no penalty. In
//! scikit-learn's terms the penalty is 1 / (C N). The device computes loss and gradient with the kernels of training.

use crate::models::Network;
use crate::nn::Mode;
use crate::plan::Device;
use crate::rng::Stream;
use crate::tape::Tape;
use crate::task::scores::{Tally, check_classes};
use crate::train::cache::features::Vectors;
use crate::train::events::{Event, Observer};
use crate::train::head::lbfgs::{Goal, minimise};
use crate::train::head::logistic::{CHUNK_BYTES, Problem};
use crate::{Error, Result};

/// Exponents of the penalty grid, relative to the mean variance of the features: two penalties per decade, the
/// strongest first.
const GRID: std::ops::RangeInclusive<i32> = -2..=10;
/// The penalty where no image can be held out: it suits hundreds of images and MobileNetV2's features.
const PENALTY: f64 = 0.1;

/// Settings of the head solver.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SolverOptions {
    /// Penalty on the squared weights; chosen by cross-validation where absent.
    pub penalty: Option<f64>,
    /// Whether the penalty applies to weights of standardised features (variance 1) instead of the network's
    /// features. With MobileNetV2 the difference was within chance: 93.5% against 94.8% on hymenoptera's validation
    /// part, 78.0% against 77.6% and 81.6% against 82.6% on clothing10's validation and test parts.
    pub standardise: bool,
    /// Number of folds for cross-validation.
    pub folds: usize,
    /// Seed of the random folds.
    pub seed: u64,
}

options!(SolverOptions);

impl Default for SolverOptions {
    fn default() -> Self {
        SolverOptions { penalty: None, standardise: false, folds: 5, seed: 0 }
    }
}

/// A penalty of the search and its result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// The penalty.
    pub penalty: f64,
    /// Accuracy on the held-out images, 0 to 1.
    pub accuracy: f64,
    /// Mean loss on the held-out images.
    pub loss: f64,
}

/// A solved head.
#[derive(Debug, Clone, PartialEq)]
pub struct Solved {
    /// Weight `[classes, features]`.
    pub weight: Vec<f32>,
    /// Bias `[classes]`.
    pub bias: Vec<f32>,
    /// The penalty of this solution.
    pub penalty: f64,
    /// All penalties that cross-validation tried, the strongest first.
    pub cv: Vec<Tried>,
    /// Mean loss on the training images, without the penalty.
    pub loss: f64,
}

/// Path of the last layer, if the head is one linear layer on a feature vector.
pub(crate) fn linear_head(net: &Network) -> Result<&str> {
    let mut tape = Tape::new();
    net.record_head(&mut tape, Mode::Eval, 1)?;
    let mut products = tape.nodes.iter().filter(|node| !node.op.is_view());
    let one =
        products.next().is_some_and(|node| node.op.name() == "matmul.forward") && products.next().is_none();
    let head = &net.structure().head;
    if one && net.position(&format!("{head}.bias")).is_ok() {
        return Ok(head);
    }
    let why = match net.config().hidden {
        Some(_) => "it has a hidden layer (`head_hidden`)".to_string(),
        None => format!("that of {} is more than one linear layer", net.config().model),
    };
    Err(Error::Usage(format!(
        "a head can be solved for where it is one linear layer without `head_hidden`: {why}"
    )))
}

/// Solves for `net`'s head on features of labelled images, as [`crate::train::extract`] returns them. The network
/// itself stays unchanged: see [`Solved::write`].
///
/// # Errors
/// [`Error::Usage`] where the head is not one linear layer; [`Error::Shape`] where features and labels do not fit
/// the network; from the device.
pub fn solve_head(
    net: &Network,
    device: &Device,
    features: &Vectors,
    options: &SolverOptions,
    observer: &mut dyn Observer,
) -> Result<Solved> {
    linear_head(net)?;
    if features.dims != net.features() {
        let (found, expected) = (features.dims, net.features());
        return Err(Error::Shape(format!("{found} features an image where the head takes {expected}")));
    }
    solve(device, features, net.classes().len(), options, observer)
}

impl Solved {
    /// Accuracy of the head on these features, 0 to 1.
    pub fn accuracy(&self, features: &Vectors) -> f64 {
        let rows = features.rows.chunks_exact(features.dims.max(1)).zip(&features.labels);
        let right = |(row, label): &(&[f32], &u32)| {
            let logits = self.weight.chunks_exact(features.dims.max(1)).zip(&self.bias);
            let logits = logits.map(|(w, b)| b + w.iter().zip(*row).map(|(w, x)| w * x).sum::<f32>());
            let best = logits.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
            best.is_some_and(|(class, _)| class == **label as usize)
        };
        rows.filter(right).count() as f64 / features.labels.len().max(1) as f64
    }

    /// Writes the head into `net`.
    ///
    /// # Errors
    /// [`Error::Usage`] where the head is not one linear layer, [`Error::Shape`] where it has another size.
    pub fn write(&self, net: &mut Network) -> Result<()> {
        let head = linear_head(net)?.to_string();
        net.set_tensor(&format!("{head}.weight"), self.weight.clone())?;
        net.set_tensor(&format!("{head}.bias"), self.bias.clone())
    }
}

/// As [`solve_head`], without a network.
pub(crate) fn solve(
    device: &Device,
    features: &Vectors,
    classes: usize,
    options: &SolverOptions,
    observer: &mut dyn Observer,
) -> Result<Solved> {
    let Vectors { dims, ref rows, ref labels, .. } = *features;
    if labels.is_empty() || rows.len() != labels.len() * dims || classes == 0 {
        let (rows, labels) = (rows.len(), labels.len());
        return Err(Error::Shape(format!("{rows} features and {labels} labels are no rows of {dims}")));
    }
    check_classes(labels, classes)?;
    let scaling = Scaling::new(rows, dims, options.standardise);
    let mut problem = Problem::new(device, &scaling.apply(rows), labels, [dims, classes], CHUNK_BYTES)?;
    let folds = deal(labels, classes, options.folds, options.seed);
    let (mut start, mut cv) = (vec![0.0; (dims + 1) * classes], Vec::new());
    let penalty = match options.penalty {
        Some(penalty) if penalty.is_finite() && penalty >= 0.0 => penalty,
        Some(penalty) => return Err(Error::Usage(format!("penalty {penalty}: it is a number from 0 up"))),
        None if folds.len() < 2 => PENALTY * scaling.variance,
        None => {
            (start, cv) = problem.cross_validate(&folds, observer)?;
            cv.iter_mut().for_each(|tried| tried.penalty *= scaling.variance);
            let least = cv.iter().copied().min_by(|a: &Tried, b| a.loss.total_cmp(&b.loss));
            least.map_or(PENALTY * scaling.variance, |least| least.penalty)
        }
    };
    let everything = vec![1.0 / labels.len() as f32; labels.len()];
    let solution = problem.fit(&everything, penalty / scaling.variance, start, 1e-5)?;
    let (loss, _) = problem.loss_and_gradient(&solution, &everything)?;
    let (weight, bias) = scaling.undo(&solution, classes);
    Ok(Solved { weight, bias, penalty, cv, loss })
}

/// Centring and scaling of features for the solver. Features get mean 0, which the bias compensates, and mean
/// variance 1, which the penalty compensates. The search needs fewer steps and ends at the same solution in any unit
/// of the features.
struct Scaling {
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// Factor that turns a penalty on weights of scaled features into a penalty on weights of unscaled features.
    variance: f64,
}

impl Scaling {
    fn new(rows: &[f32], dims: usize, standardise: bool) -> Self {
        let count = (rows.len() / dims.max(1)) as f64;
        let sum = |of: &dyn Fn(usize, f64) -> f64| {
            let mut sums = vec![0.0; dims];
            for row in rows.chunks_exact(dims) {
                row.iter().enumerate().for_each(|(d, &x)| sums[d] += of(d, x.into()));
            }
            sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
        };
        let mean = sum(&|_, x| x);
        let variances = sum(&|d, x| (x - mean[d]).powi(2));
        // A constant feature stays as it is.
        let scale = |v: f64| if v > 0.0 { 1.0 / v.sqrt() } else { 1.0 };
        let mean_variance = variances.iter().sum::<f64>() / dims.max(1) as f64;
        let (scale, variance) = match standardise {
            true => (variances.into_iter().map(scale).collect(), 1.0),
            false => (vec![scale(mean_variance); dims], scale(mean_variance).powi(-2)),
        };
        Scaling { mean, scale, variance }
    }

    fn apply(&self, rows: &[f32]) -> Vec<f32> {
        let of = self.mean.iter().zip(&self.scale).cycle();
        rows.iter().zip(of).map(|(&x, (mean, scale))| ((f64::from(x) - mean) * scale) as f32).collect()
    }

    /// Converts a solution `[features, classes]` and bias for scaled features into weight `[classes, features]` and
    /// bias for unscaled features.
    fn undo(&self, solution: &[f64], classes: usize) -> (Vec<f32>, Vec<f32>) {
        let dims = self.mean.len();
        let at = |d: usize, c: usize| solution[d * classes + c] * self.scale[d];
        let weight = (0..classes).flat_map(|c| (0..dims).map(move |d| (d, c))).map(|(d, c)| at(d, c) as f32);
        let shift = |c: usize| (0..dims).map(|d| at(d, c) * self.mean[d]).sum::<f64>();
        let bias = (0..classes).map(|c| (solution[dims * classes + c] - shift(c)) as f32);
        (weight.collect(), bias.collect())
    }
}

/// Divides each class's images into `folds` folds in turn, or fewer where no class has so many images. The only image
/// of a class is never held out.
fn deal(labels: &[u32], classes: usize, folds: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut of_class = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, &label)| of_class[label as usize].push(i));
    let largest = of_class.iter().map(Vec::len).max().unwrap_or(0);
    let mut dealt = vec![Vec::new(); folds.min(largest).max(1)];
    let mut next = 0;
    for (class, mut images) in of_class.into_iter().enumerate().filter(|(_, images)| images.len() > 1) {
        Stream::new(&[seed, class as u64]).shuffle(&mut images);
        for image in images {
            let parts = dealt.len();
            dealt[next % parts].push(image);
            next += 1;
        }
    }
    dealt.retain(|fold: &Vec<usize>| !fold.is_empty());
    dealt
}

impl Problem {
    /// Weight and bias that minimise the penalised loss, from a starting point.
    fn fit(&mut self, weights: &[f32], penalty: f64, start: Vec<f64>, tolerance: f64) -> Result<Vec<f64>> {
        let penalised = self.dims * self.classes;
        let goal = Goal { tolerance, ..Goal::default() };
        let objective = |parameters: &[f64]| {
            let (mut loss, mut gradient) = self.loss_and_gradient(parameters, weights)?;
            for (slope, &w) in gradient.iter_mut().zip(&parameters[..penalised]) {
                loss += penalty / 2.0 * w * w;
                *slope += penalty * w;
            }
            Ok((loss, gradient))
        };
        Ok(minimise(objective, start, &goal)?.at)
    }

    /// Tries the penalties from the strongest on, each starting from the previous solution, until the held-out loss
    /// has risen twice in a row. Returns a solution near the best one, and all penalties tried.
    fn cross_validate(
        &mut self,
        folds: &[Vec<usize>],
        observer: &mut dyn Observer,
    ) -> Result<(Vec<f64>, Vec<Tried>)> {
        let weights = |held_out: &Vec<usize>| {
            let mut weights = vec![1.0 / (self.labels.len() - held_out.len()) as f32; self.labels.len()];
            held_out.iter().for_each(|&i| weights[i] = 0.0);
            weights
        };
        let weights: Vec<Vec<f32>> = folds.iter().map(weights).collect();
        let mut solutions = vec![vec![0.0; (self.dims + 1) * self.classes]; folds.len()];
        let (mut best, mut tried): (Vec<f64>, Vec<Tried>) = (Vec::new(), Vec::new());
        for (step, decades) in GRID.enumerate() {
            let penalty = 10f64.powf(-f64::from(decades) / 2.0);
            let mut tally = Tally::default();
            for ((solution, weights), held_out) in solutions.iter_mut().zip(&weights).zip(folds) {
                *solution = self.fit(weights, penalty, std::mem::take(solution), 1e-4)?;
                let logits = self.logits(solution)?;
                for &i in held_out {
                    tally.add(&logits[i * self.classes..][..self.classes], &self.labels[i..=i]);
                }
            }
            let (accuracy, loss) = (tally.top1(), tally.mean_loss());
            if tried.iter().all(|other| loss < other.loss) {
                best.clone_from(&solutions[0]);
            }
            tried.push(Tried { penalty, accuracy, loss });
            observer.event(&Event::progress("head", step + 1, GRID.count()));
            if tried
                .windows(3)
                .last()
                .is_some_and(|last| last[0].loss < last[1].loss && last[1].loss < last[2].loss)
            {
                break;
            }
        }
        observer.event(&Event::progress("head", GRID.count(), GRID.count()));
        Ok((best, tried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::events::Silent;

    const LABELS: [u32; 50] = [
        3, 2, 3, 1, 0, 0, 1, 3, 0, 2, 3, 1, 3, 0, 2, 0, 0, 3, 0, 1, 3, 1, 2, 0, 1, 0, 0, 1, 2, 0, 1, 3, 1, 2,
        0, 1, 3, 0, 0, 0, 0, 2, 1, 0, 2, 2, 3, 3, 3, 1,
    ];

    /// 50 rows of six sine features with different scales and means.
    fn features() -> Vectors {
        let number = |at: usize| {
            let (i, k) = ((at / 6) as f64, (at % 6) as f64);
            let wave = (3.0 * (1.7 * i + 2.3 * k + 0.5 * i * k).sin()) as f32;
            (f64::from(wave) * (1.0 + k) + 2.0 * k) as f32
        };
        let rows = (0..300).map(number).collect();
        Vectors { dims: 6, rows, labels: LABELS.to_vec() }
    }

    /// Expected: scikit-learn 1.9's LogisticRegression with C = 1 / (0.01 * 50) in f64, behind a StandardScaler in the
    /// second case, whose mean and scale are folded into the weight and the bias.
    #[test]
    fn the_minimum_is_scikit_learns() -> Result<()> {
        let raw = [
            [0.077609, 0.041627, 0.050609, -0.005368, 0.011519, 0.012908],
            [0.046636, -0.084158, -0.049583, -0.026577, 0.042457, -0.029353],
            [-0.006161, -0.013708, -0.00897, 0.008258, -0.034239, 0.010873],
            [-0.118083, 0.056238, 0.007944, 0.023687, -0.019737, 0.005572],
        ];
        let standardised = [
            [0.074768, 0.039928, 0.048344, -0.00531, 0.011096, 0.012431],
            [0.04397, -0.078875, -0.046665, -0.024747, 0.039639, -0.027363],
            [-0.004728, -0.013914, -0.008854, 0.007647, -0.032057, 0.009967],
            [-0.114011, 0.052861, 0.007175, 0.022409, -0.018677, 0.004965],
        ];
        for (standardise, weight, bias, loss) in [
            (false, raw, [-0.068152, 0.28638, -0.066585, -0.151643], 1.23937719597859),
            (true, standardised, [-0.057387, 0.276663, -0.076422, -0.142854], 1.239718027455816),
        ] {
            let options = SolverOptions { penalty: Some(0.01), standardise, ..SolverOptions::default() };
            let found = solve(&Device::Cpu, &features(), 4, &options, &mut Silent)?;
            assert!((found.loss - loss).abs() < 1e-6, "{} instead of {loss}", found.loss);
            let off = |found: &[f32], expected: &[f64]| {
                let off = found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs());
                off.fold(0.0, f64::max)
            };
            let off = [off(&found.weight, weight.as_flattened()), off(&found.bias, &bias)];
            assert!(off[0] < 1e-4 && off[1] < 1e-4, "standardised: {standardise}: {off:?}");
            assert!(found.cv.is_empty() && found.penalty == 0.01);
        }
        Ok(())
    }

    #[test]
    fn folds_share_out_every_class() {
        let labels = [0, 0, 0, 0, 0, 0, 0, 1, 1, 2];
        let folds = deal(&labels, 4, 5, 1);
        assert_eq!(folds.len(), 5);
        let mut all = folds.concat();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8], "the only image of class 2 is never held out");
        for fold in &folds {
            let of = |class| fold.iter().filter(|&&i| labels[i] == class).count();
            assert!(of(0) <= 2 && of(1) <= 1);
        }
        assert_eq!(deal(&[0, 0, 1, 1], 2, 5, 0).len(), 2);
        assert!(deal(&[0, 1, 2], 3, 5, 0).is_empty());
    }

    #[test]
    fn the_penalty_is_the_one_of_the_least_held_out_loss() -> Result<()> {
        let options = SolverOptions::default();
        let found = solve(&Device::Cpu, &features(), 4, &options, &mut Silent)?;
        let least = found.cv.iter().map(|tried| tried.loss).fold(f64::INFINITY, f64::min);
        let chosen = found.cv.iter().find(|tried| tried.penalty == found.penalty);
        assert_eq!(chosen.map(|tried| tried.loss), Some(least));
        assert!(found.cv.is_sorted_by(|a, b| a.penalty > b.penalty), "{:?}", found.cv);
        // The solution depends on the penalty alone, wherever the search began.
        let direct = SolverOptions { penalty: Some(found.penalty), ..options };
        let direct = solve(&Device::Cpu, &features(), 4, &direct, &mut Silent)?;
        found.weight.iter().zip(&direct.weight).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
        let wrong = SolverOptions { penalty: Some(f64::NAN), ..SolverOptions::default() };
        assert!(solve(&Device::Cpu, &features(), 4, &wrong, &mut Silent).is_err());
        Ok(())
    }
}
