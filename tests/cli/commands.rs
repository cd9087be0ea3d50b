//! The command as a user has it: every sub-command on small images and a small network.
#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use command::{ADAPTER, COLOURS, FEATURES, Outcome, Place};
use defrost::models::Network;
use serde_json::Value;

const FINETUNE: [&str; 14] = [
    "train",
    "photos",
    "--model",
    "resnet20",
    "--weights",
    "resnet20.safetensors",
    "--strategy",
    "finetune",
    "--freeze-through",
    "layer1",
    "--batch",
    "8",
    "--epochs",
    "3",
];

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [base, more].concat()
}

#[test]
fn features_are_learned_from_and_kept() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = [&FEATURES[..], &["--epochs", "8"]].concat();
    let base = with(&base, &ADAPTER);
    let first = place.ok(&with(&base, &["--json"]));
    let done = first.done();
    let epochs = first.named("epoch");
    assert_eq!(epochs.len(), 8);
    let best = &epochs[done["best_epoch"].as_u64().unwrap() as usize - 1];
    assert_eq!([&done["val_accuracy"], &done["val_loss"]], [&best["val_accuracy"], &best["val_loss"]]);
    let loss = |epoch: usize| epochs[epoch]["train_loss"].as_f64().unwrap();
    assert!(loss(7) < loss(0), "nothing was learned: {epochs:?}");
    assert!(done["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(done["run"], "runs/photos-resnet20");
    let data = &first.named("data")[0];
    assert_eq!((&data["train"], &data["val"]), (&Value::from(20), &Value::from(4)));
    assert_eq!(data["classes"], serde_json::json!(["blue", "red"]));
    assert_eq!(first.named("frozen")[0]["tensors"], 2);
    for file in ["config.json", "metrics.csv", "model.safetensors", "last.safetensors", "split.json"] {
        assert!(place.path("runs/photos-resnet20").join(file).exists(), "{file}");
    }

    // Again, as text: the features are kept, the folder is another, the result the same.
    let second = place.ok(&base);
    assert!(second.stderr.contains("features of 24 images were kept"), "{}", second.stderr);
    assert!(second.stderr.contains("epoch 8/8"), "{}", second.stderr);
    assert!(second.stdout.contains("images (95% interval"), "{}", second.stdout);
    assert!(second.stdout.trim_end().ends_with("runs/photos-resnet20-2"), "{}", second.stdout);
    let models = ["runs/photos-resnet20", "runs/photos-resnet20-2"]
        .map(|run| fs::read(place.path(run).join("model.safetensors")).unwrap());
    assert!(models[0] == models[1], "cached features give the same network");

    // Nothing but results with -q.
    let quiet = place.ok(&with(&base, &["-q", "--out", "quiet"]));
    assert!(!quiet.stderr.contains("epoch"), "{}", quiet.stderr);
    assert_eq!(quiet.stdout.lines().count(), 2);
}

#[test]
fn finetuning_is_reproducible_and_resumes_as_if_it_had_not_stopped() {
    let place = Place::new();
    place.photos();
    place.weights();
    // Numbers that JSON must carry exactly.
    let base = with(
        &FINETUNE,
        &["--batch-norm", "train", "--lr", "0.0012345678901234567,0.0187", "--label-smoothing", "0.1"],
    );
    let base = with(&base, &ADAPTER);
    place.ok(&with(&base, &["--seed", "7", "--out", "whole"]));
    place.ok(&with(&base, &["--seed", "7", "--out", "twice"]));
    place.ok(&with(&base, &["--seed", "8", "--out", "other"]));
    let stopped = place.ok(&with(&base, &["--seed", "7", "--out", "stopped", "--stop-after", "1", "--json"]));
    assert_eq!(stopped.done()["epochs"], 1);
    let resumed = place.ok(&with(&["train", "--resume", "stopped", "--json"], &ADAPTER));
    assert_eq!(resumed.done()["epochs"], 3);
    assert_eq!(resumed.named("epoch")[0]["epoch"], 2);
    let read = |run: &str, file: &str| fs::read(place.path(run).join(file)).unwrap();
    assert!(read("whole", "model.safetensors") == read("twice", "model.safetensors"), "the same seed");
    assert!(read("whole", "last.safetensors") == read("twice", "last.safetensors"), "the same seed");
    assert!(read("whole", "model.safetensors") != read("other", "model.safetensors"), "another seed");
    assert!(read("whole", "model.safetensors") == read("stopped", "model.safetensors"), "resumed");
    assert!(read("whole", "last.safetensors") == read("stopped", "last.safetensors"), "resumed");
    let lines = |run| String::from_utf8(read(run, "metrics.csv")).unwrap().lines().count();
    assert_eq!((lines("whole"), lines("stopped")), (4, 4));

    // What is frozen is as it was; what is not has learned.
    let before = defrost::models::load("resnet20", place.path("resnet20.safetensors")).unwrap();
    let after = Network::open(place.path("whole/model.safetensors")).unwrap();
    assert_eq!(after.classes(), ["blue", "red"]);
    let frozen = |path: &str| ["conv1.", "bn1.", "layer1."].iter().any(|layer| path.starts_with(layer));
    for (spec, numbers) in after.tensors().filter(|(s, _)| s.layer_path() != "fc") {
        let same = before.tensor(&spec.path).unwrap() == numbers;
        assert_eq!(same, frozen(&spec.path), "{}", spec.path);
    }

    // A finished run can be resumed too: there is nothing left to do.
    let again = place.ok(&with(&["train", "--resume", "whole", "--json"], &ADAPTER));
    assert_eq!(again.done()["epochs"], 3);
    assert!(read("whole", "model.safetensors") == read("twice", "model.safetensors"));
}

#[test]
fn a_run_is_never_overwritten() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = [&FEATURES[..], &["--out", "mine"]].concat();
    place.ok(&with(&base, &["--epochs", "1", "--device", "cpu"]));
    let before = place.files("mine");
    place.run(&with(&base, &["--device", "cpu"])).failed(2, &["mine", "--resume"]);
    assert!(before == place.files("mine"));
    // Settings belong to the run.
    place.run(&["train", "--resume", "mine", "--epochs", "9"]).failed(2, &["--resume", "--epochs"]);
}

