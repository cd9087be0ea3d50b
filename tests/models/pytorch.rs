//! PyTorch's own files: the same numbers as in PyTorch, and nothing of a pickle is run. `tools/pth_fixtures.py`
//! wrote them.

#![allow(clippy::unwrap_used)]

use crate::command;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use command::Place;
use command::torch::{Py, Tensor, dict, legacy, safetensors, text, zipped};
use defrost::models::{self, HeadPolicy, Network};
use defrost::nn::{TensorFile, convert};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch").join(name)
}

/// What the script put into the tensor `name`.
fn numbers(name: &str, count: usize) -> Vec<f32> {
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

/// A small network's tensors, by names without prefix.
fn tensors() -> Vec<(String, Tensor)> {
    let floats = |(name, shape): &(&str, &[usize])| {
        let count = shape.iter().product();
        (name.to_string(), Tensor::floats(shape, &numbers(name, count)))
    };
    let all: [(&str, &[usize]); 4] = [
        ("conv.weight", &[4, 3, 3, 3]),
        ("bn.running_mean", &[4]),
        ("fc.weight", &[2, 4]),
        ("fc.bias", &[2]),
    ];
    all.iter().map(floats).collect()
}

fn counter(name: &str) -> (String, Tensor) {
    (name.into(), Tensor::of("LongStorage", 8, &[], 7i64.to_le_bytes().to_vec()))
}

fn state_dict(tensors: &[(String, Tensor)]) -> Py {
    Py::Dict(tensors.iter().map(|(name, tensor)| (text(name), Py::Tensor(tensor.clone()))).collect())
}

/// A file of each form that holds the value or, as safetensors, the tensors.
fn in_all_forms(place: &Path, value: &Py, tensors: Option<&[(String, Tensor)]>) -> Vec<PathBuf> {
    let tensors = tensors.map(|tensors| ("file.safetensors", safetensors(tensors, None)));
    let forms = [("new.pth", zipped("new", value)), ("old.pth", legacy(value))].into_iter().chain(tensors);
    let write = |(name, bytes): (&str, Vec<u8>)| {
        std::fs::write(place.join(name), bytes).unwrap();
        place.join(name)
    };
    forms.map(write).collect()
}

/// The file holds those of [`tensors`], and `more` besides.
#[track_caller]
fn holds(path: &Path, more: &[&str], about: &str) -> TensorFile {
    let file = TensorFile::open(path).unwrap_or_else(|e| panic!("{about}: {e}"));
    let mut expected: Vec<String> = tensors().into_iter().map(|(name, _)| name).collect();
    expected.extend(more.iter().map(|name| name.to_string()));
    expected.sort();
    let found: Vec<&String> = file.tensors().keys().collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{}: {about}", path.display());
    for (name, tensor) in tensors() {
        assert_eq!(file.read_f32(&name).unwrap(), numbers(&name, tensor.bytes.len() / 4), "{about}: {name}");
    }
    file
}

/// The first entry of an archive has 55 bytes and the name's letters in its directory, and 76 are behind it.
#[test]
fn the_name_of_an_archive_may_have_any_length() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("any.pth");
    for length in 1..=120 {
        std::fs::write(&path, zipped(&"n".repeat(length), &state_dict(&tensors()))).unwrap();
        holds(&path, &[], &format!("a name of {length} letters"));
    }
}

/// All orders of up to three wrappers, without a counter beside the network and with one beside each wrapper's.
#[test]
fn prefixes_of_wrappers_are_taken_away() {
    const PREFIXES: [&str; 4] = ["module.", "model.", "_orig_mod.", "backbone."];
    let place = tempfile::tempdir().unwrap();
    let mut orders = vec![vec![]];
    for depth in 0..3 {
        let longer: Vec<Vec<&str>> =
            orders.iter().filter(|order: &&Vec<&str>| order.len() == depth).cloned().collect();
        orders
            .extend(longer.iter().flat_map(|order| PREFIXES.map(|prefix| [&order[..], &[prefix]].concat())));
    }
    assert_eq!(orders.len(), 1 + 4 + 16 + 64);
    for order in orders {
        let prefix = order.concat();
        let depths = (0..=order.len()).map(|depth| order[..depth].concat()).map(Some).chain([None]);
        let names =
            ["n_averaged", "num_updates", "step"].into_iter().chain((!order.is_empty()).then_some("epoch"));
        for (counted, name) in depths.flat_map(|depth| names.clone().map(move |name| (depth.clone(), name))) {
            let mut saved: Vec<(String, Tensor)> =
                tensors().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
            saved.extend(counted.as_ref().map(|before| counter(&format!("{before}{name}"))));
            let more: &[&str] = if counted.is_some() { &[name] } else { &[] };
            let about = format!("{prefix}, {name} {counted:?}");
            for path in in_all_forms(place.path(), &state_dict(&saved), Some(&saved)) {
                assert_eq!(holds(&path, more, &about).prefix(), prefix, "{about}");
            }
        }
    }
}

