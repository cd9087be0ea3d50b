//! `defrost certify`: checks that a device computes correct results. Its output is what a bug report needs.

use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::devices::{adapter_json, adapter_limits, host_json, host_limits};
use super::output::{Output, Style, count, duration, percent, table};
use super::progress::Progress;
use super::{Session, usage_error};
use crate::gpu::Host;
use crate::models::registry::{self, Model};
use crate::plan::Device;
use crate::plan::certify::{Certifier, Selection, Tally};
use crate::train::{self, CERTIFIED, Event, Figure, ModelVerdict, Observer};
use crate::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  defrost certify
  defrost certify --device llvmpipe
  defrost certify --ops conv,matmul.grad_weight --models none -v
  defrost certify --models resnet50 --json > certificate.jsonl

Every kernel of every op runs on the op's cases and on their gradients, between guard words and on poisoned
memory, and is compared with the CPU in f64. The error is the largest that was seen, as a share of what
rounding in f32 may do. Then a few networks learn for some steps, on the device and on the CPU in f64. On the
CPU, f32 is compared with f64. Exit code 1: something is wrong; please report what was printed.";

/// Check on this machine that a device computes correct results
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Certify {
    /// Only these families of ops (conv), or ops (conv.grad_weight), or none [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    ops: Vec<String>,
    /// Networks to train for a few steps, or none [default: resnet20,resnet18,mobilenet_v2]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    models: Vec<String>,
}

/// The names given to an option: the defaults where none is given, none for the word `none`.
fn names<'a>(given: &'a [String], default: &[&'a str]) -> Vec<&'a str> {
    match given {
        [] => default.to_vec(),
        [none] if none == "none" => Vec::new(),
        some => some.iter().map(String::as_str).collect(),
    }
}

/// All results.
#[derive(Default)]
struct Found {
    kernels: Vec<Tally>,
    models: Vec<ModelVerdict>,
    /// Errors that ended the work early, or that stopped a network.
    errors: Vec<String>,
}

impl Certify {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, began) = (&session.out, Instant::now());
        let models = names(&self.models, &CERTIFIED);
        let models: Vec<(&str, &Model)> =
            models.into_iter().map(|name| Ok((name, registry::find(name)?.model))).collect::<Result<_>>()?;
        let no_ops = self.ops.as_slice() == ["none"];
        if no_ops && models.is_empty() {
            return Err(usage_error("--ops none and --models none: nothing is left to certify"));
        }
        let selection = Selection::new(if no_ops { &[] } else { &self.ops })?;
        let device = session.device()?;
        introduce(out, &device);
        let mut found = Found::default();
        if !no_ops {
            kernels(out, &device, &selection, &mut found);
            if found.kernels.is_empty() && found.errors.is_empty() {
                return Err(usage_error(format!("--ops {}: there is no kernel in it", self.ops.join(","))));
            }
            show_kernels(out, &found.kernels);
        }
        if found.errors.is_empty() {
            networks(out, &device, &models, &mut found);
            show_models(out, &found.models);
        }
        found.conclude(out, &device, began.elapsed().as_secs_f64())
    }
}

/// Prints the version and the device, as a bug report needs them.
fn introduce(out: &Output, device: &Device) {
    let (host, threads) = (Host::new(), rayon::current_num_threads());
    let (system, version) =
        (format!("{} {}", std::env::consts::OS, std::env::consts::ARCH), env!("CARGO_PKG_VERSION"));
    if out.json {
        let mut object = match device {
            Device::Gpu(gpu) => adapter_json(gpu.info(), gpu.caps()),
            Device::Cpu => host_json(&host, threads),
        };
        object["defrost"] = version.into();
        object["system"] = system.into();
        out.event("device", object);
        return;
    }
    out.line(format_args!("defrost {version}, {system}"));
    out.line(out.style(Style::Bold, device.describe()));
    out.line(match device {
        Device::Gpu(gpu) => adapter_limits(gpu.caps()),
        Device::Cpu => host_limits(&host, threads),
    });
}

fn progress(what: &'static str, done: usize, total: usize) -> Event {
    Event::Progress { what, done, total, epoch: None, loss: None, accuracy: None }
}

