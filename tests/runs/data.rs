//! Data that changes while a network trains on it, or between a stop and the resume.

use std::fs;
use std::path::{Path, PathBuf};

use defrost::data::{self, Dataset, OpenOptions};
use defrost::models::{self, HeadPolicy, Network};
use defrost::plan::Device;
use defrost::train::{Event, Observer, Silent, extract};
use serde_json::Value;

use super::{Place, Running, command, epochs, ready, with};

/// `sets/`: the photos divided into train/ and val/.
fn divided(place: &Place) {
    for (part, each) in [("train", 20), ("val", 12)] {
        place.images(&format!("sets/{part}"), &command::COLOURS, each);
    }
}

fn resume(place: &Place) -> command::Outcome {
    place.run(&["train", "--resume", "run", "--device", "cpu", "--no-report", "--json"])
}

/// With a split of its own and with a drawn one, in a strategy of one phase and in one of two.
#[test]
fn a_resumed_run_says_which_images_changed() {
    for (data, strategy) in [("sets", "features"), ("sets", "finetune"), ("photos", "two-phase")] {
        let place = ready();
        divided(&place);
        let mut args = with(&["--strategy", strategy, "--epochs", "6", "--out", "run", "--stop-after", "2"]);
        args[1] = data;
        place.ok(&args);
        args.truncate(args.len() - 2);
        *args.last_mut().unwrap() = "whole";
        place.ok(&args);
        let files = place.files("run");
        let inside = if data == "sets" { "train/" } else { "" };
        let image = |name: &str| place.path(data).join(inside).join(name);
        let [first, second] = ["blue/00.png", "red/03.png"].map(image);
        let [own, other] = [&first, &second].map(|path| fs::read(path).unwrap());

        fs::remove_file(&first).unwrap();
        resume(&place).failed(1, &[data, "gone", &format!("{inside}blue/00.png")]);
        fs::write(&first, &other).unwrap();
        resume(&place)
            .failed(1, &["1 holds another image", &format!("{inside}blue/00.png"), "begin a new run"]);
        fs::write(&first, "no image").unwrap();
        resume(&place).failed(1, &["blue/00.png"]);
        fs::write(&first, &own).unwrap();
        assert!(files == place.files("run"), "{data} {strategy}: the run is as it was");

        // What is new is named and not used: the run ends as if it had not stopped.
        fs::copy(&second, image("red/new.png")).unwrap();
        let resumed = resume(&place);
        assert_eq!(resumed.code, 0, "{}", resumed.stderr);
        assert!(resumed.stderr.contains("red/new.png"), "{}", resumed.stderr);
        for name in ["model.safetensors", "last.safetensors"] {
            let [run, whole] = ["run", "whole"].map(|run| fs::read(place.path(run).join(name)).unwrap());
            assert!(run == whole, "{data} {strategy}: {name}");
        }
    }
}

#[test]
fn a_resumed_run_says_which_labels_changed() {
    for head in ["image,label", "image,label,split"] {
        let place = ready();
        let line = |class: &str, i: usize| {
            let split = if i.is_multiple_of(4) { ",val" } else { ",train" };
            format!("{class}/{i:02}.png,{class}{}\n", if head.contains("split") { split } else { "" })
        };
        let rows: Vec<String> = (0..12).flat_map(|i| ["blue", "red"].map(|class| line(class, i))).collect();
        let table = |rows: &[String]| {
            fs::write(place.path("photos/labels.csv"), format!("{head}\n{}", rows.concat())).unwrap();
        };
        table(&rows);
        let mut args = with(&["--strategy", "finetune", "--epochs", "4", "--out", "whole"]);
        args[1] = "photos/labels.csv";
        place.ok(&args);
        *args.last_mut().unwrap() = "run";
        place.ok(&[&args[..], &["--stop-after", "1"]].concat());
        let mut changed = rows.clone();
        changed[2] = changed[2].replace(",blue", ",red");
        table(&changed);
        resume(&place).failed(1, &["1 has another label", "blue/01.png"]);
        // In another order they are the same.
        let turned: Vec<String> = rows.iter().rev().cloned().collect();
        table(&turned);
        assert_eq!(resume(&place).code, 0);
        let [run, whole] = ["run", "whole"].map(|run| place.files(run)["model.safetensors"].clone());
        assert!(run == whole, "{head}");
    }
}

