//! Weight files: sound, damaged, real.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use defrost::Result;
use defrost::models::{self, Architecture, HeadPolicy, Naming, Network, load_with};
use defrost::nn::init::LinearInit;
use defrost::nn::{Conv2d, Graph, Kind, PaddingStyle, SavedTensor, TensorFile, load_tensors, save_tensors};
use defrost::tape::ValueId;
use serde_json::{Value, json};

use crate::common::material;

/// A small network's checkpoint, taken apart: header and body.
fn checkpoint(folder: &Path) -> (PathBuf, serde_json::Map<String, Value>, Vec<u8>) {
    let path = folder.join("small.safetensors");
    let mut net = models::blank("resnet20", 10).unwrap();
    models::rule_fill(&mut net);
    net.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    header.remove("__metadata__");
    (path, header, bytes[8 + n..].to_vec())
}

fn assemble(path: &Path, header: &serde_json::Map<String, Value>, body: &[u8]) {
    let header = Value::Object(header.clone()).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    std::fs::write(path, bytes).unwrap();
}

/// The error of loading what `change` makes of a sound file; it must name the file.
fn refused(change: impl FnOnce(&mut serde_json::Map<String, Value>, &mut Vec<u8>)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (path, mut header, mut body) = checkpoint(folder.path());
    change(&mut header, &mut body);
    assemble(&path, &header, &body);
    let mut net = models::create("resnet20", 10).unwrap();
    let before: Vec<f32> = net.tensor("fc.weight").unwrap().to_vec();
    let e = net.load_weights(&path, HeadPolicy::Keep).unwrap_err();
    assert_eq!(net.tensor("fc.weight").unwrap(), before, "a refused file changes nothing");
    assert_eq!(e.exit_code(), 1);
    let e = e.to_string();
    assert!(e.contains("small.safetensors"), "{e}");
    assert_eq!(models::load("resnet20", &path).unwrap_err().exit_code(), 1);
    e
}

fn start_of(header: &serde_json::Map<String, Value>, name: &str) -> usize {
    header[name]["data_offsets"][0].as_u64().unwrap() as usize
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

#[test]
fn damaged_files_are_refused_by_name() {
    says(&refused(|_, body| body.truncate(body.len() / 2)), &["truncated", "bytes expected"]);
    says(&refused(|_, body| body.extend([0; 12])), &["12 bytes lie behind the last tensor"]);
    says(
        &refused(|header, _| {
            let start = start_of(header, "conv1.weight") as u64;
            let end = header["conv1.weight"]["data_offsets"][1].as_u64().unwrap();
            header["conv1.weight"]["data_offsets"] = json!([start - 64, end - 64]);
        }),
        &["overlaps"],
    );
    says(
        &refused(|header, _| header["fc.weight"]["shape"] = json!([10, 63])),
        &["'fc.weight'", "[10,63]", "does not fit its bytes"],
    );
    says(
        &refused(|header, _| header["fc.weight"]["shape"] = json!([u64::MAX, u64::MAX])),
        &["'fc.weight'", "does not fit its bytes"],
    );
    says(&refused(|header, _| header["fc.weight"]["dtype"] = json!("F31")), &["header cannot be understood"]);
    says(&refused(|header, _| header["fc.weight"]["dtype"] = json!("I32")), &["'fc.weight'", "I32", "BF16"]);
    says(
        &refused(|header, _| header["fc.weight"]["shape"] = json!([64, 10])),
        &["'fc.weight'", "[64, 10]", "expected [10, 64]"],
    );
    says(
        &refused(|header, _| {
            let tensor = header.remove("layer2.0.conv1.weight").unwrap();
            header.insert("layer2.0.conv9.weight".into(), tensor);
        }),
        &["'layer2.0.conv1.weight'", "missing", "did you mean 'layer2.0.conv9.weight'"],
    );
    says(
        &refused(|header, body| {
            let end = body.len();
            body.extend([0; 4]);
            header.insert(
                "fc.wait".into(),
                json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}),
            );
        }),
        &["'fc.wait'", "no place", "did you mean 'fc.weight'"],
    );
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        says(
            &refused(|header, body| {
                let at = start_of(header, "layer1.0.bn1.weight") + 8;
                body[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }),
            &["'layer1.0.bn1.weight'", "NaN or infinite", "the first at 2"],
        );
    }
    says(
        &refused(|header, body| {
            let at = start_of(header, "bn1.running_var");
            body[at..at + 4].copy_from_slice(&(-1.0f32).to_le_bytes());
        }),
        &["'bn1.running_var'", "negative"],
    );
}

