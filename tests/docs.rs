//! What the documentation says works: every command in README.md, CONTRIBUTING.md, docs and docs/guide is run as it stands
//! there, in a folder that holds what it names, every link leads somewhere, and every example runs. (Commands within sentences
//! and in `--help` are checked by the parser in `src/cli/mod.rs`, Rust in docs/embedding.md by the compiler in `src/lib.rs`.)

#![cfg(unix)] // The commands are a shell's.
#![allow(clippy::unwrap_used)]

mod command;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use command::server::{Manners, Server};
use command::{Outcome, Place};
use defrost::data::Scenes;
use defrost::models::{self, Naming, Network, Precision};
use defrost::nn::ParamSpec;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of a folder, by name.
fn pages(folder: &str) -> Vec<PathBuf> {
    let entries = root().join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.sort();
    pages
}

/// A command of a document.
struct Line {
    /// `README.md:12`
    at: String,
    /// As a shell reads it, over several lines where it goes on.
    text: String,
}

impl Line {
    /// The program that it runs: the first word that sets no variable.
    fn program(&self) -> &str {
        let sets = |word: &&str| {
            word.split_once('=')
                .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        };
        self.text.split_whitespace().find(|word| !sets(word)).unwrap_or_default()
    }

    /// The word behind an option of the program itself.
    fn option(&self, name: &str) -> Option<&str> {
        let words = self.text.split_whitespace().take_while(|word| *word != "--");
        words.skip_while(|word| *word != name).nth(1)
    }
}

/// The lines of a document's blocks of code, indented or fenced as a shell's or as nothing's, that run something of ours.
fn commands(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let (mut found, mut fence) = (Vec::new(), None);
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(kind.trim()) };
            continue;
        }
        let code = match fence {
            Some(kind) => ["", "sh", "bash", "shell", "console"].contains(&kind),
            None => line.starts_with("    "),
        };
        let mut command = Line { at: format!("{name}:{}", number + 1), text: line.trim().to_string() };
        // What `--version` prints, and `certify` first, is no command; nor is what `lr-find` proposes.
        let version = command
            .text
            .strip_prefix("defrost ")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let program = command.program();
        let shortened = command.text.contains(" ... ");
        let ours = ["defrost", "cargo", "find"].contains(&program) || program.starts_with("tools/");
        if !code || version || shortened || !ours {
            continue;
        }
        while command.text.ends_with('\\') {
            let (_, next) = lines.next().expect("a line goes on");
            command.text = format!("{}\n{next}", command.text);
        }
        found.push(command);
    }
    found
}

/// Runs a document's commands here, one after the other. What is no `defrost` must exist.
fn run(place: &Place, server: &Server, path: &Path, least: usize) {
    let all = commands(path);
    assert!(all.len() >= least, "{}: only {} commands were found", path.display(), all.len());
    let devices = place.ok(&["devices"]).stdout.to_lowercase();
    for line in all {
        let program = line.program();
        if !["defrost", "find"].contains(&program) {
            assert!(program == "cargo" || root().join(program).is_file(), "{}: no {program}", line.at);
            for (option, folder) in [("--example", "examples"), ("--bench", "benches"), ("--test", "tests")] {
                let exists = |name: &str| {
                    let place = root().join(folder).join(name);
                    place.with_extension("rs").is_file() || place.join("main.rs").is_file()
                };
                assert!(line.option(option).is_none_or(exists), "{}: {}", line.at, line.text);
            }
            continue;
        }
        let device = line.option("--device").map(str::to_lowercase);
        if let Some(device) = device.filter(|device| device != "cpu" && !devices.contains(device)) {
            println!("{}: skipped, there is no device {device} here: {}", line.at, line.text);
            continue;
        }
        let began = Instant::now();
        let outcome = shell(place, server, &line.text);
        println!("{:5.1} s  {}: {}", began.elapsed().as_secs_f64(), line.at, line.text);
        let Outcome { code, stdout, stderr } = outcome;
        assert_eq!(code, 0, "{}: {}\n{stdout}\n{stderr}", line.at, line.text);
    }
}

/// Runs a line as a user's shell does who has `defrost` on the path, no GPU, and a hub that is `server`.
fn shell(place: &Place, server: &Server, line: &str) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    place.prepare(&mut command);
    for name in
        ["HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_defrost"));
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [binary.parent().unwrap().to_path_buf()].into_iter().chain(std::env::split_paths(&old)),
    );
    command
        .env("PATH", path.unwrap())
        .env("HOME", place.path("home"))
        .env("HF_HOME", place.path("hf"))
        .env("HF_ENDPOINT", &server.address)
        .env("DEFROST_DEVICE", "cpu");
    Outcome::of(command.output().unwrap())
}

/// A hub that has first weights of every network, in half precision.
fn hub() -> Server {
    let kept: Mutex<HashMap<String, Arc<Vec<u8>>>> = Mutex::default();
    let bytes = |repository: &str| {
        let name = repository.rsplit('/').next().unwrap_or_default();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        models::create(name, 1000).unwrap().save_with(&path, Naming::Timm, Precision::Half).unwrap();
        Arc::new(fs::read(path).unwrap())
    };
    let serve = move |repository: &str| {
        kept.lock().unwrap().entry(repository.to_string()).or_insert_with(|| bytes(repository)).clone()
    };
    Server::of(serve, Manners::default())
}

