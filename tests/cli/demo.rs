//! The first five minutes: `demo`, the shipped network, `pretrain`.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use command::Place;
use defrost::data::DrawnSet;
use defrost::models::{Network, shipped};
use defrost::plan::Device;
use defrost::task::SingleLabel;
use defrost::train::{Config, Silent, evaluate, pretraining};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the command is for: pre-training pays, by more than chance explains.
#[test]
fn the_demonstration_shows_that_transfer_learning_pays() {
    let place = Place::new();
    let outcome = place.ok(&["demo", "--device", "cpu", "--seed", "3", "--json"]);
    let done = &outcome.named("done")[0];
    let rows = done["rows"].as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["from scratch", "features", "fine-tuned"]);
    for row in rows {
        assert_eq!(row["count"], 400);
        assert!(row["seconds"].as_f64().unwrap() > 0.0 && row["memory"].as_u64().unwrap() > 1 << 20);
        assert!(place.path(row["run"].as_str().unwrap()).join("model.safetensors").exists());
    }
    let end = |row: usize, which: usize| rows[row]["interval"][which].as_f64().unwrap();
    assert!(end(1, 0) > end(0, 1) + 0.2, "features against from scratch: {rows:?}");
    assert!(end(2, 0) > end(0, 1) + 0.2, "fine-tuned against from scratch: {rows:?}");
    assert!(rows[1]["learning"].as_u64() < rows[0]["learning"].as_u64());
    assert!(rows[1]["memory"].as_u64() < rows[0]["memory"].as_u64());

    // What it leaves behind can be looked at, and used.
    let page = fs::read_to_string(place.path(done["report"].as_str().unwrap())).unwrap();
    assert!(page.contains("umbrella") && page.contains("on 400 images of"));
    let fish =
        place.ok(&["predict", "demo/fine-tuned", "demo/things/test/fish", "--device", "cpu", "--json"]);
    assert_eq!(fish.named("prediction").len(), 50);
    assert_eq!(fs::read(place.path("demo/signs.safetensors")).unwrap(), shipped::WEIGHTS);
}

/// The same seed draws and learns the same; the folder is not written over; text says what to type next.
#[test]
fn a_demonstration_can_be_repeated_but_not_overwritten() {
    let place = Place::new();
    let first = place.ok(&["demo", "--device", "cpu", "--out", "shown", "--threads", "1"]);
    for word in
        ["from scratch", "features", "fine-tuned", "defrost train photos/", "defrost explain", "report.html"]
    {
        assert!(first.stdout.contains(word), "{word} in\n{}", first.stdout);
    }
    let again = place.run(&["demo", "--device", "cpu", "--out", "shown"]);
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert!(again.stderr.contains("shown") && again.stderr.contains("--out"), "{}", again.stderr);
    place.ok(&["demo", "--device", "cpu", "--out", "other"]);
    for run in ["from-scratch", "features", "fine-tuned"] {
        let model = |folder: &str| fs::read(place.path(folder).join(run).join("model.safetensors")).unwrap();
        assert!(model("shown") == model("other"), "{run} is another network");
    }
}

/// The file is what its record says it is, and what its settings would make again.
#[test]
fn the_shipped_network_is_that_of_its_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let record = fs::read_to_string(root.join("weights/signs.json")).unwrap();
    let record: Value = serde_json::from_str(&record).unwrap();
    assert!(shipped::WEIGHTS.len() <= 2_000_000);
    assert_eq!(record["bytes"], shipped::WEIGHTS.len());
    assert_eq!(record["sha256"], hex(shipped::WEIGHTS));
    // Settings that came later have their defaults.
    let recorded: Config = serde_json::from_value(record["arguments"].clone()).unwrap();
    let values = |config: &Config| serde_json::to_value(config).unwrap();
    assert_eq!(values(&recorded), values(&pretraining()));

    let net = Network::open(root.join("weights/signs.safetensors")).unwrap();
    assert_eq!(net.config().model, "mobilenet_v2");
    assert_eq!((net.classes().len(), net.preprocess().size[0]), (108, 64));
    // Images that it has not learned from: those of another seed.
    let set = DrawnSet::named(&pretraining().data).unwrap().unwrap().with(|c| {
        c.val = 4;
        c.seed = 99;
    });
    let found = evaluate(&net, &Device::Cpu, Arc::new(set.splits().val), 32, &mut Silent).unwrap();
    let measures = found.metrics_of::<SingleLabel>().expect("it has classes");
    assert_eq!(measures.count, 432);
    let (low, high) = (measures.top1_interval.0, measures.top1_interval.1);
    let told = record["accuracy"].as_f64().unwrap();
    assert!((low..high).contains(&told), "{told} is told, {low} to {high} is found");
}

