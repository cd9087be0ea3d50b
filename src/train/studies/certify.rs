//! Compares a few training steps of a network with rule-filled weights: on a device in f32, and on the CPU in f64.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Result;
use crate::gpu::Caps;
use crate::models::{self, Network, Preprocess, registry};
use crate::nn::Freeze;
use crate::plan::{CpuProgram, CpuStore, Device, Plan, Program};
use crate::tape::{DType, Data};
use crate::train::optimizer::SGD;
use crate::train::settings::Config;
use crate::train::step::plans::{inference_plan, training_plan};
use crate::train::step::workload::noise;

/// Networks that together use most kernels and are small enough for any machine.
pub const CERTIFIED: [&str; 3] = ["resnet20", "resnet18", "mobilenet_v2"];
/// Number of training steps, after a first step at learning rate 0 whose gradients are compared.
const STEPS: usize = 3;
/// Images per step: enough for batch statistics at the last stage.
const BATCH: usize = 4;
/// Largest side of the images, pixels.
const SIDE: usize = 64;
const CLASSES: usize = 10;
/// The chosen learning rate lowers the loss by this share, to first order: small enough that the steps do not magnify
/// rounding errors.
const FALL: f64 = 0.02;
/// Error of a small tensor: a tensor below this share of the largest of its kind, such as a gradient that is 0 in
/// theory, is measured relative to that share.
const FLOOR: f64 = 1e-3;
/// Error of a tensor that hardly moved: a tensor that moved by less than this share of its own norm is measured
/// relative to that share, because f32 storage rounds it by 1e-7 of its norm.
const MOVED: f64 = 1e-4;

/// The relative error of a quantity, and its tolerance.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// `loss`, `gradients`, `parameters`, `statistics`, `logits`.
    pub name: &'static str,
    /// The largest relative error.
    pub error: f64,
    /// The error that rounding can cause.
    pub tolerance: f64,
    /// Place of the largest error: a step, or a tensor.
    pub at: String,
}

impl Figure {
    /// Whether the error is within rounding.
    pub fn is_right(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// The result for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelVerdict {
    /// The network's name.
    pub model: &'static str,
    /// Side of the images, pixels.
    pub side: usize,
    /// Images per step.
    pub batch: usize,
    /// Number of training steps.
    pub steps: usize,
    /// Errors of loss, gradients, parameters, statistics, logits.
    pub figures: Vec<Figure>,
}

impl ModelVerdict {
    /// Whether all errors are within rounding.
    pub fn is_right(&self) -> bool {
        self.figures.iter().all(Figure::is_right)
    }
}

/// The compared numbers, in f64.
struct Numbers {
    rate: f32,
    losses: Vec<f64>,
    /// Gradients of the first step, by path.
    gradients: Tensors,
    /// Parameters after the last step.
    parameters: Tensors,
    statistics: Tensors,
    /// Logits of the untrained network, with folded and fused layers.
    logits: Vec<f64>,
}

type Tensors = BTreeMap<String, Vec<f64>>;

fn wide(numbers: Vec<f32>) -> Vec<f64> {
    numbers.into_iter().map(f64::from).collect()
}

/// Trains the network called `name` for a few steps of SGD, on `device` and on the CPU in f64, and lets both predict.
/// All layers are trainable and batch norms use the batch's statistics. Weights and images are filled by rule.
///
/// # Errors
/// [`crate::Error::Usage`] for an unknown name, [`crate::Error::Gpu`] where the device fails.
pub fn certify(device: &Device, name: &str) -> Result<ModelVerdict> {
    let model = registry::find(name)?.model;
    let side = model.input.min(SIDE);
    let mut net = models::blank(name, CLASSES)?;
    models::rule_fill(&mut net);
    net.set_dropout(Some(0.0))?;
    net.set_preprocess(Preprocess::whole(side))?;
    net.freeze(Freeze::none())?;
    let expected = in_f64(&net)?;
    let found = on_device(device, &net, expected.rate)?;
    Ok(ModelVerdict {
        model: model.name,
        side,
        batch: BATCH,
        steps: STEPS,
        figures: compare(&net, &found, &expected)?,
    })
}

fn config() -> Config {
    Config { optimizer: SGD, momentum: 0.9, ..Config::default() }
}

fn on_device(device: &Device, net: &Network, rate: f32) -> Result<Numbers> {
    let ready = |plan: Plan| -> Result<_> {
        let store = device.store(&plan.layout, net)?;
        let mut program = Program::new(plan, &store, net)?;
        let run = move |rate: f32| -> Result<Vec<f64>> {
            let inputs = noise(program.plan(), CLASSES, rate);
            let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(n, data)| (n.as_str(), &data[..])).collect();
            Ok(wide(program.run(&inputs)?.swap_remove(0)))
        };
        Ok((store, run))
    };
    let logits = ready(inference_plan(net, BATCH, &device.caps())?)?.1(0.0)?;
    let (store, run) = ready(training_plan(net, &config(), BATCH, &device.caps())?)?;
    train(net, run, |name| Ok(wide(store.read(name)?)), logits, |_| rate)
}

