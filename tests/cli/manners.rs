//! How the command behaves towards people and other programs: tables and lists, completions, help, messages, what it
//! exports and what TensorBoard reads.
#![allow(clippy::unwrap_used)]

use crate::command;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

#[cfg(unix)]
use command::torch::{Py, Tensor, safetensors, text, zipped};
use command::{FEATURES, Outcome, Place};
use defrost::models::{Naming, Network, Precision};
use defrost::nn::TensorFile;
use half::f16;
use serde_json::Value;

const CPU: [&str; 2] = ["--device", "cpu"];

/// `run/`: a head taught on `photos/` for two epochs.
fn taught() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    train(&place, &["--epochs", "2", "--out", "run"]);
    place
}

fn train(place: &Place, more: &[&str]) -> Outcome {
    place.ok(&[&FEATURES[..], &CPU, more].concat())
}

/// Runs `defrost` with something on its standard input.
fn fed(place: &Place, args: &[&str], input: &[u8]) -> Outcome {
    let mut child = place
        .command(&[args, &CPU].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    Outcome::of(child.wait_with_output().unwrap())
}

/// A table's head and rows.
fn table(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let cells = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<_>>();
    let head = cells(reader.headers().unwrap());
    (head, reader.records().map(|record| cells(&record.unwrap())).collect())
}

#[test]
fn predictions_as_a_table() {
    let place = Place::new();
    place.images("photos", &[("blue, deep", [30, 60, 190]), ("\"red\"", [190, 50, 40])], 6);
    place.weights();
    train(&place, &["--epochs", "1", "--out", "run"]);
    let predict = |form: &[&str]| place.ok(&[&["predict", "run", "photos"], &CPU[..], form].concat());
    let (head, rows) = table(&predict(&["--csv"]).stdout);
    assert_eq!(head, ["path", "class", "probability", "class_2", "probability_2"]);
    let json = predict(&["--json"]).named("prediction");
    assert_eq!((rows.len(), json.len()), (12, 12));
    for (row, json) in rows.iter().zip(&json) {
        assert_eq!(json["path"], row[0].as_str());
        for (k, guess) in json["predictions"].as_array().unwrap().iter().enumerate() {
            assert_eq!(guess["class"], row[1 + 2 * k].as_str());
            let probability: f64 = row[2 + 2 * k].parse().unwrap();
            assert!((probability - guess["probability"].as_f64().unwrap()).abs() < 1e-7, "{row:?}");
        }
    }
    assert!(rows.iter().any(|row| row[0].contains("blue, deep") && row[0].ends_with("00.png")));
    assert_eq!(table(&predict(&["--csv", "--top", "1"]).stdout).0, ["path", "class", "probability"]);
    let both = place.run(&["predict", "run", "photos", "--csv", "--json"]);
    both.failed(2, &["--csv", "--json", "leave one away"]);
    // Nothing can be said: not even a head is written.
    let none = place.run(&[&["predict", "run", "gone.png", "--csv"], &CPU[..]].concat());
    none.failed(1, &["gone.png", "none of the images"]);
    assert_eq!(none.stdout, "");

    // Numbers stand under their names.
    fs::create_dir(place.path("many")).unwrap();
    let mut lines = String::from("image,height,\"width, m\"\n");
    for i in 0..6 {
        fs::copy(place.path(&format!("photos/\"red\"/{i:02}.png")), place.path(&format!("many/{i}.png")))
            .unwrap();
        lines += &format!("{i}.png,{},{}\n", 0.5 * f64::from(i), 3 - i);
    }
    fs::write(place.path("many/labels.csv"), lines).unwrap();
    let columns = ["--label-column", "height", "--label-column", "width, m", "--task", "regression"];
    let base = [
        "train",
        "many/labels.csv",
        "--strategy",
        "features",
        "--model",
        "resnet20",
        "--weights",
        "resnet20.safetensors",
    ];
    place.ok(&[&base[..], &CPU, &columns, &["--epochs", "1", "--out", "numbers"]].concat());
    let (head, rows) = table(
        &place.ok(&[&["predict", "numbers", "many", "--csv", "--batch", "4"], &CPU[..]].concat()).stdout,
    );
    assert_eq!(head, ["path", "height", "width, m"]);
    assert!(rows.len() == 6 && rows.iter().all(|row| row[1..].iter().all(|x| x.parse::<f32>().is_ok())));
}

#[test]
fn paths_come_on_standard_input() {
    let place = taught();
    fs::write(place.path("photos/red/bad.png"), "no image").unwrap();
    fs::create_dir(place.path("two\nlines")).unwrap();
    fs::copy(place.path("photos/red/00.png"), place.path("two\nlines/a.png")).unwrap();
    // Files and folders, empty lines, and a line as Windows ends it; behind them a path of the command line.
    let list = b"photos/red/03.png\n\nphotos/blue\r\ngone.png\nphotos/red/bad.png\n";
    let base = ["predict", "run", "-", "photos/red/05.png", "--batch", "4", "--json"];
    let said = fed(&place, &base, list);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let paths: Vec<String> =
        said.named("prediction").iter().map(|p| p["path"].as_str().unwrap().to_string()).collect();
    assert_eq!((paths.len(), &*paths[0], &*paths[1]), (14, "photos/red/03.png", "photos/blue/00.png"));
    assert_eq!(paths[13], "photos/red/05.png");
    let unreadable = said.named("unreadable");
    assert_eq!(unreadable.len(), 2);
    assert_eq!(
        (&unreadable[0]["path"], &unreadable[1]["path"]),
        (&"gone.png".into(), &"photos/red/bad.png".into())
    );
    assert!(unreadable[0]["reason"].as_str().unwrap().starts_with("cannot read"), "{}", unreadable[0]);
    assert!(unreadable[1]["reason"].as_str().unwrap().starts_with("not an image"), "{}", unreadable[1]);
    assert!(said.stderr.contains("warning: skipped gone.png: "), "{}", said.stderr);
    assert_eq!((&said.done()["count"], &said.done()["skipped"]), (&14.into(), &2.into()));

    // The same is a failure where all must be read; what could be is told.
    let strict = fed(&place, &[&base[..], &["--strict"]].concat(), list);
    strict.failed(1, &["2 images could not be read", "--strict"]);
    assert_eq!(strict.named("prediction").len(), 14);
    let fine = fed(&place, &["predict", "run", "-", "--strict"], b"photos/red/03.png");
    assert_eq!((fine.code, fine.stdout.lines().next()), (0, Some("photos/red/03.png")), "{}", fine.stderr);

    // Names with line ends in them.
    let zeros =
        fed(&place, &["predict", "run", "-", "-0", "--json"], b"two\nlines/a.png\0photos/red/01.png\0");
    assert_eq!(zeros.named("prediction")[0]["path"], "two\nlines/a.png");
    assert_eq!(zeros.done()["count"], 2);

    fed(&place, &["predict", "run", "-"], b"").failed(1, &["standard input is empty", "each line"]);
    fed(&place, &["predict", "run", "-"], b"\n\n").failed(1, &["standard input is empty"]);
    fed(&place, &["predict", "run", "-"], b"gone.png\n").failed(1, &["gone.png", "none of the images"]);
    place.run(&["predict", "run", "photos", "--null"]).failed(2, &["--null", "defrost predict RUN - --null"]);
    // A folder instead of a list ends, too.
    #[cfg(unix)]
    {
        let mut command = place.command(&["predict", "run", "-", "--device", "cpu"]);
        command.stdin(fs::File::open(place.path("photos")).unwrap());
        Outcome::of(command.output().unwrap()).failed(1, &["standard input", "cannot read"]);
    }
}

#[test]
fn a_list_is_answered_while_it_comes() {
    let place = taught();
    let mut child = place
        .command(&["predict", "run", "-", "--batch", "2", "--json", "--device", "cpu"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut list = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for i in [0, 2, 4] {
        writeln!(list, "photos/red/{i:02}.png\nphotos/red/{:02}.png", i + 1).unwrap();
        // Both answers come before the list goes on.
        for i in [i, i + 1] {
            let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            assert_eq!(answer["path"], format!("photos/red/{i:02}.png"));
        }
    }
    drop(list);
    assert_eq!(answers.count(), 1, "the last line is the event 'done'");
    assert!(child.wait().unwrap().success());
}

#[test]
fn predict_and_eval_agree() {
    let place = taught();
    let predicted = place.ok(&["predict", "run", "photos", "--json", "--device", "cpu", "--batch", "5"]);
    let right = |p: &&Value| {
        let class = p["predictions"][0]["class"].as_str().unwrap();
        p["path"].as_str().unwrap().starts_with(&format!("photos/{class}/"))
    };
    let predicted = predicted.named("prediction");
    let right = predicted.iter().filter(right).count();
    let measured = place.ok(&["eval", "run", "photos", "--json", "--device", "cpu"]).done();
    let confusion = measured["confusion"].as_array().unwrap();
    let diagonal: u64 = (0..confusion.len()).map(|i| confusion[i][i].as_u64().unwrap()).sum();
    assert_eq!((predicted.len(), right as u64), (24, diagonal));
}

/// The names of all subcommands, as the help lists them.
fn subcommands(place: &Place) -> Vec<String> {
    let help = place.ok(&["--help"]).stdout;
    let listed = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // What is indented further goes on with a description.
    let named = listed.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let named = named.filter_map(|line| line.split_whitespace().next());
    let named: Vec<String> = named.filter(|name| *name != "help").map(String::from).collect();
    assert!(named.len() > 15, "{help}");
    named
}

#[test]
fn shells_and_manuals_know_every_subcommand() {
    let place = Place::new();
    let commands = subcommands(&place);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.ok(&["completions", shell]).stdout;
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("freeze-through") && script.contains("tensorboard"), "{shell}");
    }
    assert_eq!(place.ok(&["completions", "fish", "--json"]).events()[0]["shell"], "fish");
    place.run(&["completions", "tcsh"]).failed(2, &["tcsh", "bash"]);

    let page = place.ok(&["man"]).stdout;
    assert!(page.contains(".TH defrost 1"), "{page}");
    place.ok(&["man", "pages/man1"]);
    let pages = place.files("pages/man1");
    assert!(pages.contains_key("defrost.1"));
    for command in &commands {
        assert!(page.contains(&format!("defrost\\-{}", command.replace('-', "\\-"))), "{command}");
        let own = String::from_utf8_lossy(&pages[&format!("defrost-{command}.1")]).into_owned();
        assert!(own.contains(".SH OPTIONS") && own.contains("Examples:"), "{command}: {own}");
    }
    fs::write(place.path("file"), "").unwrap();
    place.run(&["man", "file"]).failed(1, &["file", "name another place"]);
}

#[cfg(unix)]
#[test]
fn bash_completes() {
    let place = Place::new();
    fs::write(place.path("script"), place.ok(&["completions", "bash"]).stdout).unwrap();
    // What bash does when a person presses Tab behind `defrost train --freeze-t`.
    let press = "source ./script; COMP_WORDS=(defrost train --freeze-t); COMP_CWORD=2; _defrost defrost --freeze-t train; echo \"${COMPREPLY[@]}\"";
    let mut command = Command::new("bash");
    command.args(["-c", press]);
    place.prepare(&mut command);
    assert_eq!(Outcome::of(command.output().unwrap()).stdout.trim(), "--freeze-through");
}

#[test]
fn every_subcommand_has_help_of_the_same_make() {
    let place = Place::new();
    for command in subcommands(&place) {
        let help = place.ok(&[&command, "--help"]).stdout;
        let first = help.lines().next().unwrap();
        assert!(!first.is_empty() && !first.ends_with('.') && first.len() <= 100, "{command}: {first}");
        assert!(
            help.contains("\nExamples:\n  defrost ") || help.contains("\nExamples:\n  HF_"),
            "{command}: {help}"
        );
        assert!(help.contains(&format!("defrost {command}")), "{command}");
        for option in ["--json", "--quiet", "--verbose", "--color", "--device"] {
            assert!(help.contains(option), "{command}: {option}");
        }
        let wrong = place.run(&[&command, "--no-such-option"]);
        wrong.failed(2, &["--no-such-option"]);
    }
}

#[test]
fn messages_say_what_to_do() {
    let place = taught();
    let with = |args: &[&str]| place.run(&[args, &CPU[..]].concat());
    let weights = ["--weights", "resnet20.safetensors"];
    // A mistyped network: the nearest, not all of them.
    let mistyped = with(&[&["train", "photos", "--model", "resnett20"], &weights[..]].concat());
    mistyped.failed(2, &["'resnett20'", "did you mean 'resnet20'?", "defrost models"]);
    assert!(mistyped.stderr.len() < 200, "{}", mistyped.stderr);
    let place_of = "a folder of images for each class";
    with(&[&["train", "fotos", "--model", "resnet20"], &weights[..]].concat())
        .failed(1, &["fotos", place_of]);
    let gone = ["train", "photos", "--model", "resnet20", "--weights", "gone.safetensors"];
    with(&gone).failed(1, &["gone.safetensors", "is the name right?"]);
    with(&["train", "photos", "--model", "resnet18", "--offline"])
        .failed(1, &["resnet18", "--offline", "--weights"]);
    with(&[&FEATURES[..], &["--out", "run"]].concat()).failed(2, &["run", "--resume run", "--out"]);
    // A file where the run folder would be.
    with(&[&FEATURES[..], &["--out", "resnet20.safetensors"]].concat())
        .failed(1, &["resnet20.safetensors", "cannot create folder", "name another place"]);
    with(&[&FEATURES[..], &["--out", "resnet20.safetensors/run"]].concat())
        .failed(1, &["resnet20.safetensors/run", "name another place"]);
    with(&["convert", "gone.pth", "to.safetensors"]).failed(1, &["gone.pth", "is the name right?"]);
    // What was advised works.
    place.ok(&[&["train", "--resume", "run"], &CPU[..]].concat());
}

/// The header of a safetensors file.
fn header(file: &Path) -> Value {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

#[test]
fn half_precision_keeps_what_f16_can_hold() {
    let place = taught();
    place.ok(&["export", "run", "half.safetensors", "--half"]);
    let [whole, half] = ["run/model.safetensors", "half.safetensors"].map(|file| place.path(file));
    assert!(fs::metadata(&half).unwrap().len() < fs::metadata(&whole).unwrap().len() * 6 / 10);
    for (name, info) in header(&half).as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__")
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
        "resized to 32 pixels",
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

/// CRC-32C of the definition, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The messages of an event file, whose frames must be sound.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(number(&bytes[8..12]), masked(&bytes[..8]));
        let message = &bytes[12..12 + length];
        assert_eq!(number(&bytes[12 + length..16 + length]), masked(message));
        found.push(message.to_vec());
        bytes = &bytes[16 + length..];
    }
    found
}

/// Fields of a protobuf message: number, and the bytes of what it holds (of a varint, its number).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        number
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    found
}

