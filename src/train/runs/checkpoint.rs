//! The training state in a run folder: `metrics.csv`, the best weights, and the last checkpoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::models::Network;
use crate::nn::{SavedTensor, TensorFile, save_tensors};
use crate::train::events::EpochMetrics;
use crate::train::fit::score::Best;
use crate::train::fit::state::State;
use crate::{Error, Result};

/// Metrics of all epochs in `metrics.csv` of a run folder; empty where there is no such file.
///
/// # Errors
/// [`Error::Data`] where the file cannot be parsed, naming the line.
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

/// The best epoch of the run in a folder, whose weights the run saved; none where the folder has no last checkpoint.
///
/// # Errors
/// [`Error::Weights`] about a damaged checkpoint.
pub fn read_best(folder: &Path) -> Result<Option<Best>> {
    if last_checkpoint(folder).exists() { Ok(read_state(folder)?.best) } else { Ok(None) }
}

/// The training state of the run in a folder.
///
/// # Errors
/// [`Error::Io`] and [`Error::Weights`] about its last checkpoint.
pub(crate) fn read_state(folder: &Path) -> Result<State> {
    let file = TensorFile::open(last_checkpoint(folder))?;
    let text = file.metadata().get("state");
    let text = text.ok_or_else(|| file.error("it holds no training state; it cannot be resumed from"))?;
    serde_json::from_str(text).map_err(|e| file.error(format!("{e}; it cannot be resumed from")))
}

/// Values by parameter path, in device layout.
pub(crate) type Weights = BTreeMap<String, Vec<f32>>;

pub(crate) fn save_state<'a>(
    folder: &Path,
    live: impl Iterator<Item = (&'a str, Cow<'a, [f32]>)>,
    best: &'a Weights,
    state: &State,
) -> Result<()> {
    let live = live.map(|(name, data)| (name.to_string(), data));
    let best = best.iter().map(|(name, data)| (format!("best:{name}"), Cow::Borrowed(&data[..])));
    let named: Vec<(String, Cow<'_, [f32]>)> = live.chain(best).collect();
    let shapes: Vec<[usize; 1]> = named.iter().map(|(_, data)| [data.len()]).collect();
    let tensors = named.iter().zip(&shapes);
    let tensors =
        tensors.map(|((name, data), shape)| (name.clone(), SavedTensor::F32(shape, data))).collect();
    let state = serde_json::to_string(state).map_err(|e| Error::Weights(e.to_string()))?;
    save_tensors(last_checkpoint(folder), &tensors, &BTreeMap::from([("state".to_string(), state)]))
}

/// Writes checkpoints on a thread of its own, one at a time, while the training goes on.
#[derive(Debug, Default)]
pub(crate) struct Saver {
    job: Option<JoinHandle<Result<()>>>,
    /// The epoch whose weights were written last.
    written: Option<usize>,
}

impl Saver {
    /// Waits for the previous checkpoint, then starts to write this one. The argument of `write` says whether the
    /// weights of the best epoch have changed since.
    ///
    /// # Errors
    /// Errors of the previous checkpoint.
    pub(crate) fn start(
        &mut self,
        best: Option<usize>,
        write: impl FnOnce(bool) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.finish()?;
        let is_new = best.is_some() && self.written != best;
        let job = std::thread::Builder::new().name("defrost-save".into()).spawn(move || write(is_new));
        self.job = Some(job.map_err(|e| Error::io("defrost-save", "start thread", e))?);
        self.written = best;
        Ok(())
    }

    /// Waits until the checkpoint is on the disk.
    ///
    /// # Errors
    /// Errors of the checkpoint.
    pub(crate) fn finish(&mut self) -> Result<()> {
        match self.job.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome.inspect_err(|_| self.written = None),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // The training failed: a checkpoint in progress is still completed.
        if let Some(job) = self.job.take() {
            let _ = job.join();
        }
    }
}

/// Head of `metrics.csv`.
pub(crate) const METRICS: &str = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds";

/// Appends a line to a file; a new file begins with `head`.
pub(crate) fn append(path: &Path, head: &str, line: &str) -> Result<()> {
    use std::io::Write;
    let failed = |e| Error::io(path, "write", e);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let fresh = file.metadata().map_err(failed)?.len() == 0;
    let head = if fresh && !head.is_empty() { format!("{head}\n") } else { String::new() };
    // In one write: a killed process leaves whole lines.
    file.write_all(format!("{head}{line}\n").as_bytes()).map_err(failed)
}

/// Removes all lines of a file whose epoch is above `epochs`, and an incomplete last line.
pub(crate) fn trim(path: &Path, epochs: usize, epoch: impl Fn(&str) -> Option<usize>) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let text = String::from_utf8_lossy(&text);
    // A line without a newline was cut off when the process was killed.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let known = |line: &&str| epoch(line.trim_end()).is_some_and(|epoch| epoch <= epochs);
    let kept: String = lines.filter(known).collect();
    if kept == text {
        return Ok(());
    }
    crate::nn::write_atomically(path, |out| std::io::Write::write_all(out, kept.as_bytes()))
}

/// The file that a run is resumed from.
pub(crate) fn last_checkpoint(folder: &Path) -> PathBuf {
    folder.join("last.safetensors")
}

/// The network at the start of a phase.
pub(crate) fn beginning(folder: &Path, phase: usize) -> PathBuf {
    folder.join(format!("phase{}.safetensors", phase + 1))
}

/// Removes the initial networks of all phases when the run is done.
pub(crate) fn forget_beginnings(folder: &Path, phases: usize) {
    (0..phases).for_each(|phase| drop(std::fs::remove_file(beginning(folder, phase))));
}

/// `initial` with the given values for the trained parameters.
pub(crate) fn snapshot(
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