fn in_f64(net: &Network) -> Result<Numbers> {
    let ready = |plan: Plan| -> Result<_> {
        let store = Arc::new(CpuStore::<f64>::new(&plan.layout, net)?);
        let program = CpuProgram::new(plan, &store, net)?;
        let run = move |rate: f32| -> Result<Vec<f64>> {
            let inputs = noise(program.plan(), CLASSES, rate);
            let typed = |(name, bytes): &(String, Vec<u8>)| -> (String, Data<f64>) {
                let data = match program.plan().tape.ty(program.plan().inputs[name]).dtype {
                    DType::F32 => Data::Real(wide(bytemuck::pod_collect_to_vec(bytes))),
                    DType::U32 => Data::U32(bytemuck::pod_collect_to_vec(bytes)),
                    DType::U8 => Data::U8(bytes.clone()),
                };
                (name.clone(), data)
            };
            let inputs: Vec<(String, Data<f64>)> = inputs.iter().map(typed).collect();
            let inputs: Vec<_> =
                inputs.iter().map(|(n, data)| (n.as_str(), data.arg(0..data.len()))).collect();
            Ok(program.run(&inputs)?.swap_remove(0))
        };
        Ok((store, run))
    };
    let logits = ready(inference_plan(net, BATCH, &Caps::host())?)?.1(0.0)?;
    let (store, run) = ready(training_plan(net, &config(), BATCH, &Caps::host())?)?;
    let rate = |first: &Numbers| {
        let gradients = norm(first.gradients.values().flatten().copied());
        (FALL * first.losses[0] / gradients.powi(2)) as f32
    };
    train(net, run, |name| store.read(name), logits, rate)
}

/// Trains with `step`, which takes a learning rate and returns the loss, and reads the resulting numbers. `rate`
/// chooses the learning rate from the first step.
fn train(
    net: &Network,
    mut step: impl FnMut(f32) -> Result<Vec<f64>>,
    read: impl Fn(&str) -> Result<Vec<f64>>,
    logits: Vec<f64>,
    rate: impl Fn(&Numbers) -> f32,
) -> Result<Numbers> {
    let all = |learnable: bool, prefix: &str| -> Result<Tensors> {
        let specs = net.specs().iter().filter(|s| s.kind.is_learnable() == learnable);
        specs.map(|s| Ok((s.path.clone(), read(&format!("{prefix}{}", s.path))?))).collect()
    };
    let (losses, gradients) = (step(0.0)?, all(true, "grad:")?);
    let nothing = Tensors::new;
    let mut numbers =
        Numbers { rate: 0.0, losses, gradients, parameters: nothing(), statistics: nothing(), logits };
    numbers.rate = rate(&numbers);
    for _ in 0..STEPS {
        numbers.losses.extend(step(numbers.rate)?);
    }
    Ok(Numbers { parameters: all(true, "")?, statistics: all(false, "")?, ..numbers })
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}

/// The largest of some errors, with its place; NaN counts as the largest.
fn worst(errors: impl Iterator<Item = (String, f64)>) -> (String, f64) {
    let errors = errors.map(|(at, error)| (at, if error.is_nan() { f64::INFINITY } else { error }));
    errors.fold((String::new(), 0.0), |worst, one| if one.1 > worst.1 { one } else { worst })
}

/// The tensor with the largest error, relative to its distance from its initial value.
fn furthest(found: &Tensors, expected: &Tensors, began: &Tensors) -> (String, f64) {
    let nothing = Vec::new();
    let size = |path: &String, tensor: &Vec<f64>| {
        let began = began.get(path).unwrap_or(&nothing).iter().chain(std::iter::repeat(&0.0));
        let moved = norm(tensor.iter().zip(began).map(|(x, b)| x - b));
        moved.max(MOVED * norm(tensor.iter().copied()))
    };
    let sizes: BTreeMap<&String, f64> = expected.iter().map(|(path, t)| (path, size(path, t))).collect();
    let largest = sizes.values().copied().fold(f64::MIN_POSITIVE, f64::max);
    worst(expected.iter().map(|(path, tensor)| {
        let found = found.get(path).unwrap_or(&nothing);
        let off = norm(tensor.iter().zip(found).map(|(e, f)| e - f));
        let off = if found.len() == tensor.len() { off } else { f64::INFINITY };
        (path.clone(), off / sizes[path].max(FLOOR * largest))
    }))
}

/// Now and then a value within rounding of 0 falls on the other side of a ReLU's kink, which changes the gradients of
/// the layers below by a few per cent. So the tolerance of these gradients, and of the numbers that depend on them,
/// is not tighter. A kernel with a smaller error fails in its own tests.
fn compare(net: &Network, found: &Numbers, expected: &Numbers) -> Result<Vec<Figure>> {
    let began = net.specs().iter().map(|s| Ok((s.path.clone(), wide(net.packed(&s.path)?))));
    let began = began.collect::<Result<Tensors>>()?;
    let losses = found.losses.iter().zip(&expected.losses).zip(0..);
    let losses = worst(losses.map(|((f, e), step)| (format!("step {step}"), (f / e - 1.0).abs())));
    let (low, high) = expected.logits.iter().fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let logits = found.logits.iter().zip(&expected.logits).zip(0..);
    let logits = worst(logits.map(|((f, e), i)| (format!("[{i}]"), (f - e).abs() / (high - low))));
    let figure = |name, tolerance, (at, error)| Figure { name, error, tolerance, at };
    let nowhere = Tensors::new();
    Ok(vec![
        figure("loss", 2e-5, losses),
        figure("gradients", 0.05, furthest(&found.gradients, &expected.gradients, &nowhere)),
        figure("parameters", 0.05, furthest(&found.parameters, &expected.parameters, &began)),
        figure("statistics", 1e-3, furthest(&found.statistics, &expected.statistics, &began)),
        figure("logits", 1e-4, logits),
    ])
}
