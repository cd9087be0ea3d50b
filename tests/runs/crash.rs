//! Trainings that are killed or meet a full disk, at random and at every write: they go on as if nothing had happened.
//! `tools/crash` runs this with large numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use defrost::rng::Stream;

use super::{Outcome, Place, ready, with};

/// A strategy with options that make its run short.
const STRATEGIES: [&[&str]; 7] = [
    &["--strategy", "features"],
    &["--strategy", "features", "--head-solver", "lbfgs"],
    &["--strategy", "finetune", "--augment", "none"],
    &["--strategy", "two-phase", "--ema", "0.9"],
    &["--strategy", "gradual"],
    &["--strategy", "scratch", "--optimizer", "sgd", "--lr", "0.01", "--accumulate", "2"],
    &["--strategy", "auto"],
];

/// How many of a kind of trial, from the environment.
fn wanted(kind: &str, usual: usize) -> usize {
    std::env::var(format!("DEFROST_CRASH_{kind}")).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// The files of an undisturbed run that must come out the same, and its epochs.
struct Whole {
    files: BTreeMap<&'static str, Vec<u8>>,
    epochs: Vec<String>,
    names: Vec<String>,
    seconds: f64,
}

fn args(strategy: usize, out: &str) -> Vec<&str> {
    // A checkpoint behind every step.
    let mut args =
        with(&[STRATEGIES[strategy], &["--seed", "5", "--batch", "8", "--checkpoint-every", "0"]].concat());
    let epochs = if STRATEGIES[strategy][1] == "features" { "4" } else { "2" };
    if !STRATEGIES[strategy].contains(&"lbfgs") {
        args.extend(["--epochs", epochs]);
    }
    if STRATEGIES[strategy][1] == "scratch" {
        args.retain(|arg| !["--weights", "resnet20.safetensors"].contains(arg));
        args.extend(["--size", "32"]);
    }
    args.extend(["--out", out]);
    args
}

fn look(place: &Place, run: &str, seconds: f64) -> Whole {
    let mut files = place.files(run);
    let table = String::from_utf8(files["metrics.csv"].clone()).unwrap();
    let epochs = table.lines().map(|line| line.rsplit_once(',').unwrap().0.to_string()).collect();
    let names = files.keys().cloned().collect();
    let same = ["model.safetensors", "last.safetensors", "images.csv"];
    Whole { epochs, names, seconds, files: same.map(|name| (name, files.remove(name).unwrap())).into() }
}

/// A place with an undisturbed run of a strategy.
fn undisturbed(strategy: usize) -> (Place, Whole) {
    let place = ready();
    let began = Instant::now();
    place.ok(&args(strategy, "whole"));
    let whole = look(&place, "whole", began.elapsed().as_secs_f64());
    (place, whole)
}

/// Goes on with what a disturbed run left, until it is over; says what is wrong, and removes it.
fn recover(place: &Place, strategy: usize, whole: &Whole) -> Option<String> {
    let resume = || place.run(&["train", "--resume", "run", "--device", "cpu", "--no-report"]);
    let begun = place.path("run/config.json").exists();
    let outcome = if begun { resume() } else { place.run(&args(strategy, "run")) };
    let complaint = if outcome.code == 0 { compare(place, whole) } else { Some(outcome.stderr) };
    let left = place.files("run").into_keys().collect::<Vec<_>>();
    let _ = fs::remove_dir_all(place.path("run"));
    let _ = fs::remove_dir_all(place.path("cache"));
    complaint.map(|text| format!("{}: {text}\nleft: {}", STRATEGIES[strategy].join(" "), left.join(" ")))
}

fn compare(place: &Place, whole: &Whole) -> Option<String> {
    let found = look(place, "run", 0.0);
    let other = whole.files.keys().find(|name| whole.files[*name] != found.files[*name]);
    if let Some(name) = other {
        return Some(format!("{name} is another one"));
    }
    if whole.epochs != found.epochs {
        return Some(format!("metrics.csv has other epochs:\n{}", found.epochs.join("\n")));
    }
    (whole.names != found.names).then(|| format!("other files: {}", found.names.join(" ")))
}

/// What lies in a folder, with sizes: a change is a write.
fn listing(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let entry = |e: fs::DirEntry| (e.file_name(), e.metadata().map_or(0, |meta| meta.len()));
    let mut all: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(entry).collect();
    all.sort();
    all
}

/// Kills the training once `now(seconds, changes of the folder)` holds; whether it ended by itself before.
fn kill_when(place: &Place, strategy: usize, now: impl Fn(f64, usize) -> bool) -> bool {
    let mut command = place.command(&args(strategy, "run"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (began, mut seen, mut changes) = (Instant::now(), Vec::new(), 0);
    loop {
        let there = listing(&place.path("run"));
        if there != seen {
            (seen, changes) = (there, changes + 1);
        }
        if now(began.elapsed().as_secs_f64(), changes) {
            child.kill().unwrap();
            return child.wait().unwrap().success();
        }
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "a run of two epochs takes two minutes");
    }
}

/// Runs `count` trials over all strategies; each says what is wrong.
fn campaign(what: &str, count: usize, mut trial: impl FnMut(&Place, &Whole, usize, usize) -> Option<String>) {
    let mut wrong = Vec::new();
    for (strategy, _) in STRATEGIES.iter().enumerate() {
        let numbers: Vec<usize> = (0..count).filter(|n| n % STRATEGIES.len() == strategy).collect();
        if numbers.is_empty() {
            continue;
        }
        let (place, whole) = undisturbed(strategy);
        wrong.extend(
            numbers
                .into_iter()
                .filter_map(|n| trial(&place, &whole, strategy, n).map(|text| format!("{what} {n}, {text}"))),
        );
    }
    println!("{what}: {count} trials, {} wrong", wrong.len());
    assert!(
        wrong.is_empty(),
        "{} of {count} trials failed, among them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n\n")
    );
}

#[test]
fn killed_at_random() {
    campaign("killed at random", wanted("KILLS", 14), |place, whole, strategy, n| {
        let mut stream = Stream::new(&[n as u64, 1]);
        let at = stream.range(0.0, 1.1 * whole.seconds);
        kill_when(place, strategy, |seconds, _| seconds >= at);
        // Some are killed again while they go on.
        if n.is_multiple_of(3) && place.path("run/config.json").exists() {
            let mut command = place.command(&["train", "--resume", "run", "--device", "cpu", "--no-report"]);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(stream.range(0.0, whole.seconds / 2.0)));
            let _ = child.kill();
            child.wait().unwrap();
        }
        recover(place, strategy, whole)
    });
}

