//! Evaluation, calibration and few images as a user has them: `eval`, `calibrate`, `fewshot`, `predict --flips`.
#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;

use command::{FEATURES, Place};
use defrost::models::Network;
use serde_json::{Value, json};

const THREE: [(&str, [u8; 3]); 3] =
    [("blue", [90, 100, 150]), ("green", [90, 150, 100]), ("red", [150, 100, 90])];

/// A place with images of three colours that are easily confused, and a run `run` on them.
fn taught() -> Place {
    let place = Place::new();
    place.images("photos", &THREE, 12);
    place.weights();
    let train = [&FEATURES[..], &["--out", "run"]].concat();
    place.ok(&[&train[..], &["--epochs", "6", "--lr", "0.02", "--device", "cpu"]].concat());
    place
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn eval_tells_of_every_class() {
    let place = taught();
    let eval = |more: &[&str]| place.ok(&[&["eval", "run", "photos", "--device", "cpu"][..], more].concat());
    let done = eval(&["--json"]).done();
    let confusion: Vec<Vec<usize>> = serde_json::from_value(done["confusion"].clone()).unwrap();
    assert_eq!(confusion.iter().map(|row| row.iter().sum()).collect::<Vec<usize>>(), [12, 12, 12]);
    let right: usize = (0..3).map(|c| confusion[c][c]).sum();
    assert!((number(&done["top1"]) - right as f64 / 36.0).abs() < 1e-12);
    assert_eq!((&done["task"], &done["count"]), (&json!("single-label"), &json!(36)));
    let classes = done["classes"].as_array().unwrap();
    assert_eq!(
        classes.iter().map(|c| c["class"].as_str().unwrap()).collect::<Vec<_>>(),
        ["blue", "green", "red"]
    );
    for (c, class) in classes.iter().enumerate() {
        assert_eq!(class["support"], 12);
        assert!((number(&class["recall"]) - confusion[c][c] as f64 / 12.0).abs() < 1e-12);
        let predicted: usize = confusion.iter().map(|row| row[c]).sum();
        let share = |whole: usize| confusion[c][c] as f64 / whole.max(1) as f64;
        assert!((number(&class["precision"]) - share(predicted)).abs() < 1e-12, "{class}");
        assert!((number(&class["f1"]) - 2.0 * share(predicted + 12)).abs() < 1e-12, "{class}");
    }
    let bins = done["calibration"]["bins"].as_array().unwrap();
    assert_eq!(bins.len(), 15);
    assert_eq!(bins.iter().map(|bin| bin["count"].as_u64().unwrap()).sum::<u64>(), 36);
    let gap =
        |bin: &Value| number(&bin["count"]) * (number(&bin["confidence"]) - number(&bin["accuracy"])).abs();
    let ece = bins.iter().map(gap).sum::<f64>() / 36.0;
    assert!((number(&done["calibration"]["ece"]) - ece).abs() < 1e-12, "{ece}: {done}");
    for key in ["top1_interval", "macro_average", "weighted_average", "most_confused"] {
        assert!(!done[key].is_null(), "{key}: {done}");
    }
    assert!(done["uncalibrated"].is_null());

    let text = eval(&[]).stdout;
    for thing in ["accuracy", "loss", "ECE", "precision", "recall", "F1", "green", "mean", "36 images"] {
        assert!(text.contains(thing), "{thing}:\n{text}");
    }
    if right < 36 {
        assert!(text.contains("most confused:") && text.contains(" predicted as "), "{text}");
    }

    // In the mirror, too: not the same figures, nor others by much.
    let flipped = eval(&["--json", "--flips"]).done();
    let off = (number(&flipped["loss"]) - number(&done["loss"])).abs();
    assert!(off > 0.0 && off < 0.5, "{off}");
    let of = |more: &[&str]| {
        let predict =
            [&["predict", "run", "photos/red/00.png", "--device", "cpu", "--json"][..], more].concat();
        number(&place.ok(&predict).named("prediction")[0]["predictions"][0]["probability"])
    };
    assert_ne!(of(&[]), of(&["--flips"]));
}

#[test]
fn calibration_is_kept_in_the_checkpoint_and_changes_nothing_else() {
    let place = taught();
    let file = place.path("run/model.safetensors");
    let numbers = || {
        let bytes = fs::read(&file).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    let before = numbers();
    let measured = |data: &str| place.ok(&["eval", "run", data, "--device", "cpu", "--json"]).done();
    let predicted = || {
        let json = place.ok(&["predict", "run", "photos/green", "--device", "cpu", "--json"]);
        let of =
            |p: &Value| (p["predictions"][0]["class"].clone(), number(&p["predictions"][0]["probability"]));
        json.named("prediction").iter().map(of).collect::<Vec<_>>()
    };
    let (first, guesses) = (measured("photos"), predicted());

    let done = place.ok(&["calibrate", "run", "--device", "cpu", "--json"]).done();
    let temperature = number(&done["temperature"]);
    assert!((0.05..=20.0).contains(&temperature) && (temperature - 1.0).abs() > 1e-3, "{done}");
    assert!(number(&done["loss"]["after"]) <= number(&done["loss"]["before"]), "{done}");
    // What the run held out of its 36 images.
    let split: Value = serde_json::from_slice(&fs::read(place.path("run/split.json")).unwrap()).unwrap();
    let held_out = split["files"].as_object().unwrap().values().filter(|part| *part == "val").count();
    assert_eq!(done["count"], held_out);

    assert!(before == numbers(), "the tensors are the same");
    let net = Network::open(&file).unwrap();
    assert_eq!(net.config().temperature, Some(temperature));
    let second = measured("photos");
    assert_eq!((&second["top1"], &second["confusion"]), (&first["top1"], &first["confusion"]));
    assert_ne!(second["loss"], first["loss"]);
    let uncalibrated = &second["uncalibrated"];
    assert_eq!((&uncalibrated["loss"], &uncalibrated["temperature"]), (&first["loss"], &done["temperature"]));
    assert_eq!(uncalibrated["ece"], first["calibration"]["ece"]);
    let others = predicted();
    for ((class, probability), (other, changed)) in guesses.iter().zip(&others) {
        assert_eq!(class, other);
        assert!(probability != changed);
    }
    let text = place.ok(&["eval", "run", "photos", "--device", "cpu"]).stdout;
    assert!(text.contains("before the temperature of"), "{text}");

    // On a folder of one's own, and a checkpoint without a run.
    let text = place.ok(&["calibrate", "run", "photos", "--device", "cpu"]).stdout;
    assert!(text.contains("temperature") && text.contains("36 images"), "{text}");
    place.run(&["calibrate", "run/model.safetensors"]).failed(2, &["DATA"]);
    place.ok(&["calibrate", "run/model.safetensors", "photos", "--device", "cpu"]);
    place.run(&["calibrate", "photos"]).failed(1, &["photos", "model.safetensors"]);
    fs::remove_file(place.path("run/config.json")).unwrap();
    place.run(&["calibrate", "run"]).failed(2, &["config.json"]);
}

/// A temperature belongs to the numbers that it was fitted to.
#[test]
fn what_changes_forgets_its_temperature() {
    let mut net = defrost::models::create("resnet20", 3).unwrap();
    net.set_temperature(Some(2.0)).unwrap();
    let same = net.tensor("fc.bias").unwrap().to_vec();
    net.set_tensor("fc.bias", same).unwrap();
    assert_eq!(net.config().temperature, Some(2.0));
    net.set_tensor("fc.bias", vec![1.0, 2.0, 3.0]).unwrap();
    assert_eq!(net.config().temperature, None);
    net.set_temperature(Some(2.0)).unwrap();
    net.replace_head(4, 0).unwrap();
    assert_eq!(net.config().temperature, None);
    for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(net.set_temperature(Some(wrong)).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn few_images_are_drawn_learned_from_and_measured() {
    let place = Place::new();
    place.images("photos", &THREE, 8);
    place.weights();
    let base =
        ["fewshot", "photos", "--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];
    let run = |more: &[&str]| place.run(&[&base[..], more].concat());
    let ok = |more: &[&str]| place.ok(&[&base[..], more].concat());
    let json = ok(&["--shots", "1,4", "--trials", "5", "--json"]);
    let found = json.named("fewshot");
    let order: Vec<(u64, &str)> =
        found.iter().map(|f| (f["shots"].as_u64().unwrap(), f["method"].as_str().unwrap())).collect();
    let both = ["nearest-mean", "logistic-regression"];
    assert_eq!(order, [1, 4].map(|shots| both.map(|method| (shots, method))).concat());
    for result in &found {
        let trials: Vec<f64> = serde_json::from_value(result["trials"].clone()).unwrap();
        assert_eq!(trials.len(), 5);
        assert!((number(&result["mean"]) - trials.iter().sum::<f64>() / 5.0).abs() < 1e-9);
        assert!(number(&result["mean"]) > 0.34, "better than chance: {result}");
    }
    assert_eq!(json.done()["val"], 6);
    let text = ok(&["--shots", "2", "--trials", "3"]);
    assert!(
        text.stderr.is_empty() && text.stdout.contains("images a class"),
        "{}{}",
        text.stderr,
        text.stdout
    );
    assert!(
        text.stdout.contains("logistic regression") && text.stdout.contains("3 trials"),
        "{}",
        text.stdout
    );
    run(&["--shots", "1,7"]).failed(2, &["--shots 7", "'blue'", "6"]);
    run(&["--shots", "0"]).failed(2, &["at least 1"]);
    place.run(&["fewshot", "photos"]).failed(2, &["--model"]);
    place.run(&["fewshot", "nowhere", "--weights", "resnet20.safetensors"]).failed(1, &["nowhere"]);
}
