//! `defrost bench`: the limits of a device, and how close the kernels come to them.

mod ops;
mod roofline;
mod trace;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::devices::{adapter_json, adapter_limits, host_json, host_limits};
use super::output::{Output, Style, count, duration, mib, table};
use super::{Session, positive};
use crate::Result;
use crate::gpu::Host;
use crate::models::{self, Network, Preprocess, registry};
use crate::plan::Device;
use crate::plan::measure::Limits;
use crate::train::{Checkpoint, Measured, Part, Row, bench, checkpoint};

const EXAMPLES: &str = "\
Examples:
  defrost bench
  defrost bench resnet50 --batch 32 --freeze-through layer3
  defrost bench mobilenet_v2 --device software --batch 4 --size 96 --kernels 40
  defrost bench resnet18 --roofline resnet18.svg --trace resnet18.json
  defrost bench --ops conv depthwise --device software
  defrost bench --ops all --json > ops.jsonl

Networks run on noise: a prediction, and training steps (SGD with momentum) in which everything, the second half
or the head learns. `first` is the time from the network to the first result, kernels compiled on the way,
`again` the same with the kernels at hand; `step` is the median of a step with upload and readback; `least` is what
the device needs at least, each operand moved once at the speed of a copy or all arithmetic at the measured
rate. A kernel's `share` is that least over what it took. A checkpoint is written while the training goes on, at least
every minute (--checkpoint-every). The file of --trace opens in ui.perfetto.dev.

With --ops no network runs, but every kernel that the named ops (`conv`) or single ones (`conv.grad_weight`) offer
this device, `all` of them by that word: on layers of networks with --batch images, then on the cases of the
tests, most of which are too small to fill a device. The first kernel of each is the one that a plan takes.";

/// Measure a device: its own limits, whole training steps, every kernel in them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Bench {
    /// Networks [default: resnet18 and mobilenet_v2]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    batch: usize,
    /// Side of the images in pixels [default: the model's own]
    #[arg(long, value_name = "PIXELS", value_parser = positive)]
    size: Option<usize>,
    /// Single ops instead of networks: every kernel of them, on layers of networks and on the test cases
    #[arg(long, value_name = "OP", num_args = 1.., conflicts_with_all = ["models", "size", "freeze_through", "roofline", "trace"])]
    ops: Vec<String>,
    /// Also measure a training step with everything up to this layer frozen
    #[arg(long, value_name = "LAYER")]
    freeze_through: Option<String>,
    /// Steps of each kind
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    rounds: usize,
    /// Kernels to list, those that take the longest first; all of them with --json
    #[arg(long, value_name = "N", default_value_t = 16)]
    kernels: usize,
    /// Draw the kernels under the device's limits into this SVG file
    #[arg(long, value_name = "FILE")]
    roofline: Option<PathBuf>,
    /// Write the time line of each kind of step, for ui.perfetto.dev, into this file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// The networks that run where none is named.
const DEFAULT: [&str; 2] = ["resnet18", "mobilenet_v2"];

/// One network and its measurements.
struct Report {
    model: &'static str,
    side: usize,
    parts: Vec<Measured>,
}

impl Report {
    /// The step in which all layers are trained: it has every kind of kernel.
    fn whole(&self) -> Option<&Measured> {
        self.parts.iter().find(|m| m.part == Part::All)
    }
}

