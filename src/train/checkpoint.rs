//! What a run folder keeps of a training: `metrics.csv`, the best weights, and where it stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::events::EpochMetrics;
use super::score::Best;
use super::session::Session;
use super::trainer::{State, Trainer};
use crate::models::Network;
use crate::nn::{SavedTensor, TensorFile, load_tensors, save_tensors};
use crate::{Error, Result};

/// Figures of all epochs that `metrics.csv` of a run folder holds; none where there is no such file.
///
/// # Errors
/// [`Error::Data`] where it cannot be read as such, naming the line.
pub fn read_metrics(folder: &Path) -> Result<Vec<EpochMetrics>> {
    #[derive(serde::Deserialize)]
    struct Line {
        epoch: usize,
        train_loss: f64,
        train_accuracy: f64,
        val_loss: f64,
        val_accuracy: f64,
        lr: f64,
        seconds: f64,
    }
    let path = folder.join("metrics.csv");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let wrong = |e: csv::Error| Error::Data(format!("{}: {e}", path.display()));
    let lines = csv::Reader::from_path(&path).map_err(wrong)?.into_deserialize();
    let lines = lines.collect::<Result<Vec<Line>, _>>().map_err(wrong)?;
    let epochs = lines.last().map_or(0, |line| line.epoch);
    let metrics = |line: Line| {
        let Line { epoch, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds } = line;
        EpochMetrics { epoch, epochs, train_loss, train_accuracy, val_loss, val_accuracy, lr, seconds }
    };
    Ok(lines.into_iter().map(metrics).collect())
}

/// The epoch that the run in a folder keeps; none where it has no last checkpoint any more.
///
/// # Errors
/// [`Error::Weights`] about a damaged checkpoint.
pub fn read_best(folder: &Path) -> Result<Option<Best>> {
    if last_checkpoint(folder).exists() { Ok(read_state(folder)?.best) } else { Ok(None) }
}

/// Where the run in a folder stands.
///
/// # Errors
/// [`Error::Io`] and [`Error::Weights`] about its last checkpoint.
fn read_state(folder: &Path) -> Result<State> {
    let file = TensorFile::open(last_checkpoint(folder))?;
    let text = file.metadata().get("state");
    let text = text.ok_or_else(|| file.error("it holds no training state; it cannot be resumed from"))?;
    serde_json::from_str(text).map_err(|e| file.error(format!("{e}; it cannot be resumed from")))
}

