//! What can be asked of a training beyond its strategy, as a user asks for it, on a small network and drawn images.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;
use std::sync::atomic::AtomicBool;

use command::{COLOURS, Outcome, Place};
use defrost::data::Augment;
use defrost::models::Network;
use defrost::plan::Device;
use defrost::train::{Config, Context, Event, Observer, SplitPoint, Strategy, run};
use serde_json::Value;

const BASE: [&str; 8] =
    ["train", "photos", "--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];

fn place() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    place
}

fn teach(place: &Place, more: &[&str]) -> Outcome {
    place.ok(&[&BASE[..], more, &["--json"]].concat())
}

fn figures(outcome: &Outcome, name: &str) -> Vec<f64> {
    outcome.named("epoch").iter().map(|e| e[name].as_f64().unwrap()).collect()
}

fn losses(outcome: &Outcome) -> Vec<f64> {
    figures(outcome, "train_loss")
}

/// Counts what goes through the front.
#[derive(Default)]
struct Front {
    images: usize,
    reading: usize,
    notes: Vec<String>,
}

impl Observer for Front {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Progress { what: "features", done, .. } => self.images = *done,
            Event::Progress { what: "reading", .. } => self.reading += 1,
            Event::Note(note) => self.notes.push(note.clone()),
            _ => {}
        }
    }
}

/// A boundary in the middle: its output is computed once an image, and what is learned behind it is what a training
/// on the images themselves learns.
#[test]
fn the_output_of_a_frozen_front_is_kept_wherever_the_boundary_is() {
    let place = place();
    let weights = place.path("resnet20.safetensors");
    let config = |layer: &str, augment| {
        Config::default().with(|c| {
            c.data = place.path("photos");
            c.model = "resnet20".into();
            c.weights = Some(weights.clone());
            c.strategy = Strategy::Finetune;
            c.freeze_through = Some(layer.into());
            c.augment = augment;
            c.epochs = Some(3);
            c.batch = Some(8);
        })
    };
    // The same view of square images of the network's size, by the way that nothing is kept on.
    let varied = Augment::none().with(|c| c.ratio = (1.0, 1.0 + 1e-9));
    let teach = |config: &Config, out: &str| {
        let (mut front, stop, device) = (Front::default(), AtomicBool::new(false), Device::Cpu);
        let cache = place.path("cache");
        run(config, &place.path(out), Context { device: &device, cache, observer: &mut front, stop: &stop })
            .unwrap();
        (front, Network::open(place.path(out).join("model.safetensors")).unwrap())
    };
    for layer in ["layer1", "layer2.0", "layer3.0"] {
        let kept = format!("kept-{layer}");
        let (front, net) = teach(&config(layer, Augment::none()), &kept);
        assert_eq!((front.images, front.reading), (24, 0), "{layer}: each image once");
        let (again, same) = teach(&config(layer, Augment::none()), &format!("again-{layer}"));
        assert_eq!(again.images, 0, "{layer}: nothing is computed again");
        assert!(again.notes.iter().any(|n| n.contains("24 images were kept")), "{:?}", again.notes);
        let (plain, expected) = teach(&config(layer, varied), &format!("plain-{layer}"));
        assert_eq!((plain.images, plain.reading > 0), (0, true));
        for ((spec, found), (_, expected)) in net.tensors().zip(expected.tensors()) {
            assert_eq!(found, same.tensor(&spec.path).unwrap(), "{layer}: {}", spec.path);
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{layer}: {} is {off} off", spec.path);
        }
    }
    // What learns first reads the images themselves: there is nothing to keep.
    let mut net = Network::open(&weights).unwrap();
    net.freeze(Config::default().freeze()).unwrap();
    assert!(SplitPoint::before_learning(&net).unwrap().is_none());
}

#[test]
fn copies_are_all_that_is_seen() {
    let place = place();
    let args =
        ["--strategy", "features", "--copies", "3", "--augment", "strong", "--epochs", "4", "--out", "run"];
    let first = teach(&place, &args);
    assert_eq!(losses(&first).len(), 4);
    let again = teach(&place, &[&args[..9], &["again"]].concat());
    let kept = again.named("note").iter().any(|n| n["message"].as_str().unwrap().contains("were kept"));
    assert!(kept && losses(&first) == losses(&again));
    place
        .run(&[&BASE[..], &["--copies", "2", "--mixup", "0.2"]].concat())
        .failed(2, &["--copies", "--mixup"]);
}

