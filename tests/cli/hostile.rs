//! Bad input: each an error that names the thing, with exit 1 or 2 and nothing half-written.
#![allow(clippy::unwrap_used)]

use crate::command;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
#[cfg(target_os = "linux")]
use std::time::Instant;

use command::torch::{Py, Tensor, dict, legacy, zipped};
use command::{COLOURS, FEATURES, Outcome, Place, text};
use defrost::models::{self, Network};
use defrost::nn::{SavedTensor, TensorFile, load_tensors, save_tensors};
use serde_json::Value;

/// Trains on `data` with `weights`, on the CPU: nothing here depends on the device.
fn train(place: &Place, data: &str, weights: &str, more: &[&str]) -> Outcome {
    let chosen = more.iter().any(|option| *option == "--strategy" || option.starts_with("--freeze"));
    let strategy: &[&str] = if chosen { &[] } else { &["--strategy", "features"] };
    let base =
        ["train", data, "--model", "resnet20", "--weights", weights, "--device", "cpu", "--epochs", "2"];
    place.run(&[&base[..], strategy, more].concat())
}

/// Nothing of a run is left, and nothing half-written anywhere.
#[track_caller]
fn nothing_left(place: &Place) {
    let left: Vec<String> = place.files("").into_keys().filter(|f| is_rubbish(f)).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn is_rubbish(file: &str) -> bool {
    file.starts_with("runs") || file.contains(".defrost-")
}

fn ready() -> Place {
    let place = Place::new();
    place.photos();
    place.weights();
    place
}

#[test]
fn data_that_cannot_be_learned_from() {
    let place = ready();
    let weights = "resnet20.safetensors";
    train(&place, "nowhere", weights, &[]).failed(1, &["nowhere", "no such folder"]);
    train(&place, weights, weights, &[]).failed(1, &[weights, "a file"]);
    fs::create_dir(place.path("void")).unwrap();
    train(&place, "void", weights, &[]).failed(1, &["void", "no class folders"]);
    place.images("one", &COLOURS[..1], 4);
    train(&place, "one", weights, &[]).failed(1, &["one", "'blue'", "second class"]);
    place.images("gap", &COLOURS, 4);
    fs::create_dir(place.path("gap/green")).unwrap();
    train(&place, "gap", weights, &[]).failed(1, &["gap/green", "no image"]);
    place.images("few", &COLOURS, 1);
    train(&place, "few", weights, &[]).failed(1, &["single image"]);
    // The model's name where the folder belongs.
    train(&place, "resnet50", weights, &[]).failed(2, &["resnet50", "--model"]);
    nothing_left(&place);
}

#[test]
fn unreadable_images_are_skipped_and_counted() {
    let place = ready();
    fs::write(place.path("photos/red/note.jpg"), "Dear diary,\n").unwrap();
    fs::write(place.path("photos/red/empty.png"), "").unwrap();
    let bytes = libjpeg_turbo_rs::compress(
        &[90; 48 * 40 * 3],
        48,
        40,
        libjpeg_turbo_rs::PixelFormat::Rgb,
        90,
        libjpeg_turbo_rs::Subsampling::S420,
    )
    .unwrap();
    fs::write(place.path("photos/blue/cut.jpg"), &bytes[..bytes.len() * 2 / 3]).unwrap();
    fs::write(place.path("photos/blue/list.txt"), "a\n").unwrap();
    for strategy in ["features", "finetune"] {
        let out = ["--strategy", strategy, "--out", strategy, "--json"];
        let outcome = train(&place, "photos", "resnet20.safetensors", &out);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert_eq!(outcome.done()["skipped"], 4);
        for file in ["note.jpg", "empty.png", "cut.jpg", "list.txt"] {
            assert!(outcome.stderr.contains(file), "{file}\n{}", outcome.stderr);
            let named = |e: &Value| e["files"].to_string().contains(file);
            assert!(outcome.named("skipped").iter().any(named), "{file}");
        }
    }
    let eval = place.ok(&["eval", "features", "photos", "--device", "cpu", "--json"]);
    assert_eq!((&eval.done()["count"], &eval.done()["skipped"]), (&Value::from(24), &Value::from(4)));

    // A class of which nothing can be read.
    place.images("broken", &COLOURS, 3);
    for file in ["broken/red/00.png", "broken/red/01.png", "broken/red/02.png"] {
        fs::write(place.path(file), "no image").unwrap();
    }
    for strategy in ["features", "finetune"] {
        let outcome = train(&place, "broken", "resnet20.safetensors", &["--strategy", strategy]);
        outcome.failed(1, &["'red'"]);
    }
    nothing_left(&place);
}

/// Runs `defrost` with this much address space.
#[cfg(target_os = "linux")]
fn in_memory_of(place: &Place, kib: usize, args: &[&str]) -> Outcome {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_defrost")])
        .args(args);
    place.prepare(&mut command);
    Outcome::of(command.output().unwrap())
}

/// Files of a few bytes that claim gigabytes, and deep images of which eight would need seven.
#[cfg(target_os = "linux")]
#[test]
fn images_that_ask_for_more_memory_than_they_may() {
    let place = Place::new();
    place.photos();
    let header = [8u8, 0, 0, 0, 3, 0, 0, 2, 0, 0];
    let chunk = |kind: &[u8], length: u32, data: &[u8]| [kind, &length.to_le_bytes(), data].concat();
    let body = [
        b"WEBP".to_vec(),
        chunk(b"VP8X", 10, &header),
        chunk(b"VP8L", 8, &[0x2F, 3, 0x80, 0, 0, 0, 0, 0]),
        chunk(b"EXIF", u32::MAX - 1, b"II*"),
    ];
    let body = body.concat();
    let webp = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    fs::write(place.path("photos/red/chunk.webp"), webp).unwrap();
    let outcome = in_memory_of(&place, 3_000_000, &["data", "photos", "--verify", "--threads", "2"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("chunk.webp") && outcome.stderr.contains("claims"), "{}", outcome.stderr);

    // 9400 x 9400 pixels of 16-bit RGBA, 707 MB, in less than a megabyte.
    let side = 9400;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer().unwrap();
    let row = vec![0; side as usize * 8];
    (0..side).for_each(|_| std::io::Write::write_all(&mut stream, &row).unwrap());
    stream.finish().unwrap();
    writer.finish().unwrap();
    for i in 0..8 {
        fs::write(place.path(&format!("photos/blue/deep{i}.png")), &file).unwrap();
    }
    let outcome =
        in_memory_of(&place, 3_500_000, &["data", "photos", "--verify", "--threads", "8", "--json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.done()["skipped"], 1, "{}", outcome.stdout);
}

/// The header of a safetensors file, and its data.
fn parts(file: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

/// Puts a file together whatever its header says.
fn write(file: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(file, [&length[..], header.as_bytes(), data].concat()).unwrap();
}

#[test]
fn damaged_weights() {
    let place = ready();
    let good = place.path("resnet20.safetensors");
    let bytes = fs::read(&good).unwrap();
    let bad = place.path("bad.safetensors");
    let refused = |things: &[&str]| {
        train(&place, "photos", "bad.safetensors", &[]).failed(1, &[&["bad.safetensors"], things].concat());
        place
            .run(&["predict", "bad.safetensors", "photos", "--device", "cpu"])
            .failed(1, &["bad.safetensors"]);
        place.run(&["inspect", "bad.safetensors"]).failed(1, &["bad.safetensors"]);
        nothing_left(&place);
    };
    for length in [bytes.len() - 4, bytes.len() / 2, 100, 9, 4] {
        fs::write(&bad, &bytes[..length]).unwrap();
        refused(&[]);
    }
    fs::write(&bad, "").unwrap();
    refused(&["empty"]);
    fs::write(&bad, b"PK\x03\x04 and so on: a PyTorch checkpoint").unwrap();
    refused(&["PyTorch", "download it again"]);
    fs::write(&bad, "<html>404</html>").unwrap();
    refused(&["web page"]);
    fs::write(&bad, [&[0xFF; 8], &bytes[8..]].concat()).unwrap();
    refused(&[]);

    let (header, data) = parts(&good);
    let mut overlapping = header.clone();
    let other = header["layer1.0.conv1.weight"]["data_offsets"].clone();
    overlapping["layer1.0.conv2.weight"]["data_offsets"] = other;
    write(&bad, &overlapping, &data);
    refused(&[]);
    let mut beyond = header.clone();
    beyond["layer3.2.conv2.weight"]["data_offsets"] = serde_json::json!([0, 1u64 << 60]);
    write(&bad, &beyond, &data);
    refused(&[]);
    let mut shape = header.clone();
    shape["conv1.weight"]["shape"] = serde_json::json!([3, 16, 3, 3]);
    write(&bad, &shape, &data);
    refused(&["conv1.weight", "[3, 16, 3, 3]", "[16, 3, 3, 3]"]);
    let mut kind = header.clone();
    kind["conv1.weight"]["dtype"] = "I32".into();
    write(&bad, &kind, &data);
    refused(&["conv1.weight", "I32"]);

    // Whole files with the wrong content.
    let net = models::load("resnet20", &good).unwrap();
    let saved = |skip: &str| -> BTreeMap<String, SavedTensor<'_>> {
        let tensor = |(spec, numbers)| -> (String, SavedTensor<'_>) {
            let spec: &defrost::nn::ParamSpec = spec;
            (spec.path.clone(), SavedTensor::F32(&spec.shape, numbers))
        };
        net.tensors().map(tensor).filter(|(name, _)| name != skip).collect()
    };
    save_tensors(&bad, &saved("layer2.1.bn1.running_var"), &BTreeMap::new()).unwrap();
    refused(&["layer2.1.bn1.running_var", "missing"]);
    let mut extra = saved("");
    extra.insert("layer4.0.conv1.weight".into(), SavedTensor::F32(&[1], &[1.0]));
    save_tensors(&bad, &extra, &BTreeMap::new()).unwrap();
    refused(&["layer4.0.conv1.weight"]);
    for number in [f32::NAN, f32::INFINITY] {
        let mut net = net.clone();
        let mut numbers = net.tensor("layer1.1.conv2.weight").unwrap().to_vec();
        numbers[17] = number;
        net.set_tensor("layer1.1.conv2.weight", numbers).unwrap();
        net.save(&bad).unwrap();
        refused(&["layer1.1.conv2.weight", "NaN"]);
    }
    // The weights of another network.
    let outcome = place.run(&["train", "photos", "--model", "resnet18", "--weights", "resnet20.safetensors"]);
    outcome.failed(1, &["resnet20", "resnet18"]);
    train(&place, "photos", "nowhere.safetensors", &[]).failed(1, &["nowhere.safetensors"]);
    train(&place, "photos", "photos", &[]).failed(1, &["photos"]);
    nothing_left(&place);
}

/// Runs `defrost` with no more than a gigabyte and a half of addresses, of which programs and threads take a part.
#[cfg(target_os = "linux")]
fn within_limits(place: &Place, args: &[&str]) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1500000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_defrost")]).args(args);
    place.prepare(&mut command);
    let began = Instant::now();
    let outcome = Outcome::of(command.output().unwrap());
    assert!(began.elapsed().as_secs() < 10, "{args:?} took {:?}", began.elapsed());
    outcome
}

/// Values whose pickles are short and would become large, or deep.
#[cfg(target_os = "linux")]
fn large_or_deep() -> Vec<(String, Py)> {
    let repeated = |open: &[u8], times: usize, step: &[u8]| Py::Raw([open, &step.repeat(times)].concat());
    let mut values = vec![];
    // The top of the stack twice, in a tuple, a list, a dictionary of itself.
    for (name, step) in
        [("pairs", &b"2\x86"[..]), ("lists", b"](h\x00h\x00eq\x00"), ("dicts", b"}h\x00h\x00sq\x00")]
    {
        for times in [40, 1000, 100_000] {
            values.push((format!("{name} doubled {times} times"), repeated(b")q\x00", times, step)));
        }
    }
    for (name, step) in
        [("tuples", &b"\x85"[..]), ("lists", b"]q\x00h\x01aq\x01"), ("dicts", b"}h\x01h\x01sq\x01")]
    {
        for depth in [1000, 150_000, 400_000] {
            values.push((format!("{name} {depth} deep"), repeated(b")q\x01", depth, step)));
        }
    }
    for (name, step) in [
        ("dictionaries", &b"}"[..]),
        ("lists", b"]"),
        ("taps", b"("),
        ("kept values", b"N\x94"),
        ("kept dictionaries", b"}\x94"),
        ("tuples of one", b"K\x01\x85"),
        ("names", b"c__builtin__\nint\n"),
    ] {
        values.push((format!("20 MB of {name}"), repeated(b"", 20_000_000 / step.len(), step)));
    }
    // Lists of pairs become dictionaries again and again.
    let pairs = [b"](", &b"K\x01K\x01\x86".repeat(50_000)[..], b"e\x85q\x00"].concat();
    values.push(("pairs".into(), repeated(&pairs, 50_000, b"ccollections\nOrderedDict\nh\x00R0")));
    let nested = b"ctorch._tensor\n_rebuild_from_type_v2\nq\x00)q\x01";
    values.push(("types of types".into(), repeated(nested, 200_000, b"h\x00Nh\x01\x87q\x01")));
    for length in
        [&b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"[..], b"X\xff\xff\xff\xff", b"\x8b\xff\xff\xff\x7f"]
    {
        values.push((format!("a length of {length:x?}"), Py::Raw(length.to_vec())));
    }
    values
}

#[cfg(target_os = "linux")]
#[test]
fn pickles_cost_no_more_than_their_length() {
    let place = Place::new();
    let good = || Py::Tensor(Tensor::floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    for (about, value) in large_or_deep() {
        let beside = dict([("state_dict", dict([("fc.weight", good())])), ("beside", value.clone())]);
        for (name, value) in [("alone", value), ("beside a network", beside)] {
            for (file, bytes) in [("new.pth", zipped("new", &value)), ("old.pth", legacy(&value))] {
                fs::write(place.path(file), bytes).unwrap();
                let done = within_limits(&place, &["convert", file, "out.safetensors"]);
                // What is only deep is no harm beside a network.
                match done.code {
                    0 => assert!(
                        name != "alone" && done.stdout.contains("1 tensor"),
                        "{about}: {}",
                        done.stdout
                    ),
                    _ => done.failed(1, &[file]),
                }
            }
        }
    }
}

/// Shapes, strides and offsets of more numbers than are stored: all of them, in all the ways to say it.
#[cfg(target_os = "linux")]
#[test]
fn tensors_hold_what_is_stored() {
    let place = Place::new();
    let numbers = [1.0, 2.0, 3.0, 4.0];
    let tensor = |shape: &[i64], strides: &[i64], offset| {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        Py::Tensor(Tensor { shape, strides, offset, ..Tensor::floats(&[4], &numbers) })
    };
    let (large, most) = (1_000_000, i64::MAX);
    let mut bad = vec![
        (vec![large, large], vec![0, 0], 0),
        (vec![1 << 40, 1 << 40], vec![0, 0], 0),
        (vec![2, 1 << 62, 2], vec![0, 0, 0], 0),
        (vec![most], vec![0], 0),
        (vec![40_000_000], vec![0], 0),
        (vec![2], vec![most], 0),
        (vec![2, 2], vec![most, most], 0),
        (vec![2, 3], vec![1, 2], 0),
        (vec![5], vec![1], 0),
        (vec![2], vec![1], 3),
        (vec![2], vec![1], most),
        (vec![2], vec![1], -1),
        (vec![2], vec![-1], 1),
        (vec![-2], vec![1], 0),
        (vec![-2, -2], vec![0, 0], 0),
        (vec![2], vec![1, 1], 0),
        (vec![2, 2], vec![2], 0),
        (vec![i64::MIN], vec![i64::MIN], i64::MIN),
    ];
    bad.push((vec![1; 65], vec![1; 65], 0));
    for (shape, strides, offset) in bad {
        let value = dict([("conv1.weight", tensor(&shape, &strides, offset))]);
        for (file, bytes) in [("new.pth", zipped("new", &value)), ("old.pth", legacy(&value))] {
            fs::write(place.path(file), bytes).unwrap();
            within_limits(&place, &["convert", file, "out.safetensors"]).failed(1, &[file, "'conv1.weight'"]);
        }
    }
    // One by one they are no larger than a file may say, together they are.
    let name = |i| -> &'static str { format!("layer.{i}").leak() };
    let value = dict((0..1000).map(|i| (name(i), tensor(&[4_000_000], &[0], 0))));
    fs::write(place.path("all.pth"), zipped("all", &value)).unwrap();
    within_limits(&place, &["convert", "all.pth", "out.safetensors"]).failed(1, &["all.pth", "'layer.4'"]);
    // A head of so many classes.
    let classes = 1_000_000_000_000;
    let value =
        dict([("fc.weight", tensor(&[classes, 64], &[0, 0], 0)), ("fc.bias", tensor(&[classes], &[0], 0))]);
    fs::write(place.path("head.pth"), zipped("head", &value)).unwrap();
    let train = ["train", "drawn:things", "--model", "resnet20", "--device", "cpu", "--weights", "head.pth"];
    within_limits(&place, &train).failed(1, &["head.pth", "'fc.weight'"]);
    // Repeated numbers of a sane number are what they are.
    let value = dict([("layer.weight", tensor(&[3, 2, 2], &[0, 1, 2], 0))]);
    fs::write(place.path("few.pth"), zipped("few", &value)).unwrap();
    assert_eq!(within_limits(&place, &["convert", "few.pth", "out.safetensors"]).code, 0);
    let read = load_tensors(place.path("out.safetensors")).unwrap();
    assert_eq!(read.tensors["layer.weight"].1, [1.0, 3.0, 2.0, 4.0].repeat(3));
}

/// Headers of safetensors that are all too much.
#[cfg(target_os = "linux")]
#[test]
fn headers_cost_no_more_than_their_length() {
    let place = Place::new();
    let names = |count: usize, name: &dyn Fn(usize) -> String| {
        let entry = |i| format!("\"{}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", name(i));
        format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","))
    };
    let one = |name: &str, shape: &str| {
        format!("{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{shape}],\"data_offsets\":[0,0]}}}}")
    };
    let texts: Vec<String> = (0..3_000_000).map(|i| format!("\"{i}\":\"\"")).collect();
    let headers = [
        (names(2000, &|i| format!("layer{i}.weight")), true),
        (names(50_000, &|i| format!("layer{i}.weight")), true),
        (names(200_000, &|i| format!("module.layer{i}.weight")), true),
        (names(1_400_000, &|i| format!("layer{i}.weight")), false),
        (names(1_400_000, &|i| format!("module.{i}")), false),
        (format!("{{\"__metadata__\":{{{}}}}}", texts.join(",")), false),
        (one("a", &"1,".repeat(20_000_000)), false),
        (one(&"a".repeat(40_000_000), "0"), false),
        (one("a", "18446744073709551615,2,0"), false),
        ("[".repeat(40_000_000), false),
        ("{\"a\":".repeat(8_000_000), false),
        ("{\"a\":[".to_string() + &"[".repeat(40_000_000), false),
    ];
    for (header, sound) in headers {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        fs::write(place.path("many.safetensors"), bytes).unwrap();
        let about = header[..60].to_string();
        let done = within_limits(&place, &["convert", "many.safetensors", "out.safetensors"]);
        assert_eq!(done.code, i32::from(!sound), "{about}: {}", done.stderr);
        assert!(done.stderr.contains("many.safetensors") && done.stderr.len() < 2000, "{about}");
        let checked = ["convert", "many.safetensors", "out.safetensors", "--model", "resnet20"];
        let done = within_limits(&place, &checked);
        done.failed(1, &["many.safetensors"]);
        assert!(done.stderr.len() < 2000, "{about}");
    }
}

/// What was handed in with the faults, where it is at hand.
#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn hostile_files_of_the_collection() {
    let folder = Path::new(&std::env::var_os("DEFROST_MATERIAL").unwrap()).join("faults");
    let place = Place::new();
    for entry in fs::read_dir(folder.join("hostile-weights")).into_iter().flatten() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".pth") {
            within_limits(&place, &["convert", text(&file), "out.safetensors"]).failed(1, &[&name]);
        } else if name.ends_with(".safetensors") {
            within_limits(&place, &["predict", text(&file), "gone.png", "--device", "cpu"])
                .failed(1, &[&name]);
        }
    }
    let kinds =
        ["pth-defaultdict", "pth-name-of-21-characters", "pth-prefixes", "pth-tensor-beside-state-dict"];
    for entry in kinds.iter().flat_map(|kind| fs::read_dir(folder.join(kind)).into_iter().flatten()) {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|e| e == "md") {
            continue;
        }
        place.ok(&["convert", text(&file), "out.safetensors"]);
        let names: Vec<String> =
            TensorFile::open(place.path("out.safetensors")).unwrap().tensors().keys().cloned().collect();
        let expected =
            ["bn.bias", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "bn.weight"];
        assert!(
            names.iter().take(5).eq(expected) && names[5..] == ["conv.weight", "fc.bias", "fc.weight"],
            "{names:?}"
        );
    }
}

