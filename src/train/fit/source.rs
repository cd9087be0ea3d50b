//! Training data in the form that a phase needs: images, or cached features of a frozen backbone.

use std::sync::Arc;

use crate::Result;
use crate::data::{Batch, Dataset, Loader, View, balanced_order, batches, class_weights, epoch_order};
use crate::models::Network;
use crate::train::cache::features::Features;
use crate::train::evaluate::predictor::AHEAD;
use crate::train::settings::Config;
use crate::train::step::session::DeviceBatch;

/// Rows of cached features per evaluation batch.
pub(crate) const CACHED_BATCH: usize = 256;

/// The training and validation data of a phase.
pub(crate) enum Source {
    Images {
        train: Arc<Dataset>,
        val: Arc<Dataset>,
    },
    /// Cached features of the training and validation images, and their data sets.
    Cached {
        cached: Box<[Features; 2]>,
        sets: [Arc<Dataset>; 2],
    },
}

/// Batches, decoded ahead of use.
type Batches<'a> = Box<dyn Iterator<Item = Result<DeviceBatch>> + 'a>;

/// The view of the training images in an epoch.
pub(crate) fn training_view(config: &Config, net: &Network, epoch: u64) -> View {
    let preprocess = net.preprocess().clone();
    // The epochs cycle through this many augmented views.
    let epoch = if config.copies > 0 { epoch % config.copies as u64 } else { epoch };
    match config.augments() {
        true => View::Train { preprocess, augment: config.augment, seed: config.seed, epoch },
        false => View::Eval(preprocess),
    }
}

impl Source {
    /// Number of training images.
    pub(crate) fn len(&self) -> usize {
        match self {
            Source::Images { train, .. } => train.len(),
            Source::Cached { cached, .. } => cached[0].len(),
        }
    }

    /// Number of validation images.
    pub(crate) fn val_len(&self) -> usize {
        match self {
            Source::Images { val, .. } => val.len(),
            Source::Cached { cached, .. } => cached[1].len(),
        }
    }

    /// The training and validation sets, without unreadable images.
    pub(crate) fn sets(&self) -> [&Arc<Dataset>; 2] {
        match self {
            Source::Images { train, val } => [train, val],
            Source::Cached { sets: [train, val], .. } => [train, val],
        }
    }

    fn train_set(&self) -> &Dataset {
        self.sets()[0]
    }

    /// Weight of each class in the loss.
    pub(crate) fn class_weights(&self, config: &Config) -> Vec<f32> {
        let set = self.train_set();
        if config.class_weights { class_weights(set) } else { vec![1.0; set.classes.len()] }
    }

    /// The batches of an epoch, as lists of image indices. Where batches cannot be padded, the last batch is never a
    /// single image, which would have no batch statistics.
    pub(crate) fn plan(&self, config: &Config, batch: usize, pads: bool, epoch: usize) -> Vec<Vec<usize>> {
        let (seed, epoch) = (config.seed, epoch as u64);
        let order = match config.balanced {
            true => balanced_order(self.train_set(), seed, epoch),
            false => epoch_order(self.len(), seed, epoch),
        };
        batches(&order, batch, if pads { 1 } else { 2 })
    }

    /// The training data of these batches.
    pub(crate) fn train<'a>(
        &'a self,
        config: &Config,
        net: &Network,
        epoch: usize,
        batches: Vec<Vec<usize>>,
    ) -> Result<Batches<'a>> {
        Ok(match self {
            Source::Images { train, .. } => {
                let view = training_view(config, net, epoch as u64);
                Box::new(Loader::new(train.clone(), batches, view, AHEAD)?.map(|batch| Ok(decoded(batch))))
            }
            Source::Cached { cached, sets } => {
                Box::new(batches.into_iter().map(move |rows| read(&cached[0], &sets[0], &rows, epoch)))
            }
        })
    }

    /// The validation data in batches.
    pub(crate) fn val<'a>(&'a self, net: &Network, batch: usize) -> Result<Batches<'a>> {
        let order: Vec<usize> = (0..self.val_len()).collect();
        let batches = batches(&order, batch, 1);
        Ok(match self {
            Source::Images { val, .. } => {
                let view = View::Eval(net.preprocess().clone());
                Box::new(Loader::new(val.clone(), batches, view, AHEAD)?.map(|batch| Ok(decoded(batch))))
            }
            Source::Cached { cached, sets } => {
                Box::new(batches.into_iter().map(move |rows| read(&cached[1], &sets[1], &rows, 0)))
            }
        })
    }
}

fn decoded(batch: Batch) -> DeviceBatch {
    let mut inputs = vec![("image".to_string(), batch.pixels)];
    if !batch.draws.is_empty() {
        inputs.push(("augment".to_string(), bytemuck::cast_slice(&batch.draws).to_vec()));
    }
    let Batch { targets, mix, failed, .. } = batch;
    DeviceBatch { inputs, targets, mix, failed, ..DeviceBatch::default() }
}

fn read(features: &Features, set: &Dataset, rows: &[usize], copy: usize) -> Result<DeviceBatch> {
    let targets = rows.iter().map(|&i| set.samples[i].target.clone()).collect();
    Ok(DeviceBatch {
        inputs: features.inputs(rows, copy)?,
        targets,
        cached: rows.to_vec(),
        ..DeviceBatch::default()
    })
}