#[test]
fn a_trained_network_is_evaluated_and_predicts() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = FEATURES;
    place.ok(&with(&base, &["--epochs", "40", "--lr", "0.1", "--out", "run"]));

    let result = place.ok(&["eval", "run", "photos", "--json"]).done();
    assert_eq!(result["count"], 24);
    let top1 = result["top1"].as_f64().unwrap();
    assert!(top1 > 0.8 && result["top5"] == 1.0, "{result}");
    assert!(result["seconds"].is_number() && result["loss"].is_number());
    let shown = place.ok(&["eval", "run/model.safetensors", "photos"]).stdout;
    assert!(
        shown.contains("accuracy") && shown.contains("95% interval") && shown.contains("24 images"),
        "{shown}"
    );
    // CPU and adapter run the same plan.
    for device in [["--device", "cpu"], ADAPTER] {
        let other = place.ok(&with(&["eval", "run", "photos", "--json"], &device)).done();
        assert_eq!(other["top1"], result["top1"], "{device:?}");
    }
    // With weights of one's own and a model's name, before or after the data.
    let own =
        place.ok(&["eval", "--model", "resnet20", "--weights", "run/model.safetensors", "photos", "--json"]);
    assert_eq!(own.done()["top1"], result["top1"]);

    fs::write(place.path("photos/red/99.jpg"), "no image").unwrap();
    let text = place.ok(&["predict", "run", "photos/red/00.png", "photos/blue/01.png"]);
    let lines: Vec<&str> = text.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", text.stdout);
    assert_eq!(lines[0], "photos/red/00.png");
    assert!(lines[1].ends_with("%  red") && lines[4].ends_with("%  blue"), "{}", text.stdout);

    let json = place.ok(&["predict", "run", "photos/red", "--top", "1", "--json"]);
    let predictions = json.named("prediction");
    assert_eq!(predictions.len(), 12);
    for p in &predictions {
        let guesses = p["predictions"].as_array().unwrap();
        assert_eq!(guesses.len(), 1);
        assert!((0.5..=1.0).contains(&guesses[0]["probability"].as_f64().unwrap()), "{p}");
    }
    assert_eq!(json.done()["skipped"], 1);
    assert!(json.stderr.contains("99.jpg"), "{}", json.stderr);

    place.run(&["predict", "run", "photos/red/99.jpg"]).failed(1, &["99.jpg", "none of the images"]);
    place.run(&["predict", "run", "nowhere.png"]).failed(1, &["nowhere.png"]);
    place.ok(&["predict", "run", "nowhere.png", "photos/red/00.png"]);
    place.run(&["predict", "run"]).failed(2, &["IMAGES"]);
    place.run(&["eval", "run"]).failed(2, &["DATA"]);
    place.run(&["eval", "resnet20", "photos"]).failed(2, &["resnet20", "--weights"]);
    place.run(&["eval", "norun", "photos"]).failed(1, &["norun"]);
}

