//! Predictions and what they are worth.

use std::sync::Arc;
use std::time::Instant;

use super::events::{Event, Observer};
use super::plans::inference;
use crate::data::{Dataset, Loader, Skipped, View, batches};
use crate::models::Network;
use crate::plan::{Device, Program};
use crate::{Error, Result};

/// Pictures the loader may decode ahead, in batches.
pub(super) const AHEAD: usize = 3;

/// What a network is worth on a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// Share of pictures whose most likely class is right, 0 to 1.
    pub top1: f64,
    /// Share of pictures with the right class among the five most likely.
    pub top5: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Pictures that count.
    pub count: usize,
    /// Wall time.
    pub seconds: f64,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
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
    /// Counts rows of logits against their labels. Of equal logits the first counts as larger.
    pub(super) fn add(&mut self, logits: &[f32], labels: &[u32]) {
        let classes = logits.len() / labels.len().max(1);
        for (row, &label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let own = row[label as usize];
            let above = |(c, &x): (usize, &f32)| x > own || (x == own && c < label as usize) || x.is_nan();
            let rank = row.iter().enumerate().filter(|&(c, x)| c != label as usize && above((c, x))).count();
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|&x| f64::from(x - top).exp()).sum();
            self.loss += sum.ln() - f64::from(own - top);
            self.top1 += usize::from(rank == 0 && !own.is_nan());
            self.top5 += usize::from(rank < 5 && !own.is_nan());
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

/// Wilson's 95% interval of a share of `right` out of `count`, 0 to 1.
pub fn interval(right: usize, count: usize) -> (f64, f64) {
    let (n, z) = (count.max(1) as f64, 1.959_963_984_540_054);
    let p = right as f64 / n;
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

/// Runs `net` over all pictures of `dataset`, whose labels are the network's classes.
///
/// # Errors
/// [`Error::Data`] where no picture can be read; from the device.
pub fn evaluate(
    net: &Network,
    device: &Device,
    dataset: Arc<Dataset>,
    batch: usize,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let began = Instant::now();
    let mut predictor = Predictor::new(device, net, batch.min(dataset.len().max(1)))?;
    let order: Vec<usize> = (0..dataset.len()).collect();
    let total = dataset.len();
    let view = View::Eval(net.preprocess().clone());
    let loader = Loader::new(dataset, batches(&order, predictor.batch, 1), view, AHEAD)?;
    let (mut tally, mut skipped, mut done) = (Tally::default(), Vec::new(), 0);
    for mut batch in loader {
        done += batch.labels.len() + batch.failed.len();
        skipped.append(&mut batch.failed);
        if !batch.labels.is_empty() {
            let logits = predictor.logits(&batch.pixels, batch.labels.len())?;
            tally.add(&logits, &batch.labels);
        }
        observer.event(&Event::progress("evaluate", done, total));
    }
    if tally.count == 0 {
        let reason = skipped
            .first()
            .map_or(String::new(), |s: &Skipped| format!("; {}: {}", s.path.display(), s.reason));
        return Err(Error::Data(format!("none of the {total} pictures can be read{reason}")));
    }
    Ok(Evaluation {
        top1: tally.top1(),
        top5: tally.top5 as f64 / tally.count as f64,
        loss: tally.mean_loss(),
        count: tally.count,
        seconds: began.elapsed().as_secs_f64(),
        skipped,
    })
}

/// A network ready to predict.
pub struct Predictor {
    program: Program,
    batch: usize,
    classes: usize,
    bytes: usize,
}

impl Predictor {
    /// Compiles `net` for up to `batch` pictures at a time, fewer where the device cannot hold as many.
    ///
    /// # Errors
    /// From the device.
    pub fn new(device: &Device, net: &Network, batch: usize) -> Result<Self> {
        let (batch, program) = inference(net, device, batch)?;
        let side = net.preprocess().crop;
        Ok(Predictor { program, batch, classes: net.classes().len(), bytes: side * side * 3 })
    }

    /// Logits of `rows` pictures (bytes `[rows, crop, crop, 3]`, at most the batch).
    fn logits(&mut self, pixels: &[u8], rows: usize) -> Result<Vec<f32>> {
        let mut data = pixels.to_vec();
        data.resize(self.batch * self.bytes, 0);
        let mut logits = self.program.run(&[("image", &data)])?.remove(0);
        logits.truncate(rows * self.classes);
        Ok(logits)
    }

    /// Probabilities of all classes for each picture, given as its crop's bytes `[crop, crop, 3]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a picture of another size; from the device.
    pub fn predict(&mut self, pictures: &[Vec<u8>]) -> Result<Vec<Vec<f32>>> {
        if let Some(other) = pictures.iter().find(|p| p.len() != self.bytes) {
            return Err(Error::Shape(format!(
                "a picture of {} bytes where {} are wanted",
                other.len(),
                self.bytes
            )));
        }
        let mut all = Vec::new();
        for group in pictures.chunks(self.batch) {
            let logits = self.logits(&group.concat(), group.len())?;
            all.extend(logits.chunks_exact(self.classes).map(softmax));
        }
        Ok(all)
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|x| (x - top).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
