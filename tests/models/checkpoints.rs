//! Checkpoints of PyTorch's: a network is found under the prefixes of wrappers and whatever lies beside it, and what is
//! left out is told.

use crate::command;
use crate::pytorch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use command::Place;
use command::torch::{Py, Tensor, dict, legacy, safetensors, text, zipped};
use defrost::models::{self, HeadPolicy};
use defrost::nn::{TensorFile, convert};
use pytorch::numbers;

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
