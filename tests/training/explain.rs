//! Maps of what speaks for a class beside pytorch-grad-cam's and PyTorch's (`tools/cam_fixtures.py` wrote the figures),
//! and the command `defrost explain`.
#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use command::{Place, text};
use common::{gpu, material};
use defrost::explain::{Explainer, Map, Method};
use defrost::models::{self, Network, Preprocess, Recording, registry};
use defrost::nn::{Freeze, Mode, NormMode};
use defrost::ops::{self, Mul};
use defrost::plan::Device;
use defrost::tape::{Tape, Type, Use};
use defrost::train::Predictor;
use defrost::{Error, rng};
use serde_json::Value;

/// Of maps from 0 to 1.
const TOLERANCE: f64 = 1e-4;
/// What the fixture has.
const NAMES: [&str; 5] =
    ["resnet20", "mobilenet_v2_035", "mobilenet_v3_small", "squeezenet1_1", "densenet121"];

fn fixture() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/explain.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

/// A network filled by rule whose images have `side` pixels a side.
fn network(model: &str, side: usize) -> Network {
    let mut net = models::blank(model, 10).unwrap();
    net.set_preprocess(Preprocess::whole(side)).unwrap();
    models::rule_fill(&mut net);
    net
}

/// The image by rule: brighter to the right.
fn image(side: usize) -> Vec<u8> {
    let key = rng::key_of("input");
    let byte = |i: usize| {
        let x = (i / 3 % side + 1) as f32;
        (256.0 * rng::unit(key, i as u64) * x / side as f32).floor() as u8
    };
    (0..side * side * 3).map(byte).collect()
}

/// A fixture's network and image.
fn of(json: &Value) -> (Network, Vec<u8>) {
    let (model, width) = (json["model"].as_str().unwrap(), json["width"].as_f64().unwrap());
    let model = if width == 1.0 { model.into() } else { format!("{model}_{:03}", width * 100.0) };
    let side = number(&json["side"]);
    let image = image(side);
    let last: Vec<usize> = image[image.len() - 6..].iter().map(|&b| b.into()).collect();
    assert_eq!(serde_json::json!(last), json["first_bytes"], "the rule gives other bytes");
    (network(&model, side), image)
}