/// Starts a long training on `sets/` and breaks images once it has begun.
fn breaking(place: &Place, broken: &[&str], more: &[&str]) -> command::Outcome {
    let long = ["--strategy", "finetune", "--epochs", "20", "--out", "run", "--json"];
    let mut args = with(&[&long, more].concat());
    args[1] = "sets";
    let mut running = Running::start(place, &args);
    running.until(|| epochs(place, "run") > 1);
    for name in broken {
        fs::write(place.path("sets").join(name), "the disk has failed").unwrap();
    }
    running.end()
}

#[test]
fn images_that_are_lost_in_training_are_counted_and_told() {
    let place = ready();
    divided(&place);
    let lost = ["train/blue/01.png", "train/red/02.png", "val/red/03.png"];
    let outcome = breaking(&place, &lost, &[]);
    let done = outcome.done();
    assert_eq!((done["skipped"].as_u64(), done["val_images"].as_u64()), (Some(3), Some(23)), "{done}");
    let warnings: Vec<String> = outcome.named("warning").iter().map(|w| w["message"].to_string()).collect();
    assert!(warnings.iter().any(|w| w.contains("2 of 40 training images")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("1 of 24 validation images")), "{warnings:?}");
    let told: Vec<Value> =
        outcome.named("skipped").iter().flat_map(|e| e["files"].as_array().unwrap().clone()).collect();
    for name in lost {
        let found = told.iter().filter(|file| file["path"].as_str().unwrap().ends_with(name)).count();
        assert_eq!(found, 1, "{name} is told of once: {told:?}");
    }
}

#[test]
fn too_many_lost_images_end_the_training() {
    let all = |class: &str, part: &str, n: usize| -> Vec<String> {
        (0..n).map(|i| format!("{part}/{class}/{i:02}.png")).collect()
    };
    let cases = [
        (all("blue", "train", 20), &[][..], "training images"),
        (all("red", "val", 12), &[], "validation images"),
        ([all("blue", "train", 3), all("red", "train", 3)].concat(), &[], "too many"),
        (vec!["train/blue/00.png".into()], &["--strict"], "--strict"),
    ];
    for (broken, more, told) in cases {
        let place = ready();
        divided(&place);
        let names: Vec<&str> = broken.iter().map(String::as_str).collect();
        breaking(&place, &names, more).failed(1, &[told, "can no longer be read", "--resume run"]);
        // And they may come back.
        divided(&place);
        let again =
            Running::start(&place, &["train", "--resume", "run", "--device", "cpu", "--no-report"]).end();
        assert_eq!(again.code, 0, "{}", again.stderr);
    }
}

#[test]
fn strict_takes_no_unreadable_image_from_the_beginning() {
    let place = ready();
    fs::write(place.path("photos/red/05.png"), "no image").unwrap();
    for strategy in ["features", "finetune"] {
        let args = with(&["--strategy", strategy, "--epochs", "1", "--strict"]);
        place.run(&args).failed(1, &["photos/red/05.png", "--strict"]);
        assert!(!place.path("runs/photos-resnet20").exists());
    }
}

/// A checkpoint whose numbers are finite and too large for any answer.
fn absurd(place: &Place, run: &str) {
    let path = place.path(run).join("model.safetensors");
    let mut net = Network::open(&path).unwrap();
    let (name, count) = ("conv1.weight", net.tensor("conv1.weight").unwrap().len());
    net.set_tensor(name, vec![3e38; count]).unwrap();
    net.save(place.path("absurd.safetensors")).unwrap();
}