#[test]
fn names_that_only_look_wrapped_stay() {
    let place = tempfile::tempdir().unwrap();
    let saved = |names: &[&str]| -> Vec<(String, Tensor)> {
        names.iter().map(|name| (name.to_string(), Tensor::floats(&[1], &[1.0]))).collect()
    };
    for names in [
        // Not all of them, a whole name, no name of a wrapper, two that would become one.
        &["backbone.conv.weight", "head.weight"][..],
        &["model.weight", "model."],
        &["features.0.weight", "features.1.weight"],
        &["modules.0.weight"],
        &["module.step", "module.fc.weight", "step"],
    ] {
        let saved = saved(names);
        for path in in_all_forms(place.path(), &state_dict(&saved), Some(&saved)) {
            let file = TensorFile::open(&path).unwrap();
            let found: Vec<&str> = file.tensors().keys().map(String::as_str).collect();
            let mut names = names.to_vec();
            names.sort();
            assert_eq!((found, file.prefix()), (names, ""), "{}", path.display());
        }
    }
}

/// What people save beside a network never takes its place, and the file says what it is.
#[test]
fn the_network_is_found_whatever_lies_beside_it() {
    let place = tempfile::tempdir().unwrap();
    let scalar = || Py::Tensor(Tensor::floats(&[], &[71.5]));
    let optimizer = dict([
        ("state", Py::Dict(vec![(Py::Int(0), dict([("exp_avg", scalar()), ("step", scalar())]))])),
        ("param_groups", Py::List(vec![dict([("lr", Py::Float(0.1))])])),
    ]);
    let beside: Vec<(&str, Py, usize)> = vec![
        ("best_acc1", scalar(), 1),
        ("rng_state", Py::Tensor(Tensor::of("ByteStorage", 1, &[5056], vec![3; 5056])), 1),
        ("loss", Py::Tensor(Tensor::floats(&[3], &[1.0, 2.0, 3.0])), 1),
        ("ema_decay", scalar(), 1),
        ("optimizer", optimizer, 2),
        ("metrics", dict([("accuracy", scalar()), ("loss", scalar())]), 2),
        ("history", Py::Tuple(vec![scalar(), Py::List(vec![scalar(), scalar()])]), 3),
        ("epoch", Py::Int(3), 0),
        ("arch", text("tiny"), 0),
    ];
    let keys = [
        &["state_dict"][..],
        &["model_state_dict"],
        &["model"],
        &["module"],
        &["net"],
        &["network"],
        &["params"],
        &["state_dict_ema"],
        &["model", "state_dict"],
        // No usual key, but the only one with tensors of layers.
        &["generator"],
    ];
    for keys in keys {
        let wrapped = |value: Py| keys.iter().rev().fold(value, |value, &key| dict([(key, value)]));
        let Py::Dict(network) = wrapped(state_dict(&tensors())) else { unreachable!() };
        let all = beside.iter().map(|(key, value, count)| (vec![(text(key), value.clone())], *count, *key));
        let every: Vec<(Py, Py)> = beside.iter().map(|(key, value, _)| (text(key), value.clone())).collect();
        for (entries, count, name) in all.chain([(every, 11, "optimizer")]) {
            for order in [[network.clone(), entries.clone()], [entries.clone(), network.clone()]] {
                let value = Py::Dict(order.concat());
                for path in in_all_forms(place.path(), &value, None) {
                    let file = holds(&path, &[], &format!("{keys:?} and {name}"));
                    let left_out: usize = file.left_out().iter().map(|(_, count)| count).sum();
                    assert_eq!(left_out, count, "{keys:?} and {name}: {:?}", file.left_out());
                    assert_eq!(file.left_out().iter().any(|(left, _)| left == name), count > 0);
                }
            }
        }
    }
}