#[test]
fn inspect_needs_neither_weights_nor_device() {
    let place = Place::new();
    let memory = |args: &[&str]| {
        let outcome =
            Outcome::of(no_adapter(&mut place.command(&with(&["inspect", "resnet20", "--json"], args))));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        (outcome.done(), outcome.named("layer"))
    };
    let (all, layers) = memory(&["--batch", "16"]);
    assert_eq!(all["parameters"], 272_474);
    assert_eq!(all["learning"], all["parameters"]);
    // 40.81 million, as counted for He et al.'s network with 1x1 shortcuts.
    let sum: f64 = layers.iter().map(|l| l["mult_adds"].as_f64().unwrap()).sum();
    assert!(sum == all["mult_adds"].as_f64().unwrap() && (sum / 1e6 - 40.81).abs() < 0.01, "{sum}");
    let (half, layers) = memory(&["--batch", "16", "--freeze-through", "layer2"]);
    let (head, _) = memory(&["--batch", "16", "--strategy", "features"]);
    let totals = [&all, &half, &head].map(|m| m["memory"]["total"].as_u64().unwrap());
    assert!(totals[0] > totals[1] && totals[1] > totals[2], "{totals:?}");
    assert_eq!(head["learning"], 650);
    let layer = |name: &str| layers.iter().find(|l| l["layer"] == name).unwrap();
    assert_eq!(layer("layer2.2.conv1")["learns"], "frozen");
    assert_eq!(layer("layer3.0.conv1")["learns"], "trainable");
    assert_eq!(layer("layer3.0.conv1")["output"], serde_json::json!([8, 8, 64]));
    assert_eq!(layer("fc")["parameters"], 650);

    let text =
        place.ok(&["inspect", "resnet20", "--freeze-through", "layer2", "--classes", "3", "--plan"]).stdout;
    for thing in [
        "layer3.0.conv1",
        "frozen",
        "trainable",
        "mult-adds",
        "== backward",
        "memory of a step",
        "work of a step",
    ] {
        assert!(text.contains(thing), "{thing}\n{text}");
    }
    let frozen = text.lines().skip_while(|l| *l != "== backward").any(|l| l.starts_with("layer2"));
    assert!(!frozen, "no gradient op for a frozen layer");
    let sized = place.ok(&["inspect", "resnet20", "--size", "64", "--json"]).done();
    assert_eq!(sized["input"], 64);
    let measure = ["inspect", "resnet20", "--measure", "--batch", "16", "--json"];
    place.run(&with(&measure, &["--device", "cpu"])).failed(2, &["--measure", "the device is the CPU"]);
    let measured = place.ok(&with(&measure, &ADAPTER)).done();
    let share = measured["memory"]["total"].as_f64().unwrap() / measured["measured"].as_f64().unwrap();
    assert!((0.5..1.5).contains(&share), "{measured}");

    place.weights();
    let own = place.ok(&["inspect", "resnet20", "--weights", "resnet20.safetensors", "--json"]).done();
    assert_eq!(own["parameters"], 272_474);
    place.run(&["inspect", "resnet20", "--freeze-groups", "9"]).failed(2, &["no layer group 9"]);
    place.run(&["inspect", "resnet20", "--size", "4"]).failed(2, &["--size 4"]);
}