impl Trainer<'_> {
    /// Appends a line to `metrics.csv`, and one to `metrics.jsonl`.
    pub(super) fn record(&self, m: &EpochMetrics) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let numbers = [m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy, m.lr];
        let numbers: Vec<String> = numbers.iter().map(|x| format!("{x:.6}")).collect();
        let line = format!("{},{},{:.3}", m.epoch, numbers.join(","), m.seconds);
        append(&folder.join("metrics.csv"), METRICS, &line)?;
        let line = serde_json::to_string(m).map_err(|e| Error::Data(e.to_string()))?;
        append(&folder.join("metrics.jsonl"), "", &line)
    }

    /// Takes epochs out of the tables of metrics that came after the checkpoint: they are gone through again.
    fn trim_metrics(&self, epochs: usize) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let of_csv = |line: &str| line.split(',').next().and_then(|n| n.parse().ok());
        let of_json = |line: &str| {
            let fields: serde_json::Value = serde_json::from_str(line).ok()?;
            fields["epoch"].as_u64().map(|epoch| epoch as usize)
        };
        trim(&folder.join("metrics.csv"), epochs, of_csv)?;
        trim(&folder.join("metrics.jsonl"), epochs, of_json)
    }

    /// Writes `model.safetensors` (the best epoch's weights) and `last.safetensors` (where it stands).
    pub(super) fn save(
        &self,
        initial: &Network,
        session: &Session,
        state: &State,
        best: &BTreeMap<String, Vec<f32>>,
    ) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        snapshot(initial, best, state.best)?.save(folder.join("model.safetensors"))?;
        let live = session.everything()?;
        let shapes: BTreeMap<String, [usize; 1]> = live
            .iter()
            .map(|(name, data)| (name.clone(), [data.len()]))
            .chain(best.iter().map(|(name, data)| (format!("best:{name}"), [data.len()])))
            .collect();
        let best = best.iter().map(|(name, data)| (format!("best:{name}"), data));
        let tensors = live.iter().map(|(name, data)| (name.clone(), data)).chain(best);
        let tensors =
            tensors.map(|(name, data)| (name.clone(), SavedTensor::F32(&shapes[&name], data))).collect();
        let state = serde_json::to_string(state).map_err(|e| Error::Weights(e.to_string()))?;
        let metadata = BTreeMap::from([("state".to_string(), state)]);
        save_tensors(last_checkpoint(folder), &tensors, &metadata)
    }

    /// Where the run in the folder stands.
    pub(super) fn state(&self) -> Result<State> {
        let Some(folder) = &self.folder else { return Err(Error::Usage("nothing to resume from".into())) };
        read_state(folder)
    }

    /// Reads `last.safetensors` back into the store; `before` epochs lie before its phase.
    pub(super) fn load(
        &self,
        session: &Session,
        before: usize,
    ) -> Result<(State, BTreeMap<String, Vec<f32>>)> {
        let state = self.state()?;
        let path = last_checkpoint(self.folder.as_deref().unwrap_or(Path::new("")));
        let damaged =
            |what: String| Error::Weights(format!("{}: {what}; it cannot be resumed from", path.display()));
        let file = load_tensors(&path)?;
        self.trim_metrics(before + state.epoch)?;
        let mut best = BTreeMap::new();
        for (name, (_, data)) in file.tensors {
            match name.strip_prefix("best:") {
                Some(path) => {
                    best.insert(path.to_string(), data);
                }
                None => session.store.write(&name, &data).map_err(|e| damaged(e.to_string()))?,
            }
        }
        Ok((state, best))
    }
}

/// Head of `metrics.csv`.
const METRICS: &str = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds";

/// Appends a line to a file, and `head` before the first.
fn append(path: &Path, head: &str, line: &str) -> Result<()> {
    use std::io::Write;
    let failed = |e| Error::io(path, "write", e);
    let fresh = !path.exists();
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    if fresh && !head.is_empty() {
        writeln!(file, "{head}").map_err(failed)?;
    }
    writeln!(file, "{line}").map_err(failed)
}

/// Keeps those lines of a file whose epoch is not above `epochs`, and those without one.
fn trim(path: &Path, epochs: usize, epoch: impl Fn(&str) -> Option<usize>) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
    let known = |line: &&str| epoch(line).is_none_or(|epoch| epoch <= epochs);
    let kept: String = text.lines().filter(known).flat_map(|line| [line, "\n"]).collect();
    if kept == text {
        return Ok(());
    }
    crate::nn::write_atomically(path, |out| std::io::Write::write_all(out, kept.as_bytes()))
}

/// The file that a run is resumed from.
pub(super) fn last_checkpoint(folder: &Path) -> PathBuf {
    folder.join("last.safetensors")
}

/// The network that a phase begins with.
pub(super) fn beginning(folder: &Path, phase: usize) -> PathBuf {
    folder.join(format!("phase{}.safetensors", phase + 1))
}

/// `initial` with the given values in place of those that learned.
pub(super) fn snapshot(
    initial: &Network,
    values: &BTreeMap<String, Vec<f32>>,
    best: Option<Best>,
) -> Result<Network> {
    let mut net = initial.clone();
    for (path, data) in values {
        net.set_packed(path, data)?;
    }
    net.count_batches(best.map_or(0, |best| best.updates as i64));
    Ok(net)
}
