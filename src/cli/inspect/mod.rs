//! `defrost inspect`: a network's layers, its trainable parameters, and the memory of a training step.

mod layers;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::network::{is_model, load_with, open_source};
use super::output::{Style, amount, grouped, mib, table};
use super::settings::{Given, Step};
use super::{Session, positive, usage_error};
use crate::gpu::Caps;
use crate::models::{self, HeadPolicy, Network, registry};
use crate::nn::FreezeSummary;
use crate::plan::{Device, Memory, Plan};
use crate::train::{Config, Strategy, Workload, inference_plan, training_plan};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost inspect resnet50
  defrost inspect resnet50 --freeze-through layer3 --batch 16
  defrost inspect runs/photos --plan
  defrost inspect mobilenet_v2 --freeze-through features.13 --measure --device 0

Neither weights nor a GPU are needed: without --device, kernels and memory are those of a device with
WebGPU's default limits. Multiply-adds are those of one image.";

/// Show a network: layers, kernels, shapes, parameters, what is trainable, memory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Inspect {
    /// A model's name, a run folder, or a checkpoint written by Defrost
    #[arg(value_name = "NAME|RUN|FILE")]
    source: PathBuf,
    /// Weights for a model's name: width, classes and input size follow them
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Show it with a head for this many classes
    #[arg(long, value_name = "N", value_parser = positive)]
    classes: Option<usize>,
    /// Images a step [default: 32, or as many as fit]
    #[arg(long, value_name = "N", value_parser = positive)]
    batch: Option<usize>,
    /// Side of the images in pixels [default: the model's own]
    #[arg(long, value_name = "PIXELS", value_parser = positive)]
    size: Option<usize>,
    /// Print every step of the plan
    #[arg(long)]
    plan: bool,
    /// Run one training step on the device with random data, and measure its memory
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    settings: Given<Step>,
}

impl Inspect {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, net) = (&session.out, self.network(session)?);
        let mut config = Config { strategy: Strategy::usual(true), ..Config::default() };
        self.settings.apply(&mut config)?;
        let mut net = net;
        let summary = net.freeze(config.freeze())?;
        let device = if self.measure || session.device.is_some() { Some(session.device()?) } else { None };
        let caps = device.as_ref().map_or_else(Caps::webgpu_defaults, Device::caps);
        let (batch, plan) = self.compile(&net, &config, &summary, &caps)?;
        let layers = layers::layers(&net, &plan)?;
        let (memory, cost) = (plan.memory(), plan.cost());
        let mult_adds: f64 = layers.iter().map(|l| l.mult_adds).sum();
        let text = self.plan.then(|| plan.to_string());
        let measured = match &device {
            Some(device) if self.measure => Some(measure(device, &net, plan)?),
            _ => None,
        };
        if out.json {
            for layer in &layers {
                out.event("layer", layer.json());
            }
            if let Some(text) = text {
                out.event("plan", json!({ "text": text }));
            }
            out.event(
                "done",
                json!({
                    "model": net.config().model,
                    "classes": net.classes().len(),
                    "input": net.preprocess().size[0],
                    "parameters": summary.total.of,
                    "learning": summary.total.parameters,
                    "mult_adds": mult_adds,
                    "batch": batch,
                    "work": { "flops": cost.flops, "bytes": cost.bytes },
                    "memory": memory_json(&memory),
                    "measured": measured,
                }),
            );
            return Ok(());
        }
        for (i, line) in layers::lines(&layers).into_iter().enumerate() {
            out.line(if i == 0 { out.style(Style::Bold, line) } else { line });
        }
        let preprocess = net.preprocess();
        let [height, width] = preprocess.size;
        out.line("");
        out.line(format_args!(
            "{}: {} parameters, {} mult-adds an image, {} classes, images of {width} x {height} pixels ({:?})",
            out.style(Style::Bold, &net.config().model),
            grouped(net.parameters()),
            amount(mult_adds),
            net.classes().len(),
            preprocess.filter
        ));
        out.line(summary);
        out.line("");
        let heading = format!(
            "work of a step with batch {batch}: {:.1} GFLOP, {:.2} GB moved if each operand moves once",
            cost.flops / 1e9,
            cost.bytes / 1e9
        );
        out.line(out.style(Style::Bold, heading));
        let heading = format!("memory of a step with batch {batch}: {}", mib(memory.total()));
        out.line(out.style(Style::Bold, heading));
        memory_lines(&memory).into_iter().for_each(|line| out.line(line));
        if let Some(measured) = measured {
            let error = memory.total() as f64 / measured as f64 - 1.0;
            out.line(format_args!("measured: {} (predicted {:+.1}%)", mib(measured), error * 100.0));
        }
        if let Some(text) = text {
            out.line("");
            out.line(text.trim_end());
        }
        Ok(())
    }

    /// The network to show; its weights may be arbitrary.
    fn network(&self, session: &Session) -> Result<Network> {
        let mut net = if is_model(&self.source) {
            let name = self.source.to_string_lossy();
            match &self.weights {
                Some(weights) => load_with(session, &name, weights, HeadPolicy::Replace)?.0,
                None => models::blank(&name, self.classes.unwrap_or(registry::find(&name)?.model.classes))?,
            }
        } else if self.weights.is_some() {
            return Err(usage_error(format!(
                "{}: --weights goes with a model's name",
                self.source.display()
            )));
        } else {
            open_source(&self.source)?
        };
        if let Some(classes) = self.classes
            && classes != net.classes().len()
        {
            net.replace_head(classes, 0)?;
        }
        if let Some(crop) = self.size {
            net.set_preprocess(net.preprocess().at_size([crop; 2]))
                .map_err(|_| usage_error(format!("--size {crop}: 8 to 4096 pixels are understood")))?;
        }
        Ok(net)
    }

    /// The plan of a training step, or of a prediction where nothing is trainable. Without --batch, for the largest
    /// batch up to the usual one that fits.
    fn compile(
        &self,
        net: &Network,
        config: &Config,
        summary: &FreezeSummary,
        caps: &Caps,
    ) -> Result<(usize, Plan)> {
        let mut batch = self.batch.unwrap_or(Config::BATCH);
        loop {
            let plan = if summary.total.tensors == 0 {
                inference_plan(net, batch, caps)
            } else {
                training_plan(net, config, batch, caps)
            };
            match plan {
                Err(Error::Shape(_)) if self.batch.is_none() && batch > 1 => batch /= 2,
                other => return Ok((batch, other?)),
            }
        }
    }
}