/// Runs a command where no driver answers.
fn no_adapter(command: &mut Command) -> std::process::Output {
    command.env("VK_ICD_FILENAMES", "/nonexistent.json").env("VK_DRIVER_FILES", "/nonexistent.json");
    command.output().unwrap()
}

#[test]
fn devices_lists_adapters_and_the_cpu() {
    let place = Place::new();
    let json = place.ok(&["devices", "--json"]);
    let devices = json.named("device");
    assert_eq!(devices.last().unwrap()["index"], "cpu");
    assert!(devices.len() > 1, "these tests need an adapter; tools/setup installs a software one");
    // A real GPU, else the CPU.
    let real = devices[0]["kind"] != "software";
    let auto: Vec<bool> = devices.iter().map(|d| d["auto"].as_bool().unwrap()).collect();
    assert_eq!(auto.iter().filter(|auto| **auto).count(), 1, "{auto:?}");
    assert_eq!(auto.iter().position(|auto| *auto), Some(if real { 0 } else { devices.len() - 1 }));
    for key in ["name", "kind", "backend", "driver"] {
        assert!(devices[0][key].is_string(), "{key}");
    }
    assert!(devices[0]["limits"]["max_binding"].as_u64().unwrap() >= 128 << 20);
    let cpu = devices.last().unwrap();
    assert!(cpu["threads"].as_u64() > Some(0) && cpu["vector"].is_string(), "{cpu}");
    assert_eq!(json.done()["auto"], if real { &devices[0] } else { cpu }["name"]);
    let text = place.ok(&["devices"]).stdout;
    assert!(text.contains("<- auto (") && text.contains("CPU"), "{text}");
    assert!(real || text.contains("runs only when asked: --device software"), "{text}");
    place.run(&["inspect", "resnet20", "--device", "99"]).failed(2, &["99", "this machine has"]);
    place.run(&["inspect", "resnet20", "--device", "voodoo2"]).failed(2, &["voodoo2", "this machine has"]);
    let bad = place.command(&["inspect", "resnet20"]).env("DEFROST_DEVICE", "voodoo2").output().unwrap();
    Outcome::of(bad).failed(2, &["voodoo2"]);
}

#[test]
fn where_no_driver_answers_the_cpu_trains() {
    let place = Place::new();
    place.images("photos", &COLOURS, 4);
    place.weights();
    let args = with(&FINETUNE[..12], &["--epochs", "1", "--json", "--out", "run"]);
    let outcome = Outcome::of(no_adapter(&mut place.command(&args)));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.done()["run"], "run");
    let note = &outcome.named("note")[0]["message"];
    assert!(note.as_str().unwrap().starts_with("device: CPU, "), "{note}");
    assert!(note.as_str().unwrap().ends_with("(no real GPU here)"), "{note}");
    // Nobody asked why it is the device that was named.
    let named = place.ok(&["eval", "run", "photos", "--device", "cpu"]);
    assert!(!named.stderr.contains("device:"), "{}", named.stderr);
    let gpu = Outcome::of(no_adapter(&mut place.command(&["eval", "run", "photos", "--device", "gpu"])));
    gpu.failed(1, &["no GPU adapter", "--device cpu"]);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = with(&FINETUNE, &["--batch-norm", "train", "--device", "cpu", "-v"]);
    let run = |threads: &str| {
        let outcome = place.ok(&with(&base, &["--threads", threads, "--out", threads]));
        let name =
            if threads == "1" { "CPU, 1 thread\n".into() } else { format!("CPU, {threads} threads\n") };
        assert!(outcome.stderr.contains(&name), "{}", outcome.stderr);
        ["model.safetensors", "last.safetensors"]
            .map(|file| fs::read(place.path(threads).join(file)).unwrap())
    };
    assert!(run("1") == run("5"), "another number of threads gave another network");

    for wrong in ["0", "-1", "100000", "many"] {
        place.run(&["devices", &format!("--threads={wrong}")]).failed(2, &["--threads", wrong]);
    }
    let set = place.command(&["devices"]).env("DEFROST_THREADS", "0").output().unwrap();
    Outcome::of(set).failed(2, &["--threads", "at least 1"]);
    let set = place.command(&["devices", "--json"]).env("DEFROST_THREADS", "3").output().unwrap();
    assert_eq!(Outcome::of(set).named("device").last().unwrap()["threads"], 3);
}

