//! Rewrites of a tape change no numbers: gradients of compiled plans, on the GPU and natively on the CPU,
//! against the tape as it was recorded, interpreted in f64.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::options;
use defrost::gpu::Gpu;
use defrost::ops::{self, Activate, Activation, Add, BatchNorm, BatchStats, Epilogue, Statistics};
use defrost::plan::{Device, Layout, Params, Plan, Program, Request, Trainable, compile, probe};
use defrost::rng;
use defrost::tape::{Data, Role, Shape, Tape, Type, Use, ValueId};

const SHAPE: [usize; 4] = [3, 5, 7, 12];

/// What stands behind the norm.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behind {
    /// The activation.
    Activation,
    /// A residual, then the activation.
    Residual,
    /// The activation, and another reader of the norm's result.
    Fork,
}

/// Values by name, the same everywhere.
struct Numbers;

impl Params for Numbers {
    fn packed(&self, path: &str) -> defrost::Result<Vec<f32>> {
        let key = rng::key_of(path);
        let (low, high, n) = match path {
            "var" => (0.25, 2.0, SHAPE[3]),
            "weight" => (3.0, 6.0, SHAPE[3]),
            "mean" | "bias" => (-1.0, 1.0, SHAPE[3]),
            _ => (-1.0, 1.0, SHAPE.iter().product()),
        };
        Ok((0..n as u64).map(|i| low + (high - low) * rng::unit(key, i)).collect())
    }
}

/// A norm of `x` with `behind`, and the gradients of x, weight and bias.
fn recorded(
    statistics: Statistics,
    activation: Activation,
    behind: Behind,
) -> (Tape, BTreeMap<ValueId, ValueId>) {
    let mut tape = Tape::new();
    let mut param = |name, shape: &[usize], usage| tape.param(name, shape, usage).unwrap();
    let channels = &SHAPE[3..];
    let x = param("x", &SHAPE, Use::Trainable);
    let [weight, bias] = ["weight", "bias"].map(|name| param(name, channels, Use::Trainable));
    let [mean, var] = match statistics {
        Statistics::Batch => tape.record(BatchStats, &[x]).unwrap().try_into().unwrap(),
        Statistics::Running => ["mean", "var"].map(|name| param(name, channels, Use::Live)),
    };
    let norm = BatchNorm { eps: 1e-3, statistics, epilogue: Epilogue::default() };
    let v = tape.apply(norm, &[x, mean, var, weight, bias]).unwrap();
    let mut input = v;
    if behind == Behind::Residual {
        let other = tape.input("other", Type::f32(&SHAPE));
        input = tape.apply(Add::default(), &[v, other]).unwrap();
    }
    let y = tape.apply(Activate(activation), &[input]).unwrap();
    let mut seeds = vec![(y, tape.input("upstream", Type::f32(&SHAPE)))];
    if behind == Behind::Fork {
        seeds.push((v, tape.input("second", Type::f32(&SHAPE))));
    }
    let gradients = ops::backward_from(&mut tape, &seeds).unwrap();
    (tape, gradients)
}

fn plan_of(tape: &Tape, gradients: &BTreeMap<ValueId, ValueId>, device: &Device) -> Plan {
    let values = |trainable: bool| {
        let params =
            tape.values.iter().filter(move |v| v.role == Role::Param && v.requires_grad == trainable);
        params.map(|v| (v.name.clone(), v.ty.shape.clone())).collect::<Vec<(String, Shape)>>()
    };
    let trainable: Vec<Trainable> =
        values(true).into_iter().map(|(path, shape)| Trainable { path, shape, group: 0 }).collect();
    let layout = Arc::new(Layout::new(&trainable, &values(false), &[], &device.caps()));
    let (tape, gradients) = (tape.clone(), gradients.clone());
    let request = Request { tape, outputs: Vec::new(), gradients, update: None, checkpointing: false };
    compile(request, &layout, &device.caps()).unwrap()
}

fn complaints(
    device: &Device,
    statistics: Statistics,
    activation: Activation,
    behind: Behind,
) -> Vec<String> {
    let (tape, gradients) = recorded(statistics, activation, behind);
    let mut values: probe::Values<f64> = BTreeMap::new();
    let mut inputs = Vec::new();
    for (i, value) in tape.values.iter().enumerate().filter(|(_, v)| !v.name.is_empty()) {
        let data = Numbers.packed(&value.name).unwrap();
        values.insert(ValueId(i), Data::Real(data.iter().map(|&x| x.into()).collect()));
        if value.role == Role::Input {
            inputs.push((value.name.clone(), data));
        }
    }
    probe::interpret(&tape, tape.nodes.len(), &mut values).unwrap();

    let plan = plan_of(&tape, &gradients, device);
    let label = format!("{statistics:?} {activation:?} {behind:?} on {}", device.describe());
    let mut wrong = Vec::new();
    let passes = plan.steps.iter().filter(|s| s.node.op.name() == "activation.grad").count();
    let exponential = matches!(activation, Activation::Silu | Activation::Sigmoid);
    if passes != usize::from(behind != Behind::Activation || exponential) {
        wrong.push(format!("{label}: {passes} steps of activation.grad\n{plan}"));
    }
    let store = device.store(&plan.layout, &Numbers).unwrap();
    let mut program = Program::new(plan, &store, &Numbers).unwrap();
    let inputs: Vec<(&str, &[u8])> =
        inputs.iter().map(|(name, data)| (name.as_str(), bytemuck::cast_slice(data))).collect();
    program.run(&inputs).unwrap();
    for (param, grad) in &gradients {
        let name = &tape.values[param.0].name;
        let found = store.read(&format!("grad:{name}")).unwrap();
        let Data::Real(wanted) = &values[grad] else { panic!("a gradient is made of floats") };
        let largest = wanted.iter().fold(0.0_f64, |m, x| m.max(x.abs()));
        let off = wanted.iter().zip(&found).map(|(w, &f)| (w - f64::from(f)).abs()).fold(0.0, f64::max);
        if off.is_nan() || off > 3e-5 * largest || found.len() != wanted.len() {
            wrong.push(format!("{label}: the gradient of {name} is off by {off:.2e} of {largest:.2e}"));
        }
    }
    wrong
}

/// The gradient of an activation behind a norm is part of the norm's gradients, where nothing else needs it.
#[test]
fn norm_gradients_take_the_activation_in() {
    let gpu = Gpu::with_options(&options()).expect("a GPU adapter, software Vulkan counts");
    let mut wrong = Vec::new();
    for device in [Device::Cpu, Device::Gpu(gpu)] {
        for statistics in [Statistics::Batch, Statistics::Running] {
            for activation in Activation::ALL {
                for behind in [Behind::Activation, Behind::Residual, Behind::Fork] {
                    wrong.extend(complaints(&device, statistics, activation, behind));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
