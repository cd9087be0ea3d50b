//! Every architecture against PyTorch in f64: logits, loss, every gradient norm, running statistics.
//! The weights are filled by rule (`tools/fixtures.py` wrote the figures and tells how far PyTorch's
//! own f32 lies from them), so that no weight file is needed.

use crate::common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::{gpu, over_range};
use defrost::gpu::Gpu;
use defrost::models::{self, InputKind, Network, Recording};
use defrost::nn::{Freeze, Kind, Mode, NormMode, PaddingStyle, ParamSpec};
use defrost::ops::{self, CrossEntropy};
use defrost::plan::{Device, Layout, Program, Request, Store, Trainable, compile};
use defrost::rng;
use defrost::tape::{Shape, Tape, Type};
use serde_json::Value;

/// Tolerances, relative; logits over their range. A value within rounding of zero falls on the other
/// side of a ReLU's bend now and then and moves single gradient norms by as much as 3e-3, so the
/// median is held tighter than the largest.
const LOGITS: f64 = 1e-4;
const LOSS: f64 = 1e-4;
const NORM_MEDIAN: f64 = 1e-3;
const NORM_EACH: f64 = 5e-3;
const STATISTICS: f64 = 1e-4;
/// Of the largest gradient norm: what may be left of a gradient that is 0 in theory.
const ZERO: f64 = 1e-5;

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

fn table(value: &Value) -> BTreeMap<String, f64> {
    value.as_object().expect("a table").iter().map(|(name, v)| (name.clone(), number(v))).collect()
}

/// 2-norm, summed in f64.
fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// One fixture's network, input and figures.
struct Fixture {
    name: &'static str,
    json: Value,
    net: Network,
    image: Vec<f32>,
    labels: Vec<u32>,
    size: [usize; 2],
}

impl Fixture {
    fn open(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/models/{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let model = json["model"].as_str().expect("a model");
        let width = number(&json["width"]);
        let model = if width == 1.0 { model.into() } else { format!("{model}_{:03}", width * 100.0) };
        let mut net = models::blank(&model, number(&json["classes"]) as usize).expect("a network");
        net.set_padding(match json["padding"].as_str() {
            Some("tf-same") => PaddingStyle::TfSame,
            _ => PaddingStyle::Symmetric,
        });
        net.set_dropout(Some(0.0)).expect("no dropout");
        models::rule_fill(&mut net);
        assert_eq!(net.parameters(), number(&json["parameters"]) as usize, "{name}: count of parameters");

        let shape: Vec<usize> = numbers(&json["input"]).iter().map(|&n| n as usize).collect();
        let key = rng::key_of("input");
        let count = shape.iter().product::<usize>() as u64;
        let image: Vec<f32> = (0..count).map(|i| 2.0 * rng::unit(key, i) - 1.0).collect();
        // When the first values by rule differ, look at the hash, not at the network.
        for (tensor, first) in json["probe"].as_object().expect("a probe") {
            let found = if tensor == "input" { &image[..3] } else { &net.tensor(tensor).expect("it")[..3] };
            let first: Vec<f32> = numbers(first).iter().map(|&x| x as f32).collect();
            assert_eq!(found, first, "{name}: the rule gives other first values for {tensor}");
        }
        let labels = numbers(&json["labels"]).iter().map(|&n| n as u32).collect();
        Fixture { name, json, net, image, labels, size: [shape[1], shape[2]] }
    }

    fn recording(&self, mode: Mode) -> Recording {
        let input = InputKind::Normalised;
        Recording::new(mode, self.labels.len()).with(|c| {
            c.size = Some(self.size);
            c.input = input;
        })
    }

    /// The logits that PyTorch found in a mode.
    fn logits(&self, mode: &str) -> Vec<f32> {
        let rows = self.json[mode]["logits"].as_array().expect("rows");
        rows.iter().flat_map(numbers).map(|x| x as f32).collect()
    }

    /// What is frozen in a mode.
    fn freeze(&self, mode: &str) -> Freeze {
        match mode {
            "eval" => Freeze::none().norm(NormMode::FrozenStats),
            "train" => Freeze::none(),
            "half" => Freeze::through(self.json["freeze_through"].as_str().expect("a layer")),
            other => panic!("no mode {other}"),
        }
    }
}

/// Room for the gradients of everything that can learn, and no moments. All modes share it: the larger
/// networks fill half a gigabyte.
fn store_for(device: &Device, net: &Network) -> (Arc<Layout>, Arc<Store>) {
    let device_shape = |s: &ParamSpec| Shape(s.device_shape());
    let (learnable, statistics): (Vec<&ParamSpec>, Vec<_>) =
        net.specs().iter().partition(|s| s.kind.is_learnable());
    let trainable: Vec<Trainable> = (learnable.into_iter())
        .map(|s| Trainable { path: s.path.clone(), shape: device_shape(s), group: 0 })
        .collect();
    let state: Vec<(String, Shape)> =
        statistics.into_iter().map(|s| (s.path.clone(), device_shape(s))).collect();
    let layout = Arc::new(Layout::new(&trainable, &state, &[], &device.caps()));
    let store = device.store(&layout, net).expect("a store");
    (layout, store)
}

/// A compiled training step without an optimizer.
struct Step {
    program: Program,
    store: Arc<Store>,
    learns: BTreeSet<String>,
    moves: BTreeSet<String>,
}

impl Step {
    /// Loss, logits and all gradients of `fixture`'s network as it is frozen now.
    fn new(device: &Device, fixture: &Fixture, (layout, store): &(Arc<Layout>, Arc<Store>)) -> Self {
        let net = &fixture.net;
        let paths = |learnable: bool| {
            let specs =
                net.specs().iter().filter(|s| s.kind.is_learnable() == learnable && net.mask().changes(s));
            specs.map(|s| s.path.clone()).collect::<BTreeSet<String>>()
        };
        let (learns, moves) = (paths(true), paths(false));
        for path in &moves {
            // Another mode may have moved them.
            store.write(path, &net.packed(path).expect("statistics")).expect("their place");
        }
        let mut tape = Tape::new();
        let batch = fixture.labels.len();
        let logits = net.record(&mut tape, fixture.recording(Mode::Train)).expect("it records").logits;
        tape.set_layer("loss");
        let labels = tape.input("labels", Type::u32(&[batch]));
        let weights = tape.input("weights", Type::f32(&[batch]));
        let entropy = CrossEntropy { smoothing: 0.0 };
        let loss = tape.apply(entropy, &[logits, labels, weights]).expect("a loss");
        let gradients = ops::backward(&mut tape, loss).expect("gradients");
        let outputs = vec![("loss".into(), loss), ("logits".into(), logits)];
        let request = Request { tape, outputs, gradients, update: None, checkpointing: false };
        let plan = compile(request, layout, &device.caps()).expect("a plan");
        let program = Program::new(plan, store, net).expect("a program");
        Step { program, store: store.clone(), learns, moves }
    }

