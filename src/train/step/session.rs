//! A network in training on a device: its store, and one program for each kind of step and batch size.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::data::{Skipped, Target};
use crate::models::Network;
use crate::nn::NormMode;
use crate::plan::{Arena, Device, Layout, Plan, Program, Segment, Store, Trainable, Update, compile};
use crate::tape::Tap;
use crate::train::settings::Config;
use crate::train::step::plans::{Objective, eval_request, train_request};
use crate::{Error, Result};

/// Kinds of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A step with an update, or a step that only accumulates gradients.
    Train {
        apply: bool,
    },
    Eval,
}

/// A batch for training or evaluation: bytes by input name, rows concatenated.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceBatch {
    /// `image`, or `cached0`, `cached1` and so on; in training also the targets of the loss.
    pub(crate) inputs: Vec<(String, Vec<u8>)>,
    /// Indices into the cached features; empty where the batch holds images.
    pub(crate) cached: Vec<usize>,
    /// Target of each row.
    pub(crate) targets: Vec<Target>,
    /// Where images are mixed: for each row its partner row, and the weight of the row's own target.
    pub(crate) mix: Option<(Vec<usize>, f32)>,
    /// Relative weight of each row in the loss.
    pub(crate) weights: Vec<f32>,
    /// Unreadable images, which have no row, with their indices.
    pub(crate) failed: Vec<(usize, Skipped)>,
}

impl DeviceBatch {
    pub(crate) fn rows(&self) -> usize {
        self.targets.len()
    }
}

/// Result of a finished training step, or of a part of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StepResult {
    /// Mean loss of the rows.
    pub(crate) loss: f64,
    /// Number of correct predictions.
    pub(crate) hits: f64,
    /// Number of images.
    pub(crate) rows: usize,
}

/// A step in flight.
struct Pending {
    key: (Kind, usize),
    rows: usize,
    /// Share of the rows' weight in the update's total weight.
    share: f64,
}

/// A network in training on a device.
pub(crate) struct Session {
    device: Device,
    trainable: Vec<Trainable>,
    layout: Arc<Layout>,
    pub(crate) store: Arc<Store>,
    /// The store of the averaged weights, for evaluation.
    averaged: Option<(Arc<Layout>, Arc<Store>)>,
    update: Update,
    checkpointing: bool,
    objective: Objective,
    /// The inputs of cached features; empty where the network reads images.
    taps: Vec<Tap>,
    weight_decay: f64,
    ema: f64,
    seed: u64,
    programs: BTreeMap<(Kind, usize), Program>,
    /// Plans compiled earlier, in the search for a fitting batch.
    compiled: BTreeMap<(Kind, usize), Plan>,
    /// Memory of the activations of all programs.
    arena: Arena,
    /// Steps in flight, the oldest first.
    queue: VecDeque<Pending>,
    /// Learning rate of each layer group.
    rates: Vec<f64>,
    pads: bool,
    /// Number of updates that each layer group's moments had seen at the start of this session; the list may be
    /// shorter than the groups, and missing entries are 0.
    pub(crate) updates_before: Vec<u64>,
}

impl Session {
    pub(crate) fn new(
        device: &Device,
        net: &Network,
        config: &Config,
        objective: Objective,
        taps: Vec<Tap>,
    ) -> Result<Self> {
        let update = config.update();
        let layout = net.layout(&update, &device.caps());
        let store = device.store(&layout, net)?;
        let averaged = match update.average {
            true => {
                let plain = net.layout(&Update { average: false, ..update }, &device.caps());
                let store = device.store(&plain, net)?;
                Some((plain, store))
            }
            false => None,
        };
        let batch_statistics = net
            .specs()
            .iter()
            .any(|s| !s.kind.is_learnable() && net.mask().norm_mode(s.layer_path()) == NormMode::Train);
        let session = Session {
            device: device.clone(),
            trainable: net.trainable(),
            layout,
            store,
            averaged,
            update,
            checkpointing: config.grad_checkpointing,
            objective,
            taps,
            weight_decay: config.weight_decay(),
            ema: config.ema.unwrap_or(0.0),
            seed: config.seed,
            programs: BTreeMap::new(),
            compiled: BTreeMap::new(),
            arena: Arena::default(),
            queue: VecDeque::new(),
            rates: config.rates(&net.structure().groups)?,
            // Rows of weight 0 change nothing, unless batch statistics include them.
            pads: !batch_statistics,
            updates_before: Vec::new(),
        };
        if update.average {
            for t in &session.trainable {
                session.store.write(&format!("average:{}", t.path), &net.packed(&t.path)?)?;
            }
        }
        Ok(session)
    }