#[test]
fn of_two_networks_the_plain_one_is_taken() {
    let place = Place::new();
    let other: Vec<(String, Tensor)> = tensors()
        .into_iter()
        .map(|(name, t)| (name, Tensor { bytes: vec![0; t.bytes.len()], ..t }))
        .collect();
    let mut averaged: Vec<(String, Tensor)> =
        other.iter().map(|(name, tensor)| (format!("module.{name}"), tensor.clone())).collect();
    averaged.push(counter("n_averaged"));
    for (plain, average) in
        [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("model", "ema"), ("params", "params_ema")]
    {
        let both = [(plain, state_dict(&tensors())), (average, state_dict(&averaged))];
        for both in [both.clone(), both.into_iter().rev().collect::<Vec<_>>().try_into().unwrap()] {
            for path in in_all_forms(&place.path(""), &dict(both.clone()), None) {
                assert_eq!(holds(&path, &[], average).left_out(), [(average.to_string(), 5)]);
                let done = place.ok(&["convert", path.to_str().unwrap(), "out.safetensors"]);
                for sign in ["warning: ", plain, average, "5 other tensors are left out"] {
                    assert!(done.stderr.contains(sign), "{sign}: {}", done.stderr);
                }
            }
        }
    }
    // Two of one kind: nobody can tell which is meant.
    let both = dict([("generator", state_dict(&tensors())), ("critic", state_dict(&tensors()))]);
    for path in in_all_forms(&place.path(""), &both, None) {
        let e = TensorFile::open(&path).unwrap_err().to_string();
        assert!(e.contains("generator, critic") && e.contains("state_dict"), "{e}");
    }
}

/// What programs keep beside a network is read as data, whatever it is made of.
#[test]
fn harmless_values_are_no_obstacle() {
    let place = tempfile::tempdir().unwrap();
    let call = |module, name, arguments: &[Py]| Py::Call(module, name, arguments.to_vec());
    let tensor = || Py::Tensor(Tensor::floats(&[2], &[1.0, 2.0]));
    let mut values = vec![];
    for builtins in ["__builtin__", "builtins"] {
        for name in
            ["list", "dict", "int", "float", "frozenset", "complex", "bytearray", "object", "set", "str"]
        {
            values.push((call("collections", "defaultdict", &[Py::Global(builtins, name)]), 0));
            values.push((call(builtins, name, &[]), 0));
        }
        values.push((call(builtins, "set", &[Py::List(vec![Py::Int(1), tensor()])]), 1));
        values.push((call(builtins, "frozenset", &[Py::List(vec![text("a"), tensor()])]), 1));
        values.push((call(builtins, "complex", &[Py::Float(1.0), Py::Float(2.0)]), 0));
        values.push((call(builtins, "bytearray", &[text("bytes"), text("latin-1")]), 0));
        let object = Py::Global(builtins, "object");
        let made =
            call("copy_reg", "_reconstructor", &[Py::Global("argparse", "Namespace"), object, Py::None]);
        values.push((Py::Built(Box::new(made), Box::new(dict([("lr", Py::Float(0.1))]))), 0));
    }
    // What Python 3 makes of `range` in protocol 2.
    let numbers = [Py::Int(0), Py::Int(3), Py::Int(1)];
    values.extend([(call("__builtin__", "xrange", &numbers), 0), (call("builtins", "range", &numbers), 0)]);
    let counts = Py::Dict(vec![(text("seen"), Py::Int(3))]);
    values.push((call("collections", "Counter", &[counts]), 0));
    values.push((Py::Filled(Box::new(call("collections", "deque", &[])), vec![tensor(), tensor()]), 2));
    let namespace = call("argparse", "Namespace", &[]);
    values.push((Py::Built(Box::new(namespace), Box::new(dict([("weights", tensor())]))), 1));
    let dtype = call("numpy", "dtype", &[text("f8"), Py::True, Py::True]);
    for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
        values.push((call(module, "scalar", &[dtype.clone(), text("bytes")]), 0));
        let array =
            call(module, "_reconstruct", &[Py::Global("numpy", "ndarray"), Py::Tuple(vec![Py::Int(0)])]);
        values.push((Py::Built(Box::new(array), Box::new(Py::Tuple(vec![Py::Int(1), dtype.clone()]))), 0));
    }
    for name in ["float32", "bfloat16", "complex128", "float8_e4m3fn", "uint16"] {
        values.push((Py::Global("torch", name), 0));
    }
    for (value, count) in values {
        let about = format!("{value:?}");
        for checkpoint in [
            dict([("history", value.clone()), ("state_dict", state_dict(&tensors()))]),
            dict([("state_dict", state_dict(&tensors())), ("history", Py::List(vec![value.clone()]))]),
        ] {
            for path in in_all_forms(place.path(), &checkpoint, None) {
                let left_out =
                    holds(&path, &[], &about).left_out().iter().map(|(_, count)| count).sum::<usize>();
                assert_eq!(left_out, count, "{about}");
            }
        }
    }
    for (module, name) in
        [("builtins", "eval"), ("__builtin__", "getattr"), ("os", "system"), ("builtins", "type")]
    {
        let value = dict([("weights", state_dict(&tensors())), ("hook", Py::Global(module, name))]);
        for path in in_all_forms(place.path(), &value, None) {
            let e = TensorFile::open(&path).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains("nothing of it was run"), "{e}");
        }
    }
}

