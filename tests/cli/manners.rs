//! How the command behaves towards people: help, completions, manuals, messages, and when it is quiet.
#![allow(clippy::unwrap_used)]

use crate::command;
use crate::taught;

use std::fs;
#[cfg(unix)]
use std::process::Command;

#[cfg(unix)]
use command::Outcome;
use command::{FEATURES, Place};
use taught::{CPU, taught, train};

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
