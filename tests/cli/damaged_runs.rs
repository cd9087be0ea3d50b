//! Run folders that do not fit or are damaged, and disks that are full: what stood before is as it was.

use crate::command;
use crate::ready;

#[cfg(target_os = "linux")]
use std::collections::BTreeMap;
use std::fs;
#[cfg(target_os = "linux")]
use std::process::Command;

#[cfg(target_os = "linux")]
use command::{FEATURES, Outcome, Place, text};
#[cfg(target_os = "linux")]
use defrost::models::Network;
#[cfg(target_os = "linux")]
use ready::nothing_left;
use ready::{ready, train};

#[test]
fn a_checkpoint_of_another_class_list() {
    let place = ready();
    let outcome = train(&place, "photos", "resnet20.safetensors", &["--out", "run", "--stop-after", "1"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let before = place.files("run");
    let fruit = [("apple", [200, 30, 30]), ("bleu", [30, 30, 200])];
    place.images("fruit", &fruit, 3);
    let outcome = place.run(&["eval", "run", "fruit", "--device", "cpu"]);
    outcome.failed(1, &["fruit", "'apple'", "2 known classes"]);

    // The data changes under a run.
    fs::rename(place.path("photos/red"), place.path("photos/rot")).unwrap();
    let outcome = place.run(&["train", "--resume", "run", "--device", "cpu"]);
    outcome.failed(1, &["photos"]);
    fs::rename(place.path("photos/rot"), place.path("photos/red")).unwrap();
    fs::remove_dir_all(place.path("photos/blue")).unwrap();
    place.run(&["train", "--resume", "run", "--device", "cpu"]).failed(1, &["photos"]);
    assert!(before == place.files("run"), "the run is as it was");
}

#[test]
fn damaged_run_folders() {
    let place = ready();
    let outcome = train(&place, "photos", "resnet20.safetensors", &["--out", "run", "--stop-after", "1"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let files = place.files("run");
    let resume = || place.run(&["train", "--resume", "run", "--device", "cpu"]);
    for (file, bytes) in &files {
        let path = place.path("run").join(file);
        // What a run only writes, and what it writes anew.
        if file.starts_with("metrics.") || file == "model.safetensors" {
            continue;
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        resume().failed(1, &[file]);
        fs::write(&path, bytes).unwrap();
    }
    // A checkpoint of another training.
    fs::copy(place.path("resnet20.safetensors"), place.path("run/last.safetensors")).unwrap();
    resume().failed(1, &["last.safetensors"]);
    fs::remove_file(place.path("run/last.safetensors")).unwrap();
    // What it has learned is not thrown away.
    resume().failed(2, &["run", "last.safetensors", "checkpoint"]);
    fs::remove_file(place.path("run/model.safetensors")).unwrap();
    place.run(&["eval", "run", "photos"]).failed(1, &["run", "model.safetensors"]);
    fs::remove_file(place.path("run/config.json")).unwrap();
    resume().failed(2, &["run", "config.json"]);
}

/// Runs `defrost` where no file can grow beyond `kib`, as on a full disk.
#[cfg(target_os = "linux")]
fn on_a_full_disk(place: &Place, kib: usize, args: &[&str]) -> Outcome {
    // The shell counts in blocks of 512 bytes; without the trap the signal would end the process.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_defrost")]).args(args);
    place.prepare(&mut command);
    Outcome::of(command.output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_while_saving() {
    let place = ready();
    let args = |out| {
        let base = FEATURES;
        [&base[..], &["--device", "cpu", "--epochs", "2", "--out", out]].concat()
    };
    // model.safetensors needs about 1100 KiB, the cached features 8.
    let outcome = on_a_full_disk(&place, 500, &args("runs/full"));
    outcome.failed(1, &["phase1.safetensors", "cannot write"]);
    nothing_left(&place);
    // Not even the description.
    let outcome = on_a_full_disk(&place, 0, &args("runs/full"));
    outcome.failed(1, &["config.json", "cannot write"]);
    nothing_left(&place);

    // A run that stood is as it was, and goes on when there is room again.
    place.ok(&[&args("run")[..], &["--stop-after", "1"]].concat());
    place.ok(&args("whole"));
    let before = place.files("run");
    let outcome = on_a_full_disk(&place, 500, &["train", "--resume", "run", "--device", "cpu"]);
    outcome.failed(1, &["model.safetensors", "cannot write"]);
    let mut after = place.files("run");
    for metrics in ["metrics.csv", "metrics.jsonl"] {
        after.insert(metrics.into(), before[metrics].clone());
    }
    assert!(before == after, "checkpoints are as they were, and nothing else is there");
    place.ok(&["train", "--resume", "run", "--device", "cpu"]);
    let (run, whole) = (place.files("run"), place.files("whole"));
    assert!(run["model.safetensors"] == whole["model.safetensors"]);
    let lines =
        |files: &BTreeMap<String, Vec<u8>>| String::from_utf8_lossy(&files["metrics.csv"]).lines().count();
    assert_eq!(lines(&run), lines(&whole), "each epoch once");

    // A cache that cannot be written costs time, not the run.
    fs::remove_dir_all(place.path("cache")).unwrap();
    fs::write(place.path("cache"), "a file where the folder should be").unwrap();
    let outcome = place.ok(&args("uncached"));
    assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains("cache"), "{}", outcome.stderr);
    // A folder that cannot be made.
    place.run(&args("cache/run")).failed(1, &["cache/run", "create folder"]);
    // The features of an earlier run, damaged.
    fs::remove_file(place.path("cache")).unwrap();
    place.ok(&args("again"));
    let kept = place.files("cache").into_keys().next().unwrap();
    let kept = place.path("cache").join(kept);
    let bytes = fs::read(&kept).unwrap();
    // Its last image was not written to the end.
    fs::write(&kept, &bytes[..bytes.len() - 7]).unwrap();
    let outcome = place.ok(&args("repaired"));
    assert!(outcome.stderr.contains("features of 23 images were kept"), "{}", outcome.stderr);
    assert!(fs::read(&kept).unwrap() == bytes, "{}", text(&kept));
    // Something else altogether.
    fs::write(&kept, "x".repeat(1000)).unwrap();
    let outcome = place.ok(&args("renewed"));
    assert!(outcome.stderr.contains("damaged"), "{}", outcome.stderr);
    assert!(fs::read(&kept).unwrap() == bytes, "{}", text(&kept));
    let saved = Network::open(place.path("repaired/model.safetensors")).unwrap();
    assert!(saved.classes() == ["blue", "red"]);
}
