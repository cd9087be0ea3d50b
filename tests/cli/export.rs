//! `defrost export`: weights in half precision, and folders with their model card.

use crate::command;
use crate::parts;
use crate::taught;

use std::fs;

use command::Place;
use defrost::models::{Naming, Network, Precision};
use defrost::nn::TensorFile;
use half::f16;
use serde_json::Value;
use taught::{CPU, taught};

#[test]
fn half_precision_keeps_what_f16_can_hold() {
    let place = taught();
    place.ok(&["export", "run", "half.safetensors", "--half"]);
    let [whole, half] = ["run/model.safetensors", "half.safetensors"].map(|file| place.path(file));
    assert!(fs::metadata(&half).unwrap().len() < fs::metadata(&whole).unwrap().len() * 6 / 10);
    for (name, info) in parts(&half).0.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__")
    {
        let counter = name.ends_with("num_batches_tracked");
        assert_eq!(info["dtype"], if counter { "I64" } else { "F16" }, "{name}");
    }
    let [whole, read] = [&whole, &half].map(|file| Network::open(file).unwrap());
    assert_eq!(whole.config(), read.config(), "classes and preprocessing travel");
    for ((spec, numbers), (_, halves)) in whole.tensors().zip(read.tensors()) {
        let rounded = numbers.iter().map(|x| f16::from_f32(*x).to_f32());
        assert!(rounded.eq(halves.iter().copied()), "{}", spec.path);
    }
    let probability = |net: &str| {
        let said = place.ok(&[&["predict", net, "photos/red/00.png", "--json"], &CPU[..]].concat());
        let first = said.named("prediction")[0]["predictions"][0].clone();
        (first["class"].clone(), first["probability"].as_f64().unwrap())
    };
    let (a, b) = (probability("run"), probability("half.safetensors"));
    assert!(a.0 == b.0 && (a.1 - b.1).abs() < 5e-3, "{a:?} {b:?}");
    // It is taught further like any other.
    let base =
        ["train", "photos", "--weights", "half.safetensors", "--strategy", "features", "--epochs", "1"];
    place.ok(&[&base[..], &CPU, &["--out", "further"]].concat());

    let mut large = whole;
    large.set_tensor("fc.bias", vec![1e6, 0.0]).unwrap();
    let file = place.path("large.safetensors");
    let error = large.save_with(&file, Naming::Torchvision, Precision::Half).unwrap_err().to_string();
    assert!(error.contains("fc.bias") && error.contains("65504"), "{error}");
    assert!(!file.exists());
    large.save(&file).unwrap();
    place.run(&["export", "large.safetensors", "l/", "--half"]).failed(1, &["fc.bias", "--half"]);
    let converted = place.run(&["convert", "large.safetensors", "l.safetensors", "--half"]);
    converted.failed(1, &["fc.bias", "--half"]);
}

#[test]
fn an_exported_folder_has_a_card() {
    let place = Place::new();
    place.photos();
    // As the hub's cache lays published weights down.
    let snapshot = "hub/models--timm--mobilenetv2_100.ra_in1k/snapshots/0123";
    fs::create_dir_all(place.path(snapshot)).unwrap();
    let weights = format!("{snapshot}/model.safetensors");
    let mut net = defrost::models::blank("mobilenet_v2_035", 10).unwrap();
    defrost::models::rule_fill(&mut net);
    net.set_preprocess(defrost::models::Preprocess::whole(32)).unwrap();
    net.save(place.path(&weights)).unwrap();
    let base =
        ["train", "photos", "--strategy", "features", "--model", "mobilenet_v2", "--weights", &weights];
    place.ok(&[&base[..], &CPU, &["--epochs", "3", "--seed", "5", "--out", "run"]].concat());
    let done = place.ok(&["export", "run", "net", "--names", "timm", "--json"]).done();
    let files: Vec<&str> =
        done["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["net/model.safetensors", "net/config.json", "net/README.md"]);
    assert_eq!(Network::open(place.path("net/model.safetensors")).unwrap().classes(), ["blue", "red"]);
    let config: Value = serde_json::from_slice(&fs::read(place.path("net/config.json")).unwrap()).unwrap();
    assert_eq!(config["label_names"], serde_json::json!(["blue", "red"]));
    let card = fs::read_to_string(place.path("net/README.md")).unwrap();
    let front = card.split("---\n").nth(1).unwrap();
    let licence = defrost::models::manifest::find("mobilenetv2_100.ra_in1k").unwrap().licence.clone();
    for line in [
        format!("license: {licence}"),
        "library_name: timm".into(),
        "base_model: timm/mobilenetv2_100.ra_in1k".into(),
        "pipeline_tag: image-classification".into(),
        "- mobilenet_v2".into(),
    ] {
        assert!(front.lines().any(|l| l == line), "{line}\n{front}");
    }
    let report = place.ok(&[&["train", "--resume", "run", "--json"], &CPU[..]].concat()).done();
    let accuracy = format!("{:.2}% of 4 images", 100.0 * report["val_accuracy"].as_f64().unwrap());
    let kept = format!("3; the weights of epoch {} are kept", report["best_epoch"]);
    for said in [
        "# mobilenet_v2 for photos",
        "- blue\n- red\n",
        "| images to learn from | 20 |",
        "| images to validate with | 4 |",
        "20% held out at random (seed 5)",
        "| frozen | all but the head |",
        &kept,
        &accuracy,
        "95% interval",
        "the short side becomes 32 pixels",
        "timm.create_model(\"local-dir:.\"",
        "defrost predict model.safetensors image.jpg",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(card.contains(said), "{said}\n{card}");
    }
    // Nothing of the machine is given away.
    assert!(!card.contains(place.path("").to_str().unwrap()), "{card}");
    place.ok(&[&["predict", "net/model.safetensors", "photos/red/00.png"], &CPU[..]].concat());

    // Nothing is written over, the run least of all.
    let before = place.files("run");
    place.run(&["export", "run", "run"]).failed(2, &["run/model.safetensors", "exists already"]);
    place.run(&["export", "run", "net"]).failed(2, &["net/model.safetensors", "name another place"]);
    assert!(before == place.files("run"));
    // A file has its card beside it.
    place.ok(&["export", "run/model.safetensors", "given/photos.safetensors"]);
    let card = fs::read_to_string(place.path("given/photos.md")).unwrap();
    assert!(card.contains("library_name: torchvision") && card.contains("width_mult=0.35"), "{card}");
    assert!(card.contains("a checkpoint without its run") && !card.contains("license:"), "{card}");
    assert_eq!(place.files("given").len(), 2);
    let timm = place.run(&["export", "run", "photos.safetensors", "--names", "timm"]);
    timm.failed(2, &["photos.safetensors", "name the folder"]);
    place.run(&["export", "nowhere", "x"]).failed(1, &["nowhere"]);
    place.weights();
    let base = ["export", "resnet20.safetensors", "small"];
    place
        .run(&[&base[..], &["--names", "timm"]].concat())
        .failed(2, &["resnet20", "timm", "no such network"]);
    place.ok(&base);
    let card = fs::read_to_string(place.path("small/README.md")).unwrap();
    assert!(card.contains("does not load into torchvision: it has no such network"), "{card}");
    assert!(card.contains("library_name: defrost") && !card.contains("```python"), "{card}");
    // Metadata is what says all of it.
    let file = TensorFile::open(place.path("small/model.safetensors")).unwrap();
    assert!(file.metadata()["defrost"].contains("\"resnet20\""));
}
