//! The loop: epochs of steps, evaluation, the best weights, checkpoints that can be resumed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::checkpoint::{beginning, snapshot};
use super::config::{Config, Strategy};
use super::events::{EpochMetrics, Event, Observer, Silent};
use super::prepare::warm;
use super::schedule::{Schedule, Standing};
use super::score::{Answers, Best, Score};
use super::session::{Fed, Session, StepResult};
use super::source::Source;
use super::teacher::Teacher;
use crate::Result;
use crate::data::{Dataset, Task};
use crate::models::Network;
use crate::plan::Device;

/// Between two checkpoints that nothing else asks for.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What `val_accuracy` is a figure of.
    pub task: Task,
    /// Share of right answers on the validation pictures with the weights that are kept, 0 to 1; mean average precision
    /// where pictures have several labels, R2 where they have numbers.
    pub val_accuracy: f64,
    /// Their mean loss.
    pub val_loss: f64,
    /// The epoch whose weights are kept, from 1 ([`Best`]).
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
    /// Updates done in the epoch under way.
    pub step: usize,
    /// Optimizer steps of the phase.
    pub updates: u64,
    /// Those of earlier phases, by layer group.
    #[serde(default)]
    pub updates_before: Vec<u64>,
    /// Pictures that go through the network at once.
    pub batch: usize,
    /// How many such batches make one update; 0 is 1.
    #[serde(default)]
    pub parts: usize,
    /// The least validation loss of the phase, and the epochs since then.
    #[serde(default)]
    pub least: Option<(f64, usize)>,
    /// How often the validation loss has come to rest.
    #[serde(default)]
    pub plateaus: usize,
    /// Sums of the epoch under way: loss times pictures, right answers, pictures.
    pub sums: [f64; 3],
    /// The best epoch of all phases so far.
    pub best: Option<Best>,
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
    /// The best epoch so far.
    best: Option<Best>,
    /// Epochs done.
    epochs: usize,
    /// Moments of what learned, and the updates that those of each layer group have seen.
    moments: BTreeMap<String, Vec<f32>>,
    updates: Vec<u64>,
}

/// Teaches a network. Build it, then [`Trainer::fit`].
///
/// ```
/// use std::sync::Arc;
///
/// use defrost::data::{DrawnSet, Scenes};
/// use defrost::models;
/// use defrost::nn::Freeze;
/// use defrost::plan::Device;
/// use defrost::train::{Config, Strategy, Trainer};
///
/// # fn main() -> defrost::Result<()> {
/// let set = DrawnSet { side: 32, train: 2, val: 1, ..DrawnSet::new(Scenes::Things) }.splits();
/// let mut net = models::create("resnet20", 8)?;
/// net.freeze(Freeze::through("layer2"))?;
/// let frozen = net.tensor("conv1.weight")?.to_vec();
///
/// let config = Config { strategy: Strategy::Finetune, epochs: Some(1), ..Config::default() };
/// let report = Trainer::new(&Device::Cpu, config).fit(&mut net, &Arc::new(set.train), &Arc::new(set.val))?;
/// assert_eq!(report.epochs, 1);
/// assert_eq!(net.tensor("conv1.weight")?, frozen);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'a> {
    pub(super) device: &'a Device,
    pub(super) config: Config,
    pub(super) observer: Option<&'a mut dyn Observer>,
    pub(super) stop: Option<&'a AtomicBool>,
    pub(super) folder: Option<PathBuf>,
    pub(super) cache: Option<PathBuf>,
    pub(super) resumed: bool,
    pub(super) teacher: Option<Teacher>,
}

