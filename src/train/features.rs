//! Kept features: the frozen front's output for each picture, computed once and kept on disk under a key
//! of weights, preprocessing, cut and device; a picture is known by the hash of its file.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::events::{Event, Observer};
use super::session::front;
use crate::data::{Dataset, Skipped, content_key, eval};
use crate::models::Network;
use crate::nn::{lies_in, write_atomically};
use crate::plan::Device;
use crate::{Error, Result};

/// First bytes of a file of kept features; the last digit is the format's version.
const MAGIC: &[u8; 8] = b"DFRSTFT1";
/// Pictures that go through the front at a time.
pub(super) const FRONT_BATCH: usize = 16;

type Hash = [u8; 32];

/// Features of a data set's readable pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Length of one picture's features.
    pub dims: usize,
    /// `[pictures, dims]`.
    pub rows: Vec<f32>,
    /// Label of each.
    pub labels: Vec<u32>,
    /// Pictures that could not be read.
    pub skipped: Vec<Skipped>,
    /// Pictures whose features were kept from before.
    pub kept: usize,
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

/// The key of a network's features: everything below the head that changes them.
///
/// # Errors
/// Where the configuration cannot be written down.
pub fn features_key(net: &Network, device: &Device) -> Result<String> {
    let head = &net.structure().head;
    let mut config = net.config().clone();
    // What is the head's alone.
    config.classes.clear();
    (config.hidden, config.auxiliary, config.temperature) = (None, false, None);
    let config = serde_json::to_string(&config).map_err(|e| Error::Weights(e.to_string()))?;
    let mut hash = Sha256::new();
    for part in [config.as_str(), head, &device.identity()] {
        hash.update(part);
        hash.update([0]);
    }
    let above = |layer: &str| {
        let auxiliary = net.architecture().auxiliary().map_or(&[][..], |a| a.layers);
        net.is_head(layer) || auxiliary.iter().any(|head| lies_in(layer, head))
    };
    for (spec, numbers) in net.tensors().filter(|(s, _)| !above(s.layer_path())) {
        hash.update(&spec.path);
        hash.update(bytemuck::cast_slice::<f32, u8>(numbers));
    }
    Ok(hex(&hash.finalize()[..12]))
}

/// What a file keeps: hash of a picture -> its features.
#[derive(Default)]
struct Kept {
    index: HashMap<Hash, usize>,
    hashes: Vec<Hash>,
    rows: Vec<f32>,
}

impl Kept {
    /// Reads a file; nothing where there is none.
    fn read(path: &Path, dims: usize) -> Result<Kept> {
        let bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
            other => other.map_err(|e| Error::io(path, "read", e))?,
        };
        let damaged = || Error::Data(format!("{}: damaged; its features are computed again", path.display()));
        let (head, body) = bytes.split_at_checked(24).ok_or_else(damaged)?;
        let number = |at: usize| head[at..at + 8].iter().rev().fold(0u64, |n, &b| n << 8 | u64::from(b));
        let (count, width) = (number(8) as usize, number(16) as usize);
        let expected = count.checked_mul(32 + dims * 4);
        if head[..8] != *MAGIC || width != dims || expected != Some(body.len()) {
            return Err(damaged());
        }
        let (hashes, rows) = body.split_at(count * 32);
        let hashes: Vec<Hash> = hashes.as_chunks().0.to_vec();
        let index = hashes.iter().enumerate().map(|(i, h)| (*h, i)).collect();
        Ok(Kept { index, hashes, rows: bytemuck::pod_collect_to_vec(rows) })
    }

    fn write(&self, path: &Path, dims: usize) -> Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, "create folder", e))?;
        write_atomically(path, |out| {
            out.write_all(MAGIC)?;
            out.write_all(&(self.hashes.len() as u64).to_le_bytes())?;
            out.write_all(&(dims as u64).to_le_bytes())?;
            out.write_all(self.hashes.as_flattened())?;
            out.write_all(bytemuck::cast_slice(&self.rows))
        })
    }
}