/// Gradients of micro-batches add up to those of the whole batch, where norms keep their statistics.
#[test]
fn small_batches_add_up_to_a_large_one() {
    let place = place();
    let args = ["--strategy", "finetune", "--augment", "none", "--epochs", "2", "--lr", "1e-3", "--out"];
    let whole = teach(&place, &[&args[..], &["whole", "--batch", "8"]].concat());
    let parts = teach(&place, &[&args[..], &["parts", "--batch", "2", "--accumulate", "4"]].concat());
    for (a, b) in losses(&whole).iter().zip(losses(&parts)) {
        assert!((a - b).abs() < 2e-4 * a, "{a} {b}");
    }
}

#[test]
fn auto_tries_tells_and_goes_on_with_the_best() {
    let place = place();
    let done = teach(&place, &["--strategy", "auto", "--epochs", "2", "--out", "run"]);
    let trials = done.named("trial");
    assert_eq!(trials.len(), 4);
    let text = fs::read_to_string(place.path("run/trials.json")).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap().len(), 4);
    let config: Value =
        serde_json::from_str(&fs::read_to_string(place.path("run/config.json")).unwrap()).unwrap();
    let strategy = config["arguments"]["strategy"].as_str().unwrap().to_string();
    assert!(trials.iter().any(|trial| trial["strategy"] == strategy.as_str()), "{strategy}");
    let rank = |trial: &Value| trial["score"]["selection_loss"].as_f64().unwrap();
    let least = trials.iter().map(rank).fold(f64::INFINITY, f64::min);
    assert!(trials.iter().any(|t| t["strategy"] == strategy.as_str() && rank(t) <= 1.01 * least));
}

#[test]
fn a_rate_is_found_and_drawn() {
    let place = place();
    let base: Vec<&str> = std::iter::once("lr-find").chain(BASE[1..].iter().copied()).collect();
    let args = [&base[..], &["--strategy", "features", "--steps", "60", "--svg", "rate.svg"]].concat();
    let text = place.ok(&args).stdout;
    assert!(text.contains("suggested:") && text.contains('^') && text.contains("--lr "), "{text}");
    assert!(fs::read_to_string(place.path("rate.svg")).unwrap().contains("<polyline"));
    let found = place.ok(&[&args[..], &["--json"]].concat()).done();
    let points = found["points"].as_array().unwrap();
    let suggestion = found["suggestion"].as_f64().unwrap();
    assert!(points.len() > 20 && (1e-7..=1.0).contains(&suggestion), "{suggestion}");
    assert!(!place.path("runs").exists(), "nothing is kept");
}

#[test]
fn a_phase_ends_where_nothing_gets_better() {
    let place = place();
    let args = ["--strategy", "features", "--lr", "0", "--epochs", "30", "--patience", "3", "--out", "run"];
    let done = teach(&place, &args);
    assert_eq!(done.named("epoch").len(), 4, "one, and three that are no better");
    // Too little to change a weight: after two epochs that are no better, and again, a tenth of it.
    let args =
        ["--strategy", "features", "--lr", "1e-30", "--schedule", "plateau", "--epochs", "6", "--out", "low"];
    let rates = figures(&teach(&place, &args), "lr");
    let tenths: Vec<f64> = rates.iter().map(|rate| (rate / 1e-30).log10().round()).collect();
    assert_eq!(tenths, [0.0, 0.0, 0.0, -1.0, -1.0, -2.0], "{rates:?}");
}