/// `convert` says what it read and did not write; what it writes it reads again.
#[test]
fn convert_names_what_it_leaves_out() {
    let place = Place::new();
    let kinds = [
        ("LongStorage", 8),
        ("IntStorage", 4),
        ("ShortStorage", 2),
        ("CharStorage", 1),
        ("ByteStorage", 1),
        ("BoolStorage", 1),
        ("ComplexFloatStorage", 8),
        ("ComplexDoubleStorage", 16),
    ];
    for (kind, size) in kinds {
        let odd = Tensor::of(kind, size, &[3], vec![0; 3 * size]);
        let saved = [tensors(), vec![("buffer.odd".into(), odd)]].concat();
        for path in in_all_forms(&place.path(""), &state_dict(&saved), None) {
            let done = place.ok(&["convert", path.to_str().unwrap(), "out.safetensors"]);
            assert!(
                done.stderr.contains("warning: ") && done.stderr.contains("buffer.odd"),
                "{}",
                done.stderr
            );
            assert!(done.stdout.contains("4 tensors"), "{}", done.stdout);
            holds(&place.path("out.safetensors"), &[], kind);
        }
    }
    // Many are counted.
    let many = (0..50).map(|i| (format!("mask.{i:02}"), Tensor::of("BoolStorage", 1, &[2], vec![0; 2])));
    let saved = [tensors(), many.collect()].concat();
    for path in in_all_forms(&place.path(""), &state_dict(&saved), Some(&saved)) {
        let done = place.ok(&["convert", path.to_str().unwrap(), "out.safetensors"]);
        assert!(
            done.stderr.contains("50 tensors") && done.stderr.contains("mask.09 and 40 more"),
            "{}",
            done.stderr
        );
    }
    let entries = [
        (text("fc.weight"), Py::Tensor(tensors()[2].1.clone())),
        (Py::Int(0), Py::Tensor(tensors()[3].1.clone())),
    ];
    for path in in_all_forms(&place.path(""), &Py::Dict(entries.to_vec()), None) {
        let done = place.ok(&["convert", path.to_str().unwrap(), "out.safetensors"]);
        assert!(done.stderr.contains("1 other tensor is left out"), "{}", done.stderr);
    }
}

