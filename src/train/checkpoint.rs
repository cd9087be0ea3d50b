//! What a run folder keeps of a training: `metrics.csv`, the best weights, and where it stands.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

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
pub(super) fn read_state(folder: &Path) -> Result<State> {
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
    pub(super) fn trim_metrics(&self, epochs: usize) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let of_csv = |line: &str| match line {
            METRICS => Some(0),
            line => line.split(',').next().and_then(|n| n.parse().ok()),
        };
        let of_json = |line: &str| {
            let fields: serde_json::Value = serde_json::from_str(line).ok()?;
            fields["epoch"].as_u64().map(|epoch| epoch as usize)
        };
        trim(&folder.join("metrics.csv"), epochs, of_csv)?;
        trim(&folder.join("metrics.jsonl"), epochs, of_json)
    }

    /// Writes a first `last.safetensors`: nothing is trained yet.
    pub(super) fn save_beginning(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        save_state(folder, std::iter::empty(), &Weights::new(), &State::default())
    }

    /// Begins to write `model.safetensors` (the best epoch's weights, where they are new) and then `last.safetensors`
    /// (where the training stands). Only the latter is read when a run goes on, with the network that the phase began
    /// with, so nothing depends on both being of one time.
    pub(super) fn save(
        &mut self,
        initial: &Arc<Network>,
        session: &Session,
        state: &State,
        best: &Arc<Weights>,
    ) -> Result<()> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let (live, state) = (session.everything()?, state.clone());
        let (initial, best) = (Arc::clone(initial), Arc::clone(best));
        self.saver.start(state.best.map(|best| best.epoch), move |is_new| {
            if is_new {
                snapshot(&initial, &best, state.best)?.save(folder.join("model.safetensors"))?;
            }
            save_state(&folder, live.values(), &best, &state)
        })
    }

    /// Where the run in the folder stands.
    pub(super) fn state(&self) -> Result<State> {
        let Some(folder) = &self.folder else { return Err(Error::Usage("nothing to resume from".into())) };
        read_state(folder)
    }

    /// Reads `last.safetensors` back into the store; `before` epochs lie before its phase. Returns the weights of the
    /// best epoch, too.
    pub(super) fn load(&self, session: &Session, before: usize) -> Result<(State, Weights)> {
        let state = self.state()?;
        let path = last_checkpoint(self.folder.as_deref().unwrap_or(Path::new("")));
        let damaged =
            |what: String| Error::Weights(format!("{}: {what}; it cannot be resumed from", path.display()));
        let file = load_tensors(&path)?;
        self.trim_metrics(before + state.epoch)?;
        let mut best = Weights::new();
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

/// Values by parameter path, in device layout.
pub(super) type Weights = BTreeMap<String, Vec<f32>>;

fn save_state<'a>(
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
pub(super) struct Saver {
    job: Option<JoinHandle<Result<()>>>,
    /// The epoch whose weights were written last.
    written: Option<usize>,
}

impl Saver {
    /// Waits for the checkpoint before, and begins to write this one; `write` is told whether the weights of the best
    /// epoch have changed since.
    ///
    /// # Errors
    /// What the checkpoint before met.
    fn start(
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
    /// What it met.
    pub(super) fn finish(&mut self) -> Result<()> {
        match self.job.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(outcome)) => outcome.inspect_err(|_| self.written = None),
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // Where the training failed: what was begun is finished all the same.
        if let Some(job) = self.job.take() {
            let _ = job.join();
        }
    }
}

/// Head of `metrics.csv`.
const METRICS: &str = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,lr,seconds";

/// Appends a line to a file, and `head` before the first.
fn append(path: &Path, head: &str, line: &str) -> Result<()> {
    use std::io::Write;
    let failed = |e| Error::io(path, "write", e);
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    let fresh = file.metadata().map_err(failed)?.len() == 0;
    let head = if fresh && !head.is_empty() { format!("{head}\n") } else { String::new() };
    // At once: a process that is killed leaves whole lines.
    file.write_all(format!("{head}{line}\n").as_bytes()).map_err(failed)
}

/// Keeps those whole lines of a file whose epoch is not above `epochs`.
fn trim(path: &Path, epochs: usize, epoch: impl Fn(&str) -> Option<usize>) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let text = String::from_utf8_lossy(&text);
    // A line without an end was cut off when the process was killed.
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let known = |line: &&str| epoch(line.trim_end()).is_some_and(|epoch| epoch <= epochs);
    let kept: String = lines.filter(known).collect();
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

/// Removes those of all phases: the run is over.
pub(super) fn forget_beginnings(folder: &Path, phases: usize) {
    (0..phases).for_each(|phase| drop(std::fs::remove_file(beginning(folder, phase))));
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
