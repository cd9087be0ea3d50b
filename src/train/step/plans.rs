//! The recordings of a training: training steps, evaluations, and the backbone whose output is cached.

use std::sync::Arc;

use crate::gpu::Caps;
use crate::models::{InputKind, Network, Recording};
use crate::nn::{Freeze, Mode};
use crate::ops::{self, Add, LossKind, Mul, TargetLoss};
use crate::plan::{Device, Plan, Program, Request, Update, compile};
use crate::tape::{Tap, Tape, Type, ValueId};
use crate::task::{self, LossOptions, TaskRef};
use crate::train::settings::Config;
use crate::{Error, Result};

/// The objective of a training step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objective {
    /// The task that defines the loss.
    pub(crate) task: TaskRef,
    pub(crate) options: LossOptions,
    /// Temperature of a teacher's probabilities, and the share of the distillation loss.
    pub(crate) teacher: Option<(f32, f32)>,
    /// Whether the device augments the images.
    pub(crate) augmented: bool,
}

impl Objective {
    /// The loss of the network's task alone, on images without augmentation.
    pub(crate) fn plain(net: &Network, smoothing: f32) -> Result<Self> {
        let options = LossOptions { smoothing, ..LossOptions::default() };
        Ok(Objective { task: task::of(net)?, options, teacher: None, augmented: false })
    }
}

/// A training step of `net`: loss, gradients, and the update. With `taps`, the step starts from cached features. With
/// `checkpointing`, few activations are stored for the gradients and the others are recomputed.
pub(crate) fn train_request(
    net: &Network,
    taps: &[Tap],
    batch: usize,
    objective: Objective,
    update: Update,
    checkpointing: bool,
) -> Result<Request> {
    let mut tape = Tape::new();
    let recorded = net.record(&mut tape, training(batch, objective.augmented))?;
    let logits = recorded.logits;
    tape.set_layer("loss");
    let weights = tape.input("weights", Type::f32(&[batch]));
    let Objective { task, options, .. } = objective;
    let inputs = task.inputs(options, batch, net.outputs());
    let inputs: Vec<ValueId> = inputs.into_iter().map(|(name, ty)| tape.input(name, ty)).collect();
    let mut loss = task.loss(&mut tape, logits, &inputs, weights, options)?;
    let hits = task.hits(&mut tape, logits, &inputs, weights, options)?;
    if let Some((temperature, share)) = objective.teacher {
        let outputs = tape.ty(logits).clone();
        let answers = tape.input("teacher", outputs);
        let kind = LossKind::Softmax;
        let distilled = tape.apply(TargetLoss { kind, temperature }, &[logits, answers, weights])?;
        let own = scaled(&mut tape, loss, 1.0 - share)?;
        let distilled = scaled(&mut tape, distilled, share * temperature * temperature)?;
        loss = tape.apply(Add::default(), &[own, distilled])?;
    }
    // Losses of auxiliary heads contribute to the gradients only.
    let mut total = loss;
    for (logits, weight) in recorded.auxiliary {
        let own = task.loss(&mut tape, logits, &inputs, weights, options)?;
        let own = scaled(&mut tape, own, weight)?;
        total = tape.apply(Add::default(), &[total, own])?;
    }
    let gradients = ops::backward(&mut tape, total)?;
    if gradients.is_empty() {
        return Err(Error::Usage("everything is frozen: nothing would learn; freeze less".into()));
    }
    let outputs = vec![("loss".into(), loss), ("hits".into(), hits)];
    Ok(Request { tape: resumed(tape, taps)?, outputs, gradients, update: Some(update), checkpointing })
}

pub(crate) fn scaled(tape: &mut Tape, value: ValueId, factor: f32) -> Result<ValueId> {
    let factor = tape.fill(&[1], factor);
    tape.apply(Mul, &[value, factor])
}

/// Logits under the current weights. With `taps`, the evaluation starts from cached features.
pub(crate) fn eval_request(net: &Network, taps: &[Tap], batch: usize) -> Result<Request> {
    let mut tape = Tape::new();
    let logits = net.record(&mut tape, Recording::new(Mode::Eval, batch))?.logits;
    Ok(Request::inference(resumed(tape, taps)?, &[("logits", logits)]))
}

