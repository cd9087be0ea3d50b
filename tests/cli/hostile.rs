//! Bad input: each an error that names the thing, with exit 1 or 2 and nothing half-written.
#![allow(clippy::unwrap_used)]

use crate::command;
use crate::parts;
use crate::ready;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use command::COLOURS;
#[cfg(target_os = "linux")]
use command::{FEATURES, Outcome};
use defrost::models;
use defrost::nn::{SavedTensor, save_tensors};
use ready::{nothing_left, ready, train};
use serde_json::Value;

#[test]
fn data_that_cannot_be_learned_from() {
    let place = ready();
    let weights = "resnet20.safetensors";
    train(&place, "nowhere", weights, &[]).failed(1, &["nowhere", "no such folder"]);
    train(&place, weights, weights, &[]).failed(1, &[weights, "a file"]);
    fs::create_dir(place.path("void")).unwrap();
    train(&place, "void", weights, &[]).failed(1, &["void", "no class folders"]);
    place.images("one", &COLOURS[..1], 4);
    train(&place, "one", weights, &[]).failed(1, &["one", "'blue'", "second class"]);
    place.images("gap", &COLOURS, 4);
    fs::create_dir(place.path("gap/green")).unwrap();
    train(&place, "gap", weights, &[]).failed(1, &["gap/green", "no image"]);
    place.images("few", &COLOURS, 1);
    train(&place, "few", weights, &[]).failed(1, &["single image"]);
    // The model's name where the folder belongs.
    train(&place, "resnet50", weights, &[]).failed(2, &["resnet50", "--model"]);
    nothing_left(&place);
}

