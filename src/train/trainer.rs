//! The loop: epochs of steps, evaluation, the best weights, checkpoints that can be resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::checkpoint::{beginning, snapshot};
use super::config::{Config, Strategy};
use super::evaluate::{AHEAD, Tally};
use super::events::{EpochMetrics, Event, Observer, Silent};
use super::features::{Features, extract_until};
use super::session::{Feed, Given, Session, StepResult, fitting_batch, training_plan};
use crate::data::{Dataset, Loader, View, batches, epoch_order};
use crate::models::Network;
use crate::plan::Device;
use crate::{Error, Result};

/// Between two checkpoints that nothing else asks for.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);
/// Feature vectors evaluated at a time.
const FEATURE_BATCH: usize = 256;

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Share of right answers on the validation pictures with the weights that are kept, 0 to 1.
    pub val_accuracy: f64,
    /// Their mean loss.
    pub val_loss: f64,
    /// The epoch whose weights are kept, from 1: the one of the least validation loss.
    pub best_epoch: usize,
    /// Epochs done.
    pub epochs: usize,
    /// Wall time.
    pub seconds: f64,
    /// The run folder.
    pub run: Option<PathBuf>,
    /// Whether it was stopped before its end; `--resume` goes on.
    pub interrupted: bool,
}

/// Where a training stands: all that a checkpoint needs beside the tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// The phase under way.
    #[serde(default)]
    pub phase: usize,
    /// Epochs of it that are over.
    pub epoch: usize,
    /// Steps done in the epoch under way.
    pub step: usize,
    /// Optimizer steps of the phase.
    pub updates: u64,
    /// Those of earlier phases, by layer group.
    #[serde(default)]
    pub updates_before: Vec<u64>,
    /// Pictures a step.
    pub batch: usize,
    /// Sums of the epoch under way: loss times pictures, right answers, pictures.
    pub sums: [f64; 3],
    /// Validation accuracy and loss of the best epoch, which epoch of all phases, and the updates of this phase that
    /// it had.
    pub best: Option<(f64, f64, usize, u64)>,
}

/// One phase of a training.
#[derive(Debug, Clone, Copy)]
struct Phase {
    number: usize,
    /// Whether no other follows.
    last: bool,
    /// Epochs of the phases before it, and of all.
    before: usize,
    epochs: usize,
    /// When the training began.
    began: Instant,
    /// Whether the network that it goes on with has counted its steps already.
    counted: bool,
}

/// What a phase hands on to the next.
#[derive(Debug, Default)]
struct Handed {
    /// Accuracy, loss and epoch of the best weights so far.
    best: Option<(f64, f64, usize)>,
    /// Epochs done.
    epochs: usize,
    /// Moments of what learned, and the updates that those of each layer group have seen.
    moments: BTreeMap<String, Vec<f32>>,
    updates: Vec<u64>,
}

/// Teaches a network. Build it, then [`Trainer::fit`].
pub struct Trainer<'a> {
    device: &'a Device,
    config: Config,
    observer: Option<&'a mut dyn Observer>,
    stop: Option<&'a AtomicBool>,
    pub(super) folder: Option<PathBuf>,
    cache: Option<PathBuf>,
    resumed: bool,
}

/// The training data in the form that the strategy wants.
enum Source {
    Pictures { train: Arc<Dataset>, val: Arc<Dataset> },
    Features { train: Features, val: Features },
}

impl Source {
    fn len(&self) -> usize {
        match self {
            Source::Pictures { train, .. } => train.len(),
            Source::Features { train, .. } => train.labels.len(),
        }
    }
}

/// One batch of training data.
struct Fed {
    data: Vec<u8>,
    labels: Vec<u32>,
}

