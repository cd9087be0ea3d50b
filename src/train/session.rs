//! A network on a device while it learns: its store, and one program for each kind of step and batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::config::{Config, trainable};
use crate::gpu::Caps;
use crate::models::{InputKind, Network, Recording};
use crate::nn::{Mode, NormMode};
use crate::ops::{self, Accuracy, Add, CrossEntropy, Mul};
use crate::plan::{Device, Layout, Optimizer, Plan, Program, Request, Store, Trainable, compile};
use crate::tape::{Shape, Tape, Type, ValueId};
use crate::{Error, Result};

/// What a step is fed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feed {
    /// Bytes of pictures.
    Pictures,
    /// Kept features: only the head runs.
    Features,
}

impl Feed {
    fn input(self) -> &'static str {
        match self {
            Feed::Pictures => "image",
            Feed::Features => "features",
        }
    }
}

/// Kinds of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Train(Feed),
    Eval(Feed),
}

/// Pages for what learns in `net`.
pub(super) fn layout(net: &Network, optimizer: Optimizer, caps: &Caps) -> Arc<Layout> {
    let is_state = |s: &&crate::nn::ParamSpec| !s.kind.is_learnable() && net.mask().changes(s);
    let state: Vec<(String, Shape)> =
        net.specs().iter().filter(is_state).map(|s| (s.path.clone(), Shape(s.device_shape()))).collect();
    Arc::new(Layout::new(&trainable(net), &state, optimizer.moments(), caps))
}

/// Logits, and those of the auxiliary heads with the weight of each one's loss.
type Outputs = (ValueId, Vec<(ValueId, f32)>);

/// Logits of `net` from one kind of feed.
fn record(tape: &mut Tape, net: &Network, mode: Mode, feed: Feed, batch: usize) -> Result<Outputs> {
    Ok(match feed {
        Feed::Pictures => {
            let recorded = net.record(tape, Recording::new(mode, batch))?;
            (recorded.logits, recorded.auxiliary)
        }
        Feed::Features => (net.record_head(tape, mode, batch)?.logits, Vec::new()),
    })
}

fn train_request(
    net: &Network,
    feed: Feed,
    batch: usize,
    smoothing: f32,
    optimizer: Optimizer,
) -> Result<Request> {
    let mut tape = Tape::new();
    let outputs = record(&mut tape, net, Mode::Train, feed, batch)?;
    loss_and_gradients(tape, outputs, batch, smoothing, Some(optimizer))
}

/// Appends loss, hits and gradients to a recorded network. Losses of auxiliary heads add to the gradients only.
fn loss_and_gradients(
    mut tape: Tape,
    (logits, auxiliary): Outputs,
    batch: usize,
    smoothing: f32,
    optimizer: Option<Optimizer>,
) -> Result<Request> {
    tape.set_layer("loss");
    let labels = tape.input("labels", Type::u32(&[batch]));
    let weights = tape.input("weights", Type::f32(&[batch]));
    let loss = tape.apply(CrossEntropy { smoothing }, &[logits, labels, weights])?;
    let hits = tape.apply(Accuracy, &[logits, labels, weights])?;
    let mut total = loss;
    for (logits, weight) in auxiliary {
        let own = tape.apply(CrossEntropy { smoothing }, &[logits, labels, weights])?;
        let weight = tape.fill(&[1], weight);
        let own = tape.apply(Mul, &[own, weight])?;
        total = tape.apply(Add::default(), &[total, own])?;
    }
    let gradients = ops::backward(&mut tape, total)?;
    if gradients.is_empty() {
        return Err(Error::Usage("everything is frozen: nothing would learn; freeze less".into()));
    }
    Ok(Request { tape, outputs: vec![("loss".into(), loss), ("hits".into(), hits)], gradients, optimizer })
}