/// Outputs that are no numbers are no answer, on the CPU and on an adapter: each command names the image and the tensor.
#[test]
fn no_number_is_no_answer() {
    let place = ready();
    place.ok(&with(&["--out", "run", "--epochs", "1"]));
    absurd(&place, "run");
    let image = "photos/red/00.png";
    for device in [["--device", "cpu"], command::ADAPTER] {
        let on = |args: &[&str]| place.run(&[args, &device].concat());
        for more in [&[][..], &["--json"], &["--csv"], &["--flips"]] {
            let outcome = on(&[&["predict", "absurd.safetensors", image], more].concat());
            outcome.failed(1, &[image, "NaN or infinite", "'conv1.weight'", "3.0e38"]);
            assert!(
                !outcome.stdout.contains("\"probability\"") && !outcome.stdout.contains('%'),
                "{}",
                outcome.stdout
            );
        }
        on(&["eval", "absurd.safetensors", "photos"])
            .failed(1, &["photos/", "NaN or infinite", "'conv1.weight'"]);
        on(&["calibrate", "absurd.safetensors", "photos"]).failed(1, &["photos/", "NaN or infinite"]);
        on(&["explain", "absurd.safetensors", image, "-o", "why.png"]).failed(1, &[image, "NaN or infinite"]);
        assert!(!place.path("why.png").exists());
        let train = ["train", "photos", "--weights", "absurd.safetensors", "--no-report"];
        on(&[&train[..], &["--strategy", "features"]].concat())
            .failed(1, &["photos/", "features", "'conv1.weight'"]);
        on(&[&train[..], &["--strategy", "finetune", "--lr", "0"]].concat()).failed(1, &["NaN"]);
        assert!(!place.path("runs").join("photos-resnet20").exists(), "nothing of a run is left");
    }
}

#[test]
fn too_little_data_is_told() {
    let place = ready();
    place.ok(&with(&["--out", "run", "--epochs", "2"]));
    let told = |args: &[&str], what: &str| {
        let outcome = place.ok(&[args, &["--device", "cpu"]].concat());
        assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains(what), "{}", outcome.stderr);
    };
    told(&["calibrate", "run"], "fitted to 4 images only");
    told(&["adapt", "run", "photos/red", "--method", "both"], "12 images only");
    told(
        &["adapt", "run", "photos/red", "--method", "coral", "--out", "other.safetensors"],
        "aligned with 12 images",
    );
}

/// Exchanges two images as soon as features are computed, and keeps warnings.
#[derive(Default)]
struct Exchanging {
    files: Option<[PathBuf; 2]>,
    warnings: Vec<String>,
}

fn exchange(files: &[PathBuf; 2]) {
    let [a, b] = files.each_ref().map(|file| fs::read(file).unwrap());
    fs::write(&files[0], b).unwrap();
    fs::write(&files[1], a).unwrap();
}

impl Observer for Exchanging {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Progress { what: "features", done: 0, .. } => self.files.iter().for_each(exchange),
            Event::Warning(text) => self.warnings.push(text.clone()),
            _ => {}
        }
    }
}

/// Features belong to the bytes that were decoded for them, not to those that lay there before; and a damaged row is
/// computed again.
#[test]
fn cached_features_are_those_of_the_image() {
    let place = ready();
    let mut net = models::load_with("resnet20", place.weights(), HeadPolicy::Replace).unwrap().0;
    net.replace_head(2, 0).unwrap();
    let all = data::open(&place.path("photos"), &OpenOptions::default()).unwrap().train;
    let few = Dataset { samples: vec![all.samples[0].clone(), all.samples[19].clone()], ..all.clone() };
    let cache = place.path("features");
    let rows = |set: &Dataset, cache: Option<&Path>, observer: &mut dyn Observer| {
        extract(&net, &Device::Cpu, &[set], cache, observer).unwrap().remove(0).vectors().unwrap().rows
    };
    let fresh = rows(&all, None, &mut Silent);
    // The first time an empty cache, the second time one that holds something.
    for known in [&[][..], &few.samples[..1]] {
        let _ = fs::remove_dir_all(&cache);
        if !known.is_empty() {
            rows(&Dataset { samples: known.to_vec(), ..few.clone() }, Some(&cache), &mut Silent);
        }
        let files = [all.samples[2].name(), all.samples[17].name()];
        let mut observer = Exchanging { files: Some(files.clone()), ..Exchanging::default() };
        let exchanged = rows(&all, Some(&cache), &mut observer);
        assert!(exchanged != fresh, "they were exchanged before they were read");
        exchange(&files);
        assert!(rows(&all, Some(&cache), &mut Silent) == fresh, "each image has its own features again");
    }
    // A byte changed in each of the rows, here and there.
    let file = fs::read_dir(cache.join("features")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&file).unwrap();
    let size = (good.len() - 24) / all.len();
    for at in (24 + 40..good.len()).step_by(size + 7) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x21;
        fs::write(&file, &bytes).unwrap();
        let mut observer = Exchanging::default();
        assert!(rows(&all, Some(&cache), &mut observer) == fresh, "byte {at}");
        assert!(
            observer.warnings.iter().any(|w| w.contains("damaged")),
            "byte {at}: {:?}",
            observer.warnings
        );
    }
}