#[test]
fn tensors_without_numbers_are_read() {
    let place = tempfile::tempdir().unwrap();
    for shape in [&[0][..], &[0, 5], &[5, 0], &[3, 0, 2], &[0, 0]] {
        let saved = [tensors(), vec![("empty.weight".to_string(), Tensor::floats(shape, &[]))]].concat();
        for path in in_all_forms(place.path(), &state_dict(&saved), Some(&saved)) {
            let file = holds(&path, &["empty.weight"], &format!("{shape:?}"));
            assert_eq!(file.tensors()["empty.weight"].shape, shape);
            assert!(file.read_f32("empty.weight").unwrap().is_empty());
            let to = place.path().join("to.safetensors");
            assert_eq!(convert(&path, &to, false).unwrap().written, 5);
            holds(&to, &["empty.weight"], "converted");
        }
    }
}

/// A wrapped file is a network's weights like any other; so is a network that is wrapped itself.
#[test]
fn wrapped_networks_are_loaded() {
    let place = tempfile::tempdir().unwrap();
    let mut net = models::create("resnet20", 10).unwrap();
    models::rule_fill(&mut net);
    let plain: BTreeMap<&str, &[f32]> = net.tensors().map(|(spec, x)| (spec.path.as_str(), x)).collect();
    for prefix in ["", "module.", "_orig_mod.module.", "model.module.", "module._orig_mod.backbone."] {
        let wrapped = net
            .tensors()
            .map(|(spec, numbers)| (format!("{prefix}{}", spec.path), Tensor::floats(&spec.shape, numbers)));
        let saved: Vec<(String, Tensor)> = wrapped.chain([counter("n_averaged")]).collect();
        let beside =
            dict([("best_acc1", Py::Tensor(Tensor::floats(&[], &[1.0]))), ("model", state_dict(&saved))]);
        for path in in_all_forms(place.path(), &beside, Some(&saved)) {
            let (read, report) = models::load_with("resnet20", &path, HeadPolicy::Keep).unwrap();
            assert_eq!((&*report.ignored, report.warnings.len()), (&["n_averaged".to_string()][..], 0));
            for (spec, numbers) in read.tensors() {
                assert_eq!(numbers, plain[spec.path.as_str()], "{prefix}{}", spec.path);
            }
        }
    }
    let two = [("model", net.tensors()), ("model_ema", net.tensors())].map(|(key, tensors)| {
        let tensors = tensors.map(|(spec, x)| (spec.path.clone(), Tensor::floats(&spec.shape, x)));
        (key, state_dict(&tensors.collect::<Vec<_>>()))
    });
    for path in in_all_forms(place.path(), &dict(two), None) {
        let (_, report) = models::load_with("resnet20", &path, HeadPolicy::Keep).unwrap();
        assert!(
            matches!(&*report.warnings, [only] if only.contains("'model'") && only.contains("'model_ema'"))
        );
    }
}

/// torchvision -> Defrost -> timm -> Defrost -> torchvision, byte for byte.
#[test]
fn dialects_there_and_back_are_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for model in [
        "resnet18",
        "vgg16_bn",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "densenet121",
        "inception_v3",
        "efficientnet_b0",
        "efficientnet_lite0",
        "efficientnet_v2_s",
    ] {
        let mut net = models::create(model, 1000).unwrap();
        models::rule_fill(&mut net);
        net.save(at("tv")).unwrap();
        net.save_as(at("timm"), models::Naming::Timm).unwrap();
        let other = Network::open(at("timm")).unwrap();
        other.save(at("back")).unwrap();
        assert_eq!(std::fs::read(at("tv")).unwrap(), std::fs::read(at("back")).unwrap(), "{model}");
    }
}

