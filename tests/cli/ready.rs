//! Images and weights that a training could begin with, and what one must not leave behind.

use crate::command;

use command::{Outcome, Place};

pub(crate) fn ready() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    place
}

/// Trains on `data` with `weights`, on the CPU: nothing here depends on the device.
pub(crate) fn train(place: &Place, data: &str, weights: &str, more: &[&str]) -> Outcome {
    let chosen = more.iter().any(|option| *option == "--strategy" || option.starts_with("--freeze"));
    let strategy: &[&str] = if chosen { &[] } else { &["--strategy", "features"] };
    let base =
        ["train", data, "--model", "resnet20", "--weights", weights, "--device", "cpu", "--epochs", "2"];
    place.run(&[&base[..], strategy, more].concat())
}

/// Nothing of a run is left, and nothing half-written anywhere.
#[track_caller]
pub(crate) fn nothing_left(place: &Place) {
    let left: Vec<String> = place.files("").into_keys().filter(|f| is_rubbish(f)).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn is_rubbish(file: &str) -> bool {
    file.starts_with("runs") || file.contains(".defrost-")
}
