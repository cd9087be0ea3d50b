//! Predictions and metrics.

use std::sync::Arc;
use std::time::Instant;

use crate::data::{Dataset, Loader, Skipped, Target, View, batches};
use crate::models::{Network, Preprocess};
use crate::plan::{Device, Program};
use crate::task::{self, Metrics, Raw, TaskRef, interval};
use crate::train::events::{Event, Observer};
use crate::train::step::finite::{Greatest, all_finite};
use crate::train::step::plans::inference;
use crate::{Error, Result};

/// Number of batches that the loader decodes ahead.
pub(crate) const AHEAD: usize = 3;

/// Evaluation of a network on a data set.
#[derive(Debug)]
pub struct Evaluation {
    /// The task's metrics of the predictions at the network's temperature.
    pub metrics: Box<dyn Metrics>,
    /// Wall time.
    pub seconds: f64,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

impl Evaluation {
    /// How many examples are predicted correctly, and Wilson's 95% interval of their share, where the task has a confusion
    /// matrix.
    pub(crate) fn correct(&self) -> Option<(usize, (f64, f64))> {
        let confusion = self.metrics.confusion()?;
        let correct = confusion.iter().enumerate().map(|(c, row)| row[c]).sum();
        Some((correct, interval(correct, self.metrics.count())))
    }

    /// The metrics as the task's own type, such as [`crate::task::SingleLabel`].
    pub fn metrics_of<T: Metrics + 'static>(&self) -> Option<&T> {
        self.metrics.as_any().downcast_ref()
    }
}

/// A network's outputs on a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    /// Output of the last layer: `[images, outputs]`.
    pub logits: Vec<f32>,
    /// Target of each image.
    pub targets: Vec<Target>,
    /// Each image's index in the data set.
    pub indices: Vec<usize>,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
}

impl Outputs {
    /// The outputs in the form that a task reads.
    pub fn raw<'a>(&'a self, net: &'a Network) -> Raw<'a> {
        Raw { outputs: &self.logits, targets: &self.targets, classes: net.classes() }
    }
}

/// Evaluates `net` on all images of `dataset`, whose classes are the network's.
///
/// # Errors
/// [`Error::Data`] where no image can be read; from the device.
pub fn evaluate(
    net: &Network,
    device: &Device,
    dataset: Arc<Dataset>,
    batch: usize,
    observer: &mut dyn Observer,
) -> Result<Evaluation> {
    let began = Instant::now();
    let mut predictor = Predictor::new(device, net, batch.min(dataset.len().max(1)))?;
    predictor.evaluate(dataset, observer).map(|e| Evaluation { seconds: began.elapsed().as_secs_f64(), ..e })
}

/// A network compiled for predictions.
pub struct Predictor {
    program: Program,
    batch: usize,
    outputs: usize,
    classes: Vec<String>,
    task: TaskRef,
    preprocess: Preprocess,
    temperature: Option<f64>,
    flips: bool,
    greatest: Greatest,
}

impl Predictor {
    /// Compiles `net` for up to `batch` images at a time, or fewer where the device cannot hold as many.
    ///
    /// # Errors
    /// From the device.
    pub fn new(device: &Device, net: &Network, batch: usize) -> Result<Self> {
        let (batch, program) = inference(net, device, batch)?;
        Ok(Predictor {
            program,
            batch,
            outputs: net.outputs(),
            classes: net.classes().to_vec(),
            task: task::of(net)?,
            preprocess: net.preprocess().clone(),
            temperature: net.config().temperature,
            flips: false,
            greatest: Greatest::of(net),
        })
    }

    /// Sets test-time augmentation: the network also sees each image mirrored, and the logits of both are averaged,
    /// as in timm.
    #[must_use]
    pub fn flips(mut self, wanted: bool) -> Self {
        self.flips = wanted;
        self
    }

    /// Logits of `rows` images (bytes `[rows, crop, crop, 3]`, at most the batch).
    fn logits(&mut self, pixels: &[u8], rows: usize) -> Result<Vec<f32>> {
        let mut logits = self.run(pixels.to_vec(), rows)?;
        if self.flips {
            let mirrored = self.run(mirrored(pixels, self.preprocess.size[1]), rows)?;
            logits.iter_mut().zip(mirrored).for_each(|(x, other)| *x = (*x + other) / 2.0);
        }
        Ok(logits)
    }

    fn run(&mut self, mut pixels: Vec<u8>, rows: usize) -> Result<Vec<f32>> {
        pixels.resize(self.batch * self.preprocess.bytes(), 0);
        let mut logits = self.program.run(&[("image", &pixels)])?.remove(0);
        logits.truncate(rows * self.outputs);
        Ok(logits)
    }

