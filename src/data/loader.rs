//! Batches of images, decoded ahead of use.
//!
//! One thread walks through the batches and has each decoded on rayon's workers; a bounded channel holds
//! the next few. What a batch contains depends on seed, epoch and indices alone, never on timing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use rayon::prelude::*;

use super::affine::Affine;
use super::augment::{draws, mix};
use super::dataset::{Dataset, Skipped};
use super::decode::{Image, holding};
use super::target::Target;
use super::transform::{self, Augment};
use crate::models::preprocess::Preprocess;
use crate::ops::Draws;
use crate::rng::{Stream, key_of};
use crate::{Error, Result};

/// The view of an image: how it becomes the network's input.
#[derive(Debug, Clone, PartialEq)]
pub enum View {
    /// Evaluation: resized and cropped at the centre, always alike.
    Eval(Preprocess),
    /// Training: a random part, perhaps mirrored, drawn from seed, epoch and the image's index.
    Train {
        /// The input's size and the filter.
        preprocess: Preprocess,
        /// The augmentation.
        augment: Augment,
        /// The run's seed.
        seed: u64,
        /// The epoch: each epoch draws another view.
        epoch: u64,
    },
}

impl View {
    /// The bytes `[height, width, 3]` of image `index` of the data set, before the device's part of the augmentation.
    ///
    /// # Errors
    /// As [`super::Sample::image`].
    pub fn image(&self, dataset: &Dataset, index: usize) -> Result<Vec<u8>> {
        holding(|| Ok(self.crop(&dataset.samples[index].image()?, index)))
    }

    /// As [`View::image`], with the [`super::content_key`] of the bytes that were decoded.
    ///
    /// # Errors
    /// As [`super::Sample::image`].
    pub fn image_and_key(&self, dataset: &Dataset, index: usize) -> Result<(Vec<u8>, [u8; 32])> {
        holding(|| {
            let (image, key) = dataset.samples[index].image_and_key()?;
            Ok((self.crop(&image, index), key))
        })
    }

    fn crop(&self, image: &Image, index: usize) -> Vec<u8> {
        match self {
            View::Eval(preprocess) => transform::eval(image, preprocess),
            View::Train { preprocess, augment, seed, epoch } => {
                let mut stream = Stream::new(&[*seed, *epoch, index as u64]);
                transform::train(image, preprocess, &self.on_host(augment), &mut stream)
            }
        }
    }

    /// The map from positions on the network's canvas to positions in image `index` of the data set, whose width and
    /// height are given. The map places the image's boxes and masks on the canvas, and predictions in the image.
    pub fn map(&self, [width, height]: [usize; 2], index: usize) -> Affine {
        match self {
            View::Eval(preprocess) => transform::eval_map(width, height, preprocess),
            View::Train { preprocess, augment, seed, epoch } => {
                let mut stream = Stream::new(&[*seed, *epoch, index as u64]);
                let cut =
                    transform::train_map(width, height, preprocess, &self.on_host(augment), &mut stream);
                // Geometry does not depend on colours.
                let drawn = self.draws(index, &mut []);
                let device = drawn.map_or(Affine::IDENTITY, |draws| Affine::of(&draws));
                cut.then(device)
            }
        }
    }

    /// The host's part of an augmentation. Where the device augments, it also mirrors.
    fn on_host(&self, augment: &Augment) -> Augment {
        Augment { flip: if augment.on_device() { 0.0 } else { augment.flip }, ..*augment }
    }

    /// Whether the device augments the images.
    pub(crate) fn on_device(&self) -> bool {
        matches!(self, View::Train { augment, .. } if augment.on_device())
    }

    /// The device's augmentation of the `pixels` of image `index`, as [`draws`]; none where the device only
    /// normalises.
    pub(crate) fn draws(&self, index: usize, pixels: &mut [u8]) -> Option<Draws> {
        match self {
            View::Train { preprocess, augment, seed, epoch } if augment.on_device() => {
                Some(draws(augment, *seed, *epoch, index, pixels, preprocess.size))
            }
            _ => None,
        }
    }

    /// Mixes a batch, identified by the index of its first image. Returns the partner rows and the weight of each
    /// image's own label.
    fn mix(&self, batch: usize, rows: &mut [Draws]) -> Option<(Vec<usize>, f32)> {
        let View::Train { preprocess, augment, seed, epoch } = self else { return None };
        let mix = mix(augment, *seed, *epoch, batch as u64, rows.len(), preprocess.size)?;
        mix.apply(rows);
        Some((mix.partner, mix.lambda))
    }
}

/// A batch of images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Bytes `[N, height, width, 3]`. N is the number of targets, and 0 where no image could be read.
    pub pixels: Vec<u8>,
    /// Target of each image.
    pub targets: Vec<Target>,
    /// Each image's index in the data set.
    pub indices: Vec<usize>,
    /// The device's augmentation of each image, `[N, Draws::LEN]` as in [`crate::ops::Draws`]; empty where the device
    /// only normalises.
    pub draws: Vec<f32>,
    /// Where images are mixed: the partner row of each row, and the weight of the row's own label.
    pub mix: Option<(Vec<usize>, f32)>,
    /// Unreadable images of the batch, which have no row, with their indices in the data set.
    pub failed: Vec<(usize, Skipped)>,
}