/// The largest difference from what the fixture keeps of a map.
fn off(map: &Map, expected: &Value, stride: usize) -> f64 {
    let rows = map.values.chunks_exact(map.width).step_by(stride);
    let kept: Vec<f32> = rows.flat_map(|row| row.iter().step_by(stride)).copied().collect();
    let expected = numbers(expected);
    assert_eq!(kept.len(), expected.len());
    kept.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

fn check_cams(device: &Device, names: &[&str]) {
    let fixture = fixture();
    let stride = number(&fixture["stride"]);
    let mut wrong = Vec::new();
    for name in names {
        let json = &fixture["networks"][name];
        let (net, image) = of(json);
        for entry in json["cams"].as_array().unwrap() {
            let (layer, class) = (entry["layer"].as_str().unwrap(), number(&entry["class"]));
            let given = (entry["default"] != true).then_some(layer);
            for method in [Method::GradCam, Method::GradCamPlusPlus] {
                let mut explainer = Explainer::new(device, &net, method, given, 1).unwrap();
                assert_eq!(explainer.layer(), Some(layer));
                let map = explainer.maps(std::slice::from_ref(&image), &[Some(class)]).unwrap().remove(0);
                let logit = json["logits"][class].as_f64().unwrap();
                assert!(
                    (f64::from(map.logit) - logit).abs() < 1e-4 * logit.abs().max(1.0),
                    "{name}: {logit}"
                );
                let off = off(&map, &entry[method.name()], stride);
                println!("{name} {layer} class {class} {method}: {off:.1e}");
                if off > TOLERANCE || off.is_nan() {
                    wrong.push(format!("{name} {layer} class {class} {method}: {off:.1e}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "maps that differ:\n  {}", wrong.join("\n  "));
}

#[test]
fn cams_are_pytorch_grad_cams_on_the_cpu() {
    let known: BTreeSet<String> = fixture()["networks"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(known, NAMES.map(String::from).into());
    check_cams(&Device::Cpu, &NAMES);
}

#[test]
fn cams_are_pytorch_grad_cams_on_the_adapter() {
    check_cams(&Device::Gpu(gpu()), &NAMES);
}

fn check_smooth(device: &Device, names: &[&str], batch: usize) {
    let fixture = fixture();
    let stride = number(&fixture["stride"]);
    for name in names {
        let json = &fixture["networks"][name];
        let (net, image) = of(json);
        for entry in json["smoothgrad"].as_array().unwrap() {
            let explainer = Explainer::new(device, &net, Method::SmoothGrad, None, batch).unwrap();
            let explainer =
                explainer.samples(number(&entry["samples"])).seed(entry["seed"].as_u64().unwrap());
            let mut explainer = explainer.noise(entry["noise"].as_f64().unwrap());
            let class = Some(number(&entry["class"]));
            let map = explainer.maps(std::slice::from_ref(&image), &[class]).unwrap().remove(0);
            let off = off(&map, &entry["map"], stride);
            println!("{name}, {} copies: {off:.1e}", entry["samples"]);
            assert!(off < 1e-3, "{name}, {} copies: {off:.1e}", entry["samples"]);
        }
    }
}

#[test]
fn smoothgrad_is_the_mean_of_pytorchs_gradients() {
    check_smooth(&Device::Cpu, &NAMES, 3);
    check_smooth(&Device::Gpu(gpu()), &["resnet20", "mobilenet_v2_035"], 4);
}

/// Of z = (x w)^2, y = x w being watched: y and w have a gradient, the input x has none.
#[test]
fn a_watched_value_has_its_gradient_beside_the_parameters() {
    let record = || {
        let mut tape = Tape::new();
        let x = tape.input("x", Type::f32(&[1, 2]));
        let w = tape.param("w", &[1, 2], Use::Trainable).unwrap();
        let y = tape.apply(Mul, &[x, w]).unwrap();
        let z = tape.apply(Mul, &[y, y]).unwrap();
        (tape, x, w, y, z)
    };
    let (mut tape, x, w, y, z) = record();
    tape.watch(y);
    let seed = tape.input("seed", Type::f32(&[1, 2]));
    let gradients = ops::backward_from(&mut tape, &[(z, seed)]).unwrap();
    assert_eq!(gradients.keys().copied().collect::<Vec<_>>(), [w.min(y), w.max(y)]);
    assert!(!tape.requires_grad(x));

    let (mut tape, _, w, _, z) = record();
    let seed = tape.input("seed", Type::f32(&[1, 2]));
    let gradients = ops::backward_from(&mut tape, &[(z, seed)]).unwrap();
    assert_eq!(gradients.keys().copied().collect::<Vec<_>>(), [w]);
}

/// Three images of noise.
fn three(side: usize) -> Vec<Vec<u8>> {
    let noise = |n: u64| {
        let key = rng::key_of("noise") ^ n;
        (0..side * side * 3).map(|i| (256.0 * rng::unit(key, i as u64)) as u8).collect()
    };
    (0..3).map(noise).collect()
}

#[test]
fn what_is_frozen_makes_no_difference() {
    let images = three(32);
    let mut net = network("resnet20", 32);
    let classes = [Some(1), Some(2), None];
    for method in Method::ALL {
        let mut maps = Vec::new();
        for freeze in [
            Freeze::none(),
            Freeze::none().norm(NormMode::FrozenStats),
            Freeze::through("layer2"),
            Freeze::all_but_head(),
            Freeze::all(),
        ] {
            net.freeze(freeze).unwrap();
            let mut explainer = Explainer::new(&Device::Cpu, &net, method, None, 3).unwrap().samples(2);
            maps.push(explainer.maps(&images, &classes).unwrap());
        }
        assert!(maps.iter().all(|other| *other == maps[0]), "{method}");
        assert!(maps[0].iter().all(|map| !map.is_empty()), "{method}");
    }
}

#[test]
fn the_class_is_the_predicted_one_in_batches_of_any_size() {
    let images = three(32);
    let net = network("resnet20", 32);
    let answers = Predictor::new(&Device::Cpu, &net, 3).unwrap().predict(&images).unwrap();
    for method in Method::ALL {
        let maps = |batch: usize| {
            let mut explainer = Explainer::new(&Device::Cpu, &net, method, None, batch).unwrap().samples(3);
            explainer.maps(&images, &[None; 3]).unwrap()
        };
        let (one, two) = (maps(1), maps(2));
        for ((a, b), answers) in one.iter().zip(&two).zip(&answers) {
            let top = (0..10).max_by(|&x, &y| answers[x].total_cmp(&answers[y])).unwrap();
            assert_eq!((a.class, b.class), (top, top));
            assert!((a.answer - answers[top]).abs() < 1e-5);
            let worst = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{method}: {worst}");
        }
    }
}

#[test]
fn wrong_questions_are_errors_that_name_the_thing() {
    let mut net = network("resnet20", 32);
    let new = |net: &Network, method, layer| Explainer::new(&Device::Cpu, net, method, layer, 1);
    let error = |outcome: defrost::Result<Explainer>, things: &[&str]| {
        let e = outcome.err().expect("an error");
        assert!(matches!(e, Error::Usage(_)), "{e:?}");
        things.iter().for_each(|thing| assert!(e.to_string().contains(thing), "'{thing}' in: {e}"));
    };
    error(new(&net, Method::GradCam, Some("layre3")), &["layre3", "did you mean 'layer3'?"]);
    error(new(&net, Method::GradCam, Some("fc")), &["layer fc", "no map", "layer3"]);
    error(new(&net, Method::GradCam, Some("avgpool")), &["layer avgpool", "no map", "layer3"]);
    error(new(&net, Method::SmoothGrad, Some("layer3")), &["layer3", "smoothgrad", "grad-cam"]);
    let images = three(32);
    let mut explainer = new(&net, Method::GradCam, Some("layer2.0")).unwrap();
    let wrong = |e: Error| e.to_string();
    let said = wrong(explainer.maps(&images[..1], &[Some(10)]).unwrap_err());
    assert!(said.contains("class 10") && said.contains("has 10"), "{said}");
    let said = wrong(explainer.maps(&images, &[None]).unwrap_err());
    assert!(said.contains("1 classes for 3 images"), "{said}");
    assert!(explainer.maps(&[vec![0; 5]], &[None]).unwrap_err().to_string().contains("5 bytes"));

    // Of several numbers one is to be named; one alone need not be.
    net.set_task("regression");
    let mut explainer = new(&net, Method::GradCam, None).unwrap();
    assert!(explainer.maps(&images, &[None; 3]).is_err());
    let map = explainer.maps(&images[..1], &[Some(3)]).unwrap().remove(0);
    assert_eq!((map.class, map.answer), (3, map.logit));
}

#[test]
fn every_family_has_a_last_map() {
    // Height and width of what Grad-CAM looks at in an image of the usual size.
    let sides = [
        ("resnet18", 7),
        ("resnet20", 8),
        ("vgg11", 14),
        ("googlenet", 7),
        ("bn_inception", 7),
        ("inception_v3", 8),
        ("mobilenet_v1", 7),
        ("mobilenet_v2", 7),
        ("mobilenet_v3_small", 7),
        ("densenet121", 7),
        ("efficientnet_b0", 7),
        ("efficientnet_v2_s", 12),
        ("squeezenet1_0", 13),
    ];
    for (model, side) in sides {
        let net = models::blank(model, 10).unwrap();
        let mut tape = Tape::new();
        net.record(&mut tape, Recording::new(Mode::Eval, 1)).unwrap();
        let layer = net.architecture().last_map();
        let inside = |path: &str| path == layer || path.starts_with(&format!("{layer}."));
        let node = tape.nodes.iter().rfind(|node| inside(&node.layer)).expect(model);
        assert_eq!(tape.shape(node.outputs[0])[1..3], [side; 2], "{model}: {layer}");
    }
    // All others are of one of these families.
    for model in registry::MODELS {
        let last = model.build(1.0).last_map();
        assert!(!last.is_empty(), "{}", model.name);
    }
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn real_maps_are_pytorch_grad_cams() {
    let material = material();
    let fixture = fixture();
    let (json, stride) = (&fixture["real"], number(&fixture["real_stride"]));
    let net = models::load("mobilenet_v2", material.join("weights/mobilenet_v2.safetensors")).unwrap();
    let file = fs::read(material.join("reference/mobilenet_v2.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let bytes = file.tensor("image_u8_nhwc").unwrap().data().to_vec();
    let images: Vec<Vec<u8>> = bytes.chunks_exact(bytes.len() / 3).map(<[u8]>::to_vec).collect();
    for method in [Method::GradCam, Method::GradCamPlusPlus] {
        let mut explainer = Explainer::new(&Device::Cpu, &net, method, None, 3).unwrap();
        let maps = explainer.maps(&images, &[None; 3]).unwrap();
        for ((map, label), expected) in maps.iter().zip(numbers(&json["labels"])).zip(0..) {
            assert_eq!(map.class, label as usize);
            let off = off(map, &json[method.name()][expected], stride);
            println!("{method} of {}: {off:.1e}", net.classes()[map.class]);
            assert!(off < 1e-3, "{method} of {}: {off:.1e}", net.classes()[map.class]);
        }
    }
}

#[test]
fn the_command_writes_an_image_for_each() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = ["explain", "--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];
    let run = |more: &[&str]| place.run(&[&base, more].concat());
    let size = |name: &str| {
        let image = defrost::data::load(&place.path(name)).unwrap();
        (image.width, image.height)
    };

    // Two images of one name in two folders, and one that is none.
    fs::write(place.path("photos/torn.jpg"), "no image").unwrap();
    let two = ["photos/blue/00.png", "photos/red/00.png", "photos/torn.jpg"];
    let before = place.files("photos");
    let outcome = run(&[&two[..], &["--json", "--class", "CLASS_3"]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("skipped") && outcome.stderr.contains("torn.jpg"), "{}", outcome.stderr);
    assert_eq!((outcome.done()["count"].as_u64(), outcome.done()["skipped"].as_u64()), (Some(2), Some(1)));
    let events = outcome.named("explanation");
    let net = models::load("resnet20", place.path("resnet20.safetensors")).unwrap();
    let crops = two[..2]
        .iter()
        .map(|name| defrost::data::eval(&defrost::data::load(&place.path(name)).unwrap(), net.preprocess()));
    let crops: Vec<_> = crops.collect();
    let expected = Predictor::new(&Device::Cpu, &net, 2).unwrap().predict(&crops).unwrap();
    let outputs: Vec<&str> = events.iter().map(|e| e["output"].as_str().unwrap()).collect();
    assert_eq!(outputs, ["explained/00-class_3-grad-cam.png", "explained/00-class_3-grad-cam-2.png"]);
    for (event, probabilities) in events.iter().zip(expected) {
        assert_eq!((event["class"].as_str(), event["index"].as_u64()), (Some("class_3"), Some(3)));
        assert_eq!((event["layer"].as_str(), event["method"].as_str()), (Some("layer3"), Some("grad-cam")));
        let off = event["probability"].as_f64().unwrap() - f64::from(probabilities[3]);
        assert!(off.abs() < 1e-6, "{event}: {}", probabilities[3]);
    }
    // Crops of 32 pixels, seven times as large, side by side.
    outputs.iter().for_each(|output| assert_eq!(size(output), (456, 224), "{output}"));
    assert_eq!(place.files("photos"), before);

    let more = ["-o", "a/why.PNG", "--method", "smoothgrad", "--samples", "2", "--class", "4"];
    let outcome = run(&[&two[..1], &more].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("%  class_4\n  a/why.PNG\n"), "{}", outcome.stdout);
    assert_eq!(size("a/why.PNG"), (456, 224));
    let outcome = run(&["photos/blue", "-o", "b", "--method", "grad-cam++", "--layer", "layer2"]);
    assert_eq!((outcome.code, place.files("b").len()), (0, 12), "{}", outcome.stderr);
    assert!(place.files("b").keys().all(|name| name.ends_with("-grad-cam++.png")));

    // What is wrong is named.
    run(&[two[0], "--class", "class_x"]).failed(2, &["--class class_x", "did you mean 'class_"]);
    run(&[two[0], "--class", "10"]).failed(2, &["--class 10"]);
    run(&[two[0], "--layer", "layr1"]).failed(2, &["layr1", "did you mean 'layer1'?"]);
    run(&[two[0], "--samples", "3"]).failed(2, &["--samples", "smoothgrad"]);
    run(&[&two[..2], &["-o", "why.png"]].concat()).failed(2, &["why.png", "2 images"]);
    run(&[two[0], "-o", two[0]]).failed(2, &["00.png", "the image itself"]);
    run(&["photos/torn.jpg"]).failed(1, &["none of the images could be read"]);
    run(&[]).failed(2, &[]);
    assert_eq!(place.files("photos"), before);
    let help = place.ok(&["explain", "--help"]).stdout;
    assert!(help.contains("Examples:") && help.contains("grad-cam++"), "{help}");

    // A network's file in a folder of one's own is named in the same way.
    let outcome =
        place.run(&["explain", text(&place.path("resnet20.safetensors")), two[0], "--device", "cpu"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}
