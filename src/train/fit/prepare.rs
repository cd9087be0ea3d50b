//! Preparation of a phase: the data source, the network on the device, and the targets of the loss.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::data::{Dataset, Part, Skipped, View};
use crate::models::Network;
use crate::plan::{Device, Plan, Update, compile};
use crate::tape::Tap;
use crate::task::{self, LossOptions, Targets};
use crate::train::cache::features::{Features, SplitPoint, Wanted, extract_until};
use crate::train::events::{Event, Observer, Silent};
use crate::train::fit::source::{CACHED_BATCH, Source, training_view};
use crate::train::fit::teacher::Teacher;
use crate::train::fit::trainer::Trainer;
use crate::train::head::solver::{SolverOptions, solve_head};
use crate::train::runs::images::Images;
use crate::train::settings::Config;
use crate::train::step::plans::{Objective, eval_request, fitting_batch, train_request, training_plan};
use crate::train::step::session::{DeviceBatch, Kind, Session};
use crate::{Error, Result};

/// Compiles the kernels of the next phase on another thread during the current one, so that the next phase starts
/// without delay. Errors are ignored here: the phase itself reports them when it begins.
pub(crate) fn warm(device: &Device, net: &Network, config: &Config, images: usize) -> Option<JoinHandle<()>> {
    if matches!(device, Device::Cpu) {
        return None;
    }
    let (device, mut net, config) = (device.clone(), net.clone(), config.clone());
    let work = move || {
        let caps = device.caps();
        let frozen = net.freeze(config.freeze());
        let plan = frozen.and_then(|_| training_plan(&net, &config, config.batch(images), &caps));
        let _ = plan.and_then(|plan| device.warm(&plan));
    };
    std::thread::Builder::new().name("defrost-warm".into()).spawn(work).ok()
}

/// Content keys of the training and the validation images.
type Contents = [Vec<[u8; 32]>; 2];