#[test]
fn timms_config_tells_what_becomes_of_an_image() {
    let place = tempfile::tempdir().unwrap();
    let weights = place.path().join("model.safetensors");
    let mut net = models::create("mobilenet_v3_small", 3).unwrap();
    net.set_classes(["ant", "bee", "wasp"].map(String::from).into()).unwrap();
    let mut view = net.preprocess().clone();
    (view.resize, view.size, view.mean) = (235, [224; 2], [0.5; 3]);
    net.set_preprocess(view.clone()).unwrap();
    net.save_as(&weights, models::Naming::Timm).unwrap();
    net.save_timm_config(place.path().join("config.json")).unwrap();
    let text = std::fs::read_to_string(place.path().join("config.json")).unwrap();
    for part in
        ["\"mobilenetv3_small_100\"", "\"bn_eps\": 0.001", "0.95", "0.485", "\"classifier\": \"classifier\""]
    {
        assert!(text.contains(part) == (part != "0.485"), "{part}: {text}");
    }
    // As timm's own weights: without Defrost's description.
    let bare = place.path().join("bare").join("model.safetensors");
    std::fs::create_dir(bare.parent().unwrap()).unwrap();
    std::fs::copy(place.path().join("config.json"), bare.with_file_name("config.json")).unwrap();
    let file = TensorFile::open(&weights).unwrap();
    let numbers: BTreeMap<String, Vec<f32>> =
        file.tensors().keys().filter_map(|n| Some((n.clone(), file.read_f32(n).ok()?))).collect();
    let saved = numbers
        .iter()
        .map(|(n, x)| (n.clone(), defrost::nn::SavedTensor::F32(&file.tensors()[n].shape, x)))
        .collect();
    defrost::nn::save_tensors(&bare, &saved, &Default::default()).unwrap();
    let (read, report) = models::load_with("mobilenet_v3_small", &bare, HeadPolicy::Keep).unwrap();
    assert!(report.timm && read.classes() == ["ant", "bee", "wasp"]);
    assert_eq!(*read.preprocess(), view);
    assert_eq!(read.config().norm.eps, 1e-3, "torchvision's, which timm's own architecture has not");
}

/// `w/model.safetensors`: a network's weights as another program saves them, and what lies beside it.
fn beside(place: &Path, config: &[u8]) -> PathBuf {
    let weights = place.join("w/model.safetensors");
    std::fs::create_dir_all(place.join("w")).unwrap();
    let mut net = models::create("resnet20", 3).unwrap();
    models::rule_fill(&mut net);
    let saved: Vec<(String, Tensor)> =
        net.tensors().map(|(spec, x)| (spec.path.clone(), Tensor::floats(&spec.shape, x))).collect();
    std::fs::write(&weights, safetensors(&saved, None)).unwrap();
    std::fs::write(place.join("w/config.json"), config).unwrap();
    weights
}

/// timm's config.json with these entries in place of the usual ones.
fn config(changes: &[(&str, Value)]) -> Vec<u8> {
    let mut config = json!({
        "architecture": "resnet20",
        "label_names": ["ant", "bee", "wasp"],
        "pretrained_cfg": {
            "input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [0.9, 0.8, 0.7], "crop_pct": 0.96,
            "interpolation": "bilinear", "crop_mode": "center",
        },
    });
    for (path, value) in changes {
        *config.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value.clone();
    }
    config.to_string().into_bytes()
}

