//! Cached features: the output of the frozen backbone for each image, computed once. The file's key covers weights,
//! preprocessing, split point and device; an image's key is the hash of its file, and for an augmented view also its
//! draws.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::{Dataset, Skipped, Target, View, content_key};
use crate::models::{IMAGE_LAYER, Network};
use crate::nn::Freeze;
use crate::ops::Draws;
use crate::plan::Device;
use crate::tape::{Role, Tap};
use crate::task::class_of;
use crate::train::cache::store::{FeatureStore, Key, Rows};
use crate::train::events::{Event, Observer};
use crate::train::step::finite::{Greatest, all_finite};
use crate::train::step::plans::{backbone, backbone_tape, frontier};
use crate::{Error, Result};

/// Images per batch through the backbone.
pub(crate) const BACKBONE_BATCH: usize = 16;

/// The split point of a network: the cached features are the backbone's output there.
#[derive(Debug, Clone)]
pub struct SplitPoint {
    /// The network with the frozen weights it had when it was split.
    net: Network,
    pub(crate) taps: Vec<Tap>,
    /// Numbers per image at each tap.
    pub(crate) sizes: Vec<usize>,
}

impl SplitPoint {
    /// The split point before the first trainable layer of `net`. None where the very first layer is trainable.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn before_learning(net: &Network) -> Result<Option<SplitPoint>> {
        let taps = frontier(net)?;
        // If the first layer is trainable, the cache would only hold normalised images.
        if taps.is_empty() || taps.iter().any(|mark| mark.layer == IMAGE_LAYER) {
            return Ok(None);
        }
        let (tape, values) = backbone_tape(net, &taps, 2, false)?;
        let sizes = values.iter().map(|&v| tape.shape(v).numel() / 2).collect();
        Ok(Some(SplitPoint { net: net.clone(), taps, sizes }))
    }

    /// The split point before the head.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn before_head(net: &Network) -> Result<SplitPoint> {
        let mut net = net.clone();
        net.freeze(Freeze::all_but_head())?;
        let missing = || Error::Usage(format!("{} has nothing before its head", net.config().model));
        SplitPoint::before_learning(&net)?.ok_or_else(missing)
    }

    /// Numbers per image in the cache.
    pub fn numbers(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Hash of all that the cached features depend on besides the image: weights and preprocessing of the backbone,
    /// the split point, the device.
    ///
    /// # Errors
    /// As for [`Network::record`].
    pub fn key(&self, device: &Device) -> Result<String> {
        let mut config = self.net.config().clone();
        // These belong to the head alone.
        config.classes.clear();
        (config.hidden, config.auxiliary, config.temperature) = (None, false, None);
        let config = serde_json::to_string(&config).map_err(|e| Error::Weights(e.to_string()))?;
        let taps: Vec<String> = self.taps.iter().map(|m| format!("{m:?}")).collect();
        let mut hash = Sha256::new();
        for part in [config.as_str(), &taps.join(" "), &device.identity()] {
            hash.update(part);
            hash.update([0]);
        }
        let (tape, values) = backbone_tape(&self.net, &self.taps, 1, false)?;
        let mut needed: BTreeSet<_> = values.into_iter().collect();
        for node in tape.nodes.iter().rev() {
            if node.outputs.iter().any(|v| needed.contains(v)) {
                needed.extend(node.inputs.iter().copied());
            }
        }
        let params = needed.iter().map(|v| &tape.values[v.0]).filter(|v| v.role == Role::Param);
        let names: BTreeSet<&str> = params.map(|v| v.name.as_str()).collect();
        for name in names {
            hash.update(name);
            hash.update(bytemuck::cast_slice::<f32, u8>(self.net.tensor(name)?));
        }
        Ok(hex(&hash.finalize()[..12]))
    }
}

pub(crate) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

/// Cached features of a data set's readable images.
#[derive(Debug, Clone)]
pub struct Features {
    /// Numbers per image at each tap of the split point.
    sizes: Vec<usize>,
    rows: Rows,
    /// Augmented views per image.
    copies: usize,
    /// Target of each image.
    pub targets: Vec<Target>,
    /// Index of each image in its data set.
    pub indices: Vec<usize>,
    /// The [`content_key`] of each image.
    pub contents: Vec<[u8; 32]>,
    /// Images that could not be read.
    pub skipped: Vec<Skipped>,
    /// Number of images whose features came from the cache.
    pub from_cache: usize,
}

