//! Activation checkpointing changes what is kept for the backward pass and nothing else: losses, gradients and
//! parameters agree bit for bit with those of a plain step, and less memory is planned.
#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;

use std::collections::BTreeMap;

use command::{ADAPTER, Outcome, Place};
use common::gpu;
use defrost::models::{self, Network, Preprocess};
use defrost::nn::{Freeze, NormMode};
use defrost::plan::{Device, Plan, Program};
use defrost::train::{Config, noise, training_plan};

const CLASSES: usize = 3;

fn network(name: &str, side: usize, freeze: Freeze) -> Network {
    let mut net = models::create(name, CLASSES).unwrap();
    net.set_preprocess(Preprocess::whole(side)).unwrap();
    net.freeze(freeze).unwrap();
    net
}

fn plan(net: &Network, device: &Device, batch: usize, grad_checkpointing: bool) -> Plan {
    let config = Config::default().with(|c| c.grad_checkpointing = grad_checkpointing);
    training_plan(net, &config, batch, &device.caps()).unwrap()
}

/// Results of two steps, then all that lies in the store, by name; as bits.
fn two_steps(net: &Network, device: &Device, plan: Plan) -> BTreeMap<String, Vec<u32>> {
    let inputs = noise(&plan, CLASSES, 1e-3);
    let inputs: Vec<(&str, &[u8])> =
        inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let names: Vec<String> = plan.layout.segments.keys().cloned().collect();
    let store = device.store(&plan.layout, net).unwrap();
    let mut program = Program::new(plan, &store, net).unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let mut all = BTreeMap::new();
    for step in 0..2 {
        for (i, output) in program.run(&inputs).unwrap().iter().enumerate() {
            assert!(output.iter().all(|x| x.is_finite()));
            all.insert(format!("output {i} of step {step}"), bits(output));
        }
    }
    all.extend(names.iter().map(|name| (name.clone(), bits(&store.read(name).unwrap()))));
    all
}

/// The layers of forward ops, of those that no gradient is made of, that the backward pass runs again.
fn again(plan: &Plan) -> Vec<String> {
    let forward = ["batch_norm.forward", "batch_norm.affine", "activation.forward", "pool.max"];
    let steps = plan.steps.iter().filter(|s| s.is_training() && forward.contains(&s.node.op.name()));
    steps.map(|s| s.node.layer.clone()).collect()
}

fn compare(net: &Network, device: &Device, batch: usize, least: f64) {
    let [plain, fewer] = [false, true].map(|on| plan(net, device, batch, on));
    let name = &net.config().model;
    let [before, after] = [&plain, &fewer].map(|plan| plan.memory().activations as f64);
    println!("{name}: {before} to {after} bytes of activations, {:.2}", after / before);
    assert!(again(&plain).is_empty() || name.starts_with("densenet"), "{name}: {:?}", again(&plain));
    assert!(after < (1.0 - least) * before, "{name}: {before} to {after} bytes of activations");
    let [plain, fewer] = [plain, fewer].map(|plan| two_steps(net, device, plan));
    assert_eq!(plain.keys().collect::<Vec<_>>(), fewer.keys().collect::<Vec<_>>());
    assert!(plain.keys().any(|name| name.starts_with("grad:")));
    for (what, bits) in &plain {
        assert!(bits == &fewer[what], "{name}: {what} differs");
    }
}

#[test]
fn nothing_differs_but_memory() {
    let (batch, running) = (NormMode::Train, NormMode::FrozenStats);
    let networks = [
        ("resnet20", 32, batch, 0.5),
        ("resnet20", 32, running, 0.5),
        ("resnet50", 64, batch, 0.5),
        ("mobilenet_v2", 96, running, 0.4),
        ("densenet121", 64, batch, 0.4),
        // Dropout, stochastic depth, squeeze and excitation.
        ("efficientnet_b0", 64, batch, 0.5),
        ("squeezenet1_1", 96, running, 0.2),
    ];
    for (name, side, norms, least) in networks {
        compare(&network(name, side, Freeze::none().norm(norms)), &Device::Cpu, 2, least);
    }
}