/// A warning counts and names the values that Defrost cannot follow, and what it takes in their place.
#[test]
fn warnings_name_values_of_timms_config_that_are_not_taken_over() {
    let place = tempfile::tempdir().unwrap();
    let load = |text: &[u8]| models::load_with("resnet20", beside(place.path(), text), HeadPolicy::Keep);
    let (net, report) = load(&config(&[])).unwrap();
    let usual = net.preprocess().clone();
    assert_eq!((usual.resize, usual.size, usual.mean), (50, [48; 2], [0.1, 0.2, 0.3]));
    assert!(report.warnings.is_empty() && net.classes()[2] == "wasp", "{:?}", report.warnings);

    let about = |key: &str| format!("/pretrained_cfg/{key}");
    let odd: Vec<(String, Value, &[&str])> = vec![
        (about("crop_pct"), json!(1.5), &["crop_pct is 1.5", "0.875"]),
        (about("crop_pct"), json!(0.0), &["crop_pct is 0.0"]),
        (about("crop_pct"), json!(-1), &["crop_pct is -1"]),
        (about("crop_pct"), json!("0.9"), &["crop_pct is \"0.9\""]),
        (about("interpolation"), json!("lanczos"), &["interpolation is \"lanczos\"", "bicubic"]),
        (about("interpolation"), json!(3), &["interpolation is 3"]),
        (about("crop_mode"), json!("random"), &["crop_mode is \"random\""]),
        (about("mean"), Value::Null, &["mean is missing", "0.485"]),
        (about("std"), Value::Null, &["std is missing", "0.229"]),
        (about("input_size"), Value::Null, &["input_size is missing", "32"]),
        ("/label_names".into(), json!(["ant", "bee"]), &["label_names has 2 names for 3 classes"]),
        ("/label_names".into(), json!([1, 2, 3]), &["label_names is not a list of names"]),
        ("/label_names".into(), json!({"0": "ant"}), &["label_names is not a list of names"]),
        ("/architecture".into(), json!("resnet32"), &["'resnet32', not resnet20", "takes nothing over"]),
        (
            "/architecture".into(),
            json!("vit_base_patch16_224"),
            &["'vit_base_patch16_224'", "takes nothing over"],
        ),
    ];
    for (path, value, signs) in &odd {
        let (_, report) = load(&config(&[(path, value.clone())])).unwrap();
        let [warning] = &report.warnings[..] else { panic!("{path} {value}: {:?}", report.warnings) };
        for sign in signs.iter().chain(&["config.json"]) {
            assert!(warning.contains(sign), "{sign}: {warning}");
        }
    }
    for (arguments, signs) in [
        (json!({"bn_eps": 5.0}), &["model_args.bn_eps is 5.0"][..]),
        (json!({"pad_type": "reflect"}), &["model_args.pad_type is \"reflect\""]),
        (json!({"in_chans": 1, "act_layer": "gelu"}), &["2 values are", "in_chans is 1", "act_layer"]),
        (json!({"bn_eps": 1e-3, "pad_type": "same"}), &[]),
    ] {
        let mut text: Value = serde_json::from_slice(&config(&[])).unwrap();
        text["model_args"] = arguments;
        let (_, report) = load(text.to_string().as_bytes()).unwrap();
        let all = report.warnings.join("");
        assert!(signs.iter().all(|sign| all.contains(sign)) && all.is_empty() == signs.is_empty(), "{all}");
    }
    // One line for all of a file.
    let all = [&odd[0], &odd[4], &odd[10]].map(|(path, value, _)| (path.as_str(), value.clone()));
    let (net, report) = load(&config(&all)).unwrap();
    assert!(matches!(&report.warnings[..], [one] if one.contains("3 values are not taken over")));
    assert_eq!((net.preprocess().resize, net.classes().len()), (54, 3));

    // What asks for other images than a network here sees, or cannot be understood.
    for (path, value) in [
        (about("input_size"), json!([3, 32, 48])),
        (about("input_size"), json!([1, 48, 48])),
        (about("input_size"), json!([3, 1u64 << 40, 1u64 << 40])),
        (about("input_size"), json!([48, 48])),
        (about("input_size"), json!("48")),
        (about("mean"), json!([0.5, 0.5])),
        (about("mean"), json!(["a", "b", "c"])),
        (about("std"), json!([0.0, 0.0, 0.0])),
        ("/architecture".into(), json!(7)),
        ("/pretrained_cfg".into(), json!("resnet20")),
    ] {
        let e = load(&config(&[(&path, value.clone())])).unwrap_err().to_string();
        assert!(e.contains("config.json"), "{path} {value}: {e}");
    }
    let plain = config(&[]);
    let latin = [&plain[..plain.len() - 1], b", \"note\": \"caf\xe9\"}"].concat();
    for (text, sign) in [
        (latin, "UTF-8"),
        (b"{\"architecture\": ".to_vec(), "not JSON"),
        (b"".to_vec(), "not JSON"),
        (b"\xff\xfe{\0}\0".to_vec(), "UTF-8"),
        ("[".repeat(100_000).into_bytes(), "not JSON"),
    ] {
        let e = load(&text).unwrap_err().to_string();
        assert!(e.contains("config.json") && e.contains(sign), "{e}");
    }
    // Written by an editor that taps UTF-8; timm's form before 2023.
    assert_eq!(load(&[b"\xef\xbb\xbf", &plain[..]].concat()).unwrap().0.preprocess(), &usual);
    let old: Value = serde_json::from_slice(&plain).unwrap();
    let mut flat = old["pretrained_cfg"].clone();
    flat["architecture"] = old["architecture"].clone();
    let (net, report) = load(flat.to_string().as_bytes()).unwrap();
    assert!(net.preprocess() == &usual && report.warnings.is_empty());

    // Other programs' files of this name, and none.
    for text in ["{\"model_type\": \"resnet\", \"architectures\": [\"ResNet\"]}", "[]", "7", "{}"] {
        let (net, report) = load(text.as_bytes()).unwrap();
        assert_eq!((net.preprocess().size[0], report.warnings.len()), (32, 0), "{text}");
    }
    let weights = beside(place.path(), b"");
    std::fs::remove_file(place.path().join("w/config.json")).unwrap();
    assert_eq!(models::load("resnet20", &weights).unwrap().preprocess().size[0], 32);
    std::fs::create_dir(place.path().join("w/config.json")).unwrap();
    let e = models::load("resnet20", &weights).unwrap_err().to_string();
    assert!(e.contains("config.json") && e.contains("cannot read"), "{e}");
}