/// What lies under a number.
fn field(message: &[u8], number: u64) -> Option<Vec<u8>> {
    fields(message).into_iter().find(|(n, _)| *n == number).map(|(_, bytes)| bytes)
}

/// What TensorBoard would show of a run folder: numbers by tag and step, after what its files say is void.
fn board(place: &Place, run: &str) -> BTreeMap<String, BTreeMap<u64, f32>> {
    let mut shown: BTreeMap<String, BTreeMap<u64, f32>> = BTreeMap::new();
    for (name, bytes) in place.files(run).iter().filter(|(name, _)| name.starts_with("events.out.tfevents."))
    {
        let messages = messages(bytes);
        assert_eq!(field(&messages[0], 3).unwrap(), b"brain.Event:2", "{name}");
        for message in &messages[1..] {
            let time = f64::from_le_bytes(field(message, 1).unwrap().try_into().unwrap());
            assert!((1.7e9..5e9).contains(&time), "{time}");
            let step = u64::from_le_bytes(field(message, 2).unwrap().try_into().unwrap());
            if let Some(log) = field(message, 7) {
                assert_eq!(field(&log, 1).unwrap()[0], 1, "START");
                shown.values_mut().for_each(|points| points.retain(|before, _| *before < step));
            }
            for (_, value) in fields(&field(message, 5).unwrap_or_default()) {
                let tag = String::from_utf8(field(&value, 1).unwrap()).unwrap();
                let number = f32::from_le_bytes(field(&value, 2).unwrap().try_into().unwrap());
                let before = shown.entry(tag).or_default().insert(step, number);
                assert!(before.is_none(), "step {step} twice");
            }
        }
    }
    shown
}

