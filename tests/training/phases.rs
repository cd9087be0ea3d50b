//! Trainings of several phases: what learns in each, what the optimizer remembers, and going on from anywhere.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::fs;

use command::Place;
use defrost::models::{self, Network};
use defrost::nn::TensorFile;
use defrost::train::{Config, Strategy};

const RUN: [&str; 8] =
    ["train", "photos", "--model", "resnet20", "--weights", "resnet20.safetensors", "--device", "cpu"];

#[test]
fn the_phases_of_a_strategy() {
    let groups: Vec<String> = ["conv1", "layer2", "fc"].map(String::from).into();
    let of = |strategy| Config::default().with(|c| c.strategy = strategy).phases(&groups);
    let two = of(Strategy::TwoPhase);
    assert_eq!((two.len(), two[0].epochs(), two[1].epochs()), (2, 40, 6));
    assert_eq!((two[0].strategy, two[1].strategy), (Strategy::Features, Strategy::Finetune));
    assert!(two[1].lr.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", two[1].lr);
    let gradual = of(Strategy::Gradual);
    let frozen: Vec<&[usize]> = gradual.iter().map(|phase| &phase.freeze_groups[..]).collect();
    assert_eq!(frozen, [&[][..], &[0], &[]]);
    assert_eq!(of(Strategy::Finetune).len(), 1);
    // What was asked for goes to the phases behind the head's.
    let asked = Config::default().with(|c| {
        c.lr = vec![0.1];
        c.epochs = Some(7);
        c.strategy = Strategy::Gradual;
    });
    let phases = asked.phases(&groups);
    assert!(phases[0].lr.is_empty() && phases[0].epochs() == 40);
    assert!(phases[1..].iter().all(|phase| phase.lr == [0.1] && phase.epochs() == 7));
}

/// Stopped anywhere, in the middle of a phase or between two, a run goes on as if it had not stopped.
#[test]
fn every_phase_can_be_gone_on_from() {
    let place = Place::new();
    place.photos();
    place.weights();
    for strategy in ["two-phase", "gradual"] {
        let base = [&RUN[..], &["--strategy", strategy, "--epochs", "2", "--seed", "3", "--out"]].concat();
        let whole = format!("{strategy}-whole");
        let done = place.ok(&[&base[..], &[&whole, "--json"]].concat());
        let epochs = if strategy == "gradual" { 44 } else { 42 };
        let events = done.events();
        assert_eq!(events.iter().filter(|e| e["event"] == "epoch").count(), epochs);
        let files = |run: &str| {
            let mut names: Vec<String> = place.files(run).into_keys().collect();
            names.retain(|name| name.ends_with(".safetensors"));
            names
        };
        assert_eq!(files(&whole), ["last.safetensors", "model.safetensors"], "nothing of the phases stays");
        for stop in
            ["17", "40", "41", "42"].into_iter().filter(|stop| stop.parse::<usize>().unwrap() < epochs)
        {
            let part = format!("{strategy}-{stop}");
            place.ok(&[&base[..], &[&part, "--stop-after", stop]].concat());
            place.ok(&["train", "--resume", &part, "--device", "cpu"]);
            for file in ["model.safetensors", "last.safetensors"] {
                let [a, b] = [&whole, &part].map(|run| fs::read(place.path(run).join(file)).unwrap());
                assert!(a == b, "{strategy} stopped after epoch {stop}: {file} differs");
            }
            let lines = |run: &str| {
                let text = fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
                let without_time = |line: &str| line.rsplit_once(',').unwrap().0.to_string();
                text.lines().map(without_time).collect::<Vec<_>>()
            };
            assert_eq!(lines(&whole), lines(&part));
            assert_eq!(files(&part), files(&whole));
        }
        // A finished run is gone on with: there is nothing to do.
        let before = fs::read(place.path(&whole).join("model.safetensors")).unwrap();
        place.ok(&["train", "--resume", &whole, "--device", "cpu"]);
        assert!(before == fs::read(place.path(&whole).join("model.safetensors")).unwrap(), "{strategy}");
    }
}

/// The optimizer's moments of what learned in one phase are those that the next begins with, and their age is
/// counted for each group: that of the groups that join is 0.
#[test]
fn the_optimizer_remembers_what_goes_on_learning() {
    let place = Place::new();
    place.photos();
    place.weights();
    let base = [&RUN[..], &["--strategy", "gradual", "--epochs", "1", "--lr", "0", "--out"]].concat();
    place.ok(&[&base[..], &["head", "--stop-after", "40"]].concat());
    place.ok(&[&base[..], &["next", "--stop-after", "41"]].concat());
    let state = |run: &str| -> serde_json::Value {
        let file = TensorFile::open(place.path(run).join("last.safetensors")).unwrap();
        serde_json::from_str(&file.metadata()["state"]).unwrap()
    };
    let (head, next) = (state("head"), state("next"));
    assert_eq!((head["phase"].as_u64(), next["phase"].as_u64()), (Some(0), Some(1)));
    let steps = head["updates"].as_u64().unwrap();
    assert_eq!(next["updates_before"], serde_json::json!([0, 0, steps]));
    let moments = |run: &str| {
        let file = TensorFile::open(place.path(run).join("last.safetensors")).unwrap();
        let mut names: Vec<String> =
            file.tensors().keys().filter(|n| n.starts_with("moment")).cloned().collect();
        names.sort();
        (names.len(), file.read_f32("moment2:fc.weight").unwrap())
    };
    let ((few, before), (many, after)) = (moments("head"), moments("next"));
    assert!(few == 4 && many > few, "{few} {many}");
    // AdamW's second moment forgets a thousandth a step: nearly all of it is what the head's phase left.
    let kept = 0.999f32.powi(next["updates"].as_i64().unwrap() as i32);
    assert!(before.iter().zip(&after).all(|(b, a)| *a >= b * kept * 0.999), "the moments began anew");
    assert!(before.iter().any(|b| *b > 0.0));

    // With a rate of 0 behind the head's phase nothing but the head differs from the weights.
    let net = Network::open(place.path("next/model.safetensors")).unwrap();
    let pretrained = models::load("resnet20", place.path("resnet20.safetensors")).unwrap();
    let own = |path: &str| net.tensor(path).unwrap().to_vec();
    assert_eq!(own("layer3.0.conv1.weight"), pretrained.tensor("layer3.0.conv1.weight").unwrap());
}