    /// Whether a short batch can be padded with rows of weight 0.
    pub(crate) fn pads(&self) -> bool {
        self.pads
    }

    fn program(&mut self, net: &Network, kind: Kind, batch: usize) -> Result<&mut Program> {
        match self.programs.entry((kind, batch)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let (layout, store) = match (kind, &self.averaged) {
                    (Kind::Eval, Some((layout, store))) => (layout, store),
                    _ => (&self.layout, &self.store),
                };
                let known = self.compiled.remove(&(kind, batch)).filter(|plan| plan.layout == *layout);
                let plan = match (known, kind) {
                    (Some(plan), _) => plan,
                    (None, Kind::Train { apply }) => {
                        let update = Update { apply, ..self.update };
                        let (taps, few) = (&self.taps, self.checkpointing);
                        let request = train_request(net, taps, batch, self.objective, update, few)?;
                        compile(request, layout, &self.device.caps())?
                    }
                    (None, Kind::Eval) => {
                        compile(eval_request(net, &self.taps, batch)?, layout, &self.device.caps())?
                    }
                };
                Ok(new.insert(Program::sharing(plan, store, net, &self.arena)?))
            }
        }
    }

    /// Offers a plan that was compiled earlier, so that the session need not compile it again; a plan for another
    /// layout is ignored.
    pub(crate) fn offer(&mut self, kind: Kind, batch: usize, plan: Plan) {
        self.compiled.insert((kind, batch), plan);
    }

    /// Compiles the programs that a step of `batch` rows needs, so that the first step is as fast as the others.
    pub(crate) fn prepare(&mut self, net: &Network, batch: usize) -> Result<()> {
        self.program(net, Kind::Train { apply: true }, batch).map(|_| ())
    }

    /// Rows of the rates table: learning rate, weight decay, and bias corrections of the moments at `step` (from 1).
    fn rate_table(&self, factor: f64, step: u64) -> Vec<f32> {
        let group = |g: usize| {
            let rate = self.rates.get(g / 2).copied().unwrap_or(0.0) * factor;
            let decay = if g.is_multiple_of(2) { self.weight_decay } else { 0.0 };
            let step = self.updates_before.get(g / 2).unwrap_or(&0) + step;
            self.update.optimizer.row(rate, decay, step)
        };
        (0..self.layout.groups.max(1)).flat_map(group).collect()
    }

    /// Number of updates that each layer group's moments have seen after `updates` updates of this session.
    pub(crate) fn updates_after(&self, updates: u64) -> Vec<u64> {
        let learns = |group: usize| self.trainable.iter().any(|t| t.group as usize / 2 == group);
        let before = |group: usize| self.updates_before.get(group).copied().unwrap_or(0);
        (0..self.rates.len()).map(|g| before(g) + if learns(g) { updates } else { 0 }).collect()
    }

    /// The head's learning rate at a schedule factor.
    pub(crate) fn head_rate(&self, factor: f64) -> f64 {
        self.rates.last().copied().unwrap_or(0.0) * factor
    }

    /// Starts one update on the batches `fed`, whose gradients are added up; `step` counts updates from 1. A batch
    /// smaller than `batch` is padded with rows of weight 0 where that changes nothing. Once enough steps are in
    /// flight, `done` receives the results of earlier ones.
    pub(crate) fn train(
        &mut self,
        net: &Network,
        fed: &[DeviceBatch],
        batch: usize,
        factor: f64,
        step: u64,
        done: &mut dyn FnMut(StepResult),
    ) -> Result<()> {
        let total: f32 = fed.iter().flat_map(|f| &f.weights).sum();
        let rates = self.rate_table(factor, step);
        // The average decays faster at the beginning, when the weights still change a lot.
        let decay = self.ema.min((1.0 + step as f64) / (10.0 + step as f64)) as f32;
        for (i, part) in fed.iter().enumerate() {
            let rows = part.rows();
            let size = if self.pads { batch.max(rows) } else { rows };
            let mut weights: Vec<f32> = part.weights.iter().map(|w| w / total).collect();
            let share = f64::from(weights.iter().sum::<f32>());
            weights.resize(size, 0.0);
            // Seed and step give the two words from which dropout draws.
            let words = [crate::rng::mix(self.seed, i as u64) as u32, step as u32];
            let data: Vec<(&str, Cow<'_, [u8]>)> =
                part.inputs.iter().map(|(name, bytes)| (name.as_str(), padded(bytes, rows, size))).collect();
            let (keep, average) = ([f32::from(u8::from(i > 0)), 1.0], [decay, 1.0 - decay]);
            // Inputs of steps under any settings.
            let mut inputs: Vec<(&str, &[u8])> = vec![
                ("weights", bytemuck::cast_slice(&weights)),
                ("rates", bytemuck::cast_slice(&rates)),
                ("step", bytemuck::cast_slice(&words)),
                ("accumulate", bytemuck::cast_slice(&keep)),
                ("average", bytemuck::cast_slice(&average)),
            ];
            inputs.extend(data.iter().map(|(name, bytes)| (*name, &**bytes)));
            let kind = Kind::Train { apply: i + 1 == fed.len() };
            self.make_room((kind, size), done)?;
            let program = self.program(net, kind, size)?;
            inputs.retain(|(name, _)| program.plan().inputs.contains_key(*name));
            program.start(&inputs)?;
            self.queue.push_back(Pending { key: (kind, size), rows, share });
        }
        Ok(())
    }

    fn make_room(&mut self, key: (Kind, usize), done: &mut dyn FnMut(StepResult)) -> Result<()> {
        let room = self.programs.get(&key).map_or(usize::MAX, Program::in_flight);
        if self.queue.len() >= room.min(2)
            && let Some(result) = self.finish()?
        {
            done(result);
        }
        Ok(())
    }

    /// The oldest unfinished training step, if any.
    pub(crate) fn finish(&mut self) -> Result<Option<StepResult>> {
        let Some(Pending { key, rows, share }) = self.queue.pop_front() else { return Ok(None) };
        let program = self.programs.get_mut(&key).ok_or_else(|| Error::Shape("no program".into()))?;
        let outputs = program.finish()?;
        let outputs = program.plan().named(outputs);
        let [loss, hits] = ["loss", "hits"].map(|name| f64::from(outputs[name][0]));
        if !loss.is_finite() {
            return Err(Error::Diverged(format!(
                "the loss became {loss}: training diverged; choose a smaller `lr`, or freeze more"
            )));
        }
        Ok(Some(StepResult { loss: loss / share.max(f64::MIN_POSITIVE), hits, rows }))
    }

    /// Logits under the current weights, or under their moving average where there is one.
    pub(crate) fn logits(&mut self, net: &Network, fed: &DeviceBatch, batch: usize) -> Result<Vec<f32>> {
        let rows = fed.rows();
        let data: Vec<(&str, Cow<'_, [u8]>)> =
            fed.inputs.iter().map(|(name, bytes)| (name.as_str(), padded(bytes, rows, batch))).collect();
        let mut inputs: Vec<(&str, &[u8])> = data.iter().map(|(name, bytes)| (*name, &**bytes)).collect();
        let width = net.outputs();
        let program = self.program(net, Kind::Eval, batch)?;
        // Inputs that only auxiliary heads read do not exist in this program.
        inputs.retain(|(name, _)| program.plan().inputs.contains_key(*name));
        let outputs = program.run(&inputs)?;
        let mut logits = outputs.into_iter().next().unwrap_or_default();
        logits.truncate(rows * width);
        Ok(logits)
    }

    /// Before an evaluation: copies the averaged weights into the store that the evaluation reads.
    pub(crate) fn settle(&self) -> Result<()> {
        let Some((_, store)) = &self.averaged else { return Ok(()) };
        self.weights()?.iter().try_for_each(|(name, data)| store.write(name, data))
    }

    /// Writes those values that the store holds, such as moments of an earlier session.
    pub(crate) fn write(&self, values: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        let known = values.iter().filter(|(name, _)| self.layout.segments.contains_key(*name));
        known.into_iter().try_for_each(|(name, data)| self.store.write(name, data))
    }

    /// The weights to save: parameters, averaged where there is an average, and running statistics.
    pub(crate) fn weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut values = self.read(|name| !name.contains(':') || name.starts_with("average:"))?;
        let averages: Vec<String> =
            values.keys().filter(|name| name.starts_with("average:")).cloned().collect();
        for name in averages {
            if let Some(data) = values.remove(&name) {
                values.insert(name["average:".len()..].to_string(), data);
            }
        }
        Ok(values)
    }

    /// All tensors that a resumed training needs: parameters, running statistics, moments, averages. They are copied
    /// page by page; the training waits only for the copy.
    pub(crate) fn everything(&self) -> Result<Pages> {
        let outlasts = |name: &str| ["moment", "average:"].iter().any(|kind| name.starts_with(kind));
        self.pages(|name| !name.contains(':') || outlasts(name))
    }

    /// Values of the store, in device layout.
    fn read(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<f32>>> {
        Ok(self.pages(wanted)?.values().map(|(name, data)| (name.to_string(), data.into_owned())).collect())
    }

    fn pages(&self, wanted: impl Fn(&str) -> bool) -> Result<Pages> {
        let wanted = |name: &str| !name.contains('#') && name != "state" && wanted(name);
        let names: Vec<String> = self.layout.segments.keys().filter(|name| wanted(name)).cloned().collect();
        let mut pages = BTreeMap::new();
        for segment in names.iter().flat_map(|name| &self.layout.segments[name]) {
            if let Entry::Vacant(page) = pages.entry(segment.buffer) {
                page.insert(self.store.read(&self.layout.buffers[segment.buffer].name)?);
            }
        }
        Ok(Pages { layout: Arc::clone(&self.layout), names, pages })
    }
}

/// Copies of a store's pages.
pub(crate) struct Pages {
    layout: Arc<Layout>,
    names: Vec<String>,
    pages: BTreeMap<usize, Vec<f32>>,
}

impl Pages {
    /// The values in the pages by name, in device layout. A value whose rows are spread over several pages is
    /// assembled.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, Cow<'_, [f32]>)> {
        self.names.iter().map(|name| {
            let piece = |s: &Segment| &self.pages[&s.buffer][s.offset..s.offset + s.elements];
            let data = match &self.layout.segments[name][..] {
                [whole] => Cow::Borrowed(piece(whole)),
                parts => parts.iter().flat_map(piece).copied().collect(),
            };
            (name.as_str(), data)
        })
    }
}

/// `data` of `rows` rows, padded with zeros to `size` rows.
pub(crate) fn padded(data: &[u8], rows: usize, size: usize) -> Cow<'_, [u8]> {
    if rows == size {
        return data.into();
    }
    let mut longer = data.to_vec();
    longer.resize(data.len() / rows.max(1) * size, 0);
    longer.into()
}