#[test]
fn wrong_usage_exits_with_2_and_says_how_it_is_right() {
    let place = Place::new();
    place.photos();
    let plain = place.run(&["train", "photos", "--model", "resnet20"]);
    plain.failed(2, &["--weights"]);
    place.run(&["train", "photos"]).failed(2, &["--model", "--weights"]);
    place.run(&["train"]).failed(2, &["<DATA>"]);
    place.run(&["train", "photos", "--strategie", "features"]).failed(2, &["'--strategy'"]);
    place.run(&["train", "photos", "--strategy", "feature"]).failed(2, &["'features'"]);
    place.run(&["train", "photos", "--batch", "0"]).failed(2, &["--batch", "at least one"]);
    place.run(&["trian"]).failed(2, &["'train'"]);
    place.run(&["train", "--resume", "nowhere"]).failed(2, &["nowhere"]);
    let json = place.run(&["train", "photos", "--batch", "x", "--json"]);
    assert_eq!(json.events()[0]["event"], "error");
    let json = place.run(&["eval", "nowhere", "photos", "--json"]);
    let last = json.events().pop().unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&Value::from("error"), &Value::from(1)));
    assert!(last["message"].as_str().unwrap().contains("nowhere"));
    assert!(!place.path("runs").exists());
    place.weights();
    let train = [&FEATURES[..], &["--device", "cpu"]].concat();
    for (option, value) in
        [("--lr", "-1"), ("--lr", "1,2,3,4,5,6,7"), ("--label-smoothing", "1"), ("--val-fraction", "1.5")]
    {
        place.run(&with(&train, &[option, value])).failed(2, &[value.split(',').next().unwrap()]);
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn help_has_examples_and_colour_is_a_choice() {
    let place = Place::new();
    for command in ["train", "eval", "predict", "inspect", "devices", "certify"] {
        let help = place.ok(&[command, "--help"]).stdout;
        assert!(help.contains("Examples:") && help.contains(&format!("defrost {command}")), "{help}");
        assert!(!help.contains('\x1b'));
    }
    assert!(place.ok(&["--version"]).stdout.starts_with("defrost "));
    assert!(place.ok(&["inspect", "resnet20", "--color", "always"]).stdout.contains("\x1b[1m"));
    assert!(!place.ok(&["inspect", "resnet20"]).stdout.contains('\x1b'));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["inspect", "resnet20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        place.command(&["inspect", "resnet20"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    Outcome::of(output).failed(1, &["standard output"]);
}

/// Interrupts a training behind its first event of a name; returns that event and how it ended.
#[cfg(unix)]
fn interrupt(mut child: Child, behind: &str) -> (Value, Outcome) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = String::new();
    let event = loop {
        let line = lines.next().expect("the event before the end").unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        seen.push_str(&line);
        seen.push('\n');
        if event["event"] == behind {
            break event;
        }
    };
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    for line in lines {
        seen.push_str(&line.unwrap());
        seen.push('\n');
    }
    let mut outcome = Outcome::of(child.wait_with_output().unwrap());
    outcome.stdout = seen;
    (event, outcome)
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_a_run_that_goes_on() {
    let place = Place::new();
    place.photos();
    place.weights();
    let spawn = |args: &[&str]| {
        place.command(args).arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let args = with(&FINETUNE[..12], &["--epochs", "5000", "--out", "run"]);
    let (first, outcome) = interrupt(spawn(&args), "epoch");
    assert_eq!((first["epoch"].as_u64(), outcome.code), (Some(1), 130), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--resume run"), "{}", outcome.stderr);
    let events = outcome.events();
    assert_eq!(events[events.len() - 2]["event"], "interrupted");
    assert_eq!(events[events.len() - 1]["event"], "error");
    let epochs = events[events.len() - 2]["epochs"].as_u64().unwrap();
    let (next, outcome) = interrupt(spawn(&["train", "--resume", "run"]), "epoch");
    assert_eq!((next["epoch"].as_u64(), outcome.code), (Some(epochs + 1), 130), "{}", outcome.stderr);
    place.ok(&["eval", "run", "photos", "--device", "cpu"]);

    // While features are computed there is no run yet, and none is left.
    let features = with(&FINETUNE[..6], &["--out", "soon"]);
    let (_, outcome) = interrupt(spawn(&features), "frozen");
    assert_eq!(outcome.code, 130, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the same command goes on"), "{}", outcome.stderr);
    assert!(!place.path("soon").exists());
    place.ok(&features);
}

#[test]
fn data_is_looked_at_before_it_is_learned_from() {
    let place = Place::new();
    place.photos();
    let shown = place.ok(&["data", "photos"]).stdout;
    for line in ["class   train  val", "blue       10    2", "red        10    2", "images     20    4"] {
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
    // A copy on the other side of the split, under another class, and a file that is no image.
    let parts = place.ok(&["data", "photos", "--json"]).named("data");
    assert_eq!(
        parts[0]["parts"]["val"],
        serde_json::json!({ "images": 4, "pictures": 4, "classes": { "blue": 2, "red": 2 } })
    );
    assert_eq!((&parts[0]["task"], &parts[0]["drawn"]), (&"single-label".into(), &true.into()));
    fs::create_dir_all(place.path("parts/val/red")).unwrap();
    fs::rename(place.path("photos"), place.path("parts/train")).unwrap();
    fs::copy(place.path("parts/train/blue/00.png"), place.path("parts/val/red/0.png")).unwrap();
    fs::write(place.path("parts/train/blue/bad.png"), "bad").unwrap();
    let found = place.ok(&["data", "parts", "--verify", "--duplicates", "--json"]);
    let done = found.done();
    assert_eq!((&done["across"], &done["contradictions"]), (&1.into(), &1.into()), "{done}");
    assert_eq!(found.named("duplicates")[0]["across"][0]["exact"], true);
    assert!(found.named("skipped")[0]["files"][0]["path"].as_str().unwrap().ends_with("bad.png"));
    let text = place.ok(&["data", "parts", "--duplicates"]);
    assert!(text.stdout.contains("parts/train/blue/00.png = parts/val/red/0.png"), "{}", text.stdout);
    assert!(text.stderr.contains("the accuracy will look better than it is"), "{}", text.stderr);
    place.run(&["data", "nowhere"]).failed(1, &["nowhere", "no such folder"]);
    place.run(&["data", "parts", "--task", "regression"]).failed(2, &["--task regression", ".csv"]);
    place.run(&["data", "parts", "--group-by", "face"]).failed(2, &["--group-by", "prefix:"]);
}

#[test]
fn a_table_trains_and_resumes() {
    let place = Place::new();
    place.photos();
    place.weights();
    let line = |class: &str, i: u32| format!("{class}/{i:02}.png,{class},{}\n", i / 3);
    let lines: String = (0..12).flat_map(|i| [line("blue", i), line("red", i)]).collect();
    fs::write(place.path("photos/labels.csv"), format!("image,label,film\n{lines}")).unwrap();
    let base = [
        "train",
        "photos",
        "--strategy",
        "features",
        "--labels",
        "labels.csv",
        "--group-by",
        "column:film",
        "--model",
        "resnet20",
    ];
    let base = with(&base, &["--weights", "resnet20.safetensors", "--out", "run", "--device", "cpu"]);
    let first = place.ok(&with(&base, &["--epochs", "2", "--stop-after", "1", "--json"]));
    assert_eq!(first.named("data")[0]["val"], 6, "one film of four");
    let resumed = place.ok(&["train", "--resume", "run", "--device", "cpu", "--json"]);
    assert_eq!((&resumed.named("data")[0]["val"], &resumed.done()["epochs"]), (&6.into(), &2.into()));
    assert_eq!(place.ok(&["eval", "run", "photos/labels.csv", "--json"]).done()["count"], 24);
    place.run(&["train", "--resume", "run", "--group-by", "parent"]).failed(2, &["--group-by"]);
}