#[test]
fn a_head_is_solved_for_a_teacher_is_heard_and_scratch_needs_no_weights() {
    let place = place();
    let solved = teach(&place, &["--strategy", "features", "--head-solver", "lbfgs", "--out", "solved"]);
    assert_eq!((solved.named("epoch").len(), solved.done()["val_accuracy"].as_f64()), (1, Some(1.0)));
    let two = teach(&place, &["--head-solver", "lbfgs", "--epochs", "1", "--out", "two"]);
    assert_eq!(two.named("epoch").len(), 2);
    place
        .run(&[&BASE[..], &["--head-solver", "lbfgs", "--head-hidden", "8"]].concat())
        .failed(2, &["--head-solver", "--head-hidden"]);

    let args = ["--strategy", "finetune", "--epochs", "2", "--teacher", "solved", "--distill-share", "0.7"];
    let taught = teach(&place, &[&args[..], &["--out", "taught"]].concat());
    let alone = teach(&place, &[&args[..4], &["--out", "alone"]].concat());
    assert_ne!(losses(&taught), losses(&alone));
    let kept =
        teach(&place, &["--strategy", "features", "--epochs", "3", "--teacher", "solved", "--out", "kept"]);
    assert!(losses(&kept)[2] < losses(&kept)[0], "{:?}", losses(&kept));
    place.images("others", &[("a", [250, 20, 20]), ("b", [20, 20, 250])], 6);
    place
        .run(&[
            "train",
            "others",
            "--weights",
            "solved/model.safetensors",
            "--teacher",
            "solved",
            "--device",
            "cpu",
        ])
        .failed(2, &["teacher", "'a'"]);

    let scratch = ["train", "photos", "--model", "resnet20", "--strategy", "scratch", "--device", "cpu"];
    let done = place.ok(&[&scratch[..], &["--epochs", "3", "--out", "scratch", "--json"]].concat());
    assert_eq!(done.named("epoch").len(), 3);
    place
        .run(&[&scratch[..], &["--weights", "resnet20.safetensors"]].concat())
        .failed(2, &["scratch", "--weights"]);
}

/// Averaged weights, mixing, weights of classes and balanced epochs: each changes what is learned, and a run goes on
/// with each as if it had not stopped.
#[test]
fn every_setting_survives_a_stop() {
    let place = place();
    let base = ["--strategy", "finetune", "--epochs", "3", "--batch", "8", "--seed", "2"];
    let plain = teach(&place, &[&base[..], &["--out", "plain"]].concat());
    for (name, more) in [
        ("ema", &["--ema", "0.9"][..]),
        ("mix", &["--mixup", "0.4", "--cutmix", "1"]),
        ("strong", &["--augment", "strong"]),
        ("balanced", &["--balanced", "--class-weights"]),
        ("clip", &["--clip", "0.1", "--accumulate", "2", "--batch", "4"]),
        ("warm", &["--schedule", "cosine", "--warmup", "1", "--layer-decay", "0.5", "--lr", "1e-3"]),
    ] {
        let base = if name == "clip" { &base[..4] } else { &base[..] };
        let all = [base, more].concat();
        let whole = teach(&place, &[&all[..], &["--out", name]].concat());
        // Averaged weights learn the same, and are worth something else.
        if name == "ema" {
            assert_eq!(losses(&whole), losses(&plain));
            assert_ne!(figures(&whole, "val_loss"), figures(&plain, "val_loss"));
        } else {
            assert_ne!(losses(&whole), losses(&plain), "{name}");
        }
        let part = format!("{name}-part");
        teach(&place, &[&all[..], &["--out", &part, "--stop-after", "1"]].concat());
        place.ok(&["train", "--resume", &part, "--device", "cpu"]);
        for file in ["model.safetensors", "last.safetensors"] {
            let of = |run: &str| fs::read(place.path(run).join(file)).unwrap();
            assert!(of(name) == of(&part), "{name}: {file} differs after a stop");
        }
    }
}

