//! How long a prediction or a training step of a network takes on a device, and what memory it needs.
//! The numbers are random; images come as bytes, and results are read back.
//!
//! cargo run --release --example step_time -- resnet18 step --freeze-through layer3 --device cpu
//!
//! With `--serve` it is a worker of `tools/compare`, which has the protocol.

use std::io::{BufRead, Write};

use clap::{Parser, ValueEnum};
use defrost::gpu::{DeviceChoice, GpuOptions};
use defrost::models::{self, Network, Preprocess};
use defrost::nn::{Freeze, NormMode, ParamSpec};
use defrost::plan::Device;
use defrost::train::{Config, OptimizerKind, Workload};
use defrost::{Error, Result};

const CLASSES: usize = 1000;
const WARM_UPS: usize = 2;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Case {
    /// Logits.
    Forward,
    /// SGD with momentum, batch norms on the statistics of the batch.
    Step,
}

/// How long a prediction or a training step takes.
#[derive(Parser)]
struct Arguments {
    /// resnet18, mobilenet_v2, ...
    model: String,
    case: Case,
    /// In a training step, freeze up to and including this layer
    #[arg(long, value_name = "LAYER")]
    freeze_through: Option<String>,
    /// auto, gpu, cpu, or an adapter's number or name
    #[arg(long)]
    device: Option<String>,
    /// Threads of the CPU [default: as many as there are]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Images a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Side of the images in pixels
    #[arg(long, default_value_t = 224)]
    size: usize,
    /// How often
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// Wait for `run` and `quit` on stdin
    #[arg(long, conflicts_with = "runs")]
    serve: bool,
}

impl Arguments {
    fn network(&self) -> Result<Network> {
        let mut net = models::create(&self.model, CLASSES)?;
        net.set_preprocess(Preprocess::whole(self.size))?;
        let freeze = match (self.case, &self.freeze_through) {
            (Case::Forward, _) => Freeze::all(),
            (Case::Step, Some(layer)) => Freeze::through(layer),
            (Case::Step, None) => Freeze::none(),
        };
        net.freeze(freeze.norm(NormMode::Train))?;
        Ok(net)
    }

    fn workload(&self, net: &Network, device: &Device) -> Result<Workload> {
        let config = Config::default().with(|c| c.optimizer = OptimizerKind::Sgd);
        match self.case {
            Case::Forward => Workload::inference(device, net, self.batch),
            Case::Step => Workload::training(device, net, &config, self.batch, 1e-3),
        }
    }
}

/// A line of `/proc/self/status` in bytes; 0 where there is none.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn serve(net: &Network, work: &mut Workload, idle: u64) -> Result<()> {
    let pipe = |e| Error::io("stdout", "write", e);
    let mut out = std::io::stdout().lock();
    let learning: usize = net.learning().map(ParamSpec::numel).sum();
    writeln!(out, "ready {} {learning}", net.parameters()).map_err(pipe)?;
    for line in std::io::stdin().lock().lines() {
        match line.map_err(|e| Error::io("stdin", "read", e))?.as_str() {
            "run" => writeln!(out, "{}", work.run()?).map_err(pipe)?,
            "quit" => break,
            other => return Err(Error::Usage(format!("'{other}': run or quit is expected"))),
        }
    }
    writeln!(out, "{} {idle}", memory("VmHWM")).map_err(pipe)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global();
    pool.map_err(|e| Error::Usage(format!("--threads {}: {e}", arguments.threads)))?;
    let mut options = GpuOptions::default();
    if let Some(name) = &arguments.device {
        options.device = DeviceChoice::parse(name);
    }
    let device = Device::open(&options)?;
    let idle = memory("VmRSS");
    let net = arguments.network()?;
    let mut work = arguments.workload(&net, &device)?;
    for _ in 0..WARM_UPS {
        work.run()?;
    }
    if arguments.serve {
        return serve(&net, &mut work, idle);
    }
    let mut times = (0..arguments.runs.max(1)).map(|_| work.run()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let (median, batch) = (1e3 * times[times.len() / 2], arguments.batch);
    println!("{}, {batch} images of {} pixels, {}", arguments.model, arguments.size, device.describe());
    println!(
        "{median:.1} ms ({:.1} to {:.1}), {:.2} ms an image",
        1e3 * times[0],
        1e3 * times[times.len() - 1],
        median / batch as f64
    );
    if memory("VmHWM") > 0 {
        println!("peak memory of the process: {} MiB", memory("VmHWM") >> 20);
    }
    Ok(())
}
