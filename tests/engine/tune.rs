//! `defrost tune`: the fastest right kernel is taken; a wrong one and a flaky one are refused, however fast.

#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;
use crate::toy;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use command::{ADAPTER, Place};
use common::gpu;
use defrost::gpu::{Caps, Choices, Kernel};
use defrost::plan::tune::{Candidate, Tuner};
use defrost::plan::{Layout, Request, choice_key, compile};
use defrost::tape::{Io, Tape, Type, Variant};
use toy::{Double, variant};

/// `y = 2 x`, by a kernel that dawdles, and by one that does not.
const DOUBLE: Double = Double(slow_and_plain);

const SLOW: &str = "slow";

fn slow_and_plain(io: &Io<'_>) -> Vec<Variant> {
    let slow = source!(
        "slow",
        "var s = 0.0; for (var k = 0u; k < 512u; k++) { s += select(0.0, 1.0, x[(i + k) % params.count] > 1e30); } y[i] = 2.0 * x[i] + s;"
    );
    vec![variant(SLOW, slow, io), variant("plain", source!("plain", "y[i] = 2.0 * x[i];"), io)]
}

/// Faster than anything, and wrong.
fn planted(io: &Io<'_>, name: &'static str) -> Variant {
    variant(name, source!("half", "if i % 2u == 0u { y[i] = 2.0 * x[i]; }"), io)
}

fn types() -> Vec<Type> {
    vec![Type::f32(&[64, 1024])]
}

fn find<'a>(candidates: &'a [Candidate], name: &str) -> &'a Candidate {
    candidates.iter().find(|c| c.variant == name).unwrap()
}

#[test]
fn the_fastest_right_kernel_is_taken_and_the_wrong_and_the_flaky_are_refused() {
    let gpu = gpu();
    let calls = Cell::new(0);
    let flaky = source!("almost", "y[i] = 2.0 * x[i] * select(1.0, 1.0000001, i == 7u);");
    let tuner = Tuner::new(&gpu)
        .offer(|_, io| {
            let plain = source!("plain", "y[i] = 2.0 * x[i];");
            vec![planted(io, "wrong"), variant("flaky", plain, io), variant("broken", plain, io)]
        })
        .edit(|_, variant| match variant.name {
            // Its answers are right within rounding, but not always the same bits.
            "flaky" => {
                calls.set(calls.get() + 1);
                if calls.get() % 3 == 0 {
                    variant.launches[0].kernel = Kernel::new(flaky, "forward");
                }
            }
            "broken" => variant.launches[0].groups = [0, 1, 1],
            _ => {}
        });
    let tuned = tuner.op(&DOUBLE, &types()).unwrap();
    let refused = |name| find(&tuned.candidates, name).refused.clone().unwrap_or_default();
    assert!(refused("wrong").starts_with("wrong: output 0[1] is NaN"), "{tuned:?}");
    assert!(refused("flaky").starts_with("flaky"), "{tuned:?}");
    assert!(refused("broken").starts_with("wrong: output 0[0] is NaN"), "{tuned:?}");
    for name in ["wrong", "flaky", "broken"] {
        assert_eq!(find(&tuned.candidates, name).timing, None, "{name} is not even timed");
    }
    assert_eq!(find(&tuned.candidates, SLOW).refused, None);
    assert_eq!(tuned.best, "plain", "{tuned:?}");
    assert!(tuned.gain() > 1.0);
}

#[test]
fn where_the_usual_kernel_is_wrong_the_plainest_right_one_is_taken() {
    let gpu = gpu();
    let tuner = Tuner::new(&gpu).edit(|_, variant| {
        if variant.name == SLOW {
            variant.launches[0].groups = [0, 1, 1];
        }
    });
    let tuned = tuner.op(&DOUBLE, &types()).unwrap();
    assert!(find(&tuned.candidates, SLOW).refused.is_some());
    assert_eq!(tuned.best, "plain");
}

#[test]
fn plans_take_what_was_chosen_and_nothing_that_is_not_offered() {
    let types = types();
    let io = Io::whole(&[&types[0]], &[&types[0]]);
    let key = choice_key(&DOUBLE, &io);
    let kernel_with = |choices: Choices| {
        let mut tape = Tape::new();
        let x = tape.input("x", types[0].clone());
        let y = tape.record_arc(Arc::new(DOUBLE), &[x]).unwrap()[0];
        let request = Request {
            tape,
            outputs: vec![("y".into(), y)],
            gradients: BTreeMap::new(),
            update: None,
            checkpointing: false,
        };
        let caps = Caps { choices, ..Caps::webgpu_defaults() };
        compile(request, &Arc::new(Layout::default()), &caps).unwrap().steps[0].variant.name
    };
    assert_eq!(kernel_with(Choices::default()), SLOW);
    assert_eq!(kernel_with(Choices::default().with(key.clone(), "plain".into())), "plain");
    assert_eq!(kernel_with(Choices::default().with(key, "gone".into())), SLOW);
}

#[test]
fn choices_are_kept_by_device_and_a_damaged_file_is_told() {
    let place = Place::new();
    let file = place.path("deep/choices.json");
    let choices = Choices::default().with("conv".into(), "tile".into());
    assert!(Choices::load(&file, "A").unwrap().is_empty());
    choices.save(&file, "A").unwrap();
    assert_eq!(Choices::load(&file, "A").unwrap(), choices);
    assert!(Choices::load(&file, "another driver").unwrap().is_empty());
    std::fs::write(&file, "{").unwrap();
    let error = Choices::load(&file, "A").unwrap_err().to_string();
    assert!(error.contains("choices.json") && error.contains("delete it"), "{error}");
}

#[test]
fn the_command_keeps_what_it_found_and_forgets_it_when_told() {
    let place = Place::new();
    let kept = || std::fs::read_dir(place.path("cache/tuned")).unwrap().count();
    let on = |device: &[&'static str], more: &[&'static str]| [&["tune", "--json"], device, more].concat();
    let done = place.ok(&on(&ADAPTER, &["resnet20", "--batch", "1", "--budget", "1"]));
    assert!(
        done.stdout.contains("\"event\":\"tuned\"") && done.stdout.contains("\"best\""),
        "{}",
        done.stdout
    );
    assert_eq!(kept(), 1);
    place.ok(&on(&ADAPTER, &["--forget"]));
    assert_eq!(kept(), 0);
    let refused = place.run(&on(&["--device", "cpu"], &[]));
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("nothing to choose"), "{}", refused.stderr);
}

/// What was tuned must be what the run runs: its own batch, and not the largest there may be.
#[test]
fn a_training_tunes_the_shapes_that_it_runs() {
    let place = Place::new();
    place.photos();
    place.weights();
    for (more, image) in [
        (&["--freeze-through", "layer2", "--epochs", "1"][..], "[8, 32, 32, 3]"),
        (&["--strategy", "features", "--epochs", "1"], "[16, 32, 32, 3]"),
    ] {
        let tuned =
            ["train", "photos", "--model", "resnet20", "--weights", "resnet20.safetensors", "--tune", "1"];
        let done = place.ok(&[&tuned[..], &ADAPTER[..], more].concat());
        // The front of the network has the most work and comes first.
        assert!(
            done.stderr.contains(image) || done.stderr.contains(&image.replace(", 3]", ", 16]")),
            "{}",
            done.stderr
        );
    }
}
