//! What is frozen stays, byte for byte; what learns is decided by the seed alone.

#![allow(clippy::unwrap_used)]

use crate::common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{gpu, material};
use defrost::models::{self, HeadPolicy, Network};
use defrost::nn::{Freeze, Kind, NormMode};
use defrost::ops::{Add, Matmul};
use defrost::plan::{Device, Layout, Params, Program, Request, Trainable, compile};
use defrost::rng;
use defrost::tape::{Frontier, Shape, Tape, Type, Use, ValueId, cached_input};
use defrost::train::{Config, Context, Report, Silent, Strategy, run};
use tempfile::TempDir;

/// The bytes of every tensor of a file, running statistics and counters included.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect()
}

fn train(config: &Config, out: &Path, cache: &Path) -> Report {
    let device = Device::Gpu(gpu());
    let (stop, cache) = (AtomicBool::new(false), cache.to_path_buf());
    let context = Context { device: &device, cache, observer: &mut Silent, stop: &stop };
    run(config, out, context).unwrap()
}

/// Bands of colour with noise: a class has its own direction and hue.
fn image(class: usize, number: u64) -> image::RgbImage {
    let key = rng::key_of(&format!("picture {class} {number}"));
    image::RgbImage::from_fn(32, 32, |x, y| {
        let along = [x, y, x + y][class % 3];
        let bright = if (along / 4) % 2 == 0 { 190.0 } else { 60.0 };
        let noise = |c: u64| 60.0 * rng::unit(key, u64::from(y * 32 + x) * 3 + c);
        image::Rgb([0, 1, 2].map(|c| (if c == class as u64 { bright } else { 90.0 } + noise(c)) as u8))
    })
}

