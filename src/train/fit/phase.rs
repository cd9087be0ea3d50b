//! One phase of a training: epochs of steps, evaluation, the best weights, and checkpoints to resume from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::data::{Dataset, Part};
use crate::models::Network;
use crate::task::{self, Raw, Score};
use crate::train::events::{EpochMetrics, Event};
use crate::train::fit::score::{Best, beats};
use crate::train::fit::source::Source;
use crate::train::fit::state::State;
use crate::train::fit::trainer::Trainer;
use crate::train::optimizer::schedule::{Schedule, Standing};
use crate::train::runs::checkpoint::{Weights, snapshot};
use crate::train::settings::Config;
use crate::train::step::finite::{Greatest, all_finite};
use crate::train::step::session::{DeviceBatch, Kind, Session, StepResult};
use crate::{Error, Result};

/// One phase of a training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) number: usize,
    /// Whether this is the last phase.
    pub(crate) last: bool,
    /// Number of epochs in earlier phases, and in all phases.
    pub(crate) before: usize,
    pub(crate) epochs: usize,
    /// When the training began.
    pub(crate) began: Instant,
}

/// State that a phase hands on to the next.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// The best epoch so far.
    pub(crate) best: Option<Best>,
    /// Number of epochs done.
    pub(crate) epochs: usize,
    /// Optimizer moments of the trainable parameters, and the number of updates that each layer group's moments have
    /// seen.
    moments: BTreeMap<String, Vec<f32>>,
    updates: Vec<u64>,
}

/// Seconds between two checkpoints, where the training waits `waited` seconds for each one: checkpoints take at most
/// a hundredth of the time.
pub(crate) fn between_checkpoints(config: &Config, waited: f64) -> f64 {
    let every = config.checkpoint_every;
    if every > 0.0 { every.max(100.0 * waited) } else { every }
}

/// A phase in progress.
struct Course {
    phase: Phase,
    /// The network at the start of the phase.
    initial: Arc<Network>,
    session: Session,
    source: Arc<Source>,
    state: State,
    /// Weights of the best epoch, as far as this phase changed them.
    best: Arc<Weights>,
    /// Start time of the last checkpoint, and the seconds that the training waited for it.
    saved: (Instant, f64),
}

