//! Benchmarks of a network on a device: whole steps under several freeze masks, and every kernel in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::Result;
use crate::models::Network;
use crate::nn::{Freeze, NormMode};
use crate::plan::measure::{Limits, Timing};
use crate::plan::{Device, Plan, Step, describe};
use crate::tape::Cost;
use crate::train::fit::phase::between_checkpoints;
use crate::train::fit::score::Best;
use crate::train::fit::state::State;
use crate::train::fit::trainer::Trainer;
use crate::train::optimizer::SGD;
use crate::train::step::plans::Objective;
use crate::train::step::session::Session;
use crate::train::{Config, Workload};

/// The part of a network's work to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A prediction.
    Forward,
    /// A training step in which all layers are trainable.
    All,
    /// A training step with the first layer group frozen.
    Half,
    /// A training step with all layers frozen up to the named one.
    Behind(String),
    /// A training step with all layers frozen but the head.
    Head,
}

impl Part {
    /// A description for people: `everything learns`.
    pub fn describe(&self) -> String {
        match self {
            Part::Forward => "forward".into(),
            Part::All => "step, everything learns".into(),
            Part::Half => "step, half learns".into(),
            Part::Behind(layer) => format!("step, frozen through {layer}"),
            Part::Head => "step, head learns".into(),
        }
    }

    /// Batch norms in frozen layers use running statistics, those in trainable layers the batch's statistics.
    fn freeze(&self) -> Freeze {
        let freeze = match self {
            Part::Forward => Freeze::all(),
            Part::All => Freeze::none(),
            Part::Half => Freeze::groups([0]),
            Part::Behind(layer) => Freeze::through(layer),
            Part::Head => Freeze::all_but_head(),
        };
        freeze.norm(NormMode::Train)
    }
}

/// Steps of a plan with the same op on operands of the same shapes.
#[derive(Debug, Clone)]
pub struct Row {
    /// The first layer with such a step.
    pub layer: String,
    /// Name of the op: `conv.grad_weight`.
    pub op: &'static str,
    /// The op with its attributes.
    pub what: String,
    /// Types of the inputs.
    pub types: String,
    /// The kernel.
    pub variant: &'static str,
    /// Number of such steps.
    pub count: usize,
    /// Arithmetic work and memory traffic of one step.
    pub cost: Cost,
    /// Seconds of one step.
    pub seconds: f64,
}

impl Row {
    /// Share of the device's peak performance.
    pub fn share(&self, limits: &Limits) -> f64 {
        limits.least(self.cost) / self.seconds.max(1e-12)
    }
}

/// Time of one step of a plan.
#[derive(Debug, Clone)]
pub struct Span {
    /// The step's layer.
    pub layer: String,
    /// Op and attributes.
    pub what: String,
    /// The step's kernel.
    pub variant: &'static str,
    /// Whether the step is part of the backward pass or the update.
    pub training: bool,
    /// Arithmetic work and memory traffic.
    pub cost: Cost,
    /// Seconds.
    pub seconds: f64,
}

/// Measurements of one part of a network.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The measured part.
    pub part: Part,
    /// Images per step.
    pub batch: usize,
    /// Number of steps in the plan.
    pub steps: usize,
    /// Floating-point operations.
    pub flops: f64,
    /// Seconds from the network to the result of the first step: planning, compiling kernels, allocating memory,
    /// running.
    pub first: f64,
    /// As `first`, with the kernels already compiled.
    pub again: f64,
    /// Wall time of a step, with upload and readback.
    pub step: Timing,
    /// CPU time to record a step for a GPU, seconds.
    pub record: Option<f64>,
    /// Bytes of memory for a step, as planned.
    pub planned: u64,
    /// Bytes of memory that the device holds for the step.
    pub allocated: Option<u64>,
    /// All kinds of steps, the longest total time first; empty where the adapter cannot time kernels.
    pub rows: Vec<Row>,
    /// All steps in the order of the profile.
    pub spans: Vec<Span>,
}

impl Measured {
    /// Lower limit of the seconds that the device needs for all steps.
    pub fn least(&self, limits: &Limits) -> f64 {
        self.spans.iter().map(|span| limits.least(span.cost)).sum()
    }
}

/// Measures one part of `net` on noise: `rounds` steps, and as many profiled steps.
///
/// # Errors
/// As for [`Workload::inference`] and [`Workload::training`].
pub fn bench(device: &Device, net: &Network, part: &Part, batch: usize, rounds: usize) -> Result<Measured> {
    let mut net = net.clone();
    net.freeze(part.freeze())?;
    let config = Config { optimizer: SGD, ..Config::default() };
    let before = allocated(device);
    let first = |net: &Network| -> Result<(Workload, f64)> {
        let began = Instant::now();
        let mut work = match part {
            Part::Forward => Workload::inference(device, net, batch)?,
            // A learning rate of 0 changes no weight, so that the loss cannot diverge.
            _ => Workload::training(device, net, &config, batch, 0.0)?,
        };
        work.run()?;
        Ok((work, began.elapsed().as_secs_f64()))
    };
    let (work, cold) = first(&net)?;
    drop(work);
    let (mut work, warm) = first(&net)?;
    let held = allocated(device).zip(before).map(|(after, before)| after - before);
    let seconds = (0..rounds.max(1)).map(|_| work.run()).collect::<Result<Vec<f64>>>()?;
    let record = work.record()?;
    let profiles = if device.caps().native || device.caps().timestamps {
        (0..rounds.max(1)).map(|_| work.profile()).collect::<Result<Vec<_>>>()?
    } else {
        Vec::new()
    };
    let plan = work.program().plan();
    let spans = spans(plan, &profiles);
    Ok(Measured {
        part: part.clone(),
        batch,
        steps: plan.steps.len(),
        flops: plan.cost().flops,
        first: cold,
        again: warm,
        step: Timing::of(seconds),
        record,
        planned: plan.memory().total(),
        allocated: held,
        rows: if profiles.is_empty() { Vec::new() } else { rows(plan, &spans) },
        spans,
    })
}