#[test]
fn nor_on_a_gpu() {
    compare(&network("resnet20", 32, Freeze::none()), &Device::Gpu(gpu()), 4, 0.5);
}

#[test]
fn a_frozen_front_is_not_computed_again() {
    let net = network("resnet50", 64, Freeze::through("layer2"));
    let plan = plan(&net, &Device::Cpu, 4, true);
    assert!(!again(&plan).is_empty());
    // It has no gradients: whatever the backward pass does in its layers, it does again.
    let steps = plan.steps.iter().filter(|s| s.is_training()).map(|s| s.node.layer.as_str());
    let front = |layer: &&str| {
        ["image", "conv1", "bn1", "maxpool", "layer1", "layer2"].iter().any(|f| layer.starts_with(f))
    };
    assert_eq!(steps.filter(front).collect::<Vec<_>>(), Vec::<&str>::new());
    compare(&net, &Device::Cpu, 4, 0.1);
}

#[test]
fn where_nothing_is_won_nothing_is_done() {
    let net = network("resnet20", 32, Freeze::through("layer3.2"));
    assert!(again(&plan(&net, &Device::Cpu, 4, true)).is_empty());
}

/// A training from nothing on [`Place::photos`], and its curve without the times.
fn curve(place: &Place, out: &str, memory: Option<u64>, more: &[&str]) -> (String, Vec<String>) {
    let given =
        ["train", "photos", "--model", "resnet20", "--strategy", "scratch", "--epochs", "2", "--no-report"];
    let mut command = place.command(&[&given, &["--batch", "16", "--out", out][..], more].concat());
    if let Some(memory) = memory {
        command.env("DEFROST_GPU_MEMORY", memory.to_string());
    }
    let outcome = Outcome::of(command.output().unwrap());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let text = std::fs::read_to_string(place.path(out).join("metrics.csv")).unwrap();
    // Epoch, losses, accuracies, rate.
    let figures = |line: &str| line.split(',').take(6).collect::<Vec<_>>().join(",");
    (outcome.stderr, text.lines().map(figures).collect())
}

#[test]
fn a_run_learns_the_same() {
    let place = Place::new();
    place.photos();
    let cpu = ["--device", "cpu"];
    let (_, plain) = curve(&place, "plain", None, &cpu);
    assert_eq!(plain.len(), 3);
    let (_, fewer) = curve(&place, "fewer", None, &[&cpu[..], &["--grad-checkpointing"]].concat());
    let settings = |out: &str| std::fs::read_to_string(place.path(out).join("config.json")).unwrap();
    assert!(
        settings("fewer").contains("\"grad_checkpointing\": true")
            && !settings("plain").contains("_checkpointing\": true")
    );
    assert_eq!(plain, fewer);
}

#[test]
fn where_memory_is_short_it_is_done_by_itself() {
    let place = Place::new();
    place.photos();
    let needed = |more: &[&str]| {
        let given = ["inspect", "resnet20", "--classes", "2", "--batch", "16", "--json"];
        let said = place.ok(&[&given, &ADAPTER[..], more].concat()).stdout;
        let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        last["memory"]["total"].as_u64().unwrap() >> 20
    };
    let [plain, fewer] = [needed(&[]), needed(&["--grad-checkpointing"])];
    assert!(fewer + 8 < plain, "{plain} and {fewer} MiB");
    let (said, whole) = curve(&place, "whole", None, &ADAPTER);
    assert!(!said.contains("grad-checkpointing"), "{said}");
    let (said, short) = curve(&place, "short", Some((plain + fewer) / 2), &ADAPTER);
    assert!(said.contains("--grad-checkpointing") && !said.contains("at a time"), "{said}");
    assert_eq!(whole, short);
}