#[test]
fn files_that_are_no_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pth");
    let huge = u64::MAX.to_le_bytes();
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty"),
        (b"abc", "not a safetensors file"),
        (b"PK\x03\x04 a zip of pickles", "PyTorch checkpoint"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (&huge, "not a safetensors file"),
        (b"\x40\0\0\0\0\0\0\0{\"a\":", "truncated inside its header"),
        (b"\x04\0\0\0\0\0\0\0{{{{", "header cannot be understood"),
    ];
    for (bytes, wanted) in cases {
        std::fs::write(&path, bytes).unwrap();
        let e = Network::open(&path).unwrap_err();
        says(&e.to_string(), &["weights.pth", wanted]);
    }
    says(&Network::open(folder.path()).unwrap_err().to_string(), &["cannot read"]);
    says(&Network::open(folder.path().join("none")).unwrap_err().to_string(), &["none", "cannot read"]);
}

#[test]
fn weights_of_another_model_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (path, header, body) = checkpoint(folder.path());
    let e = models::load("resnet32", &path).unwrap_err().to_string();
    says(&e, &["it holds a resnet20, not a resnet32"]);
    assemble(&path, &header, &body);
    let e = models::load("resnet32", &path).unwrap_err().to_string();
    says(&e, &["weights of resnet20, not of resnet32"]);
    says(&Network::open(&path).unwrap_err().to_string(), &["no checkpoint of Defrost's"]);
}