fn kernels(out: &Output, device: &Device, selection: &Selection, found: &mut Found) {
    let (mut certifier, mut bar) = (Certifier::new(device), Progress::new(out));
    let cases = selection.cases();
    for (done, (family, case)) in cases.iter().enumerate() {
        bar.event(&progress(family, done, cases.len()));
        if let Err(e) = certifier.case(case, |op| selection.takes(family, op)) {
            found.errors.push(format!("{}: {e}", case.label()));
            break;
        }
    }
    found.kernels = certifier.finish();
}

fn networks(out: &Output, device: &Device, models: &[(&str, &Model)], found: &mut Found) {
    let mut bar = Progress::new(out);
    for (done, (name, model)) in models.iter().enumerate() {
        bar.event(&progress(model.name, done, models.len()));
        match train::certify(device, name) {
            Ok(verdict) => found.models.push(verdict),
            Err(e) => found.errors.push(format!("{name}: {e}")),
        }
    }
}

/// Highlights wrong lines of a table; the last column says which are wrong.
fn show(out: &Output, rows: &[Vec<String>], right: &[bool]) {
    out.line("");
    for (i, line) in table(rows, right).into_iter().enumerate() {
        let wrong = line.ends_with("FAIL");
        let style = if i == 0 { Some(Style::Bold) } else { wrong.then_some(Style::Red) };
        out.line(style.map_or(line.clone(), |style| out.style(style, &line)));
    }
}

fn result(right: bool) -> String {
    if right { "pass" } else { "FAIL" }.into()
}

/// An error as a share: of the allowed error, or of the value.
fn share(error: f64) -> String {
    if error.is_finite() { percent(error) } else { "no number".into() }
}

fn show_kernels(out: &Output, kernels: &[Tally]) {
    if out.json {
        for t in kernels {
            let failures: Vec<_> =
                t.failures.iter().map(|f| json!({ "case": f.case, "what": f.what })).collect();
            out.event(
                "kernel",
                json!({
                    "op": t.op,
                    "kernel": t.variant,
                    "runs": t.runs,
                    "error": t.error.is_finite().then_some(t.error),
                    "passed": t.failures.is_empty(),
                    "failures": failures,
                }),
            );
        }
        return;
    }
    let row = |t: &Tally| {
        let right = result(t.failures.is_empty());
        vec![t.op.into(), t.variant.into(), t.runs.to_string(), share(t.error), right]
    };
    let mut rows = vec![["op", "kernel", "runs", "error of allowed", ""].map(String::from).to_vec()];
    rows.extend(kernels.iter().map(row));
    show(out, &rows, &[false, false, true, true, false]);
    for t in kernels.iter().filter(|t| !t.failures.is_empty()) {
        let shown = if out.verbose { t.failures.len() } else { 1 };
        out.line(format_args!("{} {}: {} of {} runs are wrong", t.op, t.variant, t.failures.len(), t.runs));
        for failure in &t.failures[..shown] {
            out.line(format_args!("  {}: {}", failure.case, failure.what));
        }
        if shown < t.failures.len() {
            out.line(format_args!("  and {} more; -v shows them all", t.failures.len() - shown));
        }
    }
}

fn show_models(out: &Output, models: &[ModelVerdict]) {
    if out.json {
        for m in models {
            let figure = |f: &Figure| {
                let error = f.error.is_finite().then_some(f.error);
                let object =
                    json!({ "error": error, "tolerance": f.tolerance, "at": f.at, "passed": f.is_right() });
                (f.name.to_string(), object)
            };
            let figures: serde_json::Map<String, serde_json::Value> = m.figures.iter().map(figure).collect();
            let fields = json!({
                "model": m.model,
                "input": m.side,
                "batch": m.batch,
                "steps": m.steps,
                "passed": m.is_right(),
                "figures": figures,
            });
            out.event("model", fields);
        }
        return;
    }
    let Some(first) = models.first() else { return };
    let mut head = vec!["network".to_string(), "images".into(), "steps".into()];
    head.extend(first.figures.iter().map(|f| f.name.to_string()));
    let mut rows = vec![[head, vec![String::new()]].concat()];
    for m in models {
        let mut row = vec![m.model.to_string(), format!("{} {1}x{1}", m.batch, m.side), m.steps.to_string()];
        row.extend(m.figures.iter().map(|f| format!("{:.0e}", f.error)));
        row.push(result(m.is_right()));
        rows.push(row);
    }
    show(out, &rows, &[false, false, true, true, true, true, true, true, false]);
    for m in models {
        for f in m.figures.iter().filter(|f| !f.is_right()) {
            let Figure { name, error, tolerance, at } = f;
            out.line(format_args!("{}: {name} off by {error:.1e} at {at}, allowed {tolerance:.0e}", m.model));
        }
    }
}

