//! The frozen layers in each phase of a training, and what freezing saved.

use crate::Result;
use crate::models::Network;
use crate::nn::Freeze;
use crate::plan::{Device, Plan};
use crate::train::{Config, Workload, training_plan};

/// Images of the timed steps: more would only take longer.
const BATCH: usize = 8;

/// A training step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StepCost {
    /// Number of trainable parameters.
    pub(super) learning: usize,
    /// Arithmetic of a step, floating-point operations.
    pub(super) flops: f64,
    /// Bytes of memory.
    pub(super) bytes: u64,
    /// Wall seconds, measured; of the faster of two.
    pub(super) seconds: f64,
}

/// A phase and what a step of it costs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PhaseCost {
    /// Whether only the head is trained, on cached features.
    pub(super) caches: bool,
    pub(super) step: StepCost,
}

/// The measured savings of a training.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Savings {
    /// Nothing was frozen in any phase.
    Nothing,
    /// The device has too little memory for a step that trains all layers.
    Everything,
    /// Steps were timed.
    Measured(Measured),
}

/// Costs of steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Images of a step.
    pub(super) batch: usize,
    pub(super) phases: Vec<PhaseCost>,
    /// The same step with all layers trained.
    pub(super) everything: StepCost,
}

/// Measures a step of each phase, and one that trains all layers.
pub(super) fn savings(device: &Device, net: &Network, config: &Config) -> Result<Savings> {
    let phases = config.phases(&net.structure().groups);
    let masks = phases.iter().map(|phase| {
        let mut net = net.clone();
        net.freeze(phase.freeze()).map(|summary| (phase, net, summary))
    });
    let masks = masks.collect::<Result<Vec<_>>>()?;
    if masks.iter().all(|(.., summary)| summary.total.parameters == summary.total.of) {
        return Ok(Savings::Nothing);
    }
    let batch =
        masks.iter().map(|(phase, ..)| phase.batch.unwrap_or(BATCH)).min().unwrap_or(BATCH).clamp(1, BATCH);
    let mut open = net.clone();
    let all = open.freeze(Freeze::none().norm(config.batch_norm()))?;
    let Ok(plan) = training_plan(&open, config, batch, &device.caps()) else {
        return Ok(Savings::Everything);
    };
    let everything = cost(device, &open, plan, all.total.parameters)?;
    let mut costs = Vec::new();
    for (phase, net, summary) in masks {
        let caches = phase.strategy.head_only();
        let learning = summary.total.parameters;
        let step = match learning == summary.total.of {
            true => everything,
            false => cost(device, &net, training_plan(&net, phase, batch, &device.caps())?, learning)?,
        };
        costs.push(PhaseCost { caches, step });
    }
    Ok(Savings::Measured(Measured { batch, phases: costs, everything }))
}

fn cost(device: &Device, net: &Network, plan: Plan, learning: usize) -> Result<StepCost> {
    let (flops, bytes) = (plan.cost().flops, plan.memory().total());
    let mut work = Workload::new(device, net, plan, 0.0)?;
    work.run()?;
    let seconds = work.run()?.min(work.run()?);
    Ok(StepCost { learning, flops, bytes, seconds })
}
