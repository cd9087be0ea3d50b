//! Duplicate images: in training and validation, where they inflate the accuracy, or in two classes, where one of the
//! labels is wrong.
//!
//! An exact copy has the same bytes ([`super::content_key`]). A near-duplicate is the same image at another size or
//! quality, or slightly cropped. Near-duplicates agree in two ways: their difference hashes ([`difference_hash`])
//! differ in at most 4 of 64 bits, and their thumbnails of 9 x 8 pixels differ by at most 6 of 255 levels on average.
//! Among images saved again at a third of their size and at JPEG quality 50, these rules find 98%; with 2% of each
//! side cropped, 70%. Neither rule suffices alone: among 1,143 images of clothes on plain ground, 136 pairs of
//! different images are within 4 bits, the nearest of them 9.2 levels apart.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::dataset::{Dataset, Skipped};
use super::decode::{Image, holding};
use super::resize::resize;
use crate::models::preprocess::Filter;
use crate::text::count;
use crate::{Error, Result};

/// Most bits in which the hashes of near-duplicates differ.
pub const MOST_BITS: u32 = 4;
/// Largest mean difference of their thumbnails, in levels of 255.
pub const MOST_LEVELS: f64 = 6.0;
/// Images with a shorter side are too similar at 9 x 8: only exact copies of them are found.
pub const LEAST_SIDE: usize = 32;

const WIDTH: usize = 9;
const HEIGHT: usize = 8;

/// Two images that are duplicates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The first image; the training image where the other one is for validation.
    pub first: PathBuf,
    /// Class of the first image, or the empty string where images have no single class.
    pub first_class: String,
    /// The second image.
    pub second: PathBuf,
    /// Class of the second image.
    pub second_class: String,
    /// Whether the files are the same, byte for byte.
    pub exact: bool,
}

/// Duplicates in a data set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Duplicates {
    /// Pairs in training and validation; each validation image once.
    pub across: Vec<Pair>,
    /// Pairs in two classes, in any part; each image once, with the first image that contradicts it.
    pub contradictions: Vec<Pair>,
    /// Images that could not be read and were not compared.
    pub unreadable: Vec<Skipped>,
}

impl Duplicates {
    /// One line for each kind of duplicate that was found, with an example.
    pub fn warnings(&self) -> Vec<String> {
        let example = |pair: &Pair| {
            let how = if pair.exact { "is" } else { "is nearly" };
            format!("{} {how} {}", pair.second.display(), pair.first.display())
        };
        let across = self.across.first().map(|pair| {
            format!(
                "{} also among those for training ({} byte for byte): the accuracy will look better than it is; {}",
                count(self.across.len(), "validation image is", "validation images are"),
                self.across.iter().filter(|pair| pair.exact).count(),
                example(pair)
            )
        });
        let contradictions = self.contradictions.first().map(|pair| {
            format!(
                "{} of another class, too; {}, '{}' and '{}'",
                count(self.contradictions.len(), "image is", "images are"),
                example(pair),
                pair.second_class,
                pair.first_class
            )
        });
        across.into_iter().chain(contradictions).collect()
    }
}

/// Difference hash (Krawetz's dHash): the image is resized to 9 x 8, and bit `8 y + x` from the top is set where the
/// right one of two neighbouring pixels is brighter. Grey is ITU-R 601's, as in Pillow.
pub fn difference_hash(image: &Image) -> u64 {
    hash_of(&resize(image, WIDTH, HEIGHT, Filter::Bilinear))
}

fn hash_of(thumbnail: &Image) -> u64 {
    let grey = |p: &[u8]| {
        (19_595 * u32::from(p[0]) + 38_470 * u32::from(p[1]) + 7_471 * u32::from(p[2]) + 0x8000) >> 16
    };
    let grey: Vec<u32> = thumbnail.rgb.chunks_exact(3).map(grey).collect();
    let rows = grey.chunks_exact(WIDTH).flat_map(|row| row.windows(2));
    rows.fold(0, |hash, pair| hash << 1 | u64::from(pair[1] > pair[0]))
}

/// The data kept of an image.
struct Seen {
    key: [u8; 32],
    /// None for images smaller than [`LEAST_SIDE`].
    look: Option<Look>,
}

/// Difference hash and thumbnail `[8, 9, 3]`.
struct Look {
    hash: u64,
    thumbnail: Box<[u8]>,
}

impl Look {
    fn is_near(&self, other: &Look) -> bool {
        if (self.hash ^ other.hash).count_ones() > MOST_BITS {
            return false;
        }
        let apart = self.thumbnail.iter().zip(&other.thumbnail).map(|(&a, &b)| u32::from(a.abs_diff(b)));
        f64::from(apart.sum::<u32>()) <= MOST_LEVELS * self.thumbnail.len() as f64
    }
}