/// The plan of one training step of `net` (already frozen as wanted) on pictures.
///
/// # Errors
/// [`Error::Shape`] where a value fits no binding, [`Error::Usage`] where nothing learns.
pub fn training_plan(net: &Network, config: &Config, batch: usize, caps: &Caps) -> Result<Plan> {
    let optimizer = config.optimizer();
    let request = train_request(net, Feed::Pictures, batch, config.smoothing, optimizer)?;
    compile(request, &layout(net, optimizer, caps), caps)
}

/// The plan of a prediction with `net`: logits from pictures; everything counts as frozen.
///
/// # Errors
/// As for [`training_plan`].
pub fn inference_plan(net: &Network, batch: usize, caps: &Caps) -> Result<Plan> {
    let mut net = net.clone();
    net.freeze(crate::nn::Freeze::all())?;
    let mut tape = Tape::new();
    let (logits, _) = record(&mut tape, &net, Mode::Eval, Feed::Pictures, batch)?;
    compile(Request::inference(tape, &[("logits", logits)]), &Arc::default(), caps)
}

/// The largest batch, from `batch` down by halves, that a plan can be compiled for.
pub(super) fn fitting_batch(
    batch: usize,
    mut plan: impl FnMut(usize) -> Result<Plan>,
) -> Result<(usize, Plan)> {
    let mut batch = batch.max(1);
    loop {
        match plan(batch) {
            Err(Error::Shape(_)) if batch > 1 => batch /= 2,
            other => return Ok((batch, other?)),
        }
    }
}

/// A batch of training data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    /// What the data is.
    pub(super) feed: Feed,
    /// Its bytes.
    pub(super) data: &'a [u8],
    /// One label a row.
    pub(super) labels: &'a [u32],
}

/// One finished training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StepResult {
    /// Loss of the batch: its mean.
    pub(super) loss: f64,
    /// Right answers.
    pub(super) hits: f64,
    /// Pictures.
    pub(super) rows: usize,
}

/// A network that learns on a device.
pub(super) struct Session {
    device: Device,
    trainable: Vec<Trainable>,
    layout: Arc<Layout>,
    pub(super) store: Arc<Store>,
    optimizer: Optimizer,
    smoothing: f32,
    weight_decay: f64,
    seed: u64,
    programs: BTreeMap<(Kind, usize), Program>,
    /// Programs with unfinished steps, oldest first, with their rows.
    queue: VecDeque<((Kind, usize), usize)>,
    /// Learning rate of each layer group.
    rates: Vec<f64>,
    pads: bool,
    /// Updates that the moments of each layer group had seen when this session began; none where it is shorter.
    pub(super) updates_before: Vec<u64>,
}

impl Session {
    pub(super) fn new(device: &Device, net: &Network, config: &Config) -> Result<Self> {
        let optimizer = config.optimizer();
        let layout = layout(net, optimizer, &device.caps());
        let store = device.store(&layout, net)?;
        let batch_statistics = net
            .specs()
            .iter()
            .any(|s| !s.kind.is_learnable() && net.mask().norm_mode(s.layer_path()) == NormMode::Train);
        Ok(Session {
            device: device.clone(),
            trainable: trainable(net),
            layout,
            store,
            optimizer,
            smoothing: config.smoothing,
            weight_decay: config.weight_decay(),
            seed: config.seed,
            programs: BTreeMap::new(),
            queue: VecDeque::new(),
            rates: config.rates(&net.structure().groups)?,
            // Rows without weight change nothing, unless batch statistics see them.
            pads: !batch_statistics,
            updates_before: Vec::new(),
        })
    }

    /// Whether a short batch can be filled up with rows that do not count.
    pub(super) fn pads(&self) -> bool {
        self.pads
    }