fn resumed(tape: Tape, taps: &[Tap]) -> Result<Tape> {
    if taps.is_empty() {
        return Ok(tape);
    }
    let missing = || Error::Shape("the recording lacks a value that was kept".into());
    tape.resumed_from(taps).ok_or_else(missing)
}

fn training(batch: usize, augmented: bool) -> Recording {
    let input = if augmented { InputKind::Augmented } else { InputKind::Bytes };
    Recording { input, ..Recording::new(Mode::Train, batch) }
}

/// The split point of `net`: the outputs of the frozen backbone that trainable layers read. None where the first
/// layer is trainable.
pub(crate) fn frontier(net: &Network) -> Result<Vec<Tap>> {
    let mut tape = Tape::new();
    net.record(&mut tape, Recording::new(Mode::Train, 2))?;
    // An image is not a small value: it is never fed again.
    Ok(tape.frontier(&["image"]).taps)
}

/// The backbone of `net` up to `taps`: the recording and its values at the taps. The images are augmented by the
/// device, or not.
pub(crate) fn backbone_tape(
    net: &Network,
    taps: &[Tap],
    batch: usize,
    augmented: bool,
) -> Result<(Tape, Vec<ValueId>)> {
    let mut tape = Tape::new();
    net.record(&mut tape, training(batch, augmented))?;
    let values = tape.tapped(taps);
    let values =
        values.ok_or_else(|| Error::Shape("the recording lacks a value that is to be kept".into()))?;
    Ok((tape, values))
}

/// The backbone, compiled for the largest fitting batch up to `batch`.
pub(crate) fn backbone(
    net: &Network,
    taps: &[Tap],
    device: &Device,
    batch: usize,
    augmented: bool,
) -> Result<(usize, Program)> {
    let caps = device.caps();
    let (batch, plan) = fitting_batch(batch, |batch| {
        let (tape, values) = backbone_tape(net, taps, batch, augmented)?;
        let names: Vec<String> = (0..values.len()).map(crate::tape::cached_input).collect();
        let outputs: Vec<(&str, ValueId)> = names.iter().map(String::as_str).zip(values).collect();
        compile(Request::inference(tape, &outputs), &Arc::default(), &caps)
    })?;
    let store = device.store(&Arc::default(), net)?;
    Ok((batch, Program::new(plan, &store, net)?))
}

/// The plan of one training step on images; the freeze mask of `net` must be set.
///
/// # Errors
/// [`Error::Shape`] where a value fits no binding, [`Error::Usage`] where no parameter is trainable.
pub fn training_plan(net: &Network, config: &Config, batch: usize, caps: &Caps) -> Result<Plan> {
    let update = config.update();
    let objective = Objective::plain(net, config.smoothing)?;
    let request = train_request(net, &[], batch, objective, update, config.grad_checkpointing)?;
    compile(request, &net.layout(&update, caps), caps)
}

/// The plan of a prediction with `net`: logits from images; all parameters count as frozen.
///
/// # Errors
/// As for [`training_plan`].
pub fn inference_plan(net: &Network, batch: usize, caps: &Caps) -> Result<Plan> {
    let mut net = net.clone();
    net.freeze(Freeze::all())?;
    compile(eval_request(&net, &[], batch)?, &Arc::default(), caps)
}

/// The largest batch, `batch` halved as often as necessary, for which one or several plans can be compiled.
pub(crate) fn fitting_batch<T>(batch: usize, mut plan: impl FnMut(usize) -> Result<T>) -> Result<(usize, T)> {
    let mut batch = batch.max(1);
    loop {
        match plan(batch) {
            Err(Error::Shape(_)) if batch > 1 => batch /= 2,
            other => return Ok((batch, other?)),
        }
    }
}

/// Compiles the inference plan and its program for the largest fitting batch up to `batch`.
pub(crate) fn inference(net: &Network, device: &Device, batch: usize) -> Result<(usize, Program)> {
    let mut frozen = net.clone();
    frozen.freeze(Freeze::all())?;
    let caps = device.caps();
    let (batch, plan) = fitting_batch(batch, |batch| inference_plan(&frozen, batch, &caps))?;
    let store = device.store(&Arc::default(), &frozen)?;
    Ok((batch, Program::new(plan, &store, &frozen)?))
}
