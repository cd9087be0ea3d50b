//! Calibration of probabilities, and temperature scaling (Guo et al. 2017).

use serde::Serialize;

use super::scores::{check_labels, log_sum_exp};
use crate::{Error, Result};

/// Bins of the reliability diagram.
const BINS: usize = 15;
/// The range of temperatures that is searched: for perfectly separated classes the best temperature would be 0.
const COLDEST: f64 = 0.05;
const HOTTEST: f64 = 20.0;

/// A bin of predictions with similar confidence.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Bin {
    /// Number of predictions.
    pub count: usize,
    /// Mean probability of the most likely class; 0 where there is none.
    pub confidence: f64,
    /// Accuracy of the predictions in the bin.
    pub accuracy: f64,
}

/// How far confidence and accuracy differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: the mean distance of confidence and accuracy, 0 to 1.
    pub ece: f64,
    /// The reliability diagram: bins of equal width over the probability of the most likely class, (0, 1/15] first.
    pub bins: Vec<Bin>,
}

impl Calibration {
    /// From logits `[N, classes]` and labels `[N]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where their sizes do not fit, or a label is not a class.
    pub fn new(logits: &[f32], labels: &[u32], classes: usize) -> Result<Self> {
        check_labels(logits, labels, classes)?;
        let mut bins = vec![Bin::default(); BINS];
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let (answer, top) = (row.iter().enumerate())
                .fold((0, f32::NEG_INFINITY), |best, (c, &x)| if x > best.1 { (c, x) } else { best });
            let wide = row.iter().map(|&x| f64::from(x));
            let confidence = (f64::from(top) - log_sum_exp(wide)).exp();
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            bins[bin].count += 1;
            bins[bin].confidence += confidence;
            bins[bin].accuracy += f64::from(u8::from(answer == label as usize));
        }
        let gap: f64 = bins.iter().map(|bin| (bin.confidence - bin.accuracy).abs()).sum();
        for bin in &mut bins {
            bin.confidence /= bin.count.max(1) as f64;
            bin.accuracy /= bin.count.max(1) as f64;
        }
        Ok(Calibration { ece: gap / labels.len().max(1) as f64, bins })
    }
}

/// Whether a temperature lies at an end of the range that is searched: then the examples do not determine it.
pub(crate) fn temperature_is_at_an_end(temperature: f64) -> bool {
    temperature <= COLDEST * 1.01 || temperature >= HOTTEST * 0.99
}

/// Logits divided by a temperature: the predicted classes stay, the confidence changes.
pub fn at_temperature(logits: &[f32], temperature: f64) -> Vec<f32> {
    logits.iter().map(|&x| (f64::from(x) / temperature) as f32).collect()
}

/// The temperature, from 0.05 to 20, by which logits `[N, classes]` are divided for the least cross-entropy with
/// labels `[N]`: a search by golden section over its logarithm, where the loss has one minimum.
///
/// # Errors
/// [`Error::Shape`] where the sizes do not fit; [`Error::Data`] where there is no image, or a logit is NaN.
pub fn fit_temperature(logits: &[f32], labels: &[u32]) -> Result<f64> {
    if labels.is_empty() || logits.iter().any(|x| !x.is_finite()) {
        let what = if labels.is_empty() { "there are no logits" } else { "a logit is no finite number" };
        return Err(Error::Data(format!("{what}: no temperature can be fitted")));
    }
    let classes = logits.len() / labels.len();
    check_labels(logits, labels, classes)?;
    let loss = |log_temperature: f64| -> f64 {
        let cold = (-log_temperature).exp();
        let rows = logits.chunks_exact(classes).zip(labels);
        rows.map(|(row, &label)| {
            log_sum_exp(row.iter().map(|&x| f64::from(x) * cold)) - f64::from(row[label as usize]) * cold
        })
        .sum()
    };
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (COLDEST.ln(), HOTTEST.ln());
    let mut inner = [high - golden * (high - low), low + golden * (high - low)];
    let mut losses = inner.map(loss);
    while high - low > 1e-6 {
        if losses[0] < losses[1] {
            high = inner[1];
            inner = [high - golden * (high - low), inner[0]];
            losses = [loss(inner[0]), losses[0]];
        } else {
            low = inner[0];
            inner = [inner[1], low + golden * (high - low)];
            losses = [losses[1], loss(inner[1])];
        }
    }
    Ok(((low + high) / 2.0).exp().clamp(COLDEST, HOTTEST))
}

#[cfg(test)]
mod tests {
    use super::super::scores::tests::{LABELS, waves};
    use super::*;
    use crate::rng::Stream;

    /// Logits, and labels drawn with the probabilities of these logits.
    fn drawn(rows: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
        let mut stream = Stream::new(&[7]);
        let logits: Vec<f32> = (0..rows * classes).map(|_| (2.0 * stream.normal()) as f32).collect();
        let label = |row: &[f32]| {
            let sum = log_sum_exp(row.iter().map(|&x| x.into()));
            let mut left = stream.unit();
            let chosen = row.iter().position(|&x| {
                left -= (f64::from(x) - sum).exp();
                left < 0.0
            });
            chosen.unwrap_or(classes - 1) as u32
        };
        let labels = logits.chunks_exact(classes).map(label).collect();
        (logits, labels)
    }

    #[test]
    fn logits_that_are_too_large_are_brought_back() -> Result<()> {
        let (logits, labels) = drawn(20_000, 5);
        let own = fit_temperature(&logits, &labels)?;
        assert!((own - 1.0).abs() < 0.03, "{own}");
        let louder = at_temperature(&logits, 1.0 / 3.0);
        let found = fit_temperature(&louder, &labels)?;
        assert!((found / own - 3.0).abs() < 1e-4, "{found} of {own}");
        let ece = |logits: &[f32]| Calibration::new(logits, &labels, 5).map(|c| c.ece);
        let (before, after) = (ece(&louder)?, ece(&at_temperature(&louder, found))?);
        assert!(before > 0.15 && after < 0.02, "{before} to {after}");
        Ok(())
    }

    /// Expected value: scipy's bounded minimisation of the same loss in f64.
    #[test]
    fn the_least_loss_is_found() -> Result<()> {
        let found = fit_temperature(&waves(60, 7), &LABELS)?;
        assert!((found - 1.9472715).abs() < 1e-5, "{found}");
        Ok(())
    }

    #[test]
    fn sets_without_a_minimum_have_a_bound() -> Result<()> {
        let separated = fit_temperature(&[3.0, 0.0, 0.0, 3.0], &[0, 1])?;
        assert!((0.05..1.0).contains(&separated), "{separated}");
        let wrong = fit_temperature(&[3.0, 0.0, 0.0, 3.0], &[1, 0])?;
        assert!((wrong - 20.0).abs() < 1e-3, "{wrong}");
        assert!((0.05..=20.0).contains(&fit_temperature(&[0.0; 4], &[0, 1])?));
        assert!(fit_temperature(&[], &[]).is_err() && fit_temperature(&[f32::NAN, 0.0], &[0]).is_err());
        Ok(())
    }
}