#[test]
fn a_head_of_another_size_needs_leave() {
    let folder = tempfile::tempdir().unwrap();
    let (path, ..) = checkpoint(folder.path());
    let mut net = models::blank("resnet20", 3).unwrap();
    says(
        &net.load_weights(&path, HeadPolicy::Keep).unwrap_err().to_string(),
        &["'fc.weight'", "[10, 64]", "[3, 64]"],
    );
    let report = net.load_weights(&path, HeadPolicy::Replace).unwrap();
    assert_eq!(report.skipped_head, ["fc.weight", "fc.bias"]);
    assert!(net.has_fresh_head() && net.tensor("fc.weight").unwrap().len() == 3 * 64);
    net.replace_head(4, 1).unwrap();
    let bound = 1.0 / 8.0;
    let weights = net.tensor("fc.weight").unwrap();
    assert!(weights.iter().all(|w| w.abs() <= bound) && weights.iter().any(|w| w.abs() > 0.9 * bound));
    assert_eq!((net.classes().len(), net.tensor("fc.bias").unwrap().len()), (4, 4));
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn saved_networks_come_back_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, timm] = ["a", "b", "timm"].map(|n| folder.path().join(format!("{n}.safetensors")));
    for name in ["mobilenet_v2_035", "resnet18", "resnet20"] {
        let mut net = models::create(name, 3).unwrap();
        net.set_classes(vec!["ant".into(), "bee".into(), "a \"wasp\"".into()]).unwrap();
        net.set_padding(PaddingStyle::TfSame);
        net.count_batches(17);
        net.save(&first).unwrap();
        let read = Network::open(&first).unwrap();
        assert_eq!(read.config(), net.config());
        for ((spec, a), (_, b)) in net.tensors().zip(read.tensors()) {
            assert_eq!(bits(a), bits(b), "{name} {}", spec.path);
        }
        read.save(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{name}: the same bytes");
        net.save_as(&timm, Naming::Timm).unwrap();
        let (read, report) = load_with(name, &timm, HeadPolicy::Keep).unwrap();
        assert_eq!(report.timm, name.starts_with("mobilenet"));
        read.save(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{name} by timm's names");
    }
}

#[test]
fn device_layout_and_back_changes_no_bit() {
    for name in ["mobilenet_v2_035", "resnet50", "vgg11"] {
        let mut net = models::create(name, 3).unwrap();
        for spec in net.specs().to_vec() {
            let before = net.tensor(&spec.path).unwrap().to_vec();
            let packed = net.packed(&spec.path).unwrap();
            assert_eq!(spec.device_shape().iter().product::<usize>(), packed.len());
            net.set_packed(&spec.path, &packed).unwrap();
            assert_eq!(net.tensor(&spec.path).unwrap(), before, "{name} {}", spec.path);
        }
        assert!(net.set_packed("nothing", &[]).is_err());
    }
}

#[test]
fn a_clone_shares_weights_until_one_sets_them() {
    let net = models::create("resnet20", 3).unwrap();
    let mut other = net.clone();
    let shared = |a: &Network, b: &Network| {
        let pairs = a.tensors().zip(b.tensors());
        pairs.filter(|((_, a), (_, b))| std::ptr::eq(*a, *b)).count()
    };
    let all = net.specs().len();
    assert_eq!(shared(&net, &other), all);
    let before = net.tensor("fc.bias").unwrap().to_vec();
    other.set_tensor("fc.bias", vec![7.0; 3]).unwrap();
    assert_eq!((shared(&net, &other), net.tensor("fc.bias").unwrap()), (all - 1, &before[..]));
    // A head with rows that are kept is written row by row.
    let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    other.set_classes(names(&["ant", "bee", "cat"])).unwrap();
    let taught = other.clone();
    other.replace_head_for(names(&["cat", "dog"]), 1).unwrap();
    assert_eq!(shared(&taught, &other), all - 2);
    assert_eq!(other.tensor("fc.bias").unwrap()[0], 7.0);
    assert_eq!(taught.tensor("fc.bias").unwrap(), [7.0; 3]);
}

#[test]
fn halves_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (path, header, body) = checkpoint(folder.path());
    let whole = models::load("resnet20", &path).unwrap();
    for dtype in ["F16", "BF16"] {
        let (mut small_header, mut small) = (serde_json::Map::new(), Vec::new());
        for (name, info) in header.iter().filter(|(_, info)| info["dtype"] == "F32") {
            let [start, end] = [0, 1].map(|i| info["data_offsets"][i].as_u64().unwrap() as usize);
            let at = small.len();
            for b in body[start..end].chunks(4) {
                let x = f32::from_le_bytes(b.try_into().unwrap());
                small.extend(match dtype {
                    "F16" => half::f16::from_f32(x).to_le_bytes(),
                    _ => half::bf16::from_f32(x).to_le_bytes(),
                });
            }
            let info = json!({"dtype": dtype, "shape": info["shape"], "data_offsets": [at, small.len()]});
            small_header.insert(name.clone(), info);
        }
        assemble(&path, &small_header, &small);
        let read = models::load("resnet20", &path).unwrap();
        for ((spec, a), (_, b)) in whole.tensors().zip(read.tensors()) {
            let near = a.iter().zip(b).all(|(a, b)| (a - b).abs() <= a.abs() / 128.0 + 1e-7);
            assert!(near, "{dtype} {}", spec.path);
        }
    }
}

/// A network whose own names all begin with what looks like a wrapper's prefix.
#[derive(Debug)]
struct Wrapped;