/// An iterator over batches, in the order given. Dropping it early stops the work and waits for its thread.
///
/// Take batches on a thread of your own: waiting for rayon on one of its own workers can wait forever.
#[derive(Debug)]
pub struct Loader {
    batches: Option<Receiver<Batch>>,
    remaining: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts decoding. `batches` holds indices into the data set; `ahead` (at least 1 is used) is how many
    /// finished batches may wait to be taken.
    ///
    /// # Errors
    /// [`Error::Usage`] for an index beyond the data set or an augmentation out of range.
    pub fn new(dataset: Arc<Dataset>, batches: Vec<Vec<usize>>, view: View, ahead: usize) -> Result<Loader> {
        if let Some(index) = batches.iter().flatten().find(|&&index| index >= dataset.len()) {
            return Err(Error::Usage(format!("image {index} of a set of {}", dataset.len())));
        }
        if let View::Train { augment, .. } = &view {
            augment.check()?;
        }
        let remaining = batches.len();
        let (sender, receiver) = sync_channel(ahead.max(1));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            for indices in batches {
                // Fails when the loader was dropped: nobody needs the rest.
                let Some(batch) = assemble(&dataset, &indices, &view, &stopped) else { return };
                if sender.send(batch).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("defrost-loader".into())
            .spawn(work)
            .map_err(|e| Error::io("defrost-loader", "start thread", e))?;
        Ok(Loader { batches: Some(receiver), remaining, stop, thread: Some(thread) })
    }
}

/// Decodes one batch on rayon's workers; none where `stop` became true meanwhile.
fn assemble(dataset: &Dataset, indices: &[usize], view: &View, stop: &AtomicBool) -> Option<Batch> {
    type Varied = (Vec<u8>, Option<Draws>);
    let varied = |index: usize| {
        let mut pixels = view.image(dataset, index)?;
        let draws = view.draws(index, &mut pixels);
        Ok((pixels, draws))
    };
    let views: Vec<Option<Result<Varied>>> = indices
        .par_iter()
        .with_max_len(1)
        .map(|&index| (!stop.load(Ordering::Relaxed)).then(|| varied(index)))
        .collect();
    let mut batch = Batch::default();
    let mut rows: Vec<Draws> = Vec::new();
    for (&index, outcome) in indices.iter().zip(views) {
        let sample = &dataset.samples[index];
        match outcome? {
            Ok((pixels, draws)) => {
                batch.pixels.extend(pixels);
                rows.extend(draws);
                batch.targets.push(sample.target.clone());
                batch.indices.push(index);
            }
            Err(error) => batch.failed.push((index, Skipped::from_error(&sample.name(), &error))),
        }
    }
    batch.mix = indices.first().and_then(|&first| view.mix(first, &mut rows));
    batch.draws = bytemuck::cast_slice(&rows).to_vec();
    Some(batch)
}

impl Iterator for Loader {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.remaining == 0 {
            return None;
        }
        match self.batches.as_ref()?.recv() {
            Ok(batch) => {
                self.remaining -= 1;
                Some(batch)
            }
            // The thread ended before its work was done: it panicked, and that must not look like the end.
            Err(_) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => None,
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Closing the channel wakes a thread that waits to send.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic was either reported by `next` or concerns batches that nobody asked for.
            let _ = thread.join();
        }
    }
}

/// `0..n` in the order of one epoch, a function of seed and epoch alone.
pub fn epoch_order(n: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(&[seed, key_of("epoch order"), epoch]).shuffle(&mut order);
    order
}

/// Cuts an order into batches of `batch_size` (at least 1 is used) without losing an image.
///
/// The last batch holds the remaining images. Where these are fewer than `min_last`, the last two batches share their
/// images evenly (33 by 32 gives 17 and 16); where even half would be too few, the two are joined into one, larger
/// than `batch_size` by less than `min_last`. Training with batch statistics needs `min_last` 2, since a single value
/// has no variance; evaluation needs 1. A single batch stays as it is.
pub fn batches(order: &[usize], batch_size: usize, min_last: usize) -> Vec<Vec<usize>> {
    let batch_size = batch_size.max(1);
    let mut batches: Vec<Vec<usize>> = order.chunks(batch_size).map(<[usize]>::to_vec).collect();
    let short = batches.len() > 1 && batches.last().is_some_and(|last| last.len() < min_last.min(batch_size));
    if short && let (Some(last), Some(mut both)) = (batches.pop(), batches.pop()) {
        both.extend(last);
        let half = both.len().div_ceil(2);
        if both.len() - half >= min_last {
            let second = both.split_off(half);
            batches.extend([both, second]);
        } else {
            batches.push(both);
        }
    }
    batches
}