impl Trainer<'_> {
    /// Trains one phase, starting from `net`. Returns the state for the next phase, and whether the phase was
    /// stopped.
    pub(crate) fn phase(
        &mut self,
        net: &mut Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
        phase: Phase,
        handed: Handed,
    ) -> Result<(Handed, bool)> {
        let (source, taps) = self.source(net, train, val)?;
        let (eval_batch, eval_plan) = self.eval_plan(net, &source, &taps)?;
        let solved = self.solve(net, &source)?;
        let (mut session, batch) = self.session(net, &source, &taps)?;
        session.offer(Kind::Eval, eval_batch, eval_plan);
        // The optimizer keeps its moments for parameters that stay trainable.
        session.write(&handed.moments)?;
        let (state, best) = match self.resumed {
            true => self.load(&session, phase.before)?,
            false => {
                let best = handed.best.map(|best| Best { updates: 0, ..best });
                let (parts, updates_before) = (self.config.accumulate, handed.updates);
                let state =
                    State { phase: phase.number, batch, parts, best, updates_before, ..State::default() };
                (state, Weights::new())
            }
        };
        session.updates_before.clone_from(&state.updates_before);
        let (initial, source, best) = (Arc::new(net.clone()), Arc::new(source), Arc::new(best));
        let saved = (Instant::now(), 0.0);
        let mut course = Course { phase, initial, session, source, state, best, saved };
        let epochs = self.config.epochs();
        if let Some(solved) = solved {
            let score = self.evaluate(&mut course, eval_batch)?;
            course.state.epoch = epochs;
            course.state.best = Some(Best { score, epoch: phase.before + epochs, updates: 0 });
            course.best = Arc::new(course.session.weights()?);
            self.finish_epoch(&course, solved, score, 0.0)?;
            self.checkpoint(&mut course)?;
        }
        let stop_after = self.config.stop_after;
        let reached = |epoch: usize| stop_after.is_some_and(|stop| epoch > 0 && phase.before + epoch >= stop);
        let mut interrupted =
            solved.is_some() && !phase.last && (reached(course.state.epoch) || self.stopped());
        while course.state.epoch < epochs && !course.state.is_enough(self.config.patience) {
            if !self.epoch(&mut course)? {
                interrupted = true;
                self.checkpoint(&mut course)?;
                break;
            }
            self.checkpoint_if_due(&mut course)?;
            let score = self.evaluate(&mut course, eval_batch)?;
            let enough = self.close_epoch(&mut course, score)?;
            let last = enough || course.state.epoch == epochs;
            interrupted = !(last && phase.last) && (self.stopped() || reached(course.state.epoch));
            if last || interrupted {
                self.checkpoint(&mut course)?;
            } else {
                self.checkpoint_if_due(&mut course)?;
            }
            if interrupted {
                break;
            }
        }
        let Course { initial, session, state, best, .. } = course;
        let moments = match phase.last {
            true => BTreeMap::new(),
            false => {
                let all = session.everything()?;
                let moments = all.values().filter(|(name, _)| name.starts_with("moment"));
                moments.map(|(name, data)| (name.to_string(), data.into_owned())).collect()
            }
        };
        let updates = session.updates_after(state.updates);
        // Frees the last checkpoint and the device's memory first, so that the next phase needs no more memory than
        // this one.
        self.saver.finish()?;
        drop(session);
        *net = snapshot(&initial, &best, state.best)?;
        let (best, epochs) = (state.best, phase.before + state.epoch);
        Ok((Handed { best, epochs, moments, updates }, interrupted))
    }

    /// Counts an epoch that was trained and evaluated, and keeps its weights if they are the best so far. Returns
    /// whether early stopping ends the phase: the validation loss has not fallen for `patience` epochs.
    fn close_epoch(&mut self, course: &mut Course, score: Score) -> Result<bool> {
        let task = task::of(&course.initial)?;
        let [train_loss, hits, count] = course.state.sums;
        let state = &mut course.state;
        state.epoch += 1;
        (state.step, state.sums) = (0, [0.0; 3]);
        let number = course.phase.before + state.epoch;
        let by_metric = !self.config.strategy.head_only() && task.metric_first();
        if state.best.is_none_or(|best| beats(&score, &best.score, by_metric)) {
            state.best = Some(Best { score, epoch: number, updates: state.updates });
            course.best = Arc::new(course.session.weights()?);
        }
        let factor = self.config.factor(self.standing(course, course.state.epoch - 1));
        let state = &mut course.state;
        let stale = match state.least {
            Some((least, since)) if score.selection_loss >= least => (least, since + 1),
            _ => (score.selection_loss, 0),
        };
        state.least = Some(stale);
        if stale.1 > 0 && stale.1.is_multiple_of(Schedule::PLATEAU) {
            state.plateaus += 1;
        }
        let count = count.max(1.0);
        let lr = course.session.head_rate(factor);
        let accuracy = task.training_metric(hits / count, course.source.sets()[0]);
        self.finish_epoch(course, [train_loss / count, accuracy], score, lr)?;
        let enough = course.state.is_enough(self.config.patience);
        if enough && course.state.epoch < self.config.epochs() {
            let text = format!("the validation loss has not fallen for {} epochs: that is enough", stale.1);
            self.tell(&Event::Note(text));
        }
        Ok(enough)
    }

    /// Reports and records an epoch's metrics: mean loss and accuracy on the training images, the validation score,
    /// and the head's learning rate.
    fn finish_epoch(
        &mut self,
        course: &Course,
        [train_loss, train_accuracy]: [f64; 2],
        score: Score,
        lr: f64,
    ) -> Result<()> {
        let phase = course.phase;
        let metrics = EpochMetrics {
            epoch: phase.before + course.state.epoch,
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

    /// Starts to write a checkpoint.
    fn checkpoint(&mut self, course: &mut Course) -> Result<()> {
        let began = Instant::now();
        self.save(&course.initial, &course.session, &course.state, &course.best)?;
        course.saved = (began, began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Starts to write a checkpoint if the last one is old enough.
    fn checkpoint_if_due(&mut self, course: &mut Course) -> Result<()> {
        if self.is_due(course) { self.checkpoint(course) } else { Ok(()) }
    }

    fn is_due(&self, course: &Course) -> bool {
        let (began, waited) = course.saved;
        began.elapsed().as_secs_f64() > between_checkpoints(&self.config, waited)
    }

    /// Position of the training in epoch `epoch` (from 0), for the schedule.
    fn standing(&self, course: &Course, epoch: usize) -> Standing {
        let Course { source, session, state, .. } = course;
        let epochs = self.config.epochs();
        let batches = source.plan(&self.config, state.batch, session.pads(), 0).len();
        let steps = epochs * batches.div_ceil(state.parts.max(1));
        Standing { step: state.updates as usize, steps, epoch, epochs, plateaus: state.plateaus }
    }

    /// Trains the rest of the epoch. Returns whether the epoch was completed.
    fn epoch(&mut self, course: &mut Course) -> Result<bool> {
        let (net, source) = (Arc::clone(&course.initial), Arc::clone(&course.source));
        let (config, state) = (self.config.clone(), &course.state);
        let parts = state.parts.max(1);
        let plan = source.plan(&config, state.batch, course.session.pads(), state.epoch);
        let images = plan.iter().map(Vec::len).sum();
        let ahead = plan[(state.step * parts).min(plan.len())..].to_vec();
        let weights = source.class_weights(&config);
        let mut at = self.standing(course, state.epoch);
        let mut fed = source.train(&config, &net, course.state.epoch, ahead)?.peekable();
        while fed.peek().is_some() {
            if self.stopped() {
                self.drain(course, images)?;
                return Ok(false);
            }
            if self.is_due(course) {
                self.drain(course, images)?;
                self.checkpoint(course)?;
            }
            let mut group: Vec<DeviceBatch> = fed.by_ref().take(parts).collect::<Result<_>>()?;
            course.state.step += 1;
            for part in &mut group {
                self.miss(source.sets(), Part::Train, std::mem::take(&mut part.failed))?;
            }
            group.retain(|part| part.rows() > 0);
            if group.is_empty() {
                continue;
            }
            group.iter_mut().try_for_each(|part| self.attach(&net, part, &weights))?;
            at.step = course.state.updates as usize;
            course.state.updates += 1;
            let (factor, batch, updates) = (config.factor(at), course.state.batch, course.state.updates);
            let mut done = Vec::new();
            course.session.train(&net, &group, batch, factor, updates, &mut |result| done.push(result))?;
            done.into_iter().for_each(|result| self.count(course, result, images));
        }
        self.drain(course, images)?;
        Ok(true)
    }

    /// Waits for the steps in flight.
    fn drain(&mut self, course: &mut Course, images: usize) -> Result<()> {
        while let Some(done) = course.session.finish()? {
            self.count(course, done, images);
        }
        Ok(())
    }

    fn count(&mut self, course: &mut Course, done: StepResult, images: usize) {
        let [loss, hits, count] = &mut course.state.sums;
        *loss += done.loss * done.rows as f64;
        *hits += done.hits;
        *count += done.rows as f64;
        let (seen, accuracy) = (*count as usize, *hits / *count);
        self.tell(&Event::Progress {
            what: "train",
            done: seen,
            total: images,
            epoch: Some(course.phase.before + course.state.epoch + 1),
            loss: Some(done.loss),
            accuracy: Some(accuracy),
        });
    }

    /// Evaluates the current weights on the readable validation images.
    fn evaluate(&mut self, course: &mut Course, batch: usize) -> Result<Score> {
        course.session.settle()?;
        let (net, source) = (Arc::clone(&course.initial), Arc::clone(&course.source));
        let (mut outputs, mut targets) = (Vec::new(), Vec::new());
        let total = source.val_len();
        for fed in source.val(&net, batch)? {
            let mut fed = fed?;
            self.miss(source.sets(), Part::Val, std::mem::take(&mut fed.failed))?;
            if fed.rows() > 0 {
                outputs.extend(course.session.logits(&net, &fed, batch)?);
            }
            targets.append(&mut fed.targets);
            self.tell(&Event::progress("evaluate", targets.len(), total));
        }
        if !all_finite(&outputs) {
            let reason = Greatest::of(&snapshot(&net, &course.session.weights()?, None)?).reason("outputs");
            return Err(Error::Diverged(format!(
                "validation images: {reason}; choose a smaller `lr`, or freeze more"
            )));
        }
        task::of(&net)?.score(Raw { outputs: &outputs, targets: &targets, classes: net.classes() })
    }
}