impl Trainer<'_> {
    /// The phase's data and its taps. The data are images, or cached features where each image always looks alike.
    /// Unreadable images are dropped. The images are those that the first phase could read.
    pub(crate) fn source(
        &mut self,
        net: &Network,
        train: &Arc<Dataset>,
        val: &Arc<Dataset>,
    ) -> Result<(Source, Vec<Tap>)> {
        let begun = self.sets.clone();
        let [train, val] = begun.clone().unwrap_or_else(|| [Arc::clone(train), Arc::clone(val)]);
        let split = match self.config.caches() {
            true => SplitPoint::before_learning(net)?,
            false => None,
        };
        let (source, taps, contents) = match split {
            Some(split) => self.cached(net, split, [&train, &val])?,
            None if begun.is_some() => (Source::Images { train, val }, Vec::new(), None),
            None => {
                let total = train.len() + val.len();
                self.tell(&Event::progress("reading", 0, total));
                let read = |set: &Arc<Dataset>| set.as_ref().clone().verify_with_keys(|_, _| {});
                let ((read_train, train_keys), (read_val, val_keys)) = (read(&train)?, read(&val)?);
                self.tell(&Event::progress("reading", total, total));
                let new = |read: &Dataset, set: &Dataset| read.skipped[set.skipped.len()..].to_vec();
                let skipped = [new(&read_train, &train), new(&read_val, &val)].concat();
                self.skip(skipped)?;
                let (train, val) = (read_train.into(), read_val.into());
                (Source::Images { train, val }, Vec::new(), Some([train_keys, val_keys]))
            }
        };
        if let (None, Some([train_keys, val_keys])) = (begun, contents) {
            let [train, val] = source.sets();
            if let (Some(known), Some(folder)) = (&self.images, &self.folder) {
                let found = Images::of(&known.root, [train, val], [&train_keys, &val_keys]);
                match &known.begun {
                    Some(begun) => begun.compare(&found, &known.root)?,
                    None => found.write(folder)?,
                }
            }
            self.sets = Some([Arc::clone(train), Arc::clone(val)]);
        }
        Ok((source, taps))
    }

    /// The frozen backbone's features of the images, with the taps and the content keys of the images.
    fn cached(
        &mut self,
        net: &Network,
        split: SplitPoint,
        sets: [&Arc<Dataset>; 2],
    ) -> Result<(Source, Vec<Tap>, Option<Contents>)> {
        let eval = || vec![View::Eval(net.preprocess().clone())];
        let views = match self.config.copies {
            0 => eval(),
            n => (0..n as u64).map(|copy| training_view(&self.config, net, copy)).collect(),
        };
        let wanted = [Wanted { set: sets[0], views }, Wanted { set: sets[1], views: eval() }];
        let mut silent = Silent;
        let observer: &mut dyn Observer = match &mut self.observer {
            Some(observer) => *observer,
            None => &mut silent,
        };
        let mut found =
            extract_until(&split, self.device, &wanted, self.cache.as_deref(), observer, self.stop)?;
        let (Some(mut cached_val), Some(mut cached)) = (found.pop(), found.pop()) else {
            return Err(Error::Data("no features".into()));
        };
        let known = cached.from_cache + cached_val.from_cache;
        if known > 0 {
            self.tell(&Event::Note(format!("features of {known} images were kept from an earlier run")));
        }
        if self.sets.is_some() {
            for (part, set, found) in [(Part::Train, sets[0], &cached), (Part::Val, sets[1], &cached_val)] {
                let there: BTreeSet<usize> = found.indices.iter().copied().collect();
                let gone = (0..set.len()).filter(|i| !there.contains(i));
                self.miss(sets, part, gone.zip(found.skipped.iter().cloned()).collect())?;
            }
        } else {
            self.skip([cached.skipped.clone(), cached_val.skipped.clone()].concat())?;
        }
        let readable = |set: &Arc<Dataset>, cached: &Features| {
            let samples = cached.indices.iter().map(|&i| set.samples[i].clone()).collect();
            Arc::new(Dataset { samples, skipped: Vec::new(), ..set.as_ref().clone() })
        };
        let read = [readable(sets[0], &cached), readable(sets[1], &cached_val)];
        if let Some(teacher) = &mut self.teacher {
            teacher.look_at(&read[0])?;
        }
        let contents = [std::mem::take(&mut cached.contents), std::mem::take(&mut cached_val.contents)];
        Ok((
            Source::Cached { cached: Box::new([cached, cached_val]), sets: read },
            split.taps,
            Some(contents),
        ))
    }

    /// Reports images that are left out from the beginning.
    fn skip(&mut self, skipped: Vec<Skipped>) -> Result<()> {
        match skipped.first() {
            Some(first) if self.config.strict => Err(Error::Data(format!(
                "{}: {}; {} images cannot be read, and `strict` allows none",
                first.path.display(),
                first.reason,
                skipped.len()
            ))),
            Some(_) => {
                self.tell(&Event::Skipped(skipped));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Loads the network onto the device. Also returns how many images go through the network at once: the whole
    /// batch, or a part of it where the device cannot hold the batch; the gradients of the parts are then added up.
    pub(crate) fn session(
        &mut self,
        net: &Network,
        source: &Source,
        taps: &[Tap],
    ) -> Result<(Session, usize)> {
        let caps = self.device.caps();
        let objective = self.objective(net)?;
        let wanted = self.config.batch(source.len());
        let accumulate = self.config.accumulate;
        let mut batch;
        let mut compiled = None;
        if self.resumed {
            let state = self.state()?;
            (batch, self.config.accumulate) = (state.batch, state.parts.max(1));
        } else {
            let update = self.config.update();
            let layout = net.layout(&update, &caps);
            let fewer = self.config.grad_checkpointing;
            let request = |batch| train_request(net, taps, batch, objective, update, fewer);
            let plan = |batch| compile(request(batch)?, &layout, &caps);
            let (fitting, plan) = fitting_batch(wanted, plan)?;
            batch = fitting;
            compiled = Some(plan);
        }
        loop {
            if !self.resumed {
                self.config.accumulate = accumulate * wanted.div_ceil(batch);
            }
            // The next attempt compiles another plan.
            let plan = compiled.take();
            let session = Session::new(self.device, net, &self.config, objective, taps.to_vec());
            let ready = session.and_then(|mut session| {
                if let Some(plan) = plan {
                    session.offer(Kind::Train { apply: true }, batch, plan);
                }
                session.prepare(net, batch).map(|()| session)
            });
            match ready {
                Err(Error::OutOfMemory(_)) if !self.config.grad_checkpointing => {
                    self.config.grad_checkpointing = true;
                    self.tell(&Event::Note(
                        "memory does not suffice for all activations: few are kept, the others are computed again for \
                         the gradients, as with `grad_checkpointing`"
                            .into(),
                    ));
                }
                Err(Error::OutOfMemory(_)) if batch > 1 && !self.resumed => batch /= 2,
                ready => {
                    if batch < wanted && !self.resumed {
                        let (name, parts) = (self.device.describe(), wanted.div_ceil(batch));
                        self.tell(&Event::Note(format!(
                            "{wanted} images do not fit {name} at once: {batch} at a time, and one update \
                             for {parts} such batches"
                        )));
                    }
                    return Ok((ready?, batch));
                }
            }
        }
    }

    /// Loads the teacher, where the settings name one.
    pub(crate) fn load_teacher(&mut self, net: &Network) -> Result<()> {
        let augmented = self.config.augments() && self.config.augment.on_device();
        self.teacher = match &self.config.teacher {
            Some(path) => Some(Teacher::open(path, net, self.device, augmented)?),
            None => None,
        };
        Ok(())
    }

    /// Solves for the head by logistic regression, where the settings ask for it. Returns loss and accuracy on the
    /// training images.
    pub(crate) fn solve(&mut self, net: &mut Network, source: &Source) -> Result<Option<[f64; 2]>> {
        let Source::Cached { cached, .. } = source else { return Ok(None) };
        if !self.config.solves() || self.resumed {
            return Ok(None);
        }
        let mut silent = Silent;
        let observer: &mut dyn Observer = match &mut self.observer {
            Some(observer) => *observer,
            None => &mut silent,
        };
        let options = SolverOptions { seed: self.config.seed, ..SolverOptions::default() };
        let vectors = cached[0].vectors()?;
        let solved = solve_head(net, self.device, &vectors, &options, observer)?;
        solved.write(net)?;
        Ok(Some([solved.loss, solved.accuracy(&vectors)]))
    }

    /// Attaches the targets of a batch: the labels, the weight of each row, and a teacher's probabilities.
    pub(crate) fn attach(
        &mut self,
        net: &Network,
        part: &mut DeviceBatch,
        class_weights: &[f32],
    ) -> Result<()> {
        let Objective { task, options, .. } = self.objective(net)?;
        let mix = part.mix.as_ref().map(|(partners, own)| (&partners[..], *own));
        let collated = task.collate(Targets { rows: &part.targets, mix, class_weights }, options)?;
        if let Some(teacher) = &mut self.teacher {
            let answers = teacher.answers(part, self.config.distill.temperature)?;
            part.inputs.push(("teacher".into(), bytemuck::cast_slice(&answers).to_vec()));
        }
        part.inputs.extend(collated.inputs.into_iter().map(|(name, bytes)| (name.to_string(), bytes)));
        part.weights = collated.weights;
        Ok(())
    }

    /// The objective of a training step.
    pub(crate) fn objective(&self, net: &Network) -> Result<Objective> {
        let Config { augment, smoothing, distill, class_weights, .. } = self.config;
        let augmented = self.config.augments();
        Ok(Objective {
            task: task::of(net)?,
            options: LossOptions { smoothing, class_weights, mixed: augmented && augment.mixes() },
            teacher: self.teacher.is_some().then_some((distill.temperature, distill.share)),
            augmented: augmented && augment.on_device(),
        })
    }

    /// Evaluation batch size, in images or rows of cached features, and the plan of the evaluation.
    pub(crate) fn eval_plan(&self, net: &Network, source: &Source, taps: &[Tap]) -> Result<(usize, Plan)> {
        let caps = self.device.caps();
        let wanted = match source {
            Source::Images { .. } => self.config.batch.unwrap_or(Config::BATCH),
            // About 16 MiB at a time.
            Source::Cached { cached, .. } => ((4 << 20) / cached[1].dims().max(1)).clamp(1, CACHED_BATCH),
        };
        let layout = net.layout(&Update { average: false, ..self.config.update() }, &caps);
        let plan = |batch| compile(eval_request(net, taps, batch)?, &layout, &caps);
        fitting_batch(wanted.min(source.val_len().max(1)), plan)
    }
}