#[test]
fn names_that_do_not_exist() {
    let place = ready();
    let weights = ["--weights", "resnet20.safetensors", "--device", "cpu"];
    let model = |name| place.run(&[&["train", "photos", "--model", name], &weights[..]].concat());
    model("resnet_20").failed(2, &["resnet_20", "did you mean 'resnet20'"]);
    model("mobilnet_v2").failed(2, &["did you mean 'mobilenet_v2'"]);
    for (option, name, near) in [
        ("--freeze-through", "layer1.0.con1", "layer1.0.conv1"),
        ("--freeze", "layer3.2.bn3", "layer3.2.bn"),
        ("--freeze", "layer22", "layer2"),
    ] {
        let outcome = train(&place, "photos", "resnet20.safetensors", &[option, name]);
        outcome.failed(2, &[name, "did you mean", near]);
        place.run(&["inspect", "resnet20", option, name]).failed(2, &[name, near]);
    }
    train(&place, "photos", "resnet20.safetensors", &["--freeze-groups", "17"]).failed(2, &["17"]);
    // Frozen altogether.
    let all = ["--strategy", "finetune", "--freeze-through", "fc"];
    train(&place, "photos", "resnet20.safetensors", &all).failed(2, &["frozen"]);
    place.run(&["inspect", "resnet2o"]).failed(1, &["did you mean 'resnet20'"]);
    nothing_left(&place);
}