/// Feature vectors in memory, with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    /// Numbers per vector.
    pub dims: usize,
    /// `[vectors, dims]`.
    pub rows: Vec<f32>,
    /// Label of each vector.
    pub labels: Vec<u32>,
}

impl Features {
    /// Reads all features into memory: the first view of each image.
    ///
    /// # Errors
    /// [`Error::Io`] where the features cannot be read back; [`Error::Data`] where an image has no single class.
    pub fn vectors(&self) -> Result<Vectors> {
        let rows = self.read(&(0..self.len()).collect::<Vec<_>>(), 0)?;
        let labels = self.targets.iter().map(class_of).collect::<Result<_>>()?;
        Ok(Vectors { dims: self.dims(), rows, labels })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Numbers per image.
    pub fn dims(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Features `[images, dims]` of some of the images, of augmented view `copy` modulo the number of views.
    ///
    /// # Errors
    /// [`Error::Io`] where the features cannot be read back.
    pub fn read(&self, images: &[usize], copy: usize) -> Result<Vec<f32>> {
        debug_assert_eq!(self.rows.len(), self.len() * self.copies);
        self.rows.read(images.iter().map(|i| i * self.copies + copy % self.copies))
    }

    /// The same features as inputs of a program that starts at the split point: bytes by input name.
    pub(crate) fn inputs(&self, images: &[usize], copy: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let (rows, dims) = (self.read(images, copy)?, self.dims());
        let mut first = 0;
        let mut inputs = Vec::new();
        for (i, &size) in self.sizes.iter().enumerate() {
            let own = rows.chunks_exact(dims.max(1)).flat_map(|row| &row[first..first + size]);
            let own: Vec<f32> = own.copied().collect();
            inputs.push((crate::tape::cached_input(i), bytemuck::cast_slice(&own).to_vec()));
            first += size;
        }
        Ok(inputs)
    }
}

/// A data set, and the views of its images: each image is read once per view.
pub(crate) struct Wanted<'a> {
    pub(crate) set: &'a Dataset,
    pub(crate) views: Vec<View>,
}

/// Features before the head of all images of `sets`: read from `cache` where it holds them, else computed and added
/// to `cache`. Each unreadable image is listed in its set's `skipped`.
///
/// # Errors
/// [`Error::Data`] where a class loses all its images; from the device. A cache that cannot be read or written is
/// only a warning.
pub fn extract(
    net: &Network,
    device: &Device,
    sets: &[&Dataset],
    cache: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Vec<Features>> {
    let views = || vec![View::Eval(net.preprocess().clone())];
    let wanted: Vec<Wanted<'_>> = sets.iter().map(|&set| Wanted { set, views: views() }).collect();
    extract_until(&SplitPoint::before_head(net)?, device, &wanted, cache, observer, None)
}

/// One image's row: set, image, view.
type At = (usize, usize, usize);

/// The cache key of an image under a view.
fn row_key(content: &Key, view: &View, index: usize) -> Key {
    match view {
        View::Eval(_) => *content,
        // The draws also depend on the image's index in its set.
        varied => {
            let hash = Sha256::new().chain_update(content).chain_update(format!("{varied:?} {index}"));
            hash.finalize().into()
        }
    }
}

/// As [`extract`], for any split point and any views. When `stop` becomes true, the function stores the features
/// computed so far and returns [`Error::Interrupted`].
pub(crate) fn extract_until(
    split: &SplitPoint,
    device: &Device,
    wanted: &[Wanted<'_>],
    cache: Option<&Path>,
    observer: &mut dyn Observer,
    stop: Option<&AtomicBool>,
) -> Result<Vec<Features>> {
    let stopped = || stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
    let file: Option<PathBuf> = match cache {
        Some(folder) => {
            let name = format!("{}-{}.bin", split.net.config().model, split.key(device)?);
            Some(folder.join("features").join(name))
        }
        None => None,
    };
    let expected = wanted.iter().map(|w| w.set.len() * w.views.len()).sum();
    let store = FeatureStore::open(file.as_deref(), split.numbers(), expected, &mut |text| {
        observer.event(&Event::Warning(text));
    });
    let contents = wanted.iter().map(|w| (0..w.set.len()).map(|_| None).collect()).collect();
    let mut extraction = Extraction { split, wanted, contents, store, failed: HashMap::new() };
    if !extraction.store.is_empty() {
        extraction.find(observer);
    }
    let mut computed = BTreeSet::new();
    for _ in 0..READINGS {
        let missing = extraction.missing();
        computed.extend(missing.iter().map(|&(s, i, _)| (s, i)));
        // Images that the device augments run through another program than images that the device only normalises.
        let varied = |at: &At| wanted[at.0].views[at.2].on_device();
        let (varied, plain): (Vec<At>, Vec<At>) = missing.iter().partition(|at| varied(at));
        for part in [plain, varied].iter().filter(|part| !part.is_empty()) {
            extraction.compute(device, part, observer, &stopped)?;
        }
        if missing.is_empty() || stopped() {
            break;
        }
    }
    if stopped() {
        return Err(Error::Interrupted(
            "interrupted before the first step; features computed so far are kept: the same command goes on"
                .into(),
        ));
    }
    extraction.gather(&computed)
}

/// Most reads of an image whose file changes between two reads.
const READINGS: usize = 3;

struct Extraction<'a> {
    split: &'a SplitPoint,
    wanted: &'a [Wanted<'a>],
    /// The [`content_key`] of each image of each set, from the last read.
    contents: Vec<Vec<Option<Result<Key>>>>,
    store: FeatureStore,
    failed: HashMap<(usize, usize), Skipped>,
}

impl Extraction<'_> {
    fn key(&self, (s, i, v): At) -> Option<Key> {
        let content = self.contents[s][i].as_ref()?.as_ref().ok()?;
        Some(row_key(content, &self.wanted[s].views[v], i))
    }

