//! Class imbalance: class weights for the loss, and epochs that draw each class equally often.

use super::dataset::Dataset;
use super::loader::epoch_order;
use super::target::TargetKind;
use crate::rng::{Stream, key_of};

/// The weight of each class in the loss, by inverse frequency: `images / (classes * images of the class)`, with mean
/// 1 over the images (scikit-learn's `balanced`). A class without images has weight 0 and does not count. For
/// [`TargetKind::Values`] all are 1.
pub fn class_weights(dataset: &Dataset) -> Vec<f32> {
    let counts = dataset.counts();
    if dataset.targets == TargetKind::Values {
        return vec![1.0; counts.len()];
    }
    let (total, present) = (counts.iter().sum::<usize>(), counts.iter().filter(|&&n| n > 0).count());
    let weight = |n: usize| if n == 0 { 0.0 } else { (total as f64 / (present * n) as f64) as f32 };
    counts.into_iter().map(weight).collect()
}

/// The images of a balanced epoch in random order: as many as the set has, each class equally often (up to a
/// remainder).
///
/// Every image of a class is drawn once before any is drawn again, and the next epoch continues where this one ends.
/// Draw `g` of the training, counted over all epochs, is number `g / classes` of class `g % classes`; a class's draws
/// are successive permutations of its images. So an epoch is a function of seed and number. An image of several
/// classes is drawn for each of them; for [`TargetKind::Values`] the order is [`epoch_order`].
pub fn balanced_order(dataset: &Dataset, seed: u64, epoch: u64) -> Vec<usize> {
    let n = dataset.len();
    let mut members = vec![Vec::new(); dataset.classes.len()];
    if dataset.targets != TargetKind::Values {
        for (index, sample) in dataset.samples.iter().enumerate() {
            sample.target.classes().for_each(|class| members[class].push(index));
        }
    }
    members.retain(|images| !images.is_empty());
    if members.is_empty() {
        return epoch_order(n, seed, epoch);
    }
    let (classes, first) = (members.len() as u64, epoch * n as u64);
    let mut order = vec![0; n];
    for (class, images) in members.iter().enumerate() {
        // This class's draws before draw `g`: those that are `class` modulo `classes`.
        let before = |g: u64| (g + classes - 1 - class as u64) / classes;
        let size = images.len() as u64;
        let mut round = (u64::MAX, Vec::new());
        for draw in before(first)..before(first + n as u64) {
            if round.0 != draw / size {
                let mut shuffled = images.clone();
                Stream::new(&[seed, key_of("balanced order"), class as u64, draw / size])
                    .shuffle(&mut shuffled);
                round = (draw / size, shuffled);
            }
            let place = draw * classes + class as u64 - first;
            order[place as usize] = round.1[(draw % size) as usize];
        }
    }
    Stream::new(&[seed, key_of("balanced epoch"), epoch]).shuffle(&mut order);
    order
}