    /// The network's outputs for all images of `dataset`, without its temperature.
    ///
    /// # Errors
    /// [`Error::Data`] where no image can be read; [`Error::Weights`] where the outputs for an image are NaN or
    /// infinite; from the device.
    pub fn outputs(&mut self, dataset: Arc<Dataset>, observer: &mut dyn Observer) -> Result<Outputs> {
        let order: Vec<usize> = (0..dataset.len()).collect();
        let total = dataset.len();
        let view = View::Eval(self.preprocess.clone());
        let samples = Arc::clone(&dataset);
        let loader = Loader::new(dataset, batches(&order, self.batch, 1), view, AHEAD)?;
        let (mut outputs, mut done) = (Outputs::default(), 0);
        for mut batch in loader {
            done += batch.targets.len() + batch.failed.len();
            outputs.skipped.extend(batch.failed.into_iter().map(|(_, skipped)| skipped));
            if !batch.targets.is_empty() {
                let logits = self.logits(&batch.pixels, batch.targets.len())?;
                let rows = logits.chunks_exact(self.outputs).zip(&batch.indices);
                if let Some((_, &index)) = rows.into_iter().find(|(row, _)| !all_finite(row)) {
                    let name = samples.samples[index].name();
                    return Err(self.greatest.error("outputs", &name.to_string_lossy()));
                }
                outputs.logits.extend(logits);
                outputs.targets.append(&mut batch.targets);
                outputs.indices.append(&mut batch.indices);
            }
            observer.event(&Event::progress("evaluate", done, total));
        }
        if outputs.targets.is_empty() {
            let reason = outputs
                .skipped
                .first()
                .map_or(String::new(), |s: &Skipped| format!("; {}: {}", s.path.display(), s.reason));
            return Err(Error::Data(format!("none of the {total} images can be read{reason}")));
        }
        Ok(outputs)
    }

    /// Evaluates the network on `dataset`, whose classes are the network's.
    ///
    /// # Errors
    /// As for [`Predictor::outputs`].
    pub fn evaluate(&mut self, dataset: Arc<Dataset>, observer: &mut dyn Observer) -> Result<Evaluation> {
        let began = Instant::now();
        let wanted = self.task.targets();
        if dataset.targets != wanted {
            return Err(Error::Data(format!(
                "the network was trained on images with {wanted}, and these come with {}; give it images with {wanted}",
                dataset.targets
            )));
        }
        let Outputs { logits, targets, skipped, .. } = self.outputs(dataset, observer)?;
        let raw = Raw { outputs: &logits, targets: &targets, classes: &self.classes };
        let metrics = self.task.measure(raw, self.temperature)?;
        Ok(Evaluation { metrics, seconds: began.elapsed().as_secs_f64(), skipped })
    }

    /// Probabilities of all classes for each image, at the network's temperature. An image is given as the bytes of
    /// its crop, `[crop, crop, 3]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for an image of another size; [`Error::Weights`] where the outputs for an image are NaN or
    /// infinite; from the device.
    pub fn predict(&mut self, images: &[Vec<u8>]) -> Result<Vec<Vec<f32>>> {
        let named = |(i, outcome): (usize, Result<Vec<f32>, String>)| {
            outcome.map_err(|reason| Error::Weights(format!("image {i} of {}: {reason}", images.len())))
        };
        self.predict_each(images)?.into_iter().enumerate().map(named).collect()
    }

    /// As [`Predictor::predict`], with a reason for each image whose outputs are NaN or infinite.
    ///
    /// # Errors
    /// As for [`Predictor::predict`], except for such outputs.
    pub fn predict_each(&mut self, images: &[Vec<u8>]) -> Result<Vec<Result<Vec<f32>, String>>> {
        let bytes = self.preprocess.bytes();
        if let Some(other) = images.iter().find(|p| p.len() != bytes) {
            return Err(Error::Shape(format!("an image of {} bytes where {bytes} are wanted", other.len())));
        }
        let mut all = Vec::new();
        for group in images.chunks(self.batch) {
            let logits = self.logits(&group.concat(), group.len())?;
            all.extend(logits.chunks_exact(self.outputs).map(|row| match all_finite(row) {
                true => Ok(self.task.predict(row, self.temperature)),
                false => Err(self.greatest.reason("outputs")),
            }));
        }
        Ok(all)
    }
}

/// Images `[N, side, side, 3]` mirrored left to right.
fn mirrored(pixels: &[u8], side: usize) -> Vec<u8> {
    let rows = pixels.chunks_exact(side * 3);
    rows.flat_map(|row| row.chunks_exact(3).rev().flatten()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_exchanges_left_and_right() {
        let image: Vec<u8> = (0..24).collect();
        let other = [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8, 15, 16, 17, 12, 13, 14, 21, 22, 23, 18, 19, 20];
        assert_eq!(mirrored(&image, 2), other);
        assert_eq!(mirrored(&other, 2), image);
    }
}
