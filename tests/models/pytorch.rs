//! PyTorch's own files: the same numbers as in PyTorch, and nothing of a pickle is run. `tools/pth_fixtures.py`
//! wrote them.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::path::{Path, PathBuf};

use command::Place;
use defrost::nn::{TensorFile, convert};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name)
}

/// What the script put into the tensor `name`.
pub(crate) fn numbers(name: &str, count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 * 0.25 + name.len() as f32).collect()
}

fn check(file: &TensorFile) {
    let shapes: [(&str, &[usize]); 7] = [
        ("conv.weight", &[4, 3, 3, 3]),
        ("bn.weight", &[4]),
        ("bn.bias", &[4]),
        ("bn.running_mean", &[4]),
        ("fc.weight", &[2, 4]),
        ("fc.bias", &[2]),
        ("fc.transposed", &[3, 2]),
    ];
    for (name, shape) in shapes {
        assert_eq!(file.tensors()[name].shape, shape, "{name}");
        assert_eq!(file.read_f32(name).unwrap(), numbers(name, shape.iter().product()), "{name}");
    }
}

#[test]
fn every_form_holds_the_same_numbers() {
    for name in ["plain.pth", "legacy.pth", "checkpoint.pth", "parameters.pth"] {
        let file = TensorFile::open(fixture(name)).unwrap();
        check(&file);
        let counters = usize::from(name != "parameters.pth");
        assert_eq!(file.tensors().len(), 7 + counters, "{name}");
        let counted = file.read_i64("bn.num_batches_tracked");
        assert_eq!(counted, (counters == 1).then_some(7), "{name}");
    }
}

#[test]
fn what_is_converted_reads_the_same() {
    let place = tempfile::tempdir().unwrap();
    let to = place.path().join("converted.safetensors");
    let report = convert(fixture("checkpoint.pth"), &to, false).unwrap();
    assert_eq!((report.written, report.left_out.len()), (8, 0));
    let file = TensorFile::open(&to).unwrap();
    check(&file);
    assert_eq!(file.read_i64("bn.num_batches_tracked"), Some(7));
    let whole = std::fs::metadata(&to).unwrap().len();
    convert(fixture("checkpoint.pth"), &to, true).unwrap();
    // All of these numbers are exact in f16.
    check(&TensorFile::open(&to).unwrap());
    assert!(std::fs::metadata(&to).unwrap().len() < whole);
}

/// The command, into a folder that is not there yet, in timm's dialect with its config.json.
#[test]
fn the_command_converts_and_checks() {
    let place = Place::new();
    place.weights();
    let to = "new/folder/model.safetensors";
    let done = place.ok(&["convert", "resnet20.safetensors", to, "--model", "resnet20", "--names", "timm"]);
    assert!(done.stdout.contains("tensors"), "{}", done.stdout);
    assert!(place.path("new/folder/config.json").exists());
    place.ok(&["convert", fixture("legacy.pth").to_str().unwrap(), "plain.safetensors"]);
    check(&TensorFile::open(place.path("plain.safetensors")).unwrap());
    let wrong = place.run(&["convert", "resnet20.safetensors", "x.safetensors", "--model", "resnet32"]);
    assert!(wrong.code == 1 && wrong.stderr.contains("resnet20"), "{}", wrong.stderr);
}

#[test]
fn a_pickle_that_calls_something_is_refused() {
    let place = Place::new();
    for name in ["attack.pth", "attack_legacy.pth", "attack.pkl"] {
        let e = TensorFile::open(fixture(name)).unwrap_err().to_string();
        assert!(e.contains(name) && e.contains("system") && e.contains("nothing of it was run"), "{e}");
        let from = fixture(name);
        let done = place.run(&["convert", from.to_str().unwrap(), "out.safetensors"]);
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(!place.path("out.safetensors").exists());
    }
    assert!(!place.path("defrost-was-attacked").exists());
    assert!(!Path::new("defrost-was-attacked").exists());
}

/// Cut anywhere, or with any byte changed, a file is an error or other numbers: never a panic.
#[test]
fn damaged_files_are_errors() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("damaged.pth");
    for name in ["plain.pth", "legacy.pth"] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        for cut in (1..bytes.len()).step_by(37) {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            if let Ok(file) = TensorFile::open(&path) {
                file.tensors().keys().for_each(|name| drop(file.read_f32(name)));
            }
        }
        for at in (0..bytes.len()).step_by(11) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x5B;
            std::fs::write(&path, &changed).unwrap();
            if let Ok(file) = TensorFile::open(&path) {
                file.tensors().keys().for_each(|name| drop(file.read_f32(name)));
            }
        }
    }
}