impl<'a> Trainer<'a> {
    /// A trainer with these settings.
    pub fn new(device: &'a Device, config: Config) -> Self {
        Trainer {
            device,
            config,
            observer: None,
            stop: None,
            folder: None,
            cache: None,
            resumed: false,
            teacher: None,
        }
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

    pub(super) fn tell(&mut self, event: &Event) {
        match &mut self.observer {
            Some(observer) => observer.event(event),
            None => Silent.event(event),
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Teaches `net`, whose head already has the data's classes and whose mask says what learns (in a training of
    /// several phases, each has its own), and leaves it with the weights of its best epoch.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] for settings that do not fit, [`crate::Error::Data`] about pictures,
    /// [`crate::Error::Diverged`] where the loss is no number any more, and from the device and the disk.
    pub fn fit(&mut self, net: &mut Network, train: &Arc<Dataset>, val: &Arc<Dataset>) -> Result<Report> {
        self.fit_best(net, train, val).map(|(report, _)| report)
    }

    /// The same, with all that is known of the best epoch.
    pub(super) fn fit_best(
        &mut self,
        net: &mut Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
    ) -> Result<(Report, Best)> {
        let began = Instant::now();
        self.config.check()?;
        net.set_task(train.task);
        self.hire(net)?;
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
                net.set_dropout(self.config.dropout)?;
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
            let next = phases.get(number + 1);
            let warming = next.and_then(|next| warm(self.device, net, next, train.len()));
            let outcome = self.phase(net, train, val, phase, handed);
            if let Some(warming) = warming {
                let _ = warming.join();
            }
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
        let best = handed.best.unwrap_or_default();
        let report = Report {
            task: train.task,
            val_accuracy: best.score.accuracy,
            val_loss: best.score.loss,
            best_epoch: best.epoch,
            epochs: handed.epochs,
            seconds: began.elapsed().as_secs_f64(),
            run: self.folder.clone(),
            interrupted,
        };
        Ok((report, best))
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
        let (source, marks) = self.source(net, train, val)?;
        let eval_batch = self.eval_batch(net, &source, &marks)?;
        let solved = self.solve(net, &source)?;
        let (mut session, batch) = self.session(net, &source, &marks)?;
        let incumbent = handed.best.map(|best| Best { updates: 0, ..best });
        let updates_before = handed.updates;
        let parts = self.config.accumulate;
        let number = phase.number;
        let mut state =
            State { phase: number, batch, parts, best: incumbent, updates_before, ..State::default() };
        // The optimizer remembers what goes on learning.
        session.write(&handed.moments)?;
        let mut best: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        if self.resumed {
            (state, best) = self.load(&session, phase.before)?;
        }
        session.updates_before.clone_from(&state.updates_before);
        let mut initial = net.clone();
        if let Some(Best { updates, .. }) = state.best.filter(|_| phase.counted) {
            // The checkpoint it came from had counted them already.
            initial.count_batches(-(updates as i64));
        }
        let epochs = self.config.epochs();
        if let Some(solved) = solved {
            let score = self.evaluate(net, &mut session, &source, eval_batch)?;
            (state.epoch, state.best) =
                (epochs, Some(Best { score, epoch: phase.before + epochs, updates: 0 }));
            best = session.weights()?;
            let lr = 0.0;
            self.finish_epoch(&state, phase, solved, score, lr)?;
            self.save(net, &session, &state, &best)?;
        }
        let mut saved = Instant::now();
        let reached =
            self.config.stop_after.is_some_and(|stop| state.epoch > 0 && phase.before + state.epoch >= stop);
        let mut interrupted = solved.is_some() && !phase.last && (reached || self.stopped());
        let mut epochs_over = self.over(&state);
        while state.epoch < epochs && !epochs_over {
            if !self.epoch(&initial, &mut session, &source, &mut state, phase)? {
                interrupted = true;
                self.save(&initial, &session, &state, &best)?;
                break;
            }
            let score = self.evaluate(&initial, &mut session, &source, eval_batch)?;
            let loss = score.rank;
            let [train_loss, hits, count] = state.sums;
            state.epoch += 1;
            (state.step, state.sums) = (0, [0.0; 3]);
            let number = phase.before + state.epoch;
            let by_accuracy = self.config.strategy != Strategy::Features && train.task == Task::Classes;
            if state.best.is_none_or(|best| score.beats(&best.score, by_accuracy)) {
                state.best = Some(Best { score, epoch: number, updates: state.updates });
                best = session.weights()?;
            }
            let factor = self.config.factor(self.standing(&source, &session, &state, state.epoch - 1));
            let stale = match state.least {
                Some((least, since)) if loss >= least => (least, since + 1),
                _ => (loss, 0),
            };
            state.least = Some(stale);
            if stale.1 > 0 && stale.1.is_multiple_of(Schedule::PLATEAU) {
                state.plateaus += 1;
            }
            let patience = self.config.patience.is_some_and(|patience| stale.1 >= patience);
            let count = count.max(1.0);
            let lr = session.head_rate(factor);
            let accuracy = match train.task {
                // What is counted are squared errors.
                Task::Regression => 1.0 - hits / count / source.variance().max(f64::MIN_POSITIVE),
                _ => hits / count,
            };
            self.finish_epoch(&state, phase, [train_loss / count, accuracy], score, lr)?;
            let last = state.epoch == epochs || patience;
            if patience && state.epoch < epochs {
                let text =
                    format!("the validation loss has not fallen for {} epochs: that is enough", stale.1);
                self.tell(&Event::Note(text));
                epochs_over = true;
            }
            let asked = self.stopped() || self.config.stop_after.is_some_and(|stop| number >= stop);
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
            false => {
                session.everything()?.into_iter().filter(|(name, _)| name.starts_with("moment")).collect()
            }
        };
        let updates = session.updates_after(state.updates);
        let (best, epochs) = (state.best, phase.before + state.epoch);
        Ok((Handed { best, epochs, moments, updates }, interrupted))
    }

    /// Tells an epoch's figures, and writes them down: mean loss and accuracy of the training, what the weights are worth
    /// then, and the head's learning rate.
    fn finish_epoch(
        &mut self,
        state: &State,
        phase: Phase,
        [train_loss, train_accuracy]: [f64; 2],
        score: Score,
        lr: f64,
    ) -> Result<()> {
        let metrics = EpochMetrics {
            epoch: phase.before + state.epoch,
            epochs: phase.epochs,
            train_loss,
            train_accuracy,
            val_loss: score.loss,
            val_accuracy: score.accuracy,
            lr,
            seconds: phase.began.elapsed().as_secs_f64(),
        };
        self.record(&metrics)?;
        self.tell(&Event::Epoch(metrics));
        Ok(())
    }

    /// Whether the phase at hand ended before its last epoch.
    fn over(&self, state: &State) -> bool {
        let stale = state.least.map_or(0, |(_, since)| since);
        self.config.patience.is_some_and(|patience| stale >= patience)
    }

    /// Where the training stands in epoch `epoch` (from 0).
    fn standing(&self, source: &Source, session: &Session, state: &State, epoch: usize) -> Standing {
        let epochs = self.config.epochs();
        let batches = source.plan(&self.config, state.batch, session.pads(), 0).len();
        let steps = epochs * batches.div_ceil(state.parts.max(1));
        Standing { step: state.updates as usize, steps, epoch, epochs, plateaus: state.plateaus }
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
        let parts = state.parts.max(1);
        let plan = source.plan(&self.config, state.batch, session.pads(), state.epoch);
        let pictures = plan.iter().map(Vec::len).sum();
        let ahead = plan[(state.step * parts).min(plan.len())..].to_vec();
        let weights = source.class_weights(&self.config);
        let mut at = self.standing(source, session, state, state.epoch);
        let config = self.config.clone();
        let mut fed = source.train(&config, net, state.epoch, ahead)?.peekable();
        while fed.peek().is_some() {
            if self.stopped() {
                self.drain(session, state, pictures, phase)?;
                return Ok(false);
            }
            let mut group: Vec<Fed> = fed.by_ref().take(parts).collect::<Result<_>>()?;
            state.step += 1;
            group.retain(|part| part.rows() > 0);
            if group.is_empty() {
                continue;
            }
            group.iter_mut().try_for_each(|part| self.complete(net, part, &weights))?;
            at.step = state.updates as usize;
            state.updates += 1;
            let (factor, batch, updates) = (config.factor(at), state.batch, state.updates);
            let mut done = Vec::new();
            session.train(net, &group, batch, factor, updates, &mut |result| done.push(result))?;
            done.into_iter().for_each(|result| self.count(state, result, pictures, phase));
        }
        self.drain(session, state, pictures, phase)?;
        Ok(true)
    }

    /// Waits for the steps under way.
    fn drain(
        &mut self,
        session: &mut Session,
        state: &mut State,
        pictures: usize,
        phase: Phase,
    ) -> Result<()> {
        while let Some(done) = session.finish()? {
            self.count(state, done, pictures, phase);
        }
        Ok(())
    }

    fn count(&mut self, state: &mut State, done: StepResult, pictures: usize, phase: Phase) {
        let [loss, hits, count] = &mut state.sums;
        *loss += done.loss * done.rows as f64;
        *hits += done.hits;
        *count += done.rows as f64;
        let (seen, accuracy) = (*count as usize, *hits / *count);
        self.tell(&Event::Progress {
            what: "train",
            done: seen,
            total: pictures,
            epoch: Some(phase.before + state.epoch + 1),
            loss: Some(done.loss),
            accuracy: Some(accuracy),
        });
    }

    /// What the present weights are worth on the validation pictures.
    fn evaluate(
        &mut self,
        net: &Network,
        session: &mut Session,
        source: &Source,
        batch: usize,
    ) -> Result<Score> {
        session.settle()?;
        let mut answers = Answers::default();
        let total = source.val_len();
        for fed in source.val(net, batch)? {
            let mut fed = fed?;
            if fed.rows() > 0 {
                answers.logits.extend(session.logits(net, &fed, batch)?);
            }
            answers.labels.append(&mut fed.labels);
            answers.targets.append(&mut fed.targets);
            self.tell(&Event::progress("evaluate", answers.labels.len(), total));
        }
        answers.score(net.config().task, net.classes().len())
    }
}