#[test]
fn tensorboard_reads_each_epoch_once() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
    let place = Place::new();
    place.photos();
    place.weights();
    train(&place, &["--epochs", "2", "--out", "plain"]);
    assert!(board(&place, "plain").is_empty(), "nobody asked");
    train(&place, &["--epochs", "5", "--stop-after", "2", "--out", "run", "--tensorboard"]);
    let early = place.files("run");
    let resume = || place.ok(&[&["train", "--resume", "run"], &CPU[..]].concat());
    resume();
    // A run that died behind its last checkpoint goes through epochs again.
    for file in ["last.safetensors", "model.safetensors", "phase1.safetensors"] {
        fs::write(place.path("run").join(file), &early[file]).unwrap();
    }
    resume();
    let shown = board(&place, "run");
    let (head, rows) = table(&fs::read_to_string(place.path("run/metrics.csv")).unwrap());
    assert_eq!(rows.len(), 5);
    let names = [
        ("loss/train", "train_loss"),
        ("loss/val", "val_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/val", "val_accuracy"),
        ("learning_rate", "lr"),
    ];
    assert!(shown.keys().eq(BTreeMap::from(names).keys()), "{:?}", shown.keys());
    for (tag, column) in names {
        let column = head.iter().position(|name| name == column).unwrap();
        assert_eq!(shown[tag].len(), 5, "{tag}");
        for row in &rows {
            let (written, told): (f32, f32) =
                (row[column].parse().unwrap(), shown[tag][&row[0].parse().unwrap()]);
            assert!((written - told).abs() <= 1e-6, "{tag}: {written} {told}");
        }
    }
    place
        .run(&[&FEATURES[..], &["--tensorboard", "--dry-run"]].concat())
        .failed(2, &["--tensorboard", "--dry-run"]);
}