#[test]
fn several_labels_and_numbers() {
    let place = Place::new();
    place.weights();
    place.images("images", &COLOURS, 12);
    let (mut labels, mut numbers) = (String::from("image,labels\n"), String::from("image,light,dark\n"));
    for (i, (class, colour)) in COLOURS.iter().enumerate() {
        for n in 0..12 {
            let light = colour.iter().map(|&c| f64::from(c)).sum::<f64>() / 765.0;
            labels += &format!("{class}/{n:02}.png,{}\n", if i == 0 { "one;both" } else { "other;both" });
            numbers += &format!("{class}/{n:02}.png,{},{}\n", 100.0 + light, 1.0 - light);
        }
    }
    fs::write(place.path("labels.csv"), labels).unwrap();
    fs::write(place.path("numbers.csv"), numbers).unwrap();
    let base =
        ["train", "images", "--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];
    let labelled = ["--labels", "labels.csv", "--task", "multi-label", "--out", "labels", "--json"];
    let done = place.ok(&[&base[..], &labelled, &["--epochs", "2"]].concat()).done();
    assert!(done["val_accuracy"].as_f64().unwrap() > 0.95, "{done}");
    let eval =
        ["eval", "labels", "images", "--labels", "labels.csv", "--task", "multi-label", "--device", "cpu"];
    let told = place.ok(&[&eval[..], &["--json"]].concat()).done();
    assert_eq!(told["count"], 24, "{told}");
    let guess = place.ok(&["predict", "labels", "images/blue/00.png", "--device", "cpu", "--json"]).stdout;
    assert!(guess.contains("both"), "{guess}");

    let valued = [
        "--labels",
        "numbers.csv",
        "--task",
        "regression",
        "--label-column",
        "light",
        "--label-column",
        "dark",
    ];
    let out = ["--out", "numbers", "--json", "--strategy", "features", "--epochs", "60", "--lr", "1e-2"];
    let done = place.ok(&[&base[..], &valued, &out].concat()).done();
    // Begins with the mean of the numbers: nothing has to be climbed first.
    assert!(done["val_loss"].as_f64().unwrap() < 0.1, "{done}");
    place.run(&["calibrate", "numbers", "--device", "cpu"]).failed(2, &["numbers"]);
    let guess = place.ok(&["predict", "numbers", "images/blue/00.png", "--device", "cpu"]).stdout;
    assert!(guess.contains("light") && !guess.contains('%'), "{guess}");
    let text =
        place.ok(&[&base[..], &valued, &["--strategy", "features", "--epochs", "2", "--out", "r2"]].concat());
    assert!(text.stdout.contains("R2") && !text.stderr.contains('%'), "{} {}", text.stdout, text.stderr);
    place
        .run(&[&base[..], &valued, &["--mixup", "0.2", "--out", "x"]].concat())
        .failed(2, &["--mixup", "--task"]);
}

/// What would be ignored, or could not be done, is refused before anything is done.
#[test]
fn options_that_mean_nothing_together_are_refused() {
    let place = place();
    for (options, named) in [
        (&["--strategy", "finetune", "--head-solver", "lbfgs"][..], "--head-solver"),
        (&["--strategy", "features", "--head-solver", "lbfgs", "--class-weights"], "--class-weights"),
        (&["--strategy", "features", "--head-solver", "lbfgs", "--lr", "1"], "--lr"),
        (&["--lr", "1e-5..1e-3", "--layer-decay", "0.5"], "--layer-decay"),
        (&["--lr", "1e-3..x"], "x"),
        (&["--ema", "1"], "--ema"),
        (&["--clip", "1e-60"], "--clip"),
        (&["--warmup", "-1"], "--warmup"),
        (&["--head-hidden", "1000000000"], "--head-hidden"),
        (&["--copies", "1000000000"], "--copies"),
        (&["--teacher", "nowhere", "--distill-temperature", "1e25"], "--distill-temperature"),
    ] {
        let run = [&BASE[..], options, &["--out", "run"]].concat();
        place.run(&run).failed(2, &[named]);
        assert!(!place.path("run").exists(), "{options:?}");
    }
    let sweep: Vec<&str> = std::iter::once("lr-find").chain(BASE[1..].iter().copied()).collect();
    place.run(&[&sweep[..], &["--dry-run"]].concat()).failed(2, &["--dry-run"]);
    place.run(&[&sweep[..], &["--strategy", "features", "--lr", "0"]].concat()).failed(2, &["--lr 0"]);
}

/// The same seed, the same choice, whatever the clock says; and what was chosen can be stopped and gone on with.
#[test]
fn auto_chooses_the_same_again() {
    let place = place();
    let args = ["--strategy", "auto", "--optimizer", "sgd", "--epochs", "1", "--seed", "3"];
    let chosen = |run: &str| -> Value {
        let text = fs::read_to_string(place.path(run).join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        config["arguments"]["lr"].clone()
    };
    teach(&place, &[&args[..], &["--out", "first"]].concat());
    teach(&place, &[&args[..], &["--out", "second", "--stop-after", "1"]].concat());
    assert_eq!(chosen("first"), chosen("second"));
    place.ok(&["train", "--resume", "second", "--device", "cpu"]);
    let model = |run: &str| fs::read(place.path(run).join("model.safetensors")).unwrap();
    assert!(model("first") == model("second"));
}
