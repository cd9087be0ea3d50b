//! The command `defrost` as a user has it: a folder of one's own, images, weights, exit codes.
#![allow(dead_code, unreachable_pub)]

pub mod server;
pub mod torch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use defrost::models::{self, rule_fill};
use defrost::rng::Stream;
use image::{Rgb, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// Two classes that even a network of random weights tells apart.
pub const COLOURS: [(&str, [u8; 3]); 2] = [("blue", [30, 60, 190]), ("red", [190, 50, 40])];

/// A training of the head alone on [`Place::photos`], with the weights of [`Place::weights`].
pub const FEATURES: [&str; 8] =
    ["train", "photos", "--strategy", "features", "--model", "resnet20", "--weights", "resnet20.safetensors"];
/// The best adapter, which is software Vulkan where there is no GPU: without it, a machine without a GPU runs
/// on the CPU.
pub const ADAPTER: [&str; 2] = ["--device", "0"];

/// A folder that is the command's working directory, with a cache of its own.
pub struct Place {
    folder: TempDir,
}

/// How a command ended.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `defrost` with these arguments, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_defrost"));
        command.args(args);
        self.prepare(&mut command);
        command
    }

    /// Makes a command run here.
    pub fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env("DEFROST_CACHE", self.path("cache"))
            .env_remove("NO_COLOR")
            // A test says which device it wants.
            .env_remove("DEFROST_DEVICE")
            .env_remove("DEFROST_THREADS")
            .stdin(Stdio::null());
    }

    /// Runs `defrost`.
    pub fn run(&self, args: &[&str]) -> Outcome {
        Outcome::of(self.command(args).output().unwrap())
    }

    /// Runs `defrost`, which must succeed.
    pub fn ok(&self, args: &[&str]) -> Outcome {
        let outcome = self.run(args);
        assert_eq!(outcome.code, 0, "defrost {}\n{}", args.join(" "), outcome.stderr);
        outcome
    }

    /// Noisy images of one colour, a folder for each class: `NAME/CLASS/00.png`.
    pub fn images(&self, name: &str, classes: &[(&str, [u8; 3])], each: u32) -> PathBuf {
        let folder = self.path(name);
        for (class, colour) in classes {
            fs::create_dir_all(folder.join(class)).unwrap();
            for i in 0..each {
                let mut stream = Stream::new(&[u64::from(i), defrost::rng::key_of(class)]);
                let noisy = |c: u8, stream: &mut Stream| (f64::from(c) + stream.range(-30.0, 30.0)) as u8;
                let image = RgbImage::from_fn(36, 40, |_, _| Rgb(colour.map(|c| noisy(c, &mut stream))));
                image.save(folder.join(class).join(format!("{i:02}.png"))).unwrap();
            }
        }
        folder
    }

    /// `photos/`: 12 images of each colour.
    pub fn photos(&self) -> PathBuf {
        self.images("photos", &COLOURS, 12)
    }

    /// `resnet20.safetensors`: weights that PyTorch could have saved, filled by rule.
    pub fn weights(&self) -> PathBuf {
        let path = self.path("resnet20.safetensors");
        let mut net = models::blank("resnet20", 10).unwrap();
        rule_fill(&mut net);
        net.save(&path).unwrap();
        path
    }

    /// All files below `name`, hidden ones too, by relative path.
    pub fn files(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let root = self.path(name);
        let mut pending = vec![root.clone()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else {
                    let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        found
    }
}

impl Outcome {
    pub fn of(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        let outcome = Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        for stream in [&outcome.stdout, &outcome.stderr] {
            assert!(!stream.contains("panicked"), "{stream}");
        }
        outcome
    }

    /// The lines of stdout as JSON objects, each with version and event.
    pub fn events(&self) -> Vec<Value> {
        let parse = |line: &str| -> Value { serde_json::from_str(line).expect(line) };
        let events: Vec<Value> = self.stdout.lines().map(parse).collect();
        for event in &events {
            assert_eq!(event["schema_version"], 1, "{event}");
            assert!(event["event"].is_string(), "{event}");
        }
        events
    }

    /// The events of one name.
    pub fn named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|e| e["event"] == name).collect()
    }

    /// The last event, which must be "done".
    pub fn done(&self) -> Value {
        let last = self.events().pop().expect("a last line");
        assert_eq!(last["event"], "done", "{last}");
        last
    }

    /// Failed with `code`, and stderr names all of `things`.
    #[track_caller]
    pub fn failed(&self, code: i32, things: &[&str]) {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stderr.lines().any(|l| l.starts_with("error: ")), "{}", self.stderr);
        for thing in things {
            assert!(self.stderr.contains(thing), "'{thing}' is not named:\n{}", self.stderr);
        }
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