#[test]
fn killed_at_a_write() {
    campaign("killed at a write", wanted("AIMED", 14), |place, whole, strategy, n| {
        // The first writes one by one, then wider apart.
        let at = n / STRATEGIES.len();
        let at = if at < 12 { at } else { at * 3 - 24 };
        kill_when(place, strategy, |_, changes| changes > at);
        recover(place, strategy, whole)
    });
}

/// A disk of `kib`, where this process may make one; else a limit for each file, which is nearly as good.
#[cfg(target_os = "linux")]
fn on_a_full_disk(place: &Place, kib: usize, args: &[&str]) -> (Outcome, bool) {
    let run = place.path("run");
    fs::create_dir_all(&run).unwrap();
    let mount = |args: &[&str]| {
        let ran = Command::new("mount").args(args).arg(&run).stderr(Stdio::null()).status();
        ran.is_ok_and(|status| status.success())
    };
    // A tmpfs of 0 has no limit.
    let size = format!("size={}k", kib.max(4));
    if std::env::var_os("DEFROST_CRASH_MOUNT").is_some() && mount(&["-t", "tmpfs", "-o", &size, "tmpfs"]) {
        let outcome = place.run(args);
        assert!(mount(&["-o", "remount,size=1g"]));
        return (outcome, true);
    }
    // The shell counts in blocks of 512 bytes; without the trap the signal would end the process.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_defrost")]).args(args);
    place.prepare(&mut command);
    (Outcome::of(command.output().unwrap()), false)
}

#[cfg(target_os = "linux")]
#[test]
fn the_disk_is_full() {
    let sizes = wanted("DISKS", 7);
    campaign("full disk", sizes, |place, whole, strategy, n| {
        // From nothing at all to what all files take together.
        let most = whole.files.values().map(Vec::len).sum::<usize>() / 1024 * 3;
        let kib = most * n / sizes.max(1);
        let (outcome, mounted) = on_a_full_disk(place, kib, &args(strategy, "run"));
        let refused = outcome.code == 1 && outcome.stderr.contains("cannot ");
        let mut complaint = (outcome.code != 0 && !refused).then_some(outcome.stderr);
        if complaint.is_none() {
            // The folder of another disk is there in any case.
            complaint = recover(place, strategy, whole);
        }
        if mounted {
            let _ = Command::new("umount").arg(place.path("run")).status();
            let _ = fs::remove_dir_all(place.path("run"));
        }
        complaint
    });
}