/// Cost of a training's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checkpoint {
    /// Bytes of the file to resume from plus the best weights.
    pub bytes: u64,
    /// Seconds that the training waits.
    pub waits: f64,
    /// Seconds until both files are on disk; the training continues meanwhile.
    pub written: f64,
}

impl Checkpoint {
    /// Seconds between two checkpoints.
    pub fn between(&self) -> f64 {
        between_checkpoints(&Config::default(), self.waits)
    }

    /// Share of the time between two checkpoints that the training waits.
    pub fn share(&self) -> f64 {
        self.waits / self.between()
    }
}

/// Measures a checkpoint of a training with the largest state: all layers are trainable, with AdamW. Returns the
/// median of `rounds`.
///
/// # Errors
/// [`crate::Error::Io`] where the system's temporary folder cannot be written; from the device.
pub fn checkpoint(device: &Device, net: &Network, rounds: usize) -> Result<Checkpoint> {
    let folder =
        tempfile::tempdir().map_err(|e| crate::Error::io(std::env::temp_dir(), "create folder", e))?;
    let mut net = net.clone();
    net.freeze(Freeze::none())?;
    let config = Config::default();
    let session = Session::new(device, &net, &config, Objective::plain(&net, 0.0)?, Vec::new())?;
    let (initial, best) = (Arc::new(net.clone()), Arc::new(session.weights()?));
    let mut trainer = Trainer::new(device, config).run_folder(folder.path());
    let (mut waits, mut written) = (Vec::new(), Vec::new());
    for epoch in 1..=rounds.max(1) {
        // Each round has another best epoch, so that both files are written.
        let state = State { best: Some(Best { epoch, ..Best::default() }), ..State::default() };
        let began = Instant::now();
        trainer.save(&initial, &session, &state, &best)?;
        waits.push(began.elapsed().as_secs_f64());
        trainer.saver.finish()?;
        written.push(began.elapsed().as_secs_f64());
    }
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |meta| meta.len());
    let bytes = size("last.safetensors") + size("model.safetensors");
    let [waits, written] = [waits, written].map(|seconds| Timing::of(seconds).median);
    Ok(Checkpoint { bytes, waits, written })
}

fn allocated(device: &Device) -> Option<u64> {
    if let Device::Gpu(gpu) = device { Some(gpu.allocated()) } else { None }
}

/// The steps, each with the median of its seconds.
fn spans(plan: &Plan, profiles: &[Vec<f64>]) -> Vec<Span> {
    let steps = plan.steps.iter().enumerate().filter(|(_, step)| !step.node.op.is_view());
    let span = |(i, step): (usize, &Step)| Span {
        layer: step.node.layer.clone(),
        what: describe(step.node.op.as_ref()),
        variant: step.variant.name,
        training: step.is_training(),
        cost: step.node.op.cost(&plan.io(&step.node, &Default::default())),
        seconds: Timing::of(profiles.iter().map(|profile| profile[i]).collect()).median,
    };
    steps.map(span).collect()
}

fn rows(plan: &Plan, spans: &[Span]) -> Vec<Row> {
    let mut all: BTreeMap<(String, String, &str), (Row, Vec<f64>)> = BTreeMap::new();
    let steps = plan.steps.iter().filter(|step| !step.node.op.is_view());
    for (step, span) in steps.zip(spans) {
        let types: Vec<String> = step.node.inputs.iter().map(|&v| plan.tape.ty(v).to_string()).collect();
        let types = types.join(" ");
        let key = (span.what.clone(), types.clone(), span.variant);
        let row = || Row {
            layer: span.layer.clone(),
            op: step.node.op.name(),
            what: span.what.clone(),
            types,
            variant: span.variant,
            count: 0,
            cost: span.cost,
            seconds: 0.0,
        };
        let (row, seconds) = all.entry(key).or_insert_with(|| (row(), Vec::new()));
        row.count += 1;
        seconds.push(span.seconds);
    }
    let mean = |(row, seconds): (Row, Vec<f64>)| Row {
        seconds: seconds.iter().sum::<f64>() / row.count as f64,
        ..row
    };
    let mut rows: Vec<Row> = all.into_values().map(mean).collect();
    rows.sort_by(|a, b| (b.seconds * b.count as f64).total_cmp(&(a.seconds * a.count as f64)));
    rows
}