#[test]
fn unreadable_images_are_skipped_and_counted() {
    let place = ready();
    fs::write(place.path("photos/red/note.jpg"), "Dear diary,\n").unwrap();
    fs::write(place.path("photos/red/empty.png"), "").unwrap();
    let bytes = libjpeg_turbo_rs::compress(
        &[90; 48 * 40 * 3],
        48,
        40,
        libjpeg_turbo_rs::PixelFormat::Rgb,
        90,
        libjpeg_turbo_rs::Subsampling::S420,
    )
    .unwrap();
    fs::write(place.path("photos/blue/cut.jpg"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    fs::write(place.path("photos/blue/list.txt"), "a\n").unwrap();
    for strategy in ["features", "finetune"] {
        let out = ["--strategy", strategy, "--out", strategy, "--json"];
        let outcome = train(&place, "photos", "resnet20.safetensors", &out);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert_eq!(outcome.done()["skipped"], 4);
        for file in ["note.jpg", "empty.png", "cut.jpg", "list.txt"] {
            assert!(outcome.stderr.contains(file), "{file}\n{}", outcome.stderr);
            let named = |e: &Value| e["files"].to_string().contains(file);
            assert!(outcome.named("skipped").iter().any(named), "{file}");
        }
    }
    let eval = place.ok(&["eval", "features", "photos", "--device", "cpu", "--json"]);
    assert_eq!((&eval.done()["count"], &eval.done()["skipped"]), (&Value::from(24), &Value::from(4)));

    // A class of which nothing can be read.
    place.images("broken", &COLOURS, 3);
    for file in ["broken/red/00.png", "broken/red/01.png", "broken/red/02.png"] {
        fs::write(place.path(file), "no image").unwrap();
    }
    for strategy in ["features", "finetune"] {
        let outcome = train(&place, "broken", "resnet20.safetensors", &["--strategy", strategy]);
        outcome.failed(1, &["'red'"]);
    }
    nothing_left(&place);
}

/// Puts a file together whatever its header says.
fn write(file: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(file, [&length[..], header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn damaged_weights() {
    let place = ready();
    let good = place.path("resnet20.safetensors");
    let bytes = fs::read(&good).unwrap();
    let bad = place.path("bad.safetensors");
    let refused = |things: &[&str]| {
        train(&place, "photos", "bad.safetensors", &[]).failed(1, &[&["bad.safetensors"], things].concat());
        place
            .run(&["predict", "bad.safetensors", "photos", "--device", "cpu"])
            .failed(1, &["bad.safetensors"]);
        place.run(&["inspect", "bad.safetensors"]).failed(1, &["bad.safetensors"]);
        nothing_left(&place);
    };
    for length in [bytes.len() - 4, bytes.len() / 2, 100, 9, 4] {
        fs::write(&bad, &bytes[..length]).unwrap();
        refused(&[]);
    }
    fs::write(&bad, "").unwrap();
    refused(&["empty"]);
    fs::write(&bad, b"PK\x03\x04 and so on: a PyTorch checkpoint").unwrap();
    refused(&["PyTorch", "download it again"]);
    fs::write(&bad, "<html>404</html>").unwrap();
    refused(&["web page"]);
    fs::write(&bad, [&[0xFF; 8], &bytes[8..]].concat()).unwrap();
    refused(&[]);

    let (header, data) = parts(&good);
    let mut overlapping = header.clone();
    let other = header["layer1.0.conv1.weight"]["data_offsets"].clone();
    overlapping["layer1.0.conv2.weight"]["data_offsets"] = other;
    write(&bad, &overlapping, &data);
    refused(&[]);
    let mut beyond = header.clone();
    beyond["layer3.2.conv2.weight"]["data_offsets"] = serde_json::json!([0, 1u64 << 60]);
    write(&bad, &beyond, &data);
    refused(&[]);
    let mut shape = header.clone();
    shape["conv1.weight"]["shape"] = serde_json::json!([3, 16, 3, 3]);
    write(&bad, &shape, &data);
    refused(&["conv1.weight", "[3, 16, 3, 3]", "[16, 3, 3, 3]"]);
    let mut kind = header.clone();
    kind["conv1.weight"]["dtype"] = "I32".into();
    write(&bad, &kind, &data);
    refused(&["conv1.weight", "I32"]);

    // Whole files with the wrong content.
    let net = models::load("resnet20", &good).unwrap();
    let saved = |skip: &str| -> BTreeMap<String, SavedTensor<'_>> {
        let tensor = |(spec, numbers)| -> (String, SavedTensor<'_>) {
            let spec: &defrost::nn::ParamSpec = spec;
            (spec.path.clone(), SavedTensor::F32(&spec.shape, numbers))
        };
        net.tensors().map(tensor).filter(|(name, _)| name != skip).collect()
    };
    save_tensors(&bad, &saved("layer2.1.bn1.running_var"), &BTreeMap::new()).unwrap();
    refused(&["layer2.1.bn1.running_var", "missing"]);
    let mut extra = saved("");
    extra.insert("layer4.0.conv1.weight".into(), SavedTensor::F32(&[1], &[1.0]));
    save_tensors(&bad, &extra, &BTreeMap::new()).unwrap();
    refused(&["layer4.0.conv1.weight"]);
    for number in [f32::NAN, f32::INFINITY] {
        let mut net = net.clone();
        let mut numbers = net.tensor("layer1.1.conv2.weight").unwrap().to_vec();
        numbers[17] = number;
        net.set_tensor("layer1.1.conv2.weight", numbers).unwrap();
        net.save(&bad).unwrap();
        refused(&["layer1.1.conv2.weight", "NaN"]);
    }
    // The weights of another network.
    let outcome = place.run(&["train", "photos", "--model", "resnet18", "--weights", "resnet20.safetensors"]);
    outcome.failed(1, &["resnet20", "resnet18"]);
    train(&place, "photos", "nowhere.safetensors", &[]).failed(1, &["nowhere.safetensors"]);
    train(&place, "photos", "photos", &[]).failed(1, &["photos"]);
    nothing_left(&place);
}

#[test]
fn names_that_do_not_exist() {
    let place = ready();
    let weights = ["--weights", "resnet20.safetensors", "--device", "cpu"];
    let model = |name| place.run(&[&["train", "photos", "--model", name], &weights[..]].concat());
    model("resnet_20").failed(2, &["resnet_20", "did you mean 'resnet20'"]);
    model("mobilnet_v2").failed(2, &["did you mean 'mobilenet_v2'"]);
    for (option, name, near) in [
        ("--freeze-through", "layer1.0.con1", "layer1.0.conv1"),
        ("--freeze", "layer3.2.bn3", "layer3.2.bn"),
        ("--freeze", "layer22", "layer2"),
    ] {
        let outcome = train(&place, "photos", "resnet20.safetensors", &[option, name]);
        outcome.failed(2, &[name, "did you mean", near]);
        place.run(&["inspect", "resnet20", option, name]).failed(2, &[name, near]);
    }
    train(&place, "photos", "resnet20.safetensors", &["--freeze-groups", "17"]).failed(2, &["17"]);
    // Frozen altogether.
    let all = ["--strategy", "finetune", "--freeze-through", "fc"];
    train(&place, "photos", "resnet20.safetensors", &all).failed(2, &["frozen"]);
    place.run(&["inspect", "resnet2o"]).failed(1, &["did you mean 'resnet20'"]);
    nothing_left(&place);
}

#[cfg(target_os = "linux")]
#[test]
fn no_adapter_at_all() {
    let place = ready();
    let blind = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("VK_ICD_FILENAMES", "/nonexistent.json").env("VK_DRIVER_FILES", "/nonexistent.json");
        Outcome::of(command.output().unwrap())
    };
    let train = [&FEATURES[..], &["--device"]].concat();
    for device in ["gpu", "software", "0"] {
        blind(&[&train[..], &[device]].concat()).failed(1, &["no GPU adapter", "--device cpu"]);
    }
    blind(&["inspect", "resnet20", "--measure"]).failed(2, &["--measure", "the CPU"]);
    let devices = blind(&["devices"]);
    assert_eq!(devices.code, 0);
    assert!(
        devices.stdout.contains("CPU") && devices.stderr.contains("no GPU adapter"),
        "{}",
        devices.stderr
    );
    nothing_left(&place);
}
