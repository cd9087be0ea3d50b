//! The folder of a run: who may write into it, what survives a kill, a full disk, data that changes.
#![allow(clippy::unwrap_used)]

#[path = "../command/mod.rs"]
mod command;
mod crash;
mod data;

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use command::{Outcome, Place};

/// A training of a small network on the CPU, without its run folder.
const RUN: [&str; 9] = [
    "train",
    "photos",
    "--model",
    "resnet20",
    "--weights",
    "resnet20.safetensors",
    "--device",
    "cpu",
    "--no-report",
];

fn ready() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    place
}

/// The arguments of a training, with more.
fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], more].concat()
}

/// A command that runs beside the test; killed where the test fails.
struct Running(Option<Child>);

impl Running {
    fn start(place: &Place, args: &[&str]) -> Self {
        let mut command = place.command(args);
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Waits until `ready` holds, which must be before the command ends.
    fn until(&mut self, ready: impl Fn() -> bool) {
        let began = Instant::now();
        while !ready() {
            let ended = self.0.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < Duration::from_secs(60), "it ended too early");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(mut self) {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn end(mut self) -> Outcome {
        Outcome::of(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
        }
    }
}

/// Epochs in a run's table.
fn epochs(place: &Place, run: &str) -> usize {
    let table = fs::read_to_string(place.path(run).join("metrics.csv"));
    table.map_or(0, |text| text.lines().count().saturating_sub(1))
}

#[test]
fn a_second_process_is_refused_while_the_first_trains() {
    let place = ready();
    let mut first =
        Running::start(&place, &with(&["--out", "run", "--strategy", "finetune", "--epochs", "100000"]));
    first.until(|| epochs(&place, "run") > 1);
    let id = first.0.as_ref().unwrap().id().to_string();
    let others: [&[&str]; 4] = [
        &with(&["--out", "run", "--epochs", "1"]),
        &with(&[
            "--out",
            "run",
            "--epochs",
            "1",
            "--strategy",
            "finetune",
            "--lr",
            "1e9",
            "--optimizer",
            "sgd",
        ]),
        &["train", "--resume", "run", "--device", "cpu"],
        &["calibrate", "run", "photos", "--device", "cpu"],
    ];
    for other in others {
        place.run(other).failed(2, &["run: another process", &id, "trains in this folder"]);
    }
    let before = epochs(&place, "run");
    first.until(|| epochs(&place, "run") > before);
    // A dead process holds nothing.
    first.kill();
    let mut next = Running::start(&place, &["train", "--resume", "run", "--device", "cpu", "--no-report"]);
    next.until(|| epochs(&place, "run") > before);
    next.kill();
}

#[test]
fn two_runs_at_once_get_two_folders() {
    let place = ready();
    let args = with(&["--strategy", "features", "--epochs", "30"]);
    let all: Vec<Running> = (0..3).map(|_| Running::start(&place, &args)).collect();
    for running in all {
        assert_eq!(running.end().code, 0);
    }
    for run in ["runs/photos-resnet20", "runs/photos-resnet20-2", "runs/photos-resnet20-3"] {
        assert_eq!(epochs(&place, run), 30, "{run}");
        assert!(place.path(run).join("model.safetensors").exists(), "{run}");
    }
}

/// Each file that a run writes: where it is another's, it is refused by name, and stays as it is.
#[test]
fn files_of_another_origin_are_not_touched() {
    let place = ready();
    place.ok(&with(&["--out", "whole", "--epochs", "1", "--tensorboard"]));
    let report = place.ok(&["report", "whole", "--device", "cpu"]);
    assert!(place.path("whole/report.html").exists(), "{}", report.stderr);
    let mut names: Vec<String> = place.files("whole").into_keys().collect();
    names.extend(["phase1.safetensors", "phase2.safetensors", "trials.json"].map(String::from));
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        fs::create_dir_all(place.path("own")).unwrap();
        fs::write(place.path("own/notes.txt"), "mine").unwrap();
        fs::write(place.path("own").join(&name), "mine, too").unwrap();
        let before = place.files("own");
        // One that would end well, and one whose loss is no number.
        for more in [&["--epochs", "1"][..], &["--strategy", "finetune", "--lr", "1e9", "--optimizer", "sgd"]]
        {
            place
                .run(&with(&[&["--out", "own"], more].concat()))
                .failed(2, &[&format!("own/{name}"), "--out"]);
        }
        assert!(before == place.files("own"), "{name}");
        fs::remove_dir_all(place.path("own")).unwrap();
    }
    // What is not in the way stays.
    fs::create_dir(place.path("own")).unwrap();
    fs::write(place.path("own/notes.txt"), "mine").unwrap();
    let fails = with(&["--out", "own", "--strategy", "finetune", "--lr", "1e9", "--optimizer", "sgd"]);
    place.run(&fails).failed(1, &["--lr"]);
    assert_eq!(place.files("own").into_keys().collect::<Vec<_>>(), ["notes.txt"]);
    place.ok(&with(&["--out", "own", "--epochs", "1"]));
    assert_eq!(fs::read_to_string(place.path("own/notes.txt")).unwrap(), "mine");
    // A demonstration needs a folder of its own, too.
    fs::create_dir_all(place.path("shown")).unwrap();
    fs::write(place.path("shown/signs.safetensors"), "mine").unwrap();
    place.run(&["demo", "--out", "shown", "--device", "cpu"]).failed(2, &["shown/signs.safetensors"]);
    assert_eq!(fs::read_to_string(place.path("shown/signs.safetensors")).unwrap(), "mine");
}

#[test]
fn commands_that_are_offered_can_be_pasted() {
    let place = ready();
    let run = "run ü 1 it's";
    let stopped = place.ok(&with(&["--out", run, "--epochs", "3", "--stop-after", "1"]));
    let offered = r"defrost train --resume 'run ü 1 it'\''s'";
    assert!(stopped.stdout.contains(offered), "{}", stopped.stdout);
    place.run(&with(&["--out", run])).failed(2, &[offered]);
}

/// A process that dies before the first step leaves nothing in the way: the same command begins anew, and so does
/// --resume once there is a description.
#[test]
fn a_run_that_has_not_begun_begins_anew() {
    let place = ready();
    let args = with(&["--strategy", "features", "--out", "run", "--epochs", "2", "--seed", "4"]);
    place.ok(&args);
    let whole = place.files("run");
    let without = |names: &[&str]| {
        let mut files = whole.clone();
        files.retain(|name, _| !names.contains(&name.as_str()));
        fs::remove_dir_all(place.path("run")).unwrap();
        fs::create_dir(place.path("run")).unwrap();
        for (name, bytes) in files {
            fs::write(place.path("run").join(name), bytes).unwrap();
        }
        fs::write(place.path("run/.defrost.lock"), "1").unwrap();
        fs::write(place.path("run/.defrost-Ab12cD"), "half of a checkpoint").unwrap();
    };
    let begun = ["last.safetensors", "model.safetensors"];
    for resumes in [false, true] {
        without(&begun);
        match resumes {
            true => place.ok(&["train", "--resume", "run", "--device", "cpu", "--no-report"]),
            false => place.ok(&args),
        };
        let again = place.files("run");
        assert_eq!(again.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
        for name in begun {
            assert!(again[name] == whole[name], "{name}");
        }
        assert_eq!(epochs(&place, "run"), 2);
    }
    // What a run has learned is not thrown away.
    without(&["last.safetensors"]);
    place.run(&args).failed(2, &["there is a run in it"]);
    place.run(&["train", "--resume", "run", "--device", "cpu"]).failed(2, &["last.safetensors", "missing"]);
    assert!(place.files("run")["model.safetensors"] == whole["model.safetensors"]);
}