/// Names that would set a window's title, clear the screen, change colours, look like other lines, or turn the
/// direction of writing.
#[cfg(unix)]
const ODD: [&str; 6] = [
    "\x1b]0;owned\x07\x1b[31mred",
    "\x1b[2J\x1b[1;1H",
    "two\nlines 99%",
    "bell\x07 back\x08\x7f\r",
    "c1 \u{9b}31m\u{85}",
    "turned \u{202e}gnp.\u{2066}\u{2028}",
];

/// What of it would steer a terminal; line ends are not counted.
#[cfg(unix)]
fn steering(text: &str) -> Option<char> {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    text.chars().find(|&c| c != '\n' && (c.is_control() || turns(c)))
}

/// Nothing that a command prints for people steers their terminal, and no name has two lines.
#[cfg(unix)]
#[track_caller]
fn harmless(said: &Outcome, what: &[&str]) {
    for text in [&said.stdout, &said.stderr] {
        let text: String = text
            .lines()
            .filter(|line| !line.contains("XDG_RUNTIME_DIR"))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(steering(&text), None, "{what:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("lines 99%")), "{what:?}: {text}");
    }
}

/// A network that knows classes of odd names, and an odd run folder; images in odd files.
#[cfg(unix)]
fn odd_place() -> (Place, String) {
    let place = Place::new();
    place.weights();
    let classes: Vec<(&str, [u8; 3])> =
        ODD.iter().enumerate().map(|(i, name)| (*name, [40 * i as u8, 90, 220 - 40 * i as u8])).collect();
    place.images("photos", &classes, 4);
    for (i, name) in ODD.iter().enumerate() {
        let odd = place.path("photos").join(name).join(format!("{name}{i}.png"));
        fs::rename(place.path("photos").join(name).join("00.png"), odd).unwrap();
        fs::write(place.path("photos").join(name).join(format!("{name}.jpg")), "no image").unwrap();
        fs::write(place.path("photos").join(name).join(format!("{name}.txt")), "no image").unwrap();
    }
    let run = format!("run {}", ODD.concat());
    let said = train(&place, &["--epochs", "1", "--out", &run]);
    harmless(&said, &["train"]);
    for name in ["\\x1b]0;owned\\x07", "two\\nlines", "\\x7f\\r", "\\u{9b}31m", "\\u{202e}"] {
        assert!(said.stderr.contains(name), "{name}: {}", said.stderr);
        assert!(said.stdout.contains(name), "{name}: {}", said.stdout);
    }
    (place, run)
}

#[cfg(unix)]
#[test]
fn names_do_not_steer_the_terminal() {
    let (place, run) = odd_place();
    let model = format!("{run}/model.safetensors");
    let page = format!("{run}/page.svg");
    let gone = format!("gone {}", ODD.concat());
    let odd_class = ODD[0];
    let fit = ["--model", "resnet20", "--weights", "resnet20.safetensors"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["predict", &run, "photos"],
        vec!["predict", &run, "photos", "--flips", "--top", "2", "-v"],
        vec!["eval", &run, "photos", "-v"],
        vec!["explain", &run, "photos", "-o", "why"],
        vec!["explain", &run, "photos", "-o", &gone, "--class", odd_class],
        vec!["data", "photos", "--verify", "--duplicates", "-v"],
        [&["fewshot", "photos", "--shots", "1", "--trials", "1"][..], &fit].concat(),
        vec!["calibrate", &run],
        vec!["report", &run],
        vec!["inspect", &run],
        vec!["export", &run, &gone],
        [&["lr-find", "photos", "--steps", "12", "--strategy", "features", "--svg", &page][..], &fit]
            .concat(),
        [&["train", "photos", "--dry-run", "--out", &gone][..], &fit].concat(),
        vec!["train", "--resume", &run],
        vec!["convert", &model, "out/\x1b[2J.safetensors"],
        // Errors.
        vec!["predict", &gone, "photos"],
        vec!["predict", &run, "missing\x1b[2J.png", "missing\nlines 99%.png"],
        vec!["explain", &run, "photos", "--class", &gone],
        vec!["train", &gone, "--model", "resnet20", "--weights", "resnet20.safetensors"],
        vec!["train", "photos", "--model", &gone],
        vec!["train", "photos", "--model", "resnet20", "--weights", &gone],
        vec![
            "train",
            "photos",
            "--freeze",
            &gone,
            "--model",
            "resnet20",
            "--weights",
            "resnet20.safetensors",
        ],
        vec!["train", "--resume", &gone],
        vec!["inspect", &gone],
        vec!["inspect", "resnet20", "--device", &gone],
        vec!["convert", &gone, "out.safetensors"],
        vec!["weights", "path", &gone],
        vec!["models", &gone],
        // clap's own words.
        vec!["--\x1b[2J"],
        vec!["predict", "--\x1b]0;owned\x07"],
        vec!["predict", "--top=\x1b[2J", "x"],
        vec!["predict", "--top", "two\nlines 99%", "x"],
        vec!["eval", "--color", "\x1b[31m", "x", "y"],
    ];
    for command in commands {
        let on_the_cpu = if command.contains(&"--device") { &[][..] } else { &CPU };
        harmless(&place.run(&[&command[..], on_the_cpu].concat()), &command);
    }
    // Our own colours stay; theirs do not.
    let coloured = place.ok(&[&["predict", &run, "photos", "--color", "always"][..], &CPU].concat());
    assert!(
        coloured.stdout.contains("\x1b[1mphotos/") && coloured.stderr.contains("\x1b[33mwarning:\x1b[0m")
    );
    let text = [&*coloured.stdout, &*coloured.stderr].concat();
    let own =
        ["\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[0m"].iter().fold(text, |text, code| text.replace(code, ""));
    assert_eq!(steering(&own), None, "{own:?}");
}

/// Programs get names as they are.
#[cfg(unix)]
#[test]
fn programs_get_names_as_they_are() {
    let (place, run) = odd_place();
    let json = place.ok(&[&["predict", &run, "photos", "--json"][..], &CPU].concat());
    let paths: Vec<String> =
        json.named("prediction").iter().map(|p| p["path"].as_str().unwrap().to_string()).collect();
    let unreadable = json.named("unreadable");
    let (head, rows) =
        table(&place.ok(&[&["predict", &run, "photos", "--csv", "--top", "6"][..], &CPU].concat()).stdout);
    assert_eq!((head[0].as_str(), rows.len()), ("path", paths.len()));
    for (i, name) in ODD.iter().enumerate() {
        let path = format!("photos/{name}/{name}{i}.png");
        assert!(paths.contains(&path) && rows.iter().any(|row| row[0] == path), "{path:?}");
        assert!(rows.iter().any(|row| row[1..].contains(&name.to_string())), "{name:?}");
        assert!(
            unreadable.iter().any(|u| u["path"] == format!("photos/{name}/{name}.jpg").as_str()),
            "{name:?}"
        );
    }
    let lines: Vec<&str> = json.stdout.lines().collect();
    assert!(lines.iter().all(|line| !line.contains(['\x1b', '\x07', '\r'])), "JSON escapes them itself");
}

/// Names that stand in files: columns and labels of tables, tensors, classes of weights, keys of checkpoints.
#[cfg(unix)]
#[test]
fn names_in_files_do_not_steer_the_terminal() {
    let place = taught();
    let weights = ["--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];
    for name in ODD {
        let mut rows = csv::Writer::from_path(place.path("photos/labels.csv")).unwrap();
        rows.write_record(["image", name]).unwrap();
        for (i, class) in [name, "b", name, "b", name, "b"].iter().enumerate() {
            rows.write_record([&format!("red/{i:02}.png"), *class]).unwrap();
        }
        rows.write_record([name, "b"]).unwrap();
        drop(rows);
        harmless(&place.run(&["data", "photos/labels.csv", "-v"]), &["data", name]);
        let columns = ["data", "photos/labels.csv", "--label-column", "none", "-v"];
        harmless(&place.run(&columns), &columns);
        let strategy = ["--strategy", "features", "--epochs", "1", "--out", "r"];
        harmless(
            &place.run(&[&["train", "photos/labels.csv"][..], &weights, &strategy].concat()),
            &["train", name],
        );
        let _ = fs::remove_dir_all(place.path("r"));

        // A tensor that has no place, one of no floats, keys of a checkpoint.
        let net = Network::open(place.path("resnet20.safetensors")).unwrap();
        let tensors = net.tensors().map(|(s, x)| (s.path.clone(), Tensor::floats(&s.shape, x)));
        let odd = (format!("odd.{name}"), Tensor::of("BoolStorage", 1, &[2], vec![0; 2]));
        let tensors: Vec<(String, Tensor)> = tensors.chain([odd.clone()]).collect();
        fs::write(place.path("odd.safetensors"), safetensors(&tensors, None)).unwrap();
        let entries = tensors.iter().map(|(name, tensor)| (text(name), Py::Tensor(tensor.clone())));
        let beside = [(text("state_dict"), Py::Dict(entries.collect())), (text(name), Py::Tensor(odd.1))];
        fs::write(place.path("odd.pth"), zipped("odd", &Py::Dict(beside.to_vec()))).unwrap();
        let nothing = Py::Dict(vec![(text(name), Py::Int(1))]);
        fs::write(place.path("none.pth"), zipped("none", &nothing)).unwrap();
        for file in ["odd.safetensors", "odd.pth", "none.pth"] {
            let plain = ["convert", file, "out.safetensors"];
            harmless(&place.run(&plain), &plain);
            harmless(&place.run(&[&plain[..], &["--model", "resnet20"]].concat()), &plain);
        }
        // timm's config.json and metadata of safetensors.
        fs::create_dir_all(place.path("w")).unwrap();
        fs::copy(place.path("odd.safetensors"), place.path("w/model.safetensors")).unwrap();
        let about = serde_json::json!({ "architecture": name, "pretrained_cfg": { "interpolation": name } });
        fs::write(place.path("w/config.json"), about.to_string()).unwrap();
        harmless(&place.run(&["inspect", "resnet20", "--weights", "w/model.safetensors"]), &["config", name]);
        for key in ["padding", "mean", "filter", "bn_eps", "defrost"] {
            let metadata = serde_json::json!({ key: name });
            fs::write(place.path("odd.safetensors"), safetensors(&tensors, Some(metadata))).unwrap();
            harmless(&place.run(&["inspect", "resnet20", "--weights", "odd.safetensors"]), &[key, name]);
        }
    }
}

#[test]
fn quiet_is_quiet_and_off_a_terminal_there_are_no_bars() {
    let place = Place::new();
    place.photos();
    place.weights();
    let quiet = train(&place, &["--epochs", "1", "--out", "a", "-q"]);
    let told: Vec<&str> = quiet.stderr.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
    assert!(told.is_empty(), "{told:?}");
    let usual = train(&place, &["--epochs", "1", "--out", "b"]);
    assert!(usual.stderr.contains("epoch 1/1") && !usual.stderr.contains(['\r', '\x1b']), "{}", usual.stderr);
    assert!(!usual.stderr.contains("images/s"), "{}", usual.stderr);
    let more = train(&place, &["--epochs", "1", "--out", "c", "-v"]);
    assert!(more.stderr.contains("device: CPU"), "{}", more.stderr);
    place.run(&["devices", "-q", "-v"]).failed(2, &["--quiet", "--verbose"]);
    // Of all lines, each has its version: `events` looks.
    train(&place, &["--epochs", "1", "--out", "d", "--json"]).done();
    place.ok(&[&["eval", "a", "photos", "--json"], &CPU[..]].concat()).done();
}