    /// Computes the images' content keys, and checks the rows that the file holds for them.
    fn find(&mut self, observer: &mut dyn Observer) {
        for (w, contents) in self.wanted.iter().zip(&mut self.contents) {
            *contents = w.set.samples.par_iter().map(|sample| Some(content_key(sample))).collect();
        }
        let keys: Vec<Key> = self.all().filter_map(|at| self.key(at)).collect();
        self.store.check(keys.iter(), &mut |text| observer.event(&Event::Warning(text)));
    }

    fn all(&self) -> impl Iterator<Item = At> + use<'_> {
        let of = |(s, w): (usize, &Wanted<'_>)| {
            let (images, views) = (w.set.len(), w.views.len());
            (0..images).flat_map(move |i| (0..views).map(move |v| (s, i, v)))
        };
        self.wanted.iter().enumerate().flat_map(of)
    }

    fn missing(&self) -> Vec<At> {
        let readable = |&(s, i, _): &At| {
            !matches!(self.contents[s][i], Some(Err(_))) && !self.failed.contains_key(&(s, i))
        };
        let absent = |&at: &At| self.key(at).is_none_or(|key| !self.store.contains(&key));
        self.all().filter(readable).filter(absent).collect()
    }

    /// Runs the backbone over the missing images. While the device computes one batch, the host decodes the next. A
    /// row is stored under the key of the bytes it was computed from.
    fn compute(
        &mut self,
        device: &Device,
        missing: &[At],
        observer: &mut dyn Observer,
        stopped: &dyn Fn() -> bool,
    ) -> Result<()> {
        let (split, wanted) = (self.split, self.wanted);
        observer.event(&Event::progress("features", 0, missing.len()));
        let augmented = missing.first().is_some_and(|&(s, _, v)| wanted[s].views[v].on_device());
        let batch = BACKBONE_BATCH.min(missing.len());
        let (batch, mut program) = backbone(&split.net, &split.taps, device, batch, augmented)?;
        let decode = |&(s, i, v): &At| wanted[s].views[v].image_and_key(wanted[s].set, i);
        let bytes = split.net.preprocess().bytes();
        let groups: Vec<&[At]> = missing.chunks(batch).collect();
        let mut started: Option<Vec<(At, Key)>> = None;
        for (number, group) in groups.iter().map(|g| Some(*g)).chain([None]).enumerate() {
            let decoded: Vec<_> = group.map_or(Vec::new(), |g| g.par_iter().map(decode).collect());
            if let Some(done) = started.take() {
                let outputs = program.finish()?;
                for (n, (at, key)) in done.into_iter().enumerate() {
                    let parts = outputs.iter().zip(&split.sizes);
                    let row: Vec<f32> =
                        parts.flat_map(|(values, &size)| &values[n * size..][..size]).copied().collect();
                    if !all_finite(&row) {
                        let name = wanted[at.0].set.samples[at.1].name();
                        return Err(Greatest::of(&split.net).error("features", &name.to_string_lossy()));
                    }
                    self.store.add(key, &row, &mut |text| observer.event(&Event::Warning(text)));
                }
                let done = (number * batch).min(missing.len());
                observer.event(&Event::progress("features", done, missing.len()));
            }
            let Some(group) = group.filter(|_| !stopped()) else { break };
            let mut pixels = Vec::with_capacity(batch * bytes);
            let (mut good, mut draws) = (Vec::new(), Vec::new());
            for (&at, outcome) in group.iter().zip(decoded) {
                let (s, i, v) = at;
                let view = &wanted[s].views[v];
                match outcome {
                    Ok((mut crop, content)) => {
                        draws.extend(view.draws(i, &mut crop));
                        pixels.extend(crop);
                        good.push((at, row_key(&content, view, i)));
                        self.contents[s][i] = Some(Ok(content));
                    }
                    Err(e) => {
                        let name = wanted[s].set.samples[i].name();
                        self.failed.insert((s, i), Skipped::from_error(&name, &e));
                    }
                }
            }
            if !good.is_empty() {
                pixels.resize(batch * bytes, 0);
                draws.resize(batch, Draws::IDENTITY);
                let inputs: [(&str, &[u8]); 2] =
                    [("image", &pixels), ("augment", bytemuck::cast_slice(&draws))];
                program.start(&inputs[..if augmented { 2 } else { 1 }])?;
                started = Some(good);
            }
        }
        Ok(())
    }

    /// Collects each set's cached features, after the missing rows in `computed` were added.
    fn gather(self, computed: &BTreeSet<(usize, usize)>) -> Result<Vec<Features>> {
        let mut found = Vec::new();
        for (s, Wanted { set, views }) in self.wanted.iter().enumerate() {
            let (mut places, mut targets, mut indices) = (Vec::new(), Vec::new(), Vec::new());
            let mut contents = Vec::new();
            let (mut skipped, mut from_cache) = (Vec::new(), 0);
            for (i, sample) in set.samples.iter().enumerate() {
                let place = |v| self.store.place(&self.key((s, i, v))?);
                let own: Option<Vec<_>> = (0..views.len()).map(place).collect();
                match (own, &self.contents[s][i], self.failed.get(&(s, i))) {
                    (_, _, Some(reason)) => skipped.push(reason.clone()),
                    (_, Some(Err(e)), _) => skipped.push(Skipped::from_error(&sample.name(), e)),
                    (None, ..) | (_, None, _) => {
                        skipped.push(Skipped::new(sample.name(), "the file changes while it is read"));
                    }
                    (Some(own), Some(Ok(content)), _) => {
                        contents.push(*content);
                        places.extend(own);
                        targets.push(sample.target.clone());
                        indices.push(i);
                        from_cache += usize::from(!computed.contains(&(s, i)));
                    }
                }
            }
            let count = |targets: &mut dyn Iterator<Item = &Target>| {
                let mut counts = vec![0usize; set.classes.len()];
                targets.for_each(|target| target.classes().for_each(|class| counts[class] += 1));
                counts
            };
            let had = count(&mut set.samples.iter().map(|s| &s.target));
            let has = count(&mut targets.iter());
            for (class, (had, has)) in set.classes.iter().zip(had.into_iter().zip(has)) {
                if had > 0 && has == 0 {
                    return Err(Error::Data(format!(
                        "class '{class}': none of its images can be read; replace them or remove the class"
                    )));
                }
            }
            found.push((places, targets, indices, contents, skipped, from_cache));
        }
        let (store, sizes) = (Arc::new(self.store), &self.split.sizes);
        let features =
            |((places, targets, indices, contents, skipped, from_cache), w): (_, &Wanted<'_>)| Features {
                sizes: sizes.clone(),
                rows: store.rows(places),
                copies: w.views.len(),
                targets,
                indices,
                contents,
                skipped,
                from_cache,
            };
        Ok(found.into_iter().zip(self.wanted).map(features).collect())
    }
}
