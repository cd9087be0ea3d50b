//! Files that a training writes into its run folder and reads when it resumes.

use std::path::Path;
use std::sync::Arc;

use crate::models::Network;
use crate::nn::load_tensors;
use crate::train::events::EpochMetrics;
use crate::train::fit::state::State;
use crate::train::fit::trainer::Trainer;
use crate::train::runs::checkpoint::{
    METRICS, Weights, append, last_checkpoint, read_state, save_state, snapshot, trim,
};
use crate::train::step::session::Session;
use crate::{Error, Result};

impl Trainer<'_> {
    /// Appends one line to `metrics.csv` and one to `metrics.jsonl`.
    pub(crate) fn record(&self, m: &EpochMetrics) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let numbers = [m.train_loss, m.train_accuracy, m.val_loss, m.val_accuracy, m.lr];
        let numbers: Vec<String> = numbers.iter().map(|x| format!("{x:.6}")).collect();
        let line = format!("{},{},{:.3}", m.epoch, numbers.join(","), m.seconds);
        append(&folder.join("metrics.csv"), METRICS, &line)?;
        let line = serde_json::to_string(m).map_err(|e| Error::Data(e.to_string()))?;
        append(&folder.join("metrics.jsonl"), "", &line)
    }

    /// Removes epochs after the checkpoint from the metrics tables: the training repeats them.
    pub(crate) fn trim_metrics(&self, epochs: usize) -> Result<()> {
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

    /// Writes a first `last.safetensors` before any training step.
    pub(crate) fn save_beginning(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        save_state(folder, std::iter::empty(), &Weights::new(), &State::default())
    }

    /// Starts to write `model.safetensors` (the best epoch's weights, if they are new) and then `last.safetensors`
    /// (the state of the training). A resumed run reads only the latter, together with the network at the start of
    /// the phase, so the two files need not come from the same moment.
    pub(crate) fn save(
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

    /// The training state of the run in the folder.
    pub(crate) fn state(&self) -> Result<State> {
        let Some(folder) = &self.folder else { return Err(Error::Usage("nothing to resume from".into())) };
        read_state(folder)
    }

    /// Reads `last.safetensors` back into the store; `before` is the number of epochs before its phase. Also returns
    /// the weights of the best epoch.
    pub(crate) fn load(&self, session: &Session, before: usize) -> Result<(State, Weights)> {
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
