//! timm's dialect: names there and back, its config.json, and what is not taken over of one.

use crate::command;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use command::Place;
use command::torch::{Tensor, safetensors};
use defrost::models::{self, HeadPolicy, Network, Placement};
use defrost::nn::TensorFile;
use serde_json::{Value, json};

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
    // timm's other ways to place an image are understood, and inputs that are no squares.
    for (mode, placement) in [("squash", Placement::Stretch), ("border", Placement::Fit)] {
        let (mode_at, size_at) = (about("crop_mode"), about("input_size"));
        let changed = [(&mode_at[..], json!(mode)), (&size_at[..], json!([3, 40, 64]))];
        let (net, report) = load(&config(&changed)).unwrap();
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        assert_eq!((net.preprocess().placement, net.preprocess().size), (placement, [40, 64]));
        let written = place.path().join("again/config.json");
        std::fs::create_dir_all(place.path().join("again")).unwrap();
        net.save_timm_config(&written).unwrap();
        let again: Value = serde_json::from_slice(&std::fs::read(&written).unwrap()).unwrap();
        assert_eq!(again["pretrained_cfg"]["crop_mode"], mode);
        assert_eq!(again["pretrained_cfg"]["input_size"], json!([3, 40, 64]));
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