impl Architecture for Wrapped {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        g.at("backbone", |g| {
            let x = g.conv2d("conv", x, Conv2d::same(4, 3, 2))?;
            let x = g.batch_norm("norm", x)?;
            let x = g.adaptive_avg_pool("pool", x, [1, 1])?;
            g.flatten("flatten", x)
        })
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.at("backbone", |g| g.linear_head("fc", features, classes))
    }

    fn head_path(&self) -> &'static str {
        "backbone.fc"
    }

    fn features_path(&self) -> &'static str {
        "backbone.flatten"
    }

    fn last_map(&self) -> String {
        "backbone.norm".into()
    }

    fn groups(&self) -> Vec<String> {
        ["backbone.conv", "backbone.fc"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}

#[test]
fn a_networks_own_names_are_no_prefixes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let classes = || ["a", "b"].map(String::from).into();
    let new = || Network::custom("own", Arc::new(Wrapped), models::Preprocess::whole(32), classes()).unwrap();
    let mut net = new();
    models::rule_fill(&mut net);
    net.save(&path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert!(file.prefix().is_empty() && file.tensors().contains_key("backbone.conv.weight"));
    let saved = |prefix: &str| {
        let tensors =
            net.tensors().map(|(s, x)| (format!("{prefix}{}", s.path), SavedTensor::F32(&s.shape, x)));
        save_tensors(&path, &tensors.collect(), &BTreeMap::new()).unwrap();
    };
    for prefix in ["", "module.", "_orig_mod.module."] {
        saved(prefix);
        let mut read = new();
        read.load_weights(&path, HeadPolicy::Keep).unwrap();
        assert!(net.tensors().zip(read.tensors()).all(|((_, a), (_, b))| bits(a) == bits(b)), "{prefix}");
        // What is read back to go on with has the names that it was written with.
        assert!(load_tensors(&path).unwrap().tensors.contains_key(&format!("{prefix}backbone.fc.bias")));
    }
}

/// A checkpoint whose description is changed, and its tensors are not.
fn with_description(path: &Path, change: impl FnOnce(&mut Value)) {
    let bytes = std::fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let mut about: Value = serde_json::from_str(header["__metadata__"]["defrost"].as_str().unwrap()).unwrap();
    change(&mut about);
    header["__metadata__"]["defrost"] = about.to_string().into();
    assemble(path, &header, &bytes[8 + n..]);
}

/// Whatever number stands in a description: an error that names the file, or a network of what the file holds. Nothing
/// is allocated because a description says so.
#[test]
fn numbers_of_a_description_are_compared_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let mut net = models::create("resnet20", 10).unwrap();
    net.set_temperature(Some(1.5)).unwrap();
    let whole = [
        "/version",
        "/model/width",
        "/model/norm/eps",
        "/model/norm/momentum",
        "/input/resize",
        "/input/size/0",
        "/input/size/1",
        "/input/fill/2",
        "/input/mean/0",
        "/input/std/2",
        "/task/hidden",
        "/task/outputs",
        "/task/temperature",
    ];
    let numbers = [
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(3),
        json!(8),
        json!(1000),
        json!(1u64 << 20),
        json!(10_000_000u64),
        json!(10_000_000_000u64),
        json!(100_000_000_000_000_000u64),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e300),
        json!(1e-300),
        json!("7"),
        json!([]),
        Value::Null,
    ];
    for model in ["resnet20", "vgg19_bn", "mobilenet_v2"] {
        for key in whole {
            for number in &numbers {
                net.save(&path).unwrap();
                with_description(&path, |about| {
                    about["model"]["name"] = model.into();
                    (about["task"]["hidden"], about["task"]["outputs"]) = (Value::Null, Value::Null);
                    *about.pointer_mut(key).unwrap() = number.clone();
                });
                for outcome in [
                    Network::open(&path),
                    models::load(model, &path),
                    load_with(model, &path, HeadPolicy::Replace).map(|(net, _)| net),
                ] {
                    match outcome {
                        Ok(read) => {
                            assert!(model == "resnet20" && read.parameters() < 400_000, "{key} {number}");
                        }
                        Err(e) => says(&e.to_string(), &["small.safetensors"]),
                    }
                }
            }
        }
    }
    // A head that the file does not hold is no larger than any head.
    let refused = |change: fn(&mut Value), signs: &[&str]| {
        net.save(&path).unwrap();
        with_description(&path, change);
        let e = load_with("resnet20", &path, HeadPolicy::Replace).unwrap_err().to_string();
        says(&e, &[&["small.safetensors"], signs].concat());
    };
    refused(|about| about["task"]["classes"] = json!(vec!["a"; 1 << 20]), &["a head of"]);
    refused(
        |about| about["task"]["classes"] = json!(vec!["a"; (1 << 20) + 1]),
        &["1048577 classes", "at most 1048576"],
    );
    refused(|about| about["task"]["classes"] = json!([]), &["at least one class"]);
    refused(|about| about["task"]["classes"] = json!(["x".repeat(17 << 20)]), &["description", "bytes"]);
}

