//! Files that ask for more memory or time than they may: each costs no more than its length.

use crate::command;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use command::torch::{Py, Tensor, dict, legacy, zipped};
use command::{Outcome, Place, text};
use defrost::nn::{TensorFile, load_tensors};

/// Runs `defrost` with this much address space.
fn in_memory_of(place: &Place, kib: usize, args: &[&str]) -> Outcome {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_defrost")])
        .args(args);
    place.prepare(&mut command);
    Outcome::of(command.output().unwrap())
}

/// Files of a few bytes that claim gigabytes, and deep images of which eight would need seven.
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

/// Runs `defrost` with no more than a gigabyte and a half of addresses, of which programs and threads take a part.
fn within_limits(place: &Place, args: &[&str]) -> Outcome {
    let began = Instant::now();
    let outcome = in_memory_of(place, 1_500_000, args);
    assert!(began.elapsed().as_secs() < 10, "{args:?} took {:?}", began.elapsed());
    outcome
}

/// Values whose pickles are short and would become large, or deep.
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
