//! `defrost tune`: finds the fastest kernels on this device, and stores the choice for every later command.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::output::{Output, Style, count, escaped, table};
use super::{Session, cache_folder, positive, usage_error};
use crate::gpu::{Choices, Gpu};
use crate::models::{self, Preprocess, registry};
use crate::nn::{Freeze, NormMode};
use crate::plan::tune::{Tuned, Tuner, choices_of, tune};
use crate::plan::{Device, Plan};
use crate::train::{Config, busiest_plan, training_plan};
use crate::{Result, rng};

const EXAMPLES: &str = "\
Examples:
  defrost tune
  defrost tune resnet50 --batch 32 --budget 300
  defrost tune --forget
  defrost train photos/ --model resnet50 --weights resnet50.safetensors --tune 60

Each kernel that an op offers runs on the shapes of the networks' training steps. One is taken instead of the
usual one only if its answers equal those of the plainest kernel on poisoned memory, are the same bits every time,
and its win is beyond the clock's noise. What was found is kept for this adapter, driver and version of Defrost
in the user's cache folder, and every command uses it; results may then differ in the last digits.";

/// Find the fastest kernels for this device, and store the choice
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Tune {
    /// Networks [default: resnet18 and mobilenet_v2]
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Images a step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = positive)]
    batch: usize,
    /// Side of the images in pixels [default: the model's own]
    #[arg(long, value_name = "PIXELS", value_parser = positive)]
    size: Option<usize>,
    /// Seconds after which no further op is begun
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,
    /// Delete the stored choice for this device
    #[arg(long, conflicts_with = "models")]
    forget: bool,
}

/// The file that stores the choices for a device.
fn file(device: &str) -> PathBuf {
    cache_folder().join("tuned").join(format!("{:016x}.json", rng::key_of(device)))
}

/// Loads the stored choices into a GPU.
pub(super) fn recall(out: &Output, gpu: &Gpu) {
    let device = gpu.describe();
    match Choices::load(&file(&device), &device) {
        Ok(choices) => gpu.choose(choices),
        Err(e) => out.warn(format_args!("tuned kernels are not used: {e}")),
    }
}

/// Tunes the kernels of some plans for `seconds`, stores the choices, and has the device use them.
pub(super) fn tune_plans(out: &Output, gpu: &Gpu, plans: &[Plan], seconds: u64) -> Result<Vec<Tuned>> {
    let ops = choices_of(plans, gpu);
    let mut found: Vec<Tuned> = Vec::new();
    let watch = |tuned: &Tuned, of: usize| {
        let gain =
            if tuned.gain() > 1.0 { format!(", {:.2} times as fast", tuned.gain()) } else { String::new() };
        out.note(format_args!("{} of {of}: {}: {}{gain}", found.len() + 1, tuned.key, tuned.best));
        for (variant, why) in refused(tuned) {
            out.warn(format_args!("{}: the kernel {variant} is not used: {why}", tuned.key));
        }
        found.push(tuned.clone());
    };
    let choices = tune(&Tuner::new(gpu), &ops, Duration::from_secs(seconds), gpu.choices(), watch)?;
    let left = ops.len() - found.len();
    if left > 0 {
        out.note(format_args!(
            "the time is up: {} left as they were; a larger --budget reaches them",
            count(left, "op is", "ops are")
        ));
    }
    let device = gpu.describe();
    choices.save(&file(&device), &device)?;
    gpu.choose(choices);
    Ok(found)
}

/// Tunes the kernels that take most of the time of a training with these settings.
pub(super) fn tune_for(out: &Output, device: &Device, config: &Config, seconds: u64) -> Result<()> {
    let Device::Gpu(gpu) = device else {
        out.note("--tune: the CPU has one kernel for each op, so there is nothing to choose");
        return Ok(());
    };
    let plan = busiest_plan(config, &device.caps())?;
    tune_plans(out, gpu, &[plan], seconds).map(drop)
}

fn refused(tuned: &Tuned) -> impl Iterator<Item = (&'static str, &str)> {
    tuned.candidates.iter().filter_map(|c| Some((c.variant, c.refused.as_deref()?)))
}

impl Tune {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let out = &session.out;
        let names: Vec<&str> = match self.models.as_slice() {
            [] => vec!["resnet18", "mobilenet_v2"],
            given => given.iter().map(String::as_str).collect(),
        };
        let models = names
            .into_iter()
            .map(|name| Ok((name, registry::find(name)?.model)))
            .collect::<Result<Vec<_>>>()?;
        let device = session.device()?;
        let Device::Gpu(gpu) = &device else {
            return Err(usage_error(
                "the CPU has one kernel for each op: there is nothing to choose; name a GPU with --device \
                 (defrost devices lists them)",
            ));
        };
        let path = file(&gpu.describe());
        if self.forget {
            let gone = std::fs::remove_file(&path).is_ok();
            out.note(if gone { "forgotten" } else { "nothing was kept for this device" });
            return Ok(());
        }
        if !out.json {
            out.line(out.style(Style::Bold, gpu.describe()));
        }
        let mut plans = Vec::new();
        for (name, model) in models {
            let mut net = models::create(name, model.classes)?;
            net.set_preprocess(Preprocess::whole(self.size.unwrap_or(model.input)))?;
            net.freeze(Freeze::none().norm(NormMode::Train))?;
            plans.push(training_plan(&net, &Config::default(), self.batch, &device.caps())?);
        }
        let found = tune_plans(out, gpu, &plans, self.budget)?;
        let better: Vec<&Tuned> = found.iter().filter(|t| t.gain() > 1.0 && changed(t)).collect();
        if out.json {
            for tuned in &found {
                out.event("tuned", tuned_json(tuned));
            }
            out.event("done", json!({ "ops": found.len(), "changed": better.len(), "file": path }));
            return Ok(());
        }
        let mut rows = Vec::new();
        for tuned in &better {
            rows.push(vec![
                tuned.key.clone(),
                format!("{} -> {}", tuned.candidates[0].variant, tuned.best),
                format!("{:.2}x", tuned.gain()),
            ]);
        }
        table(&rows, &[false, false, true]).into_iter().for_each(|line| out.line(line));
        let (ops, taken) = (count(found.len(), "op", "ops"), better.len());
        out.line(format_args!(
            "{ops} tried, {taken} with another kernel than usual; kept in {}",
            escaped(path.display())
        ));
        Ok(())
    }
}

fn changed(tuned: &Tuned) -> bool {
    tuned.candidates.first().is_some_and(|usual| usual.variant != tuned.best)
}

fn tuned_json(tuned: &Tuned) -> serde_json::Value {
    let candidates: Vec<_> = tuned
        .candidates
        .iter()
        .map(|c| {
            json!({
                "kernel": c.variant,
                "seconds": c.timing.map(|t| t.median),
                "least": c.timing.map(|t| t.least),
                "most": c.timing.map(|t| t.most),
                "refused": c.refused,
            })
        })
        .collect();
    json!({ "op": tuned.key, "best": tuned.best, "gain": tuned.gain(), "candidates": candidates })
}
