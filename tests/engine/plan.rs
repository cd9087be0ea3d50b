//! Plans: their text (a lost fusion, or a gradient computed for a frozen layer, shows in a diff), what
//! must hold of each, and how much memory they take against what they say.
//!
//! The texts lie in `tests/snapshots`; `DEFROST_BLESS=1 cargo test --test engine plan::` writes them anew.

#![allow(clippy::unwrap_used)]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use defrost::gpu::{Caps, Gpu};
use defrost::models::{self, Network, Preprocess};
use defrost::nn::Freeze;
use defrost::plan::{Device, Place, Plan, Program};
use defrost::tape::{DType, Phase, Role, ValueId};
use defrost::train::{Config, inference_plan, training_plan};

fn network(name: &str, classes: usize, freeze: Freeze) -> Network {
    let mut net = models::blank(name, classes).unwrap();
    net.freeze(freeze).unwrap();
    net
}

/// The plan of a step with AdamW under WebGPU's default limits.
fn step_of(net: &Network, batch: usize) -> Plan {
    training_plan(net, &Config::default(), batch, &Caps::webgpu_defaults()).unwrap()
}

fn mobilenet(freeze: Freeze, batch: usize) -> (Network, Plan) {
    let net = network("mobilenet_v2", 5, freeze);
    let plan = step_of(&net, batch);
    (net, plan)
}

/// ResNet18 on images of 64x64.
fn resnet18(freeze: Freeze, batch: usize) -> (Network, Plan) {
    let mut net = network("resnet18", 5, freeze);
    net.set_preprocess(Preprocess::whole(64)).unwrap();
    let plan = step_of(&net, batch);
    (net, plan)
}

/// Every plan whose properties are checked, with a name.
fn plans() -> Vec<(&'static str, Network, Plan)> {
    let named = |name, (net, plan)| (name, net, plan);
    let vgg = network("vgg11_bn", 5, Freeze::all_but_head());
    let vgg_plan = step_of(&vgg, 2);
    let vgg16 = network("vgg16", 5, Freeze::none());
    let vgg16_plan = step_of(&vgg16, 2);
    let predicting = network("mobilenet_v2", 5, Freeze::all());
    let inference = inference_plan(&predicting, 2, &Caps::webgpu_defaults()).unwrap();
    vec![
        named("mobilenet_v2_through_13", mobilenet(Freeze::through("features.13"), 2)),
        named("mobilenet_v2_all", mobilenet(Freeze::none(), 2)),
        named("resnet18_all", resnet18(Freeze::none(), 2)),
        named("resnet18_layer4", resnet18(Freeze::through("layer3"), 2)),
        named("vgg11_bn_head", (vgg, vgg_plan)),
        named("vgg16_all", (vgg16, vgg16_plan)),
        named("mobilenet_v2_inference", (predicting, inference)),
    ]
}

// ---------------------------------------------------------------------------------------------- texts

fn snapshot_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"))
}

/// The first lines that differ, with the lines before them.
fn first_difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let mut text =
        format!("{} lines expected, {} found; from line {}:\n", expected.len(), found.len(), same + 1);
    for line in &expected[same.saturating_sub(3)..same] {
        text += &format!("    {line}\n");
    }
    for line in expected.iter().skip(same).take(6) {
        text += &format!("  - {line}\n");
    }
    for line in found.iter().skip(same).take(6) {
        text += &format!("  + {line}\n");
    }
    text
}

fn compare_text(name: &str, plan: &Plan) -> Result<(), String> {
    let path = snapshot_path(name);
    let found = plan.to_string();
    if std::env::var("DEFROST_BLESS").is_ok_and(|v| v == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, found).unwrap();
        return Ok(());
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    if expected == found {
        return Ok(());
    }
    Err(format!(
        "{}: {}\n  If the change is meant, write it with: DEFROST_BLESS=1 cargo test --test engine plan::, and look at \
         `git diff tests/snapshots`",
        path.display(),
        first_difference(&expected, &found)
    ))
}

