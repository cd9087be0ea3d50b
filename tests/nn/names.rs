//! Names, shapes and first weights.

use std::collections::BTreeMap;
use std::path::Path;

use defrost::models::{self, Naming, Network, registry};
use defrost::nn::{Freeze, init};
use serde_json::Value;

use crate::common::material;

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn names_and_shapes_are_torchvisions_and_timms() {
    let folder = material();
    let keys: Value = serde_json::from_slice(&std::fs::read(folder.join("keys.json")).unwrap()).unwrap();
    let mut checked = 0;
    for (name, libraries) in keys.as_object().unwrap() {
        let choice = registry::find(name).unwrap();
        let mut net = models::blank(name, choice.model.classes).unwrap();
        for (naming, key) in [(Naming::Torchvision, "tv"), (Naming::Timm, "tm")] {
            // torchvision's has auxiliary heads; timm's has none, and no GoogLeNet at all.
            net.set_auxiliary(key == "tv" && net.architecture().auxiliary().is_some(), 0).unwrap();
            let expected: BTreeMap<String, Vec<usize>> =
                serde_json::from_value(libraries[key].clone()).unwrap();
            if expected.is_empty() {
                continue;
            }
            assert_eq!(net.manifest(naming), expected, "{name} {key}");
            checked += 1;
        }
    }
    assert!(checked >= 21, "only {checked} lists of names were checked");
}

#[test]
fn parameter_counts_are_torchvisions() {
    for (name, classes, count) in [
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("resnet101", 1000, 44_549_160),
        ("resnet152", 1000, 60_192_808),
        ("resnext50_32x4d", 1000, 25_028_904),
        ("resnext101_32x8d", 1000, 88_791_336),
        ("resnext101_64x4d", 1000, 83_455_272),
        ("wide_resnet50_2", 1000, 68_883_240),
        ("wide_resnet101_2", 1000, 126_886_696),
        ("resnet20", 10, 272_474),
        ("mobilenet_v2", 1000, 3_504_872),
        ("mobilenet_v3_large", 1000, 5_483_032),
        ("mobilenet_v3_small", 1000, 2_542_856),
        ("efficientnet_b0", 1000, 5_288_548),
        ("efficientnet_b1", 1000, 7_794_184),
        ("efficientnet_b2", 1000, 9_109_994),
        ("efficientnet_b3", 1000, 12_233_232),
        ("efficientnet_b4", 1000, 19_341_616),
        ("efficientnet_b5", 1000, 30_389_784),
        ("efficientnet_b6", 1000, 43_040_704),
        ("efficientnet_b7", 1000, 66_347_960),
        ("efficientnet_v2_s", 1000, 21_458_488),
        ("efficientnet_v2_m", 1000, 54_139_356),
        ("efficientnet_v2_l", 1000, 118_515_272),
        ("densenet121", 1000, 7_978_856),
        ("densenet161", 1000, 28_681_000),
        ("densenet169", 1000, 14_149_480),
        ("densenet201", 1000, 20_013_928),
        ("googlenet", 1000, 6_624_904),
        ("squeezenet1_0", 1000, 1_248_424),
        ("squeezenet1_1", 1000, 1_235_496),
        ("vgg11", 1000, 132_863_336),
        ("vgg13", 1000, 133_047_848),
        ("vgg16", 1000, 138_357_544),
        ("vgg19", 1000, 143_667_240),
        ("vgg11_bn", 1000, 132_868_840),
        ("vgg13_bn", 1000, 133_053_736),
        ("vgg16_bn", 1000, 138_365_992),
        ("vgg19_bn", 1000, 143_678_248),
        // timm's.
        ("mobilenet_v1", 1000, 4_231_976),
        ("efficientnet_lite0", 1000, 4_652_008),
        ("inception_v3", 1000, 23_834_568),
    ] {
        assert_eq!(models::blank(name, classes).unwrap().parameters(), count, "{name}");
    }
    let mut inception = models::blank("inception_v3", 1000).unwrap();
    inception.set_auxiliary(true, 0).unwrap();
    assert_eq!(inception.parameters(), 27_161_264, "with the auxiliary head");
}

/// What torchvision publishes of its weights, in 10^9 (its `_ops`, counted by fvcore's rules).
#[test]
fn multiply_adds_are_torchvisions() {
    for (name, billions) in [
        ("resnet18", 1.814),
        ("resnet50", 4.089),
        ("resnext50_32x4d", 4.23),
        ("wide_resnet50_2", 11.398),
        ("googlenet", 1.498),
        ("inception_v3", 5.713),
        ("mobilenet_v2", 0.301),
        ("mobilenet_v3_large", 0.217),
        ("mobilenet_v3_small", 0.057),
        ("densenet121", 2.834),
        ("densenet161", 7.728),
        ("efficientnet_b0", 0.386),
        ("efficientnet_b4", 4.394),
        ("efficientnet_v2_s", 8.366),
        ("squeezenet1_0", 0.819),
        ("squeezenet1_1", 0.349),
        ("vgg16", 15.47),
    ] {
        let found = models::blank(name, 1000).unwrap().mult_adds().unwrap() / 1e9;
        assert!((found / billions - 1.0).abs() < 0.01, "{name}: {found} for {billions}");
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
    assert!(checked >= 50, "only {checked} fixtures in {}", folder.display());
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