impl<'a> Trainer<'a> {
    /// A trainer with these settings.
    pub fn new(device: &'a Device, config: Config) -> Self {
        Trainer { device, config, observer: None, stop: None, folder: None, cache: None, resumed: false }
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Stops after the step at hand, saving, once `stop` is true.
    #[must_use]
    pub fn stop(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Writes checkpoints and metrics into this folder, which exists.
    #[must_use]
    pub fn run_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Keeps features below this folder.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Goes on from the run folder's last checkpoint.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.resumed = true;
        self
    }

    fn tell(&mut self, event: &Event) {
        match &mut self.observer {
            Some(observer) => observer.event(event),
            None => Silent.event(event),
        }
    }

    fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Teaches `net`, whose head already has the data's classes and whose mask says what learns (in a training of
    /// several phases, each has its own), and leaves it with the weights of its best epoch.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that do not fit, [`Error::Data`] about pictures,
    /// [`Error::Diverged`] where the loss is no number any more, and from the device and the disk.
    pub fn fit(&mut self, net: &mut Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Report> {
        let began = Instant::now();
        self.config.check()?;
        let phases = self.config.phases(&net.structure().groups);
        let epochs = phases.iter().map(Config::epochs).sum();
        let whole = self.config.clone();
        let mut handed = Handed::default();
        // Whether `net` has counted the steps of a phase that goes on.
        let (mut begin, mut counted) = (0, self.resumed);
        if self.resumed {
            begin = self.state()?.phase.min(phases.len() - 1);
            // A run that is over has it no more, and needs it no more.
            let file = self.folder.as_ref().map(|folder| beginning(folder, begin));
            if let Some(file) = file.filter(|file| begin > 0 && file.exists()) {
                *net = Network::open(file)?;
                counted = false;
            }
        }
        let mut interrupted = false;
        for (number, config) in phases.iter().enumerate().skip(begin) {
            let before = phases[..number].iter().map(Config::epochs).sum();
            let phase = Phase { number, last: number + 1 == phases.len(), before, epochs, began, counted };
            if phases.len() > 1 {
                let summary = net.freeze(config.freeze())?;
                let what = summary.to_string().lines().next().unwrap_or_default().to_string();
                self.tell(&Event::Note(format!("phase {} of {}: {what}", number + 1, phases.len())));
            }
            // The phase at which a run goes on has written it already.
            if let Some(folder) = self.folder.as_ref().filter(|_| number > 0 && !self.resumed) {
                net.save(beginning(folder, number))?;
            }
            self.config = config.clone();
            let outcome = self.phase(net, train, val, phase, handed);
            (self.config, self.resumed) = (whole.clone(), false);
            (handed, interrupted) = outcome?;
            counted = false;
            if interrupted {
                break;
            }
        }
        if let Some(folder) = self.folder.as_ref().filter(|_| !interrupted) {
            (1..phases.len()).for_each(|number| drop(std::fs::remove_file(beginning(folder, number))));
        }
        let (val_accuracy, val_loss, best_epoch) = handed.best.unwrap_or_default();
        Ok(Report {
            val_accuracy,
            val_loss,
            best_epoch,
            epochs: handed.epochs,
            seconds: began.elapsed().as_secs_f64(),
            run: self.folder.clone(),
            interrupted,
        })
    }

    /// One phase, from where `net` stands; returns what it hands on, and whether it was stopped.
    fn phase(
        &mut self,
        net: &mut Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
        phase: Phase,
        handed: Handed,
    ) -> Result<(Handed, bool)> {
        let source = self.source(net, train, val)?;
        let batch = self.batch(net, &source)?;
        let eval_batch = self.eval_batch(net, &source)?;
        let mut session = Session::new(self.device, net, &self.config)?;
        let incumbent = handed.best.map(|(accuracy, loss, epoch)| (accuracy, loss, epoch, 0));
        let updates_before = handed.updates;
        let mut state =
            State { phase: phase.number, batch, best: incumbent, updates_before, ..State::default() };
        // The optimizer remembers what goes on learning.
        session.write(&handed.moments)?;
        let mut best: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        if self.resumed {
            (state, best) = self.load(&session, phase.before)?;
        }
        session.updates_before.clone_from(&state.updates_before);
        let mut initial = net.clone();
        if let Some((.., updates)) = state.best.filter(|_| phase.counted) {
            // The checkpoint it came from had counted them already.
            initial.count_batches(-(updates as i64));
        }
        let epochs = self.config.epochs();
        let mut saved = Instant::now();
        let mut interrupted = false;
        while state.epoch < epochs {
            if !self.epoch(&initial, &mut session, &source, &mut state, phase)? {
                interrupted = true;
                self.save(&initial, &session, &state, &best)?;
                break;
            }
            let (accuracy, loss) = self.evaluate(&initial, &mut session, &source, eval_batch)?;
            let [train_loss, hits, count] = state.sums;
            state.epoch += 1;
            (state.step, state.sums) = (0, [0.0; 3]);
            let number = phase.before + state.epoch;
            // By loss, not by accuracy: of dozens of epochs the most accurate one is mostly luck, which
            // flatters the figure and costs a point on pictures never seen (measured on clothing10's test).
            if state.best.is_none_or(|(_, least, ..)| loss <= least) {
                state.best = Some((accuracy, loss, number, state.updates));
                best = session.read(false)?;
            }
            let steps = epochs * self.plan_epoch(&source, state.batch, session.pads(), 0).len();
            let factor =
                self.config.schedule().factor(state.updates as usize, steps, state.epoch - 1, epochs);
            let metrics = EpochMetrics {
                epoch: number,
                epochs: phase.epochs,
                train_loss: train_loss / count.max(1.0),
                train_accuracy: hits / count.max(1.0),
                val_loss: loss,
                val_accuracy: accuracy,
                lr: session.head_rate(factor),
                seconds: phase.began.elapsed().as_secs_f64(),
            };
            self.record(&metrics)?;
            self.tell(&Event::Epoch(metrics));
            let last = state.epoch == epochs;
            let asked = self.stopped() || self.config.stop_after == Some(number);
            interrupted = !(last && phase.last) && asked;
            if last || interrupted || saved.elapsed() > CHECKPOINT_EVERY {
                self.save(&initial, &session, &state, &best)?;
                saved = Instant::now();
            }
            if interrupted {
                break;
            }
        }
        *net = snapshot(&initial, &best, state.best)?;
        let moments = match phase.last {
            true => BTreeMap::new(),
            false => session.read(true)?.into_iter().filter(|(name, _)| name.starts_with("moment")).collect(),
        };
        let best = state.best.map(|(accuracy, loss, epoch, _)| (accuracy, loss, epoch));
        let updates = session.updates_after(state.updates);
        Ok((Handed { best, epochs: phase.before + state.epoch, moments, updates }, interrupted))
    }

    /// Reads pictures, or computes features, and drops what cannot be read.
    fn source(&mut self, net: &Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Source> {
        let mut silent = Silent;
        let observer: &mut dyn Observer = match &mut self.observer {
            Some(observer) => *observer,
            None => &mut silent,
        };
        let (source, mut skipped) = match self.config.strategy {
            Strategy::Features => {
                let (sets, cache) = ([&**train, &**val], self.cache.as_deref());
                let mut sets = extract_until(net, self.device, &sets, cache, observer, self.stop)?;
                let (Some(val), Some(train)) = (sets.pop(), sets.pop()) else {
                    return Err(Error::Data("no features".into()));
                };
                let kept = train.kept + val.kept;
                if kept > 0 {
                    observer.event(&Event::Note(format!(
                        "features of {kept} pictures were kept from an earlier run"
                    )));
                }
                let skipped = [train.skipped.clone(), val.skipped.clone()].concat();
                (Source::Features { train, val }, skipped)
            }
            _ => {
                observer.event(&Event::progress("reading", 0, train.len() + val.len()));
                let readable = |set: &Dataset| set.clone().verify(|_, _| {});
                let (train, val) = (readable(train)?, readable(val)?);
                observer.event(&Event::progress("reading", train.len() + val.len(), train.len() + val.len()));
                let skipped = [train.skipped.clone(), val.skipped.clone()].concat();
                (Source::Pictures { train: train.into(), val: val.into() }, skipped)
            }
        };
        skipped.retain(|s| !train.skipped.contains(s) && !val.skipped.contains(s));
        if !skipped.is_empty() {
            observer.event(&Event::Skipped(skipped));
        }
        Ok(source)
    }

    /// Pictures a step: as asked for, or as many up to 32 as the device can hold.
    fn batch(&mut self, net: &Network, source: &Source) -> Result<usize> {
        let wanted = self.config.batch(source.len());
        if self.config.batch.is_some() || self.config.strategy == Strategy::Features {
            return Ok(wanted);
        }
        let caps = self.device.caps();
        let (batch, _) = fitting_batch(wanted, |batch| training_plan(net, &self.config, batch, &caps))?;
        if batch < wanted {
            let name = self.device.describe();
            self.tell(&Event::Note(format!("batch {batch}: {wanted} pictures do not fit {name}")));
        }
        Ok(batch)
    }

    /// The epoch's batches: a last one of a single picture would have no batch statistics.
    fn plan_epoch(&self, source: &Source, batch: usize, pads: bool, epoch: usize) -> Vec<Vec<usize>> {
        let order = epoch_order(source.len(), self.config.seed, epoch as u64);
        batches(&order, batch, if pads { 1 } else { 2 })
    }

    /// Trains through what is left of the epoch. Returns whether it came to its end.
    fn epoch(
        &mut self,
        net: &Network,
        session: &mut Session,
        source: &Source,
        state: &mut State,
        phase: Phase,
    ) -> Result<bool> {
        let plan = self.plan_epoch(source, state.batch, session.pads(), state.epoch);
        let (steps, epochs) = (plan.len(), self.config.epochs());
        let ahead = plan[state.step..].to_vec();
        let feed = match source {
            Source::Pictures { .. } => Feed::Pictures,
            Source::Features { .. } => Feed::Features,
        };
        let fed: Box<dyn Iterator<Item = Fed>> = match source {
            Source::Pictures { train, .. } => {
                let view = View::Train {
                    preprocess: net.preprocess().clone(),
                    augment: self.config.augment,
                    seed: self.config.seed,
                    epoch: state.epoch as u64,
                };
                let loader = Loader::new(train.clone(), ahead, view, AHEAD)?;
                Box::new(loader.map(|b| Fed { data: b.pixels, labels: b.labels }))
            }
            Source::Features { train, .. } => Box::new(ahead.into_iter().map(|indices| {
                let row = |&i: &usize| &train.rows[i * train.dims..][..train.dims];
                let rows: Vec<f32> = indices.iter().flat_map(row).copied().collect();
                let labels = indices.iter().map(|&i| train.labels[i]).collect();
                Fed { data: bytemuck::cast_slice(&rows).to_vec(), labels }
            })),
        };
        for Fed { data, labels } in fed {
            if self.stopped() {
                while let Some(done) = session.finish()? {
                    self.count(state, done, steps, phase);
                }
                return Ok(false);
            }
            state.step += 1;
            if labels.is_empty() {
                continue;
            }
            let done = state.updates as usize;
            let factor = self.config.schedule().factor(done, steps * epochs, state.epoch, epochs);
            state.updates += 1;
            let batch = state.batch;
            let given = Given { feed, data: &data, labels: &labels };
            if let Some(done) = session.train(net, &given, batch, factor, state.updates)? {
                self.count(state, done, steps, phase);
            }
        }
        while let Some(done) = session.finish()? {
            self.count(state, done, steps, phase);
        }
        Ok(true)
    }

    fn count(&mut self, state: &mut State, done: StepResult, steps: usize, phase: Phase) {
        let [loss, hits, count] = &mut state.sums;
        *loss += done.loss * done.rows as f64;
        *hits += done.hits;
        *count += done.rows as f64;
        let accuracy = *hits / *count;
        self.tell(&Event::Progress {
            what: "train",
            done: state.step,
            total: steps,
            epoch: Some(phase.before + state.epoch + 1),
            loss: Some(done.loss),
            accuracy: Some(accuracy),
        });
    }

    /// Accuracy and loss on the validation pictures.
    fn evaluate(
        &mut self,
        net: &Network,
        session: &mut Session,
        source: &Source,
        batch: usize,
    ) -> Result<(f64, f64)> {
        let mut tally = Tally::default();
        match source {
            Source::Features { val, .. } => {
                for (rows, labels) in val.rows.chunks(batch * val.dims).zip(val.labels.chunks(batch)) {
                    let data = bytemuck::cast_slice(rows);
                    let logits = session.logits(net, Feed::Features, data, labels.len(), batch)?;
                    tally.add(&logits, labels);
                }
            }
            Source::Pictures { val, .. } => {
                let order: Vec<usize> = (0..val.len()).collect();
                let view = View::Eval(net.preprocess().clone());
                let total = val.len();
                let mut done = 0;
                for b in Loader::new(val.clone(), batches(&order, batch, 1), view, AHEAD)? {
                    if !b.labels.is_empty() {
                        let logits = session.logits(net, Feed::Pictures, &b.pixels, b.labels.len(), batch)?;
                        tally.add(&logits, &b.labels);
                    }
                    done += b.labels.len();
                    self.tell(&Event::progress("evaluate", done, total));
                }
            }
        }
        Ok((tally.top1(), tally.mean_loss()))
    }

    /// Pictures or feature vectors that are evaluated at a time.
    fn eval_batch(&self, net: &Network, source: &Source) -> Result<usize> {
        let Source::Pictures { val, .. } = source else { return Ok(FEATURE_BATCH) };
        let caps = self.device.caps();
        let wanted = self.config.batch.unwrap_or(Config::BATCH).min(val.len());
        Ok(fitting_batch(wanted, |batch| super::session::inference_plan(net, batch, &caps))?.0)
    }
}