/// `train/` of 8 and `val/` of 4 images in each of 3 classes.
fn images(folder: &Path) {
    for (part, numbers) in [("train", 0..8u64), ("val", 8..12)] {
        for class in 0..3 {
            let into = folder.join(part).join(format!("class{class}"));
            std::fs::create_dir_all(&into).unwrap();
            for number in numbers.clone() {
                image(class, number).save(into.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// A rule-filled ResNet20 whose batch norms have seen 7 batches, and a data set.
fn small(folder: &Path) -> Config {
    let mut net = models::blank("resnet20", 10).unwrap();
    models::rule_fill(&mut net);
    net.count_batches(7);
    let weights = folder.join("resnet20.safetensors");
    net.save(&weights).unwrap();
    let data = folder.join("data");
    images(&data);
    Config::default().with(|c| {
        c.data = data;
        c.model = "resnet20".into();
        c.weights = Some(weights);
        c.strategy = Strategy::Finetune;
        c.freeze_through = Some("layer2".into());
        c.batch_norm = Some(NormMode::Train);
        c.epochs = Some(2);
        c.batch = Some(8);
        c.seed = 3;
    })
}

/// The network as training begins with it: loaded, the head new, frozen.
fn beginning(config: &Config, classes: &[String]) -> Network {
    let weights = config.weights.clone().unwrap();
    let (mut net, _) = models::load_with(&config.model, weights, HeadPolicy::Replace).unwrap();
    net.replace_head_for(classes.to_vec(), config.seed).unwrap();
    net.freeze(config.freeze()).unwrap();
    net
}

/// Compares the checkpoint of a run with its beginning: how many tensors stayed and changed, or what is
/// wrong with them.
fn compare(config: &Config, out: &Path) -> Result<(usize, usize), String> {
    let after = Network::open(out.join("model.safetensors")).unwrap();
    let before = beginning(config, after.classes());
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("before.safetensors");
    before.save(&path).unwrap();
    let (old, new) = (tensors(&path), tensors(&out.join("model.safetensors")));
    assert_eq!(old.keys().collect::<Vec<_>>(), new.keys().collect::<Vec<_>>());
    let mask = before.mask();
    let counters = before
        .specs()
        .iter()
        .filter(|s| s.kind == Kind::RunningMean)
        .map(|s| (format!("{}.num_batches_tracked", s.layer_path()), mask.changes(s)));
    let expected: BTreeMap<String, bool> =
        before.specs().iter().map(|s| (s.path.clone(), mask.changes(s))).chain(counters).collect();
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        old.keys().collect::<Vec<_>>(),
        "tensors not accounted for"
    );
    let (mut stayed, mut changed) = (0, 0);
    let mut wrong = Vec::new();
    for (name, changes) in expected {
        match (changes, old[&name] == new[&name]) {
            (true, false) => changed += 1,
            (false, true) => stayed += 1,
            (true, true) => wrong.push(format!("{name} should learn, and is as it was")),
            (false, false) => wrong.push(format!("{name} is frozen, and changed")),
        }
    }
    if !wrong.is_empty() {
        return Err(format!("{}:\n  {}", config.model, wrong.join("\n  ")));
    }
    // Frozen tensors are those of the weights file too, not only those that were loaded.
    let file = tensors(config.weights.as_deref().unwrap());
    for spec in before.specs().iter().filter(|s| !mask.changes(s)) {
        assert!(file[&spec.path] == new[&spec.path], "{} is not what the weights file holds", spec.path);
    }
    Ok((stayed, changed))
}

#[test]
fn frozen_tensors_stay_byte_for_byte() {
    let folder = TempDir::new().unwrap();
    let config = small(folder.path());
    let out = folder.path().join("run");
    let report = train(&config, &out, folder.path());
    let (stayed, changed) = compare(&config, &out).unwrap_or_else(|e| panic!("{e}"));
    println!("resnet20: {stayed} tensors stayed, {changed} learned; {report:?}");
    // A convolution has one tensor, its norm five. Frozen are the first one and two stages of six, with a
    // shortcut's between them; a stage with a shortcut's and the head's two learn.
    assert_eq!((stayed, changed), (6 * (1 + 6 + 6 + 1), 6 * (6 + 1) + 2));
    let counter = |name: &str| {
        let bytes = &tensors(&out.join("model.safetensors"))[name];
        i64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    assert_eq!(counter("bn1.num_batches_tracked"), 7);
    assert_eq!(counter("layer3.0.bn1.num_batches_tracked"), 7 + 3 * report.best_epoch as i64);
}

/// The comparison must be able to fail: a run with less frozen is no run with more.
#[test]
fn a_changed_frozen_tensor_is_found() {
    let folder = TempDir::new().unwrap();
    let config = small(folder.path()).with(|c| {
        c.epochs = Some(1);
        c.freeze_through = Some("layer1".into());
    });
    let out = folder.path().join("run");
    train(&config, &out, folder.path());
    let wrong = compare(&config.with(|c| c.freeze_through = Some("layer2".into())), &out).unwrap_err();
    for name in ["layer2.0.conv1.weight", "layer2.2.bn2.running_var", "layer2.1.bn1.num_batches_tracked"] {
        assert!(wrong.contains(&format!("{name} is frozen, and changed")), "{wrong}");
    }
}

#[test]
fn the_seed_decides_all() {
    let folder = TempDir::new().unwrap();
    let config = small(folder.path());
    let checkpoint = |name: &str, seed: u64| {
        let out = folder.path().join(name);
        train(&config.clone().with(|c| c.seed = seed), &out, folder.path());
        std::fs::read(out.join("model.safetensors")).unwrap()
    };
    let (first, second, other) = (checkpoint("a", 3), checkpoint("b", 3), checkpoint("c", 4));
    let differ = first.iter().zip(&second).filter(|(a, b)| a != b).count();
    assert!(first == second, "the same seed gave {differ} other bytes of {}", first.len());
    assert!(first != other, "another seed gave the same checkpoint");
}

/// Real weights, real images: the issue's own case.
#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn frozen_mobilenet_stays_byte_for_byte() {
    let material = material();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    for (part, count) in [("train", 4), ("val", 2)] {
        for class in ["ants", "bees"] {
            let from = material.join("data/hymenoptera").join(part).join(class);
            let into = data.join(part).join(class);
            std::fs::create_dir_all(&into).unwrap();
            let mut files: Vec<PathBuf> =
                std::fs::read_dir(&from).unwrap().filter_map(|e| Some(e.ok()?.path())).collect();
            files.retain(|f| f.extension().is_some_and(|e| e == "jpg"));
            files.sort();
            for file in &files[..count] {
                std::fs::copy(file, into.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let config = Config::default().with(|c| {
        c.data = data;
        c.model = "mobilenet_v2".into();
        c.batch_norm = Some(NormMode::Train);
        c.weights = Some(material.join("weights/mobilenet_v2.safetensors"));
        c.strategy = Strategy::Finetune;
        c.freeze_through = Some("features.13".into());
        c.epochs = Some(1);
        c.batch = Some(4);
    });
    assert_eq!(config.freeze(), Freeze::none().and(Freeze::through("features.13")));
    let out = folder.path().join("run");
    let report = train(&config, &out, folder.path());
    let (stayed, changed) = compare(&config, &out).unwrap_or_else(|e| panic!("{e}"));
    println!("mobilenet_v2: {stayed} tensors stayed, {changed} learned; {report:?}");
    assert!(stayed >= 39 * 6 && changed > 50, "{stayed} stayed, {changed} changed");
}

const ROWS: usize = 3;

/// Numbers by name, the same everywhere.
struct Numbers;

impl Params for Numbers {
    fn packed(&self, path: &str) -> defrost::Result<Vec<f32>> {
        let key = rng::key_of(path);
        let count = if path == "front.weight" { 32 * 4 } else { 4 * 4 };
        Ok((0..count).map(|i| rng::unit(key, i) as f32 - 0.5).collect())
    }
}

/// A frozen and a learning layer; both look at the input `sizes` of four numbers a row, the latter also at the images
/// themselves where `leaks`.
fn layers(leaks: bool) -> (Tape, ValueId) {
    let mut tape = Tape::new();
    let image = tape.input("image", Type::f32(&[ROWS, 32]));
    let sizes = tape.input("sizes", Type::f32(&[ROWS, 4]));
    let mut layer = |name: &str, x, shape: [usize; 2], usage| {
        tape.set_layer(name);
        let weight = tape.param(&format!("{name}.weight"), &shape, usage).unwrap();
        let y = tape.apply(Matmul::default(), &[x, weight]).unwrap();
        tape.apply(Add::default(), &[y, sizes]).unwrap()
    };
    let features = layer("front", image, [32, 4], Use::Frozen);
    let mut y = layer("head", features, [4, 4], Use::Trainable);
    if leaks {
        let again = layer("leak", image, [32, 4], Use::Trainable);
        y = tape.apply(Add::default(), &[y, again]).unwrap();
    }
    (tape, y)
}

/// What both sides of a cut read is given to both, where it is small.
#[test]
fn small_inputs_are_let_through_a_cut() {
    let (tape, y) = layers(false);
    let steady = ["image", "sizes"];
    let Frontier { taps, inputs } = tape.frontier(&steady);
    assert_eq!(inputs, ["sizes"]);
    let places: Vec<(&str, &str)> = taps.iter().map(|m| (m.layer.as_str(), m.op.as_str())).collect();
    assert_eq!(places, [("front", "add.forward")]);
    // An input that a step may be given anew each time is no reason to compute anything again; images are too large.
    assert!(tape.frontier(&["image"]).taps.iter().all(|m| m.op == "matmul.forward"));
    assert_eq!(layers(true).0.frontier(&steady), Frontier::default());

    let image: Vec<f32> = (0..ROWS * 32).map(|i| (i as f32).sin()).collect();
    let sizes: Vec<f32> = (0..ROWS * 4).map(|i| i as f32 / 4.0).collect();
    let (image, sizes) = (bytemuck::cast_slice(&image), bytemuck::cast_slice(&sizes));
    for device in [Device::Cpu, Device::Gpu(gpu())] {
        let head = Trainable { path: "head.weight".into(), shape: Shape(vec![4, 4]), group: 0 };
        let layout = Arc::new(Layout::new(&[head], &[], &[], &device.caps()));
        let store = device.store(&layout, &Numbers).unwrap();
        let run = |tape: Tape, output, inputs: &[(&str, &[u8])]| {
            let plan = compile(Request::inference(tape, &[("y", output)]), &layout, &device.caps()).unwrap();
            Program::new(plan, &store, &Numbers).unwrap().run(inputs).unwrap().remove(0)
        };
        let whole = run(tape.clone(), y, &[("image", image), ("sizes", sizes)]);
        let kept = tape.tapped(&taps).unwrap()[0];
        let kept = run(tape.clone(), kept, &[("image", image), ("sizes", sizes)]);
        let behind = tape.clone().resumed_from(&taps).unwrap();
        let given: [(&str, &[u8]); 2] = [(&cached_input(0), bytemuck::cast_slice(&kept)), ("sizes", sizes)];
        assert_eq!(run(behind, y, &given), whole, "{device:?}");
    }
}