/// A small one: byte for byte the same twice and when it was interrupted; readable as weights.
#[test]
fn pretraining_is_repeatable_and_goes_on() {
    let place = Place::new();
    let small = ["--size", "32", "--model", "resnet20", "--images", "2", "--epochs", "2", "--batch", "16"];
    let pretrain = |file: &str, out: &str| {
        place.ok(&[&["pretrain", file, "--out", out, "--device", "cpu", "--json"], &small[..]].concat())
    };
    let first = pretrain("a.safetensors", "runs/a");
    assert_eq!(first.named("epoch").len(), 2);
    // One epoch of it, then the rest by the same command.
    let set = "drawn:signs,side=32,train=2,val=20,test=0,seed=0";
    let same =
        ["--size", "32", "--model", "resnet20", "--strategy", "scratch", "--epochs", "2", "--batch", "16"];
    let more =
        ["--lr", "3e-3", "--weight-decay", "0.05", "--label-smoothing", "0.1", "--crop-scale", "0.6,1"];
    let half = ["--out", "runs/b", "--stop-after", "1", "--device", "cpu"];
    place.ok(&[&["train", set], &same[..], &more, &half].concat());
    let second = pretrain("b.safetensors", "runs/b");
    assert_eq!(second.named("epoch").len(), 1);
    let bytes = |name: &str| fs::read(place.path(name)).unwrap();
    assert_eq!(hex(&bytes("a.safetensors")), hex(&bytes("b.safetensors")));
    let record: Value = serde_json::from_slice(&bytes("b.json")).unwrap();
    assert_eq!(record["sha256"], hex(&bytes("b.safetensors")));

    // Other settings are another run; a file is named as what it is.
    let other = ["pretrain", "c.safetensors", "--out", "runs/b", "--device", "cpu", "--seed", "1"];
    place.run(&[&other[..], &small].concat()).failed(2, &["runs/b", "other settings", "--out"]);
    place.run(&["pretrain", "c.json", "--device", "cpu"]).failed(2, &["c.json", ".safetensors"]);
    assert!(!place.path("c.safetensors").exists());

    place.photos();
    place.ok(&["train", "photos", "--weights", "a.safetensors", "--strategy", "features", "--device", "cpu"]);
}

/// Drawn images by their name, wherever images are read.
#[test]
fn drawn_images_have_names() {
    let place = Place::new();
    shipped::write(&place.path("signs.safetensors")).unwrap();
    let set = "drawn:things,side=64,train=4,val=2,test=3";
    let train = ["train", set, "--weights", "signs.safetensors", "--strategy", "features", "--epochs", "2"];
    place.ok(&[&train[..], &["--device", "cpu", "--out", "run"]].concat());
    let eval = place.ok(&["eval", "run", set, "--device", "cpu", "--json"]);
    assert_eq!(eval.done()["count"], 24, "the test part of three images a class");
    place.ok(&["data", set]);

    let cpu = ["--device", "cpu", "--out", "other"];
    place.run(&[&train[..], &["--group-by", "parent"], &cpu].concat()).failed(2, &["--group-by", "drawn"]);
    place.run(&["data", "drawn:sings"]).failed(2, &["sings", "signs"]);
    place.run(&["data", "drawn:signs,side=x"]).failed(2, &["'x'", "side"]);
    place.run(&["data", "drawn:signs,side=2"]).failed(2, &["at least 8"]);
    let small = [&train[..], &["--size", "3"], &cpu].concat();
    place.run(&small).failed(2, &["--size", "8 to 4096"]);
}

/// A folder too high is the commonest mistake of all.
#[test]
fn a_folder_one_level_too_high_is_recognised() {
    let place = Place::new();
    let set = DrawnSet::named(Path::new("drawn:things")).unwrap().unwrap().with(|c| {
        c.side = 32;
        c.train = 2;
        c.val = 2;
    });
    set.write(&place.path("up/things")).unwrap();
    place.run(&["data", "up"]).failed(1, &["up", "did you mean", "up/things"]);
}