    fn program(&mut self, net: &Network, kind: Kind, batch: usize) -> Result<&mut Program> {
        if !self.programs.contains_key(&(kind, batch)) {
            let request = match kind {
                Kind::Train(feed) => train_request(net, feed, batch, self.smoothing, self.optimizer)?,
                Kind::Eval(feed) => {
                    let mut tape = Tape::new();
                    let (logits, _) = record(&mut tape, net, Mode::Eval, feed, batch)?;
                    Request::inference(tape, &[("logits", logits)])
                }
            };
            let plan = compile(request, &self.layout, &self.device.caps())?;
            self.programs.insert((kind, batch), Program::new(plan, &self.store, net)?);
        }
        self.programs.get_mut(&(kind, batch)).ok_or_else(|| Error::Shape("no program".into()))
    }

    /// Rows of the rates table: learning rate, decay, AdamW's corrections at `step` (from 1).
    fn rate_table(&self, factor: f64, step: u64) -> Vec<f32> {
        let (beta1, beta2) = match self.optimizer {
            Optimizer::AdamW(op) => (f64::from(op.beta1), f64::from(op.beta2)),
            Optimizer::Sgd(_) => (0.0, 0.0),
        };
        let group = |g: usize| {
            let rate = self.rates.get(g / 2).copied().unwrap_or(0.0) * factor;
            let decay = if g.is_multiple_of(2) { self.weight_decay } else { 0.0 };
            let step = (self.updates_before.get(g / 2).unwrap_or(&0) + step) as f64;
            [rate, decay, 1.0 - beta1.powf(step), (1.0 - beta2.powf(step)).sqrt()].map(|x| x as f32)
        };
        (0..self.layout.groups.max(1)).flat_map(group).collect()
    }

    /// Updates that the moments of each layer group have seen after so many of this session.
    pub(super) fn updates_after(&self, updates: u64) -> Vec<u64> {
        let learns = |group: usize| self.trainable.iter().any(|t| t.group as usize / 2 == group);
        let before = |group: usize| self.updates_before.get(group).copied().unwrap_or(0);
        (0..self.rates.len()).map(|g| before(g) + if learns(g) { updates } else { 0 }).collect()
    }

    /// The head's learning rate at a factor.
    pub(super) fn head_rate(&self, factor: f64) -> f64 {
        self.rates.last().copied().unwrap_or(0.0) * factor
    }

    /// Starts one training step on as many pictures or feature vectors as there are labels; `step` counts
    /// from 1. A batch
    /// smaller than `batch` is filled up with rows of weight 0 where that changes nothing.
    /// Returns an earlier step's result once enough are under way.
    pub(super) fn train(
        &mut self,
        net: &Network,
        given: &Given<'_>,
        batch: usize,
        factor: f64,
        step: u64,
    ) -> Result<Option<StepResult>> {
        let Given { feed, data, labels } = *given;
        let rows = labels.len();
        let size = if self.pads { batch.max(rows) } else { rows };
        let mut weights = vec![1.0 / rows as f32; rows];
        weights.resize(size, 0.0);
        let mut labels = labels.to_vec();
        labels.resize(size, 0);
        let data = padded(data, rows, size);
        let rates = self.rate_table(factor, step);
        // Seed and step are folded into two words, from which dropout draws.
        let words = [crate::rng::mix(self.seed, 0) as u32, step as u32];
        let kind = Kind::Train(feed);
        let earlier = self.make_room(kind, size)?;
        self.program(net, kind, size)?.start(&[
            (feed.input(), &data),
            ("labels", bytemuck::cast_slice(&labels)),
            ("weights", bytemuck::cast_slice(&weights)),
            ("rates", bytemuck::cast_slice(&rates)),
            ("step", bytemuck::cast_slice(&words)),
        ])?;
        self.queue.push_back(((kind, size), rows));
        Ok(earlier)
    }

    fn make_room(&mut self, kind: Kind, size: usize) -> Result<Option<StepResult>> {
        let room = self.programs.get(&(kind, size)).map_or(usize::MAX, Program::in_flight);
        if self.queue.len() < room.min(2) { Ok(None) } else { self.finish() }
    }