impl Bench {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        if !self.ops.is_empty() {
            return ops::run(&self.ops, self.batch, session);
        }
        let out = &session.out;
        let given: Vec<&str> = self.models.iter().map(String::as_str).collect();
        let names = if given.is_empty() { DEFAULT.to_vec() } else { given };
        let nets = names.into_iter().map(|name| self.network(name)).collect::<Result<Vec<_>>>()?;
        let device = session.device()?;
        let limits = Limits::measure(&device)?;
        introduce(out, &device, &limits);
        let mut reports = Vec::new();
        for (model, net) in nets {
            let [height, width] = net.preprocess().size;
            if !out.json {
                out.line("");
                let images = count(self.batch, "image", "images");
                let title = format!("{model}, {images} of {width} x {height} pixels a step");
                out.line(out.style(Style::Bold, title));
            }
            let mut report = Report { model, side: width, parts: Vec::new() };
            for part in self.parts() {
                out.note(format_args!("{model}: {}", part.describe()));
                let measured = bench(&device, &net, &part, self.batch, self.rounds)?;
                if out.json {
                    out.event("step", step_json(&report, &measured, &limits));
                }
                report.parts.push(measured);
            }
            self.show(out, &report, &limits);
            let saved = checkpoint(&device, &net, self.rounds)?;
            show_checkpoint(out, model, &saved);
            reports.push(report);
        }
        if let Some(path) = &self.roofline {
            roofline::write(path, &device.describe(), &limits, &reports)?;
        }
        if let Some(path) = &self.trace {
            trace::write(path, &reports)?;
        }
        if out.json {
            out.event("done", json!({ "models": reports.len() }));
        }
        Ok(())
    }

    fn network(&self, name: &str) -> Result<(&'static str, Network)> {
        let model = registry::find(name)?.model;
        let mut net = models::create(name, model.classes)?;
        net.set_preprocess(Preprocess::whole(self.size.unwrap_or(model.input)))?;
        Ok((model.name, net))
    }

    fn parts(&self) -> Vec<Part> {
        let behind = self.freeze_through.clone().map(Part::Behind);
        [Part::Forward, Part::All, Part::Half].into_iter().chain(behind).chain([Part::Head]).collect()
    }

    fn show(&self, out: &Output, report: &Report, limits: &Limits) {
        let Some(whole) = report.whole() else { return };
        if out.json {
            for row in &whole.rows {
                out.event("kernel", row_json(report, row, limits));
            }
            return;
        }
        steps(report, limits).into_iter().for_each(|line| out.line(line));
        if whole.rows.is_empty() {
            out.note("this adapter has no timestamps: kernels cannot be timed one by one");
            return;
        }
        out.line("");
        kernels(&whole.rows, self.kernels, limits).into_iter().for_each(|line| out.line(line));
        let left = whole.rows.len().saturating_sub(self.kernels);
        if left > 0 {
            out.line(format_args!("... and {} more (--kernels, --json)", count(left, "kernel", "kernels")));
        }
        for (name, share) in families(&whole.rows, limits) {
            out.line(format_args!("{name:<20} {:.0}% of the limit, geometric mean by time", 100.0 * share));
        }
    }
}

/// Prints the cost of a checkpoint.
fn show_checkpoint(out: &Output, model: &str, saved: &Checkpoint) {
    if out.json {
        let fields = json!({
            "model": model,
            "bytes": saved.bytes,
            "waits_seconds": saved.waits,
            "written_seconds": saved.written,
            "between_seconds": saved.between(),
            "share": saved.share(),
        });
        return out.event("checkpoint", fields);
    }
    out.line(format_args!(
        "checkpoint           {} (AdamW) every {}: the training waits {} ms, {:.2}% of the time; on the disk after {} ms",
        mib(saved.bytes),
        duration(saved.between()),
        milli(saved.waits),
        100.0 * saved.share(),
        milli(saved.written)
    ));
}

/// Prints the device and the limits that the figures belong to.
fn introduce(out: &Output, device: &Device, limits: &Limits) {
    let threads = rayon::current_num_threads();
    let half = limits.flops_f16;
    if out.json {
        let mut object = match device {
            Device::Gpu(gpu) => adapter_json(gpu.info(), gpu.caps()),
            Device::Cpu => host_json(&Host::new(), threads),
        };
        object["bytes_per_second"] = limits.bytes.into();
        object["flops_f32"] = limits.flops.into();
        object["flops_f16"] = half.into();
        object["version"] = env!("CARGO_PKG_VERSION").into();
        return out.event("device", object);
    }
    out.line(out.style(Style::Bold, device.describe()));
    out.line(match device {
        Device::Gpu(gpu) => adapter_limits(gpu.caps()),
        Device::Cpu => host_limits(&Host::new(), threads),
    });
    let half = half.map_or(String::new(), |rate| format!(", {:.0} GFLOP/s in f16", rate / 1e9));
    out.line(format_args!(
        "measured: a copy moves {:.1} GB/s, multiply-adds {:.0} GFLOP/s in f32{half}",
        limits.bytes / 1e9,
        limits.flops / 1e9
    ));
}