/// Features of all pictures of `sets`, from `cache` where they were kept, else computed and kept there.
/// Each unreadable picture is listed in its set's `skipped`.
///
/// # Errors
/// [`Error::Data`] where a class loses all its pictures; from the device. A cache that cannot be read or
/// written is a warning.
pub fn extract(
    net: &Network,
    device: &Device,
    sets: &[&Dataset],
    cache: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Vec<Features>> {
    extract_until(net, device, sets, cache, observer, None)
}

/// The same until `stop` is true: then what was computed is kept, and [`Error::Interrupted`] returned.
pub(super) fn extract_until(
    net: &Network,
    device: &Device,
    sets: &[&Dataset],
    cache: Option<&Path>,
    observer: &mut dyn Observer,
    stop: Option<&AtomicBool>,
) -> Result<Vec<Features>> {
    let stopped = || stop.is_some_and(|stop| stop.load(Ordering::Relaxed));
    let dims = net.features();
    let file: Option<PathBuf> = match cache {
        Some(folder) => {
            let name = format!("{}-{}.bin", net.config().model, features_key(net, device)?);
            Some(folder.join("features").join(name))
        }
        None => None,
    };
    let mut kept = match &file {
        Some(path) => Kept::read(path, dims).unwrap_or_else(|e| {
            observer.event(&Event::Warning(e.to_string()));
            Kept::default()
        }),
        None => Kept::default(),
    };
    let before = kept.hashes.len();
    let hashes: Vec<Vec<Result<Hash>>> =
        sets.iter().map(|s| s.samples.par_iter().map(content_key).collect()).collect();
    let missing: Vec<(usize, usize)> = hashes
        .iter()
        .enumerate()
        .flat_map(|(s, hashes)| hashes.iter().enumerate().map(move |(i, hash)| ((s, i), hash)))
        .filter(|(_, hash)| hash.as_ref().is_ok_and(|h| !kept.index.contains_key(h)))
        .map(|(at, _)| at)
        .collect();

    let mut failed: HashMap<(usize, usize), Skipped> = HashMap::new();
    if !missing.is_empty() {
        observer.event(&Event::progress("features", 0, missing.len()));
        let (batch, mut program) = front(net, device, FRONT_BATCH.min(missing.len()))?;
        let decode = |&(s, i): &(usize, usize)| {
            sets[s].samples[i].picture().map(|picture| eval(&picture, net.preprocess()))
        };
        let bytes = net.preprocess().crop.pow(2) * 3;
        let groups: Vec<&[(usize, usize)]> = missing.chunks(batch).collect();
        let mut started: Option<Vec<(usize, usize)>> = None;
        for (number, group) in groups.iter().map(|g| Some(*g)).chain([None]).enumerate() {
            // While the device works on the last group, the host decodes this one.
            let decoded: Vec<_> = group.map_or(Vec::new(), |g| g.par_iter().map(decode).collect());
            if let Some(done) = started.take() {
                let rows = program.finish()?.remove(0);
                for (&(s, i), row) in done.iter().zip(rows.chunks_exact(dims)) {
                    if let Ok(hash) = &hashes[s][i]
                        && kept.index.insert(*hash, kept.hashes.len()).is_none()
                    {
                        kept.hashes.push(*hash);
                        kept.rows.extend_from_slice(row);
                    }
                }
                observer.event(&Event::progress(
                    "features",
                    (number * batch).min(missing.len()),
                    missing.len(),
                ));
            }
            let Some(group) = group.filter(|_| !stopped()) else { break };
            let mut pixels = Vec::with_capacity(batch * bytes);
            let mut good = Vec::new();
            for (&at, outcome) in group.iter().zip(decoded) {
                match outcome {
                    Ok(crop) => {
                        pixels.extend(crop);
                        good.push(at);
                    }
                    Err(e) => {
                        failed.insert(at, Skipped::from_error(&sets[at.0].samples[at.1].name(), &e));
                    }
                }
            }
            if !good.is_empty() {
                pixels.resize(batch * bytes, 0);
                program.start(&[("image", &pixels)])?;
                started = Some(good);
            }
        }
    }
    if let Some(path) = &file
        && kept.hashes.len() > before
        && let Err(e) = kept.write(path, dims)
    {
        observer.event(&Event::Warning(format!("{e}; the features are not kept for the next run")));
    }
    if stopped() {
        return Err(Error::Interrupted(
            "interrupted before the first step; features computed so far are kept: the same command goes on"
                .into(),
        ));
    }
    let computed: std::collections::HashSet<(usize, usize)> = missing.into_iter().collect();
    let gather = |(s, set): (usize, &&Dataset)| {
        let mut all = Features { dims, rows: Vec::new(), labels: Vec::new(), skipped: Vec::new(), kept: 0 };
        for (i, sample) in set.samples.iter().enumerate() {
            let unreadable = match (&hashes[s][i], failed.remove(&(s, i))) {
                (Ok(hash), None) if kept.index.contains_key(hash) => {
                    let row = kept.index[hash];
                    all.rows.extend_from_slice(&kept.rows[row * dims..][..dims]);
                    all.labels.push(sample.label);
                    all.kept += usize::from(!computed.contains(&(s, i)));
                    continue;
                }
                (_, Some(skipped)) => skipped,
                (Err(e), _) => Skipped::from_error(&sample.name(), e),
                // A copy of an unreadable picture.
                (Ok(_), None) => Skipped::new(sample.name(), "unreadable"),
            };
            all.skipped.push(unreadable);
        }
        all
    };
    let all: Vec<Features> = sets.iter().enumerate().map(gather).collect();
    for (set, features) in sets.iter().zip(&all) {
        for (label, class) in set.classes.iter().enumerate() {
            let had = set.samples.iter().any(|s| s.label as usize == label);
            if had && !features.labels.iter().any(|&l| l as usize == label) {
                return Err(Error::Data(format!(
                    "class '{class}': none of its pictures can be read; replace them or remove the class"
                )));
            }
        }
    }
    Ok(all)
}