#[cfg(target_os = "linux")]
#[test]
fn no_adapter_at_all() {
    let place = ready();
    let blind = |args: &[&str]| {
        let mut command = place.command(args);
        command.env("VK_ICD_FILENAMES", "/nonexistent.json").env("VK_DRIVER_FILES", "/nonexistent.json");
        Outcome::of(command.output().unwrap())
    };
    let train = [&FEATURES[..], &["--device"]].concat();
    for device in ["gpu", "software", "0"] {
        blind(&[&train[..], &[device]].concat()).failed(1, &["no GPU adapter", "--device cpu"]);
    }
    blind(&["inspect", "resnet20", "--measure"]).failed(2, &["--measure", "the CPU"]);
    let devices = blind(&["devices"]);
    assert_eq!(devices.code, 0);
    assert!(
        devices.stdout.contains("CPU") && devices.stderr.contains("no GPU adapter"),
        "{}",
        devices.stderr
    );
    nothing_left(&place);
}

#[test]
fn a_checkpoint_of_another_class_list() {
    let place = ready();
    let outcome = train(&place, "photos", "resnet20.safetensors", &["--out", "run", "--stop-after", "1"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let before = place.files("run");
    let fruit = [("apple", [200, 30, 30]), ("bleu", [30, 30, 200])];
    place.images("fruit", &fruit, 3);
    let outcome = place.run(&["eval", "run", "fruit", "--device", "cpu"]);
    outcome.failed(1, &["fruit", "'apple'", "2 known classes"]);

    // The data changes under a run.
    fs::rename(place.path("photos/red"), place.path("photos/rot")).unwrap();
    let outcome = place.run(&["train", "--resume", "run", "--device", "cpu"]);
    outcome.failed(1, &["photos"]);
    fs::rename(place.path("photos/rot"), place.path("photos/red")).unwrap();
    fs::remove_dir_all(place.path("photos/blue")).unwrap();
    place.run(&["train", "--resume", "run", "--device", "cpu"]).failed(1, &["photos"]);
    assert!(before == place.files("run"), "the run is as it was");
}

#[test]
fn damaged_run_folders() {
    let place = ready();
    let outcome = train(&place, "photos", "resnet20.safetensors", &["--out", "run", "--stop-after", "1"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let files = place.files("run");
    let resume = || place.run(&["train", "--resume", "run", "--device", "cpu"]);
    for (file, bytes) in &files {
        let path = place.path("run").join(file);
        // What a run only writes, and what it writes anew.
        if file.starts_with("metrics.") || file == "model.safetensors" {
            continue;
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        resume().failed(1, &[file]);
        fs::write(&path, bytes).unwrap();
    }
    // A checkpoint of another training.
    fs::copy(place.path("resnet20.safetensors"), place.path("run/last.safetensors")).unwrap();
    resume().failed(1, &["last.safetensors"]);
    fs::remove_file(place.path("run/last.safetensors")).unwrap();
    // What it has learned is not thrown away.
    resume().failed(2, &["run", "last.safetensors", "checkpoint"]);
    fs::remove_file(place.path("run/model.safetensors")).unwrap();
    place.run(&["eval", "run", "photos"]).failed(1, &["run", "model.safetensors"]);
    fs::remove_file(place.path("run/config.json")).unwrap();
    resume().failed(2, &["run", "config.json"]);
}

/// Runs `defrost` where no file can grow beyond `kib`, as on a full disk.
#[cfg(target_os = "linux")]
fn on_a_full_disk(place: &Place, kib: usize, args: &[&str]) -> Outcome {
    // The shell counts in blocks of 512 bytes; without the trap the signal would end the process.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", kib * 2);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_defrost")]).args(args);
    place.prepare(&mut command);
    Outcome::of(command.output().unwrap())
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_while_saving() {
    let place = ready();
    let args = |out| {
        let base = FEATURES;
        [&base[..], &["--device", "cpu", "--epochs", "2", "--out", out]].concat()
    };
    // model.safetensors needs about 1100 KiB, the kept features 8.
    let outcome = on_a_full_disk(&place, 500, &args("runs/full"));
    outcome.failed(1, &["phase1.safetensors", "cannot write"]);
    nothing_left(&place);
    // Not even the description.
    let outcome = on_a_full_disk(&place, 0, &args("runs/full"));
    outcome.failed(1, &["config.json", "cannot write"]);
    nothing_left(&place);

    // A run that stood is as it was, and goes on when there is room again.
    place.ok(&[&args("run")[..], &["--stop-after", "1"]].concat());
    place.ok(&args("whole"));
    let before = place.files("run");
    let outcome = on_a_full_disk(&place, 500, &["train", "--resume", "run", "--device", "cpu"]);
    outcome.failed(1, &["model.safetensors", "cannot write"]);
    let mut after = place.files("run");
    for metrics in ["metrics.csv", "metrics.jsonl"] {
        after.insert(metrics.into(), before[metrics].clone());
    }
    assert!(before == after, "checkpoints are as they were, and nothing else is there");
    place.ok(&["train", "--resume", "run", "--device", "cpu"]);
    let (run, whole) = (place.files("run"), place.files("whole"));
    assert!(run["model.safetensors"] == whole["model.safetensors"]);
    let lines =
        |files: &BTreeMap<String, Vec<u8>>| String::from_utf8_lossy(&files["metrics.csv"]).lines().count();
    assert_eq!(lines(&run), lines(&whole), "each epoch once");

    // A cache that cannot be written costs time, not the run.
    fs::remove_dir_all(place.path("cache")).unwrap();
    fs::write(place.path("cache"), "a file where the folder should be").unwrap();
    let outcome = place.ok(&args("uncached"));
    assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains("cache"), "{}", outcome.stderr);
    // A folder that cannot be made.
    place.run(&args("cache/run")).failed(1, &["cache/run", "create folder"]);
    // The features of an earlier run, damaged.
    fs::remove_file(place.path("cache")).unwrap();
    place.ok(&args("again"));
    let kept = place.files("cache").into_keys().next().unwrap();
    let kept = place.path("cache").join(kept);
    let bytes = fs::read(&kept).unwrap();
    // Its last image was not written to the end.
    fs::write(&kept, &bytes[..bytes.len() - 7]).unwrap();
    let outcome = place.ok(&args("repaired"));
    assert!(outcome.stderr.contains("features of 23 images were kept"), "{}", outcome.stderr);
    assert!(fs::read(&kept).unwrap() == bytes, "{}", text(&kept));
    // Something else altogether.
    fs::write(&kept, "x".repeat(1000)).unwrap();
    let outcome = place.ok(&args("renewed"));
    assert!(outcome.stderr.contains("damaged"), "{}", outcome.stderr);
    assert!(fs::read(&kept).unwrap() == bytes, "{}", text(&kept));
    let saved = Network::open(place.path("repaired/model.safetensors")).unwrap();
    assert!(saved.classes() == ["blue", "red"]);
}