#[test]
fn a_head_of_too_many_classes_is_refused_before_any_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.safetensors");
    for name in ["fc.bias", "classifier.1.bias", "head.fc.bias"] {
        let numbers = vec![0.0; (1 << 20) + 1];
        let tensors = BTreeMap::from([(name.to_string(), SavedTensor::F32(&[(1 << 20) + 1], &numbers))]);
        save_tensors(&path, &tensors, &BTreeMap::new()).unwrap();
        for model in ["resnet20", "mobilenet_v2", "vgg16"] {
            let e = models::load(model, &path).unwrap_err().to_string();
            says(&e, &["wide.safetensors"]);
        }
    }
    let e = models::load("vgg16", &path).unwrap_err().to_string();
    says(&e, &["'head.fc.bias'", "1048577", "at most 1048576 classes"]);
    says(&models::create("resnet20", usize::MAX).unwrap_err().to_string(), &["at most 1048576"]);
    let mut net = models::create("resnet20", 2).unwrap();
    says(&net.replace_head(1_000_000_000_000, 0).unwrap_err().to_string(), &["at most 1048576"]);
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn real_files_are_loaded() {
    let folder = material();
    let file = |name: &str| folder.join("weights").join(format!("{name}.safetensors"));

    let net = models::load("mobilenet_v2", file("mobilenet_v2")).unwrap();
    assert!(net.knows_imagenet() && net.classes()[0] == "tench");
    assert_eq!(
        (net.config().padding, net.preprocess()),
        (PaddingStyle::Symmetric, &models::Preprocess::default())
    );

    let net = models::load("timm/mobilenetv2_100", file("mobilenet_v2.tf_same_f16")).unwrap();
    assert_eq!((net.config().padding, net.preprocess().mean), (PaddingStyle::TfSame, [0.5; 3]));

    let headless = file("mobilenet_v2_035.features");
    says(
        &models::load("mobilenet_v2", &headless).unwrap_err().to_string(),
        &["'classifier.1.weight'", "missing"],
    );
    for name in ["mobilenet_v2", "mobilenet_v2_035"] {
        let (net, report) = load_with(name, &headless, HeadPolicy::Replace).unwrap();
        assert_eq!((net.config().width, net.features()), (0.35, 1280));
        assert_eq!(report.skipped_head, ["classifier.1.weight", "classifier.1.bias"]);
        assert!(net.has_fresh_head() && net.config().padding == PaddingStyle::TfSame);
    }
    says(
        &models::load("mobilenet_v2_140", file("mobilenet_v2")).unwrap_err().to_string(),
        &["'features.0.0.weight'", "expected [48, 3, 3, 3]"],
    );

    for name in ["resnet20", "resnet56"] {
        let (net, report) = load_with(name, file(&format!("{name}_cifar10")), HeadPolicy::Keep).unwrap();
        assert_eq!((net.preprocess().resize, net.preprocess().size[0], net.classes().len()), (32, 32, 10));
        assert_eq!((report.loaded, report.ignored.len()), (net.specs().len(), 0));
        // Option A: zeros and ones.
        let shortcut = net.tensor("layer2.0.downsample.0.weight").unwrap();
        assert!(shortcut.iter().all(|w| *w == 0.0 || *w == 1.0));
    }
    says(
        &models::load("resnet18", file("mobilenet_v2")).unwrap_err().to_string(),
        &["weights of mobilenet_v2, not of resnet18"],
    );
    assert!(net.specs().iter().all(|s| s.kind != Kind::Bias || s.path.starts_with("classifier")));
}
