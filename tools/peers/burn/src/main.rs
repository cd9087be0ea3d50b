//! burn as a peer of `tools/compare`, which has the protocol: on its CPU backend `flex`, or with the feature
//! `wgpu` on a GPU or on software Vulkan.
//!
//!     peer-burn MODEL forward|step [--freeze-through LAYER] [--batch N] [--size N] [--threads N]
//!         [--device cpu|gpu|software]
//!
//! Times what `examples/step_time.rs` times, written as burn's users would write it. What is frozen runs as a
//! `valid()` module, without autodiff: nothing cheaper can be asked of burn. `flex` computes at once; the GPU
//! backend is lazy, so that a run ends with a sync.

mod nets;

use std::io::{BufRead, Write};
use std::time::Instant;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};

use nets::{Block, Net};

const CLASSES: usize = 1000;
const WARM_UPS: usize = 2;

type Error = Box<dyn std::error::Error>;

struct Arguments {
    model: String,
    case: String,
    freeze_through: Option<String>,
    batch: usize,
    size: usize,
    threads: usize,
    device: String,
}

impl Arguments {
    fn parse() -> Result<Self, Error> {
        let mut given = std::env::args().skip(1);
        let mut next = |what: &str| given.next().ok_or(format!("{what} is missing"));
        let (model, case) = (next("a model")?, next("forward or step")?);
        let mut all = Arguments {
            model,
            case,
            freeze_through: None,
            batch: 8,
            size: 224,
            threads: 0,
            device: "cpu".into(),
        };
        while let Some(name) = given.next() {
            let value = given.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--freeze-through" => all.freeze_through = Some(value),
                "--batch" => all.batch = value.parse()?,
                "--size" => all.size = value.parse()?,
                "--threads" => all.threads = value.parse()?,
                "--device" => all.device = value,
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(all)
    }
}

/// What runs.
enum Case {
    Forward(Net),
    /// The frozen front, what learns, its optimizer.
    Step(Vec<Block>, Net, ModuleOptimizer),
}

fn device(name: &str) -> Result<Device, Error> {
    #[cfg(feature = "wgpu")]
    {
        use burn::tensor::DeviceKind;
        match name {
            "gpu" => return Ok(Device::wgpu(DeviceKind::DefaultDevice)),
            "software" => return Ok(Device::wgpu(DeviceKind::Cpu)),
            _ => {}
        }
    }
    match name {
        "cpu" => Ok(Device::flex()),
        other => Err(format!("--device {other}: not in this build").into()),
    }
}

/// A case and what it is fed with.
struct Ready {
    device: Device,
    case: Option<Case>,
    images: Tensor<4>,
    labels: Tensor<1, Int>,
}

impl Ready {
    fn new(arguments: &Arguments) -> Result<Self, Error> {
        let Arguments { model, case, freeze_through, batch, size, device: device_name, .. } = arguments;
        let plain = device(device_name)?;
        let net = |device: &Device| Net::new(model, CLASSES, device);
        let case = match case.as_str() {
            "forward" => Case::Forward(net(&plain)?),
            "step" => {
                let mut rest = net(&plain.clone().autodiff())?;
                let front = match freeze_through {
                    Some(layer) => rest.split_off_front(layer)?,
                    None => Vec::new(),
                };
                // PyTorch's momentum has no dampening.
                let momentum = MomentumConfig::new().with_momentum(0.9).with_dampening(0.0);
                Case::Step(front.valid(), rest, SgdConfig::new().with_momentum(Some(momentum)).init())
            }
            other => return Err(format!("'{other}': forward or step is expected").into()),
        };
        Ok(Ready {
            device: plain.clone(),
            case: Some(case),
            images: Tensor::random([*batch, 3, *size, *size], Distribution::Normal(0.0, 1.0), &plain),
            labels: Tensor::arange(0..*batch as i64, &plain.autodiff()),
        })
    }

    /// How many parameters there are, and how many of them learn.
    fn parameters(&self) -> (usize, usize) {
        match &self.case {
            Some(Case::Forward(net)) => (nets::parameters(net), 0),
            Some(Case::Step(front, rest, _)) => {
                let learning = nets::parameters(rest);
                (nets::parameters(front) + learning, learning)
            }
            None => (0, 0),
        }
    }

    /// Seconds of one run.
    fn run(&mut self) -> Result<f64, Error> {
        let images = self.images.clone();
        let start = Instant::now();
        let (case, result) = match self.case.take().ok_or("an earlier run failed")? {
            Case::Forward(net) => {
                let logits = net.forward(images).into_data();
                (Case::Forward(net), logits)
            }
            Case::Step(front, rest, mut optimizer) => {
                let logits = rest.forward(nets::run(&front, images).autodiff());
                let loss =
                    CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, self.labels.clone());
                let gradients = GradientsParams::from_grads(loss.backward(), &rest);
                let rest = optimizer.step(1e-3, rest, gradients);
                (Case::Step(front, rest, optimizer), loss.into_data())
            }
        };
        self.device.sync()?;
        let seconds = start.elapsed().as_secs_f64();
        self.case = Some(case);
        if result.iter::<f32>().any(|x| !x.is_finite()) {
            return Err("a result is no number".into());
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

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse()?;
    rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build_global()?;
    let idle = memory("VmRSS");
    let mut ready = Ready::new(&arguments)?;
    for _ in 0..WARM_UPS {
        ready.run()?;
    }
    let mut out = std::io::stdout().lock();
    let (parameters, learning) = ready.parameters();
    writeln!(out, "ready {parameters} {learning}")?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "run" => writeln!(out, "{}", ready.run()?)?,
            "quit" => break,
            other => return Err(format!("'{other}': run or quit is expected").into()),
        }
    }
    writeln!(out, "{} {idle}", memory("VmHWM"))?;
    Ok(())
}