impl Found {
    /// The wrong results, the first of each kernel and network.
    fn wrong(&self) -> Vec<String> {
        let kernel = |t: &Tally| {
            let first = t.failures.first()?;
            Some(format!("{} kernel {} ({}: {})", t.op, t.variant, first.case, first.what))
        };
        let model = |m: &ModelVerdict| {
            let first = m.figures.iter().find(|f| !f.is_right())?;
            Some(format!("{} ({} off by {:.1e} at {})", m.model, first.name, first.error, first.at))
        };
        let mut all: Vec<String> = self.kernels.iter().filter_map(kernel).collect();
        all.extend(self.models.iter().filter_map(model));
        all.extend(self.errors.iter().cloned());
        all
    }

    fn conclude(&self, out: &Output, device: &Device, seconds: f64) -> Result<()> {
        let wrong = self.wrong();
        let runs: usize = self.kernels.iter().map(|t| t.runs).sum();
        if out.json {
            out.event(
                "done",
                json!({
                    "passed": wrong.is_empty(),
                    "device": device.describe(),
                    "kernels": self.kernels.len(),
                    "runs": runs,
                    "models": self.models.len(),
                    "wrong": wrong,
                    "seconds": seconds,
                }),
            );
        } else {
            out.line("");
            let verdict = if wrong.is_empty() { "passed" } else { "FAILED" };
            out.line(format_args!(
                "{}: {} in {}, {}; {}",
                out.style(if wrong.is_empty() { Style::Bold } else { Style::Red }, verdict),
                count(self.kernels.len(), "kernel", "kernels"),
                count(runs, "run", "runs"),
                count(self.models.len(), "network", "networks"),
                duration(seconds)
            ));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let meanwhile = match device {
            Device::Gpu(_) => "--device cpu",
            Device::Cpu => "another --device (defrost devices lists them)",
        };
        Err(Error::Gpu(format!(
            "{} does not compute what it should: {}. Please report it with what is printed above; meanwhile use \
             {meanwhile}",
            device.describe(),
            wrong.join("; ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Color;
    use crate::plan::certify::Failure;

    #[test]
    fn what_is_wrong_fails_the_command_and_is_named() {
        let (out, device) = (Output::new(false, true, false, Color::Never), Device::Cpu);
        let tally = |op, failures: Vec<Failure>| Tally { op, variant: "tile", runs: 2, error: 0.5, failures };
        let mut found = Found { kernels: vec![tally("conv.forward", Vec::new())], ..Found::default() };
        assert!(found.conclude(&out, &device, 1.0).is_ok());
        let failure =
            Failure { case: "matmul.forward[] [3, 5], [5, 7]".into(), what: "output 0[2] is NaN".into() };
        found.kernels.push(tally("matmul.forward", vec![failure]));
        let figure = |error| Figure { name: "loss", error, tolerance: 1e-3, at: "step 2".into() };
        let model = |model, error| {
            let figures = vec![figure(error)];
            ModelVerdict { model, side: 32, batch: 4, steps: 3, figures }
        };
        found.models = vec![model("resnet20", 1e-6), model("vgg11", 0.5), model("resnet18", f64::INFINITY)];
        let error = found.conclude(&out, &device, 1.0).expect_err("two things are wrong");
        let text = error.to_string();
        for thing in
            ["matmul.forward kernel tile", "[5, 7]: output 0[2] is NaN", "vgg11 (loss", "resnet18", "report"]
        {
            assert!(text.contains(thing), "{thing}: {text}");
        }
        assert!(!text.contains("conv") && !text.contains("resnet20") && error.exit_code() == 1, "{text}");
    }
}