/// Images of things, a folder for each class, in `NAME/` itself.
fn drawn(place: &Place, name: &str, each: u32, seed: u64) {
    Scenes::Things.write(&place.path(name), seed, 0..each, 96).unwrap();
}

/// What `torch.save(net.state_dict(), path)` writes: a zip archive of a pickle and of each tensor's bytes.
fn save_pth(net: &Network, path: &Path) {
    let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, bytes: &[u8]| {
        archive.start_file(format!("archive/{name}"), stored).unwrap();
        archive.write_all(bytes).unwrap();
    };
    let text = |text: &str| [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let number = |n: usize| [&b"J"[..], &(n as i32).to_le_bytes()].concat();
    let tuple = |numbers: Vec<usize>| {
        [b"(".to_vec(), numbers.into_iter().flat_map(number).collect(), b"t".to_vec()].concat()
    };
    // OrderedDict(), then its items: _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks).
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (i, (spec, numbers)) in net.tensors().enumerate() {
        let ParamSpec { path, shape, .. } = spec;
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        pickle.extend(text(path));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(
            [text("storage"), b"ctorch\nFloatStorage\n".to_vec(), text(&i.to_string()), text("cpu")].concat(),
        );
        pickle.extend(
            [number(numbers.len()), b"tQ".to_vec(), number(0), tuple(shape.clone()), tuple(strides)].concat(),
        );
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        put(&format!("data/{i}"), bytemuck::cast_slice(numbers));
    }
    pickle.extend(b"u.");
    put("data.pkl", &pickle);
    archive.finish().unwrap();
}

/// A network pretrained on nothing, as a file that the README names.
fn first_weights(model: &str) -> Network {
    models::create(model, 1000).unwrap()
}

#[test]
fn the_readme_does_what_it_says() {
    let (place, server) = (Place::new(), hub());
    drawn(&place, "photos", 3, 0);
    drawn(&place, "test", 1, 1);
    drawn(&place, "holidays", 1, 2);
    Scenes::Things.draw(3, 0, 0, 96).write_png(&place.path("image.jpg")).unwrap();
    first_weights("mobilenet_v2").save(place.path("mobilenet_v2.safetensors")).unwrap();
    save_pth(&first_weights("resnet50"), &place.path("resnet50.pth"));
    run(&place, &server, &root().join("README.md"), 5);
    for page in pages("docs") {
        let plain = ["embedding.md", "settings.md"].iter().any(|name| page.ends_with(name));
        run(&place, &server, &page, if plain { 0 } else { 1 });
    }
    run(&place, &server, &root().join("CONTRIBUTING.md"), 6);
}

#[test]
fn the_readme_stays_short() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: details belong into docs/");
}

#[test]
fn the_guide_does_what_it_says() {
    let (place, server) = (Place::new(), hub());
    let mut chapters = pages("docs/guide");
    // README.md first: the chapters begin with their numbers.
    chapters.sort_by_key(|path| !path.ends_with("README.md"));
    assert_eq!(chapters.len(), 8, "{chapters:?}");
    for chapter in chapters {
        run(&place, &server, &chapter, 1);
    }
    assert!(server.asked().is_empty(), "the guide needs no network: {:?}", server.asked());
}

/// Links of all pages lead to a file, and to a heading in it where they name one.
#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    let top = ["README.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    for path in pages("docs/guide").into_iter().chain(pages("docs")).chain(top) {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(file.exists(), "{}: {target}", path.display());
            let found = heading.is_empty() || anchors(&file).contains(&heading.to_string());
            assert!(found, "{}: no heading for {target}", path.display());
        }
    }
    assert!(links > 35, "only {links} links were found");
}

/// What links call the headings of a page: `## Add an op` is `#add-an-op`.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// The examples that need nothing at hand. `cargo test` has built them.
#[test]
fn examples_run() {
    let folder = Path::new(env!("CARGO_BIN_EXE_defrost")).parent().unwrap().join("examples");
    for (name, says) in [
        ("things", "of 200 others correct"),
        ("own_task", "mean distance"),
        ("own_model", "saved and read back"),
        ("own_op", "squared_relu.grad"),
    ] {
        let place = Place::new();
        let binary = folder.join(name);
        assert!(binary.is_file(), "{} is not built: cargo build --examples", binary.display());
        let mut command = Command::new(binary);
        place.prepare(&mut command);
        command.env("DEFROST_DEVICE", "cpu").env("TMPDIR", place.path(""));
        let outcome = Outcome::of(command.output().unwrap());
        assert_eq!(outcome.code, 0, "{name}\n{}\n{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stdout.contains(says), "{name} does not say '{says}':\n{}", outcome.stdout);
    }
}

#[test]
fn commands_are_found() {
    let folder = tempfile::tempdir_in(root().join("target")).unwrap();
    let path = folder.path().join("doc.md");
    fs::write(&path, "Say `defrost train`.\n\n    defrost demo # draws\n\n    defrost 0.1.0, linux\n    defrost train ... --lr 1\n```sh\nA=1 defrost x \\\n  --y\ntools/test\n```\n```rust\ndefrost z\n```\n").unwrap();
    let found: Vec<String> = commands(&path).into_iter().map(|line| line.text).collect();
    assert_eq!(found, ["defrost demo # draws", "A=1 defrost x \\\n  --y", "tools/test"]);
}