/// Finds duplicates within and between two sets with the same classes.
///
/// # Errors
/// [`Error::Data`] where the classes differ. Images that cannot be read are listed.
pub fn duplicates(train: &Dataset, val: &Dataset) -> Result<Duplicates> {
    duplicates_with(train, val, |_, _| ())
}

/// As [`duplicates`]; `on_progress(done, total)` is called after each image, from many threads. Every image is
/// decoded once. Two images are only compared where a fifth of their hashes is equal.
///
/// # Errors
/// As for [`duplicates`].
pub fn duplicates_with(
    train: &Dataset,
    val: &Dataset,
    on_progress: impl Fn(usize, usize) + Sync,
) -> Result<Duplicates> {
    if train.classes != val.classes || train.targets != val.targets {
        return Err(Error::Data(
            "the two sets have different classes: their labels cannot be compared".into(),
        ));
    }
    let (total, done) = (train.len() + val.len(), AtomicUsize::new(0));
    let sample = |i: usize| if i < train.len() { &train.samples[i] } else { &val.samples[i - train.len()] };
    let look = |i: usize| {
        let seen = holding(|| {
            let (image, key) = sample(i).image_and_key()?;
            let large = image.width.min(image.height) >= LEAST_SIDE;
            let look = large.then(|| {
                let thumbnail = resize(&image, WIDTH, HEIGHT, Filter::Bilinear);
                Look { hash: hash_of(&thumbnail), thumbnail: thumbnail.rgb.into_boxed_slice() }
            });
            Ok(Seen { key, look })
        });
        on_progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        seen
    };
    let seen: Vec<Result<Seen>> = (0..total).into_par_iter().map(look).collect();
    let of_both = |a: usize, b: usize| (a < train.len()) != (b < train.len());
    let contradict = |a: usize, b: usize| sample(a).target != sample(b).target;
    let matters = |a: usize, b: usize| of_both(a, b) || contradict(a, b);

    // Key: indices of both images; value: whether they are exact copies.
    let mut found: BTreeMap<(usize, usize), bool> = BTreeMap::new();
    let mut firsts: HashMap<[u8; 32], usize> = HashMap::new();
    let (mut looks, mut unreadable) = (Vec::new(), Vec::new());
    for (i, outcome) in seen.into_iter().enumerate() {
        match outcome {
            Ok(Seen { key, look }) => match firsts.entry(key) {
                Entry::Occupied(first) if matters(*first.get(), i) => {
                    found.insert((*first.get(), i), true);
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => {
                    place.insert(i);
                    looks.extend(look.map(|look| (i, look)));
                }
            },
            Err(error) => unreadable.push(Skipped::from_error(&sample(i).name(), &error)),
        }
    }
    // Hashes that differ in at most 4 bits agree in one of 5 bands.
    let bands = MOST_BITS + 1;
    for band in 0..bands {
        let (from, to) = (64 * band / bands, 64 * (band + 1) / bands);
        let mut buckets: HashMap<u64, Vec<&(usize, Look)>> = HashMap::new();
        for look in &looks {
            buckets.entry(look.1.hash >> from & ((1 << (to - from)) - 1)).or_default().push(look);
        }
        let near = |bucket: &Vec<&(usize, Look)>| -> Vec<(usize, usize)> {
            let later = |i: usize| bucket[i + 1..].iter().map(move |other| (bucket[i], *other));
            let pairs = (0..bucket.len()).flat_map(later).filter(|(a, b)| a.1.is_near(&b.1));
            pairs.map(|(a, b)| (a.0, b.0)).filter(|&(a, b)| matters(a, b)).collect()
        };
        let near: Vec<_> = buckets.into_par_iter().flat_map_iter(|(_, bucket)| near(&bucket)).collect();
        near.into_iter().for_each(|pair| {
            found.entry(pair).or_insert(false);
        });
    }

    let class = |i: usize| train.classes.get(sample(i).target.class()? as usize);
    let mut duplicates = Duplicates { unreadable, ..Duplicates::default() };
    let mut named = [BTreeSet::new(), BTreeSet::new()];
    for ((a, b), exact) in found {
        let pair = Pair {
            first: sample(a).name(),
            first_class: class(a).cloned().unwrap_or_default(),
            second: sample(b).name(),
            second_class: class(b).cloned().unwrap_or_default(),
            exact,
        };
        if contradict(a, b) && named[0].insert(b) {
            duplicates.contradictions.push(pair.clone());
        }
        if of_both(a, b) && named[1].insert(b) {
            duplicates.across.push(pair);
        }
    }
    Ok(duplicates)
}