    /// Loss and logits.
    fn run(&mut self, fixture: &Fixture) -> (f64, Vec<f32>) {
        let batch = fixture.labels.len();
        let weights = vec![1.0 / batch as f32; batch];
        let inputs: [(&str, &[u8]); 3] = [
            ("image", bytemuck::cast_slice(&fixture.image)),
            ("labels", bytemuck::cast_slice(&fixture.labels)),
            ("weights", bytemuck::cast_slice(&weights)),
        ];
        let mut outputs = self.program.run(&inputs).expect("a step");
        (f64::from(outputs[0][0]), outputs.swap_remove(1))
    }

    fn norm(&self, name: &str) -> f64 {
        norm(&self.store.read(name).unwrap_or_else(|e| panic!("{name}: {e}")))
    }
}

/// All that is wrong with one fixture in one mode, and a line of figures.
fn compare(step: &Step, fixture: &Fixture, mode: &str, loss: f64, logits: &[f32]) -> (String, Vec<String>) {
    let json = &fixture.json[mode];
    let mut wrong = Vec::new();
    let mut hold = |what: String, off: f64, tolerance: f64| {
        if off > tolerance || off.is_nan() {
            wrong.push(format!(
                "{} {mode}: {what} is off by {off:.1e} (allowed {tolerance:.0e})",
                fixture.name
            ));
        }
    };
    let logits_off = over_range(logits, &fixture.logits(mode));
    hold("logits over their range".into(), logits_off, LOGITS);
    let expected = number(&json["loss"]);
    let loss_off = (loss / expected - 1.0).abs();
    hold(format!("loss {loss} for {expected}"), loss_off, LOSS);

    let expected = table(&json["grad_norms"]);
    let zero: BTreeSet<&str> =
        json["zero_gradients"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
    let largest = expected.values().copied().fold(0.0, f64::max);
    let mut offs: Vec<f64> = Vec::new();
    let mut worst_zero = 0.0f64;
    for (path, &expected) in &expected {
        let found = step.norm(&format!("grad:{path}"));
        if zero.contains(path.as_str()) {
            worst_zero = worst_zero.max(found / largest);
            hold(format!("gradient of {path}, 0 in theory, over the largest"), found / largest, ZERO);
            continue;
        }
        let off = (found / expected - 1.0).abs();
        hold(format!("gradient norm of {path}, {found} for {expected},"), off, NORM_EACH);
        offs.push(off);
    }
    offs.sort_by(f64::total_cmp);
    let (median, worst) = (offs[offs.len() / 2], offs[offs.len() - 1]);
    hold("median of the gradient norms".into(), median, NORM_MEDIAN);

    let mut statistics = 0.0f64;
    let expected_statistics = table(&json["stats_norms"]);
    for (path, &expected) in &expected_statistics {
        let found = step.norm(path);
        let off = (found / expected - 1.0).abs();
        statistics = statistics.max(off);
        hold(format!("running statistics {path}, norm {found} for {expected},"), off, STATISTICS);
    }
    // Nothing learns, and no statistics move, but what does so in PyTorch.
    let same = |what: &str, found: &BTreeSet<String>, expected: &BTreeMap<String, f64>| {
        let expected: BTreeSet<String> = expected.keys().cloned().collect();
        let differ: Vec<&String> = found.symmetric_difference(&expected).collect();
        (!differ.is_empty()).then(|| format!("{} {mode}: {what} differ: {differ:?}", fixture.name))
    };
    wrong.extend(same("parameters that learn", &step.learns, &expected));
    wrong.extend(same("statistics that move", &step.moves, &expected_statistics));
    let line = format!(
        "logits {logits_off:.0e}, loss {loss_off:.0e}, {} gradients: median {median:.0e}, worst {worst:.0e}, \
         zeros {worst_zero:.0e}, statistics {statistics:.0e}",
        expected.len()
    );
    (line, wrong)
}

/// Folded inference and the three modes of one fixture: all that is wrong.
fn check(device: &Device, mut fixture: Fixture) -> Vec<String> {
    let name = fixture.name;
    let mut wrong = Vec::new();
    let began = Instant::now();
    fixture.net.freeze(Freeze::all()).expect("all frozen");
    let mut tape = Tape::new();
    let logits = fixture.net.record(&mut tape, fixture.recording(Mode::Eval)).expect("it records").logits;
    let request = Request::inference(tape, &[("logits", logits)]);
    let image: &[u8] = bytemuck::cast_slice(&fixture.image);
    let found = common::run_once(device, &fixture.net, request, &[("image", image)]).remove(0);
    let off = over_range(&found, &fixture.logits("eval"));
    println!("{name:18} folded: logits {off:.0e} ({:.1} s)", began.elapsed().as_secs_f64());
    if off > LOGITS || off.is_nan() {
        wrong.push(format!("{name}: logits of the folded network are off by {off:.1e} of their range"));
    }
    let store = store_for(device, &fixture.net);
    for mode in ["eval", "train", "half"] {
        let norms = fixture.net.specs().iter().any(|s| s.kind == Kind::RunningMean);
        if mode == "train" && !norms {
            // Without batch norms the modes are one, and so are PyTorch's figures.
            assert_eq!(fixture.json["train"], fixture.json["eval"], "{name}");
            continue;
        }
        let began = Instant::now();
        fixture.net.freeze(fixture.freeze(mode)).expect("a mask");
        let mut step = Step::new(device, &fixture, &store);
        let (loss, logits) = step.run(&fixture);
        let (line, more) = compare(&step, &fixture, mode, loss, &logits);
        println!("{name:18} {mode:5}: {line} ({:.1} s)", began.elapsed().as_secs_f64());
        wrong.extend(more);
    }
    wrong
}

/// One family after the other: the larger networks hold gigabytes.
static ONE: Mutex<()> = Mutex::new(());

fn check_all(device: &Device, names: &[&'static str]) {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let wrong: Vec<String> = names.iter().flat_map(|name| check(device, Fixture::open(name))).collect();
    assert!(wrong.is_empty(), "{} figures differ from PyTorch's:\n  {}", wrong.len(), wrong.join("\n  "));
}

#[test]
fn every_fixture_is_compared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let files = std::fs::read_dir(&folder).expect("the fixtures").filter_map(|e| {
        let name = e.ok()?.file_name().into_string().ok()?;
        name.strip_suffix(".json").map(String::from)
    });
    let all = [RESNETS, CIFAR, MOBILENETS, VGGS, VGGS_BN, FAMILIES, ON_THE_CPU, LARGE].concat();
    let known: BTreeSet<&str> = all.into_iter().collect();
    for name in files {
        assert!(known.contains(name.as_str()), "{name}.json is compared with nothing");
    }
    let fixed = |name: &str| folder.join(format!("{name}.json")).exists();
    let missing: Vec<&str> =
        models::registry::MODELS.iter().map(|m| m.name).filter(|name| !fixed(name)).collect();
    assert!(missing.is_empty(), "without a fixture (tools/fixtures.py makes them): {missing:?}");
}

const RESNETS: &[&str] = &["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"];
const CIFAR: &[&str] = &["resnet20", "resnet32", "resnet44", "resnet56"];
const MOBILENETS: &[&str] = &["mobilenet_v2", "mobilenet_v2_035", "mobilenet_v2_same"];
const VGGS: &[&str] = &["vgg11", "vgg13", "vgg16", "vgg19"];
const VGGS_BN: &[&str] = &["vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"];
/// One network at least of every other family.
const FAMILIES: &[&str] = &[
    "resnext50_32x4d",
    "mobilenet_v1_025_same",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_lite0",
    "efficientnet_v2_s",
    "densenet121",
    "googlenet",
    "bn_inception",
    "inception_v3",
    "squeezenet1_0",
];
/// The rest, which is built of the same blocks.
const LARGE: &[&str] = &[
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
    "mobilenet_v1",
    "mobilenet_v3_large",
    "mobilenet_v3_small_075",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_m",
    "efficientnet_v2_l",
    "densenet161",
    "densenet169",
    "densenet201",
    "squeezenet1_1",
];
/// At the size that they are used at, which is too much for software Vulkan.
const ON_THE_CPU: &[&str] =
    &["resnet20", "mobilenet_v2_same", "resnet18_224", "resnet50_224", "mobilenet_v2_224", "vgg11_bn_224"];

#[test]
fn resnets() {
    check_all(&Device::Gpu(gpu()), RESNETS);
}

#[test]
fn resnets_for_small_images() {
    check_all(&Device::Gpu(gpu()), CIFAR);
}

#[test]
fn mobilenets() {
    check_all(&Device::Gpu(gpu()), MOBILENETS);
}

#[test]
fn vggs() {
    check_all(&Device::Gpu(gpu()), VGGS);
}

#[test]
fn vggs_with_batch_norm() {
    check_all(&Device::Gpu(gpu()), VGGS_BN);
}

#[test]
fn other_families() {
    check_all(&Device::Gpu(gpu()), FAMILIES);
}

#[test]
fn on_the_cpu() {
    check_all(&Device::Cpu, ON_THE_CPU);
}

#[test]
fn large_ones_on_the_cpu() {
    check_all(&Device::Cpu, LARGE);
}

/// The comparison must be able to fail: one row of padding on the other side, one bias a little off.
#[test]
fn small_mistakes_are_found() {
    let device = Device::Gpu(gpu());
    let mut fixture = Fixture::open("mobilenet_v2_same");
    fixture.net.set_padding(PaddingStyle::Symmetric);
    let wrong = check(&device, fixture).join("\n");
    for sign in ["folded network", "eval: logits", "train: gradient norm of", "half: running statistics"] {
        assert!(wrong.contains(sign), "another padding shows no '{sign}':\n{wrong}");
    }
    let mut fixture = Fixture::open("resnet20");
    let bias: Vec<f32> = fixture.net.tensor("bn1.bias").expect("it").iter().map(|b| b + 0.01).collect();
    fixture.net.set_tensor("bn1.bias", bias).expect("it fits");
    let wrong = check(&device, fixture).join("\n");
    assert!(wrong.contains("eval: logits") && wrong.contains("train: gradient norm"), "{wrong}");
}

/// VGG16's first linear layer holds 411 MB: under WebGPU's default limits, 128 MiB a binding, its
/// weight, and the weight's gradient, lie in several parts.
#[test]
fn vgg16_within_webgpus_limits() {
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let options = common::options().with(|c| c.webgpu_limits = true);
    let device = Device::Gpu(Gpu::with_options(&options).expect("a device of default limits"));
    assert_eq!(device.caps().max_binding, 128 << 20);
    let mut fixture = Fixture::open("vgg16");
    fixture.net.freeze(fixture.freeze("train")).expect("a mask");
    let (layout, store) = store_for(&device, &fixture.net);
    let mut step = Step::new(&device, &fixture, &(layout.clone(), store));
    for name in ["classifier.0.weight", "grad:classifier.0.weight"] {
        let parts = &layout.segments[name];
        let bytes: usize = parts.iter().map(|s| s.elements * 4).sum();
        assert_eq!(bytes, 4096 * 25088 * 4, "{name}");
        assert!(parts.len() >= 4, "{name}: {bytes} bytes in {} parts", parts.len());
        assert!(parts.iter().all(|s| s.elements * 4 <= 128 << 20), "{name}: a part fits no binding");
    }
    let (loss, logits) = step.run(&fixture);
    let (line, wrong) = compare(&step, &fixture, "train", loss, &logits);
    println!("vgg16 within WebGPU's limits: {line}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