#[test]
fn texts_are_as_they_were() {
    let kept = [
        "mobilenet_v2_through_13",
        "resnet18_all",
        "resnet18_layer4",
        "vgg11_bn_head",
        "mobilenet_v2_inference",
    ];
    let plans = plans();
    let chosen = plans.iter().filter(|(name, ..)| kept.contains(name));
    let wrong: Vec<String> = chosen.filter_map(|(name, _, plan)| compare_text(name, plan).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ---------------------------------------------------------------------------------------------- frozen

/// Whether `path` is the layer `module` or lies in it.
fn lies_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Layers (activations and pools too) before the first one that learns: the frozen front.
fn frozen_front(net: &Network) -> BTreeSet<String> {
    let structure = net.structure();
    let learns = |range: std::ops::Range<usize>| structure.specs[range].iter().any(|s| net.mask().changes(s));
    let mut front = BTreeSet::from(["image".to_string()]);
    let mut before = 0;
    for layer in &structure.layers {
        if learns(before..layer.params) {
            break;
        }
        before = layer.params;
        front.insert(layer.path.clone());
    }
    front
}

/// The step that computes a value.
fn producer(plan: &Plan, v: ValueId) -> Option<usize> {
    plan.steps.iter().position(|s| s.node.outputs.contains(&v))
}

/// All that a step of a partly frozen network does for its frozen front and should not.
fn waste(net: &Network, plan: &Plan) -> Vec<String> {
    let front = frozen_front(net);
    let frozen = |s: &usize| front.contains(&plan.steps[*s].node.layer);
    let mut wrong = Vec::new();
    for (number, step) in plan.steps.iter().enumerate().filter(|(number, _)| frozen(number)) {
        let (layer, op) = (&step.node.layer, step.node.op.name());
        if step.node.phase != Phase::Forward {
            wrong.push(format!("step {number}, {op}, belongs to the frozen layer {layer}"));
        }
        if step.node.op.updates() > 0 || op.starts_with("batch_norm") || op.starts_with("activation") {
            wrong.push(format!("step {number}, {op}, in the frozen layer {layer} is not folded away"));
        }
        if op == "add.forward" {
            wrong.push(format!("step {number}: the sum in the frozen layer {layer} is no epilogue"));
        }
    }
    // What is kept for the backward pass: of the front at most its output, which gradients of the
    // first learning weights are computed from.
    let kept: Vec<ValueId> =
        plan.saved().into_iter().filter(|&v| producer(plan, v).is_some_and(|s| frozen(&s))).collect();
    for &v in &kept {
        let mut readers =
            plan.steps.iter().enumerate().filter(|(_, s)| s.node.inputs.iter().any(|&i| plan.root(i) == v));
        if readers.all(|(number, s)| frozen(&number) || s.node.phase != Phase::Forward) {
            wrong.push(format!("%{} of the frozen front is kept, and no learning layer reads it", v.0));
        }
    }
    if kept.len() > 1 {
        wrong.push(format!("{} values of the frozen front are kept: {kept:?}", kept.len()));
    }
    // Nothing of a frozen parameter has a place among what changes.
    for spec in net.specs().iter().filter(|s| !net.mask().changes(s)) {
        for prefix in ["", "grad:", "moment1:", "moment2:"] {
            if plan.layout.segments.contains_key(&format!("{prefix}{}", spec.path)) {
                wrong.push(format!("the store keeps {prefix}{}, which is frozen", spec.path));
            }
        }
    }
    wrong
}

#[test]
fn what_is_frozen_costs_nothing() {
    for (name, net, plan) in plans() {
        let wrong = waste(&net, &plan);
        assert!(wrong.is_empty(), "{name}:\n  {}", wrong.join("\n  "));
    }
    // Not only a front: one stage in the middle. Its gradients with respect to the input are needed, those of
    // its weights are not.
    let (net, plan) = resnet18(Freeze::prefix("layer2"), 2);
    for step in plan.steps.iter().filter(|s| lies_in(&s.node.layer, "layer2")) {
        let op = step.node.op.name();
        assert!(!op.ends_with("grad_weight"), "{op} in the frozen {}", step.node.layer);
        assert!(step.node.op.updates() == 0, "{op} in the frozen {}", step.node.layer);
    }
    assert!(net.learning().all(|s| plan.layout.segments.contains_key(&format!("grad:{}", s.path))));
}

/// The check above must be able to fail: under the mask of another network it does.
#[test]
fn waste_is_found() {
    let (_, plan) = mobilenet(Freeze::none(), 2);
    let frozen = network("mobilenet_v2", 5, Freeze::through("features.13"));
    let wrong = waste(&frozen, &plan).join("\n");
    for sign in
        ["conv.grad_weight, belongs to", "batch_norm.running_update", "are kept", "the store keeps grad:"]
    {
        assert!(wrong.contains(sign), "'{sign}' is not in:\n{wrong}");
    }
}

#[test]
fn a_frozen_convolution_is_one_step() {
    for (name, net, plan) in plans() {
        let front = frozen_front(&net);
        let steps = |layer: &str| plan.steps.iter().filter(|s| s.node.layer == layer).count();
        let weights = net.specs().iter().filter(|s| s.shape.len() == 4 && front.contains(s.layer_path()));
        let mut count = 0;
        for spec in weights {
            count += 1;
            assert_eq!(steps(spec.layer_path()), 1, "{name}: {}\n{plan}", spec.layer_path());
        }
        if name == "mobilenet_v2_through_13" {
            // 2 + 3 a block after the first of two, in features.0 to features.13.
            assert_eq!(count, 1 + 2 + 12 * 3);
            let text = plan.to_string();
            assert!(text.contains("+bias") && text.contains("relu6"), "{text}");
        }
        let forward = plan.steps.iter().filter(|s| front.contains(&s.node.layer)).count();
        println!("{name}: {count} frozen convolutions, {forward} steps in the frozen front");
    }
}

// ---------------------------------------------------------------------------------------------- places

/// Runs the schedule on paper: which value each slot holds. A value must still be there when it is
/// read, and nothing may write where the same step reads (wgpu forbids it).
fn overwritten(plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    let slot = |v: ValueId| match plan.places.get(&plan.root(v)) {
        Some(Place::Slot(slot)) => Some(*slot),
        _ => None,
    };
    let mut holds: Vec<Option<ValueId>> = vec![None; plan.slots.len()];
    for &v in plan.inputs.values() {
        let at = slot(v).expect("an input lies in a slot");
        if let Some(other) = holds[at].replace(v) {
            wrong.push(format!("the inputs %{} and %{} share slot {at}", v.0, other.0));
        }
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let what = format!("step {number}, {} of {}", step.node.op.name(), step.node.layer);
        let mut busy = BTreeSet::new();
        for &v in &step.node.inputs {
            let Some(at) = slot(v) else { continue };
            busy.insert(at);
            if holds[at] != Some(plan.root(v)) {
                wrong.push(format!("{what}: reads %{} in slot {at}, which holds {:?}", v.0, holds[at]));
            }
        }
        if step.node.op.is_view() {
            continue;
        }
        let outputs = step
            .node
            .outputs
            .iter()
            .filter_map(|&v| slot(v).map(|at| (at, Some(v), plan.tape.ty(v).bytes())));
        let scratch = step.scratch.iter().zip(&step.variant.scratch).map(|(&at, &bytes)| (at, None, bytes));
        for (at, v, bytes) in outputs.chain(scratch) {
            if !busy.insert(at) {
                wrong.push(format!("{what}: writes slot {at}, which it also reads or writes as another"));
            }
            if bytes > plan.slots[at] {
                wrong.push(format!("{what}: {bytes} bytes in slot {at} of {}", plan.slots[at]));
            }
            holds[at] = v;
        }
    }
    for (name, v) in &plan.outputs {
        if slot(*v).is_some_and(|at| holds[at] != Some(plan.root(*v))) {
            wrong.push(format!("the output {name} is overwritten before the end"));
        }
    }
    wrong
}

#[test]
fn values_alive_at_once_share_no_slot() {
    for (name, _, mut plan) in plans() {
        let wrong = overwritten(&plan);
        assert!(wrong.is_empty(), "{name}:\n  {}", wrong.join("\n  "));
        // The check must be able to fail: move an early output to where a late value lies.
        let first = plan
            .steps
            .iter()
            .flat_map(|s| &s.node.outputs)
            .copied()
            .find(|v| matches!(plan.places.get(v), Some(Place::Slot(_))));
        let image = plan.inputs["image"];
        let place = plan.places[&image].clone();
        plan.places.insert(first.unwrap(), place);
        assert!(!overwritten(&plan).is_empty(), "{name}: an overwritten input is not found");
    }
}

/// Sharing is worth it: all slots together are much smaller than all values.
#[test]
fn slots_are_reused() {
    for (name, _, plan) in plans() {
        let in_slots = plan.places.iter().filter(|(_, place)| matches!(place, Place::Slot(_)));
        let all: u64 = in_slots.map(|(v, _)| plan.tape.ty(*v).bytes()).sum();
        let slots: u64 = plan.slots.iter().sum();
        println!("{name}: values {:.1} MiB in {} slots of {:.1} MiB", mib(all), plan.slots.len(), mib(slots));
        let share = if name.contains("all") { 0.7 } else { 0.5 };
        assert!((slots as f64) < share * all as f64, "{name}: {slots} of {all} bytes");
    }
}

#[test]
fn everything_fits_one_binding() {
    let caps = Caps::webgpu_defaults();
    for (name, _, plan) in plans() {
        let small =
            |what: &str, bytes: u64| assert!(bytes <= caps.max_binding, "{name}: {what} of {bytes} bytes");
        plan.slots.iter().for_each(|&bytes| small("a slot", bytes));
        for (path, segments) in &plan.layout.segments {
            segments.iter().for_each(|s| small(path, s.elements as u64 * 4));
        }
        plan.layout.buffers.iter().for_each(|b| small(&b.name, b.ty.bytes()));
        for c in &plan.constants {
            let ty = plan.tape.ty(c.value);
            let row = ty.bytes() / ty.shape.first().copied().unwrap_or(1).max(1) as u64;
            c.parts.iter().for_each(|rows| small(&c.key, rows.len() as u64 * row));
            let rows: usize = c.parts.iter().map(ExactSizeIterator::len).sum();
            assert_eq!(rows, ty.shape.first().copied().unwrap_or(1), "{name}: parts of {}", c.key);
        }
        for step in &plan.steps {
            for launch in &step.variant.launches {
                let (reads, writes) = launch.access();
                assert!(reads + writes <= caps.storage_buffers, "{name}: {} bindings", launch.kernel.label());
                let limit = caps.groups_per_dimension;
                assert!(launch.groups.iter().all(|g| (1..=limit).contains(g)), "{name}: {:?}", launch.groups);
            }
        }
    }
    let split = |plan: &Plan| plan.layout.segments["classifier.0.weight"].len();
    let (_, _, vgg16) = plans().into_iter().find(|(name, ..)| *name == "vgg16_all").unwrap();
    assert!(split(&vgg16) >= 4, "the first linear layer of VGG16 does not fit one binding");
}

/// Every trainable parameter's gradient is computed exactly once, into its own place.
#[test]
fn every_gradient_is_written_once() {
    for (name, net, plan) in plans() {
        let mut written: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for v in plan.steps.iter().filter(|s| s.node.phase == Phase::Backward).flat_map(|s| &s.node.outputs) {
            if let (Some(Place::Store(segments)), Role::Computed) =
                (plan.places.get(v), &plan.tape.values[v.0].role)
            {
                *written.entry((segments[0].buffer, segments[0].offset)).or_default() += 1;
            }
        }
        for spec in net.learning() {
            let s = &plan.layout.segments[&format!("grad:{}", spec.path)][0];
            assert_eq!(
                written.remove(&(s.buffer, s.offset)),
                Some(1),
                "{name}: the gradient of {}",
                spec.path
            );
        }
        assert!(written.is_empty(), "{name}: gradients of nothing: {written:?}");
    }
}

// ---------------------------------------------------------------------------------------------- memory

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn memory_falls_as_more_is_frozen() {
    let masks = [
        ("none", Freeze::none()),
        ("features.6", Freeze::through("features.6")),
        ("features.13", Freeze::through("features.13")),
        ("all but the head", Freeze::all_but_head()),
    ];
    let mut before = u64::MAX;
    for (name, freeze) in masks {
        let (_, plan) = mobilenet(freeze, 8);
        let memory = plan.memory();
        println!("frozen {name}: {:.1} MiB, {memory:?}", mib(memory.total()));
        assert!(memory.total() < before, "{name}: {} after {before}", memory.total());
        before = memory.total();
    }
}

/// What a program really holds on the device, after a step, against the plan's word.
fn measure(name: &str, net: &Network, plan: impl Fn(&Caps) -> Plan) {
    let gpu = Gpu::with_options(&common::options()).expect("a GPU adapter");
    let report = |gpu: &Gpu| gpu.device().generate_allocator_report();
    let empty = report(&gpu).map_or(0, |r| r.total_allocated_bytes);
    let device = Device::Gpu(gpu.clone());
    let plan = plan(gpu.caps());
    let predicted = plan.memory();
    let store = device.store(&plan.layout, net).unwrap();
    let inputs: Vec<(String, Vec<u8>)> = plan
        .inputs
        .iter()
        .map(|(name, v)| {
            let ty = plan.tape.ty(*v);
            let mut bytes = vec![0u8; ty.bytes() as usize];
            if ty.dtype == DType::U8 {
                bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7 % 251) as u8);
            }
            (name.clone(), bytes)
        })
        .collect();
    let inputs: Vec<(&str, &[u8])> =
        inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let mut program = Program::new(plan, &store, net).unwrap();
    program.run(&inputs).unwrap();
    gpu.wait(None).unwrap();
    let held = gpu.allocated();
    let said = predicted.total();
    println!("{name}: predicted {:.2} MiB, held {:.2} MiB; {predicted:?}", mib(said), mib(held));
    let within = |what: &str, found: u64| {
        let off = (said as f64 / found as f64 - 1.0).abs();
        assert!(
            off < 0.1,
            "{name}: {:.2} MiB predicted, {:.2} MiB {what}: {predicted:?}",
            mib(said),
            mib(found)
        );
    };
    within("held", held);
    if let Some(report) = report(&gpu) {
        let found = report.total_allocated_bytes - empty;
        println!("  of the allocator: {:.2} MiB", mib(found));
        within("allocated", found);
    }
}

#[test]
fn memory_is_predicted() {
    let config = Config::default();
    let step = |net: &Network, batch: usize| {
        let net = net.clone();
        let config = config.clone();
        move |caps: &Caps| training_plan(&net, &config, batch, caps).unwrap()
    };
    let net = network("mobilenet_v2", 5, Freeze::through("features.13"));
    measure("mobilenet_v2 through features.13", &net, step(&net, 4));
    let net = network("mobilenet_v2", 5, Freeze::all_but_head());
    measure("mobilenet_v2 head", &net, step(&net, 4));
    let mut net = network("resnet18", 5, Freeze::none());
    net.set_preprocess(Preprocess::whole(64)).unwrap();
    measure("resnet18 all", &net, step(&net, 4));
    let net = network("resnet20", 10, Freeze::none());
    measure("resnet20 all", &net, step(&net, 8));
    let net = network("mobilenet_v2", 5, Freeze::all());
    measure("mobilenet_v2 inference", &net, |caps| inference_plan(&net, 2, caps).unwrap());
}