fn milli(seconds: f64) -> String {
    format!("{:.*}", if seconds < 0.01 { 2 } else { 1 }, seconds * 1e3)
}

/// The table of whole steps.
fn steps(report: &Report, limits: &Limits) -> Vec<String> {
    let head =
        ["", "first ms", "again", "step", "images/s", "least", "GFLOP/s", "memory", "planned", "record us"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for m in &report.parts {
        rows.push(vec![
            m.part.describe(),
            milli(m.first),
            milli(m.again),
            milli(m.step.median),
            format!("{:.1}", m.batch as f64 / m.step.median),
            milli(m.least(limits)),
            format!("{:.1}", m.flops / m.step.median / 1e9),
            m.allocated.map_or(String::new(), mib),
            mib(m.planned),
            m.record.map_or(String::new(), |s| format!("{:.0}", s * 1e6)),
        ]);
    }
    table(&rows, &[false, true, true, true, true, true, true, true, true, true])
}

/// The table of kernels.
fn kernels(all: &[Row], most: usize, limits: &Limits) -> Vec<String> {
    let head = ["kernel", "inputs", "variant", "times", "ms", "GFLOP/s", "GB/s", "share"];
    let mut rows = vec![head.map(String::from).to_vec()];
    for row in all.iter().take(most) {
        rows.push(vec![
            row.what.clone(),
            row.types.clone(),
            row.variant.into(),
            row.count.to_string(),
            milli(row.seconds),
            format!("{:.1}", row.cost.flops / row.seconds / 1e9),
            format!("{:.1}", row.cost.bytes / row.seconds / 1e9),
            format!("{:.0}%", 100.0 * row.share(limits)),
        ]);
    }
    table(&rows, &[false, false, false, true, true, true, true, true])
}

/// The mean share of each kind of product, weighted by time.
fn families(rows: &[Row], limits: &Limits) -> Vec<(&'static str, f64)> {
    let products = ["conv.", "depthwise.", "matmul."];
    let mut names: Vec<&'static str> = rows.iter().map(|row| row.op).collect();
    names.retain(|name| products.iter().any(|p| name.starts_with(p)));
    names.sort_unstable();
    names.dedup();
    let mean = |name: &'static str| {
        let own = rows.iter().filter(|row| row.op == name);
        let (mut logs, mut weights) = (0.0, 0.0);
        for row in own {
            let time = row.seconds * row.count as f64;
            logs += time * row.share(limits).max(1e-9).ln();
            weights += time;
        }
        (name, (logs / weights.max(1e-12)).exp())
    };
    names.into_iter().map(mean).collect()
}

fn step_json(report: &Report, m: &Measured, limits: &Limits) -> Value {
    json!({
        "model": report.model,
        "part": m.part.describe(),
        "side": report.side,
        "batch": m.batch,
        "plan_steps": m.steps,
        "flops": m.flops,
        "first_seconds": m.first,
        "again_seconds": m.again,
        "step_seconds": { "median": m.step.median, "least": m.step.least, "most": m.step.most },
        "record_seconds": m.record,
        "least_seconds": m.least(limits),
        "planned_bytes": m.planned,
        "allocated_bytes": m.allocated,
    })
}

fn row_json(report: &Report, row: &Row, limits: &Limits) -> Value {
    json!({
        "model": report.model,
        "layer": row.layer,
        "op": row.op,
        "kernel": row.what,
        "inputs": row.types,
        "variant": row.variant,
        "times": row.count,
        "seconds": row.seconds,
        "flops": row.cost.flops,
        "bytes": row.cost.bytes,
        "share": row.share(limits),
    })
}