/// A pipe in the place of a file is not waited for.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_file() {
    let place = tempfile::tempdir().unwrap();
    let weights = beside(place.path(), b"");
    let config = place.path().join("w/config.json");
    std::fs::remove_file(&config).unwrap();
    for path in [&config, &place.path().join("pipe.pth")] {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
    for e in [models::load("resnet20", &weights), models::load("resnet20", place.path().join("pipe.pth"))] {
        assert!(e.unwrap_err().to_string().contains("not a regular file"));
    }
}

/// Every command that loads weights prints the warnings, as text and as events.
#[test]
fn commands_print_warnings_about_timms_config() {
    let place = Place::new();
    place.photos();
    beside(&place.path(""), &config(&[("/pretrained_cfg/interpolation", json!("lanczos"))]));
    let about = ["--model", "resnet20", "--weights", "w/model.safetensors", "--device", "cpu"];
    let tuned = ["--strategy", "features", "--epochs", "1"];
    for command in [
        [&["train", "photos", "--out", "run", "--no-report"][..], &about, &tuned].concat(),
        [&["train", "photos", "--dry-run", "--out", "sheet.png"][..], &about].concat(),
        [&["lr-find", "photos", "--steps", "12"][..], &about, &tuned[..2]].concat(),
        [&["fewshot", "photos", "--shots", "1", "--trials", "1"][..], &about].concat(),
        [&["predict", "photos/red/00.png"][..], &about].concat(),
        [&["explain", "photos/red/00.png", "-o", "why.png"][..], &about].concat(),
        ["inspect", "resnet20", "--weights", "w/model.safetensors"].to_vec(),
        ["convert", "w/model.safetensors", "out.safetensors", "--model", "resnet20"].to_vec(),
    ] {
        let said = place.ok(&command);
        assert_eq!(said.stderr.matches("\"lanczos\"").count(), 1, "{command:?}: {}", said.stderr);
        let json = [&command[..], &["--json"]]
            .concat()
            .into_iter()
            .map(|word| if word == "run" { "again" } else { word });
        let said = place.ok(&json.collect::<Vec<_>>());
        let warnings = said.named("warning");
        assert!(warnings.iter().any(|w| w["message"].as_str().unwrap().contains("lanczos")), "{command:?}");
    }
}

/// timm's config.json goes over one of timm's, never over another program's, and then nothing is written.
#[test]
fn other_programs_configs_are_not_overwritten() {
    let place = Place::new();
    place.weights();
    std::fs::create_dir(place.path("run")).unwrap();
    let convert =
        ["convert", "resnet20.safetensors", "run/out.safetensors", "--model", "resnet20", "--names", "timm"];
    for foreign in
        ["{\"schema_version\": 1, \"arguments\": {}}", "{\"model_type\": \"resnet\"}", "no JSON", ""]
    {
        std::fs::write(place.path("run/config.json"), foreign).unwrap();
        place.run(&convert).failed(2, &["run/config.json", "name another folder"]);
        assert_eq!(std::fs::read_to_string(place.path("run/config.json")).unwrap(), foreign);
        assert_eq!(place.files("run").len(), 1, "{foreign}");
    }
    std::fs::write(place.path("run/config.json"), config(&[])).unwrap();
    place.ok(&convert);
    place.ok(&convert);
    assert!(std::fs::read_to_string(place.path("run/config.json")).unwrap().contains("num_classes"));
}
