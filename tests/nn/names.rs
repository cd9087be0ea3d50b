//! Names, shapes and first weights.

use std::collections::BTreeMap;
use std::path::Path;

use defrost::models::{self, Naming, Network, registry};
use defrost::nn::{Freeze, init};
use serde_json::Value;

use crate::material;

#[test]
fn names_and_shapes_are_torchvisions_and_timms() {
    let Some(folder) = material() else { return };
    let keys: Value = serde_json::from_slice(&std::fs::read(folder.join("keys.json")).unwrap()).unwrap();
    let mut checked = 0;
    for (name, libraries) in keys.as_object().unwrap() {
        let Ok(choice) = registry::find(name) else { continue };
        let net = models::blank(name, choice.model.classes).unwrap();
        for (naming, key) in [(Naming::Torchvision, "tv"), (Naming::Timm, "tm")] {
            let expected: BTreeMap<String, Vec<usize>> =
                serde_json::from_value(libraries[key].clone()).unwrap();
            assert_eq!(net.manifest(naming), expected, "{name} {key}");
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} lists of names were checked");
}

#[test]
fn parameter_counts_are_torchvisions() {
    for (name, classes, count) in [
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("resnet20", 10, 272_474),
        ("mobilenet_v2", 1000, 3_504_872),
        ("vgg11", 1000, 132_863_336),
        ("vgg16", 1000, 138_357_544),
        ("vgg16_bn", 1000, 138_365_992),
        ("vgg19_bn", 1000, 143_678_248),
    ] {
        assert_eq!(models::blank(name, classes).unwrap().parameters(), count, "{name}");
    }
}

#[test]
fn the_rule_fills_what_the_fixtures_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let fixture: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let width = fixture["width"].as_f64().unwrap();
        let name = fixture["model"].as_str().unwrap();
        let name = if width == 1.0 { name.into() } else { format!("{name}_{:03}", width * 100.0) };
        let mut net = models::blank(&name, 10).unwrap();
        assert_eq!(net.parameters() as u64, fixture["parameters"].as_u64().unwrap(), "{name}");
        for (tensor, numbers) in fixture["probe"].as_object().unwrap().iter().filter(|(t, _)| *t != "input") {
            let filled = init::by_rule(net.spec(tensor).unwrap());
            for (i, number) in numbers.as_array().unwrap().iter().enumerate() {
                assert_eq!(filled[i], number.as_f64().unwrap() as f32, "{name} {tensor}");
            }
        }
        // Gradient norms list the parameters that learn, in PyTorch's order.
        let ours = |net: &Network| net.learning().map(|s| s.path.clone()).collect::<Vec<_>>();
        let theirs =
            |pass: &str| fixture[pass]["grad_norms"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(ours(&net), theirs("train"), "{name}");
        net.freeze(Freeze::through(fixture["freeze_through"].as_str().unwrap())).unwrap();
        assert_eq!(ours(&net), theirs("half"), "{name}");
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} fixtures in {}", folder.display());
}

#[test]
fn unknown_models_and_no_classes_are_refused() {
    let e = models::blank("mobilnet_v2", 10).unwrap_err();
    assert!(e.exit_code() == 2 && e.to_string().contains("did you mean 'mobilenet_v2'"), "{e}");
    assert_eq!(models::blank("resnet50", 0).unwrap_err().exit_code(), 2);
}

#[test]
fn first_weights_are_spread_as_torchvision_spreads_them() {
    let spread = |x: &[f32]| {
        let (n, mean) = (x.len() as f64, x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64);
        (mean, (x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n).sqrt())
    };
    let near = |net: &Network, path: &str, deviation: f64| {
        let (mean, found) = spread(net.tensor(path).unwrap());
        assert!(
            mean.abs() < 0.05 * deviation && (found / deviation - 1.0).abs() < 0.05,
            "{path}: {mean} {found}"
        );
    };
    let net = models::create("resnet18", 100).unwrap();
    near(&net, "layer2.0.conv1.weight", (2.0 / (128.0 * 9.0f64)).sqrt());
    near(&net, "fc.weight", 1.0 / (3.0 * 512.0f64).sqrt());
    let net = models::create("mobilenet_v2", 100).unwrap();
    near(&net, "features.17.conv.1.0.weight", (2.0 / (960.0 * 9.0f64)).sqrt());
    near(&net, "classifier.1.weight", 0.01);
    assert!(net.tensor("classifier.1.bias").unwrap().iter().all(|b| *b == 0.0));
    assert!(net.tensor("features.0.1.running_var").unwrap().iter().all(|v| *v == 1.0));
}