    /// The oldest unfinished training step, if any.
    pub(super) fn finish(&mut self) -> Result<Option<StepResult>> {
        let Some((key, rows)) = self.queue.pop_front() else { return Ok(None) };
        let program = self.programs.get_mut(&key).ok_or_else(|| Error::Shape("no program".into()))?;
        let outputs = program.finish()?;
        let (loss, hits) = (f64::from(outputs[0][0]), f64::from(outputs[1][0]));
        if !loss.is_finite() {
            return Err(Error::Diverged(format!(
                "the loss became {loss}: training left the numbers; choose a smaller --lr, or freeze more"
            )));
        }
        Ok(Some(StepResult { loss, hits, rows }))
    }

    /// Logits of `rows` pictures or feature vectors under the present weights.
    pub(super) fn logits(
        &mut self,
        net: &Network,
        feed: Feed,
        data: &[u8],
        rows: usize,
        batch: usize,
    ) -> Result<Vec<f32>> {
        let data = padded(data, rows, batch);
        let classes = net.classes().len();
        let outputs = self.program(net, Kind::Eval(feed), batch)?.run(&[(feed.input(), &data)])?;
        let mut logits = outputs.into_iter().next().unwrap_or_default();
        logits.truncate(rows * classes);
        Ok(logits)
    }

    /// Writes those values that have a place here: moments of an earlier session.
    pub(super) fn write(&self, values: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        let known = values.iter().filter(|(name, _)| self.layout.segments.contains_key(*name));
        known.into_iter().try_for_each(|(name, data)| self.store.write(name, data))
    }

    /// All that changes while training, in device layout: parameters, running statistics, moments.
    pub(super) fn read(&self, with_moments: bool) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut buffers: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let wanted = |name: &str| {
            let own = !name.contains('#') && name != "state";
            own && (!name.contains(':') || (with_moments && name.starts_with("moment")))
        };
        let mut values = BTreeMap::new();
        for (name, segments) in self.layout.segments.iter().filter(|(name, _)| wanted(name)) {
            let mut data = Vec::new();
            for s in segments {
                if let std::collections::btree_map::Entry::Vacant(e) = buffers.entry(s.buffer) {
                    e.insert(self.store.read(&self.layout.buffers[s.buffer].name)?);
                }
                data.extend_from_slice(&buffers[&s.buffer][s.offset..s.offset + s.elements]);
            }
            values.insert(name.clone(), data);
        }
        Ok(values)
    }
}

/// `data` of `rows` rows, filled up with zeros to `size` rows.
fn padded(data: &[u8], rows: usize, size: usize) -> std::borrow::Cow<'_, [u8]> {
    if rows == size {
        return data.into();
    }
    let mut longer = data.to_vec();
    longer.resize(data.len() / rows.max(1) * size, 0);
    longer.into()
}

/// Compiles the inference plan for the largest fitting batch up to `batch` and makes it ready.
pub(super) fn inference(net: &Network, device: &Device, batch: usize) -> Result<(usize, Program)> {
    let mut frozen = net.clone();
    frozen.freeze(crate::nn::Freeze::all())?;
    let caps = device.caps();
    let (batch, plan) = fitting_batch(batch, |batch| inference_plan(&frozen, batch, &caps))?;
    let store = device.store(&Arc::default(), &frozen)?;
    Ok((batch, Program::new(plan, &store, &frozen)?))
}

/// The same up to the features.
pub(super) fn front(net: &Network, device: &Device, batch: usize) -> Result<(usize, Program)> {
    let mut frozen = net.clone();
    frozen.freeze(crate::nn::Freeze::all())?;
    let caps = device.caps();
    let (batch, plan) = fitting_batch(batch, |batch| {
        let mut tape = Tape::new();
        let recording = Recording { input: InputKind::Bytes, ..Recording::new(Mode::Eval, batch) };
        let front = frozen.record_front(&mut tape, recording)?;
        compile(Request::inference(tape, &[("features", front.features)]), &Arc::default(), &caps)
    })?;
    let store = device.store(&Arc::default(), &frozen)?;
    Ok((batch, Program::new(plan, &store, &frozen)?))
}
