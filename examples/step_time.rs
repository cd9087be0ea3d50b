//! How long a prediction or a training step of a network takes on a device, and what memory it needs.
//! The numbers are random; pictures come as bytes, and results are read back.
//!
//! cargo run --release --example step_time -- resnet18 step --freeze-through layer3 --device cpu
//!
//! With `--serve` it is a worker of `tools/compare`, which has the protocol.

use std::io::{BufRead, Write};
use std::time::Instant;

use clap::{Parser, ValueEnum};
use defrost::gpu::{DeviceChoice, GpuOptions};
use defrost::models::{self, Network, Preprocess};
use defrost::nn::{Freeze, NormMode, ParamSpec};
use defrost::plan::{Device, Program};
use defrost::tape::DType;
use defrost::train::{Config, OptimizerKind, inference_plan, training_plan};
use defrost::{Error, Result, rng};

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
    /// Pictures a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Side of the pictures in pixels
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
}

/// A program and what it is fed with.
struct Ready {
    program: Program,
    inputs: Vec<(String, Vec<u8>)>,
}

impl Ready {
    fn new(arguments: &Arguments, net: &Network, device: &Device) -> Result<Self> {
        let (batch, caps) = (arguments.batch, device.caps());
        let config = Config { optimizer: OptimizerKind::Sgd, ..Config::default() };
        let plan = match arguments.case {
            Case::Forward => inference_plan(net, batch, &caps)?,
            Case::Step => training_plan(net, &config, batch, &caps)?,
        };
        let contents = |name: &str, dtype: DType, bytes: usize| match (name, dtype) {
            (_, DType::U8) => (0..bytes as u64).map(|i| rng::mix(7, i) as u8).collect(),
            ("labels", _) => bytemuck::cast_slice(&(0..batch as u32).collect::<Vec<_>>()).to_vec(),
            ("weights", _) => bytemuck::cast_slice(&vec![1.0 / batch as f32; batch]).to_vec(),
            // Rate, decay, and two that are AdamW's alone; for each group.
            ("rates", _) => bytemuck::cast_slice(&[1e-3_f32, 0.0, 1.0, 1.0].repeat(bytes / 16)).to_vec(),
            _ => vec![0; bytes],
        };
        let inputs = plan.inputs.iter().map(|(name, &v)| {
            let ty = plan.tape.ty(v);
            (name.clone(), contents(name, ty.dtype, ty.bytes() as usize))
        });
        let inputs = inputs.collect();
        let store = device.store(&plan.layout, net)?;
        Ok(Ready { program: Program::new(plan, &store, net)?, inputs })
    }

    /// Seconds of one run.
    fn run(&mut self) -> Result<f64> {
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let start = Instant::now();
        let outputs = self.program.run(&inputs)?;
        let seconds = start.elapsed().as_secs_f64();
        if outputs.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::Diverged("a result is no number".into()));
        }
        Ok(seconds)
    }
}

/// A line of `/proc/self/status` in bytes; 0 where there is none.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn serve(net: &Network, ready: &mut Ready, idle: u64) -> Result<()> {
    let pipe = |e| Error::io("stdout", "write", e);
    let mut out = std::io::stdout().lock();
    let learning: usize = net.learning().map(ParamSpec::numel).sum();
    writeln!(out, "ready {} {learning}", net.parameters()).map_err(pipe)?;
    for line in std::io::stdin().lock().lines() {
        match line.map_err(|e| Error::io("stdin", "read", e))?.as_str() {
            "run" => writeln!(out, "{}", ready.run()?).map_err(pipe)?,
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
    let mut ready = Ready::new(&arguments, &net, &device)?;
    for _ in 0..WARM_UPS {
        ready.run()?;
    }
    if arguments.serve {
        return serve(&net, &mut ready, idle);
    }
    let mut times = (0..arguments.runs.max(1)).map(|_| ready.run()).collect::<Result<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let (median, batch) = (1e3 * times[times.len() / 2], arguments.batch);
    println!("{}, {batch} pictures of {} pixels, {}", arguments.model, arguments.size, device.describe());
    println!(
        "{median:.1} ms ({:.1} to {:.1}), {:.2} ms a picture",
        1e3 * times[0],
        1e3 * times[times.len() - 1],
        median / batch as f64
    );
    if memory("VmHWM") > 0 {
        println!("peak memory of the process: {} MiB", memory("VmHWM") >> 20);
    }
    Ok(())
}