/// Parts of the memory, with names for people.
fn parts(m: &Memory) -> [(&'static str, &'static str, u64); 7] {
    [
        ("activations", "activations and their gradients", m.activations),
        ("frozen", "frozen weights", m.frozen),
        ("params", "trainable parameters", m.params),
        ("gradients", "gradients of parameters", m.gradients),
        ("optimizer", "optimizer state", m.optimizer),
        ("statistics", "running statistics", m.statistics),
        ("overhead", "inputs, outputs, constants of kernels", m.overhead),
    ]
}

fn memory_json(memory: &Memory) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("total".into(), memory.total().into());
    object.extend(parts(memory).map(|(key, _, bytes)| (key.into(), bytes.into())));
    object.insert("saved".into(), memory.saved.into());
    object.into()
}

fn memory_lines(memory: &Memory) -> Vec<String> {
    let row = |(_, name, bytes): (&str, &str, u64)| vec![format!("  {name}"), mib(bytes)];
    let mut rows: Vec<Vec<String>> = parts(memory).into_iter().filter(|part| part.2 > 0).map(row).collect();
    if memory.saved > 0 {
        rows.insert(1, vec!["    of these kept for the backward pass".into(), mib(memory.saved)]);
    }
    table(&rows, &[false, true])
}

/// Bytes that the device holds after one step of `plan` on random data.
fn measure(device: &Device, net: &Network, plan: Plan) -> Result<u64> {
    let Device::Gpu(gpu) = device else {
        return Err(usage_error(
            "--measure reads a GPU's memory, and the device is the CPU: name another with --device \
             (defrost devices lists them)",
        ));
    };
    let mut work = Workload::new(device, net, plan, 0.0)?;
    work.run()?;
    gpu.wait(None)?;
    let report = gpu.device().generate_allocator_report();
    Ok(report.map_or_else(|| gpu.allocated(), |report| report.total_allocated_bytes))
}
