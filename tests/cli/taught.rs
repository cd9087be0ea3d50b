//! A head that was taught on the CPU, for tests of what the command says and exports of one.

use crate::command;

use command::{FEATURES, Outcome, Place};

pub(crate) const CPU: [&str; 2] = ["--device", "cpu"];

/// `run/`: a head taught on `photos/` for two epochs.
pub(crate) fn taught() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    train(&place, &["--epochs", "2", "--out", "run"]);
    place
}

pub(crate) fn train(place: &Place, more: &[&str]) -> Outcome {
    place.ok(&[&FEATURES[..], &CPU, more].concat())
}

/// A table's head and rows.
pub(crate) fn table(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let cells = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<_>>();
    let head = cells(reader.headers().unwrap());
    (head, reader.records().map(|record| cells(&record.unwrap())).collect())
}
