//! What families differ in beyond their layers: heads, auxiliary heads, memory; and that each can be taught.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crate::{command, common};

use command::{COLOURS, Place};
use defrost::data::{Augment, DrawnSet, Preset, Scenes};
use defrost::models::{self, Channels, Network, Placement, Preprocess, Recording, rule_fill};
use defrost::nn::{Freeze, Mode, NormMode};
use defrost::plan::{Device, Request};
use defrost::tape::Tape;
use defrost::train::{Config, Strategy, Trainer, training_plan};

/// A network of this name that sees images of `side` pixels, filled by rule.
fn small(name: &str, side: usize) -> Network {
    let mut net = models::blank(name, 10).unwrap();
    rule_fill(&mut net);
    let mut view = net.preprocess().clone();
    (view.resize, view.size) = (side, [side; 2]);
    net.set_preprocess(view).unwrap();
    net
}

/// The logits of two images, from bytes.
fn logits(device: &Device, net: &Network) -> Vec<f32> {
    let [height, width] = net.preprocess().size;
    let bytes: Vec<u8> = (0..2 * height * width * 3).map(|i| (i * 31 % 251) as u8).collect();
    let mut net = net.clone();
    net.freeze(Freeze::all()).unwrap();
    let mut tape = Tape::new();
    let recorded = net.record(&mut tape, Recording::new(Mode::Eval, 2)).unwrap();
    let request = Request::inference(tape, &[("logits", recorded.logits)]);
    common::run_once(device, &net, request, &[("image", &bytes)]).remove(0)
}

/// The order of a network's channels is that of its first layer's weights; a grey network is one whose first layer weighs
/// the colours so.
#[test]
fn channels_are_in_the_order_that_the_input_says() {
    let with = |channels| {
        let mut net = models::blank("resnet20", 4).unwrap();
        rule_fill(&mut net);
        let statistics = Preprocess::whole(24).with(|c| {
            c.mean = [0.4; 3];
            c.std = [0.3; 3];
        });
        net.set_preprocess(statistics.with(|c| c.channels = channels)).unwrap();
        net
    };
    let first = "conv1.weight";
    for device in [Device::Cpu, Device::Gpu(common::gpu())] {
        let rgb = logits(&device, &with(Channels::Rgb));
        let mut swapped = with(Channels::Bgr);
        // [16, 3, 3, 3]: of each output three planes of 3 x 3.
        let weights = swapped.tensor(first).unwrap().to_vec();
        let planes = weights.chunks_exact(27).flat_map(|w| [&w[18..], &w[9..18], &w[..9]].concat()).collect();
        let other = logits(&device, &swapped);
        swapped.set_tensor(first, planes).unwrap();
        let same = logits(&device, &swapped);
        assert!(
            rgb.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs().max(1.0)),
            "{rgb:?} {same:?}"
        );
        assert!(rgb.iter().zip(&other).any(|(a, b)| (a - b).abs() > 1e-2));

        let grey = with(Channels::Grey);
        let weights = grey.tensor(first).unwrap().to_vec();
        assert_eq!(weights.len(), 16 * 9);
        let shares = [0.299f32, 0.587, 0.114];
        let spread =
            weights.chunks_exact(9).flat_map(|w| shares.map(|s| w.iter().map(|w| s * w).collect::<Vec<_>>()));
        let mut of_colours = with(Channels::Rgb);
        of_colours.set_tensor(first, spread.flatten().collect()).unwrap();
        for (spec, data) in grey.tensors().filter(|(spec, _)| spec.path != first) {
            of_colours.set_tensor(&spec.path, data.to_vec()).unwrap();
        }
        let (a, b) = (logits(&device, &grey), logits(&device, &of_colours));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4 * a.abs().max(1.0)), "{a:?} {b:?}");
    }
}

/// A network whose input is no square learns on images that fit into it, augmented on the device and not.
#[test]
fn inputs_need_not_be_square() {
    let set = DrawnSet::new(Scenes::Things)
        .with(|c| {
            c.side = 40;
            c.train = 4;
            c.val = 2;
        })
        .splits();
    let (train, val) = (Arc::new(set.train), Arc::new(set.val));
    for (placement, preset) in [(Placement::Fit, Preset::Strong), (Placement::Crop, Preset::None)] {
        let mut net = models::create("resnet20", 8).unwrap();
        let view = Preprocess::whole(24).with(|c| {
            c.size = [24, 40];
            c.placement = placement;
        });
        net.set_preprocess(view.clone()).unwrap();
        let augment = preset.augment().with(|c| {
            c.mixup = 0.2;
            c.cutmix = 0.2;
        });
        let config = Config::default().with(|c| {
            c.strategy = Strategy::Scratch;
            c.epochs = Some(2);
            c.batch = Some(8);
            c.augment = if preset == Preset::None { Augment::none() } else { augment };
        });
        net.freeze(config.freeze()).unwrap();
        let report = Trainer::new(&Device::Cpu, config).fit(&mut net, &train, &val).unwrap();
        assert_eq!((report.epochs, report.val_images), (2, 16));
        let folder = tempfile::tempdir().unwrap();
        net.save(folder.path().join("net.safetensors")).unwrap();
        let read = Network::open(folder.path().join("net.safetensors")).unwrap();
        assert_eq!(read.preprocess(), &view);
        assert_eq!(logits(&Device::Cpu, &read), logits(&Device::Cpu, &net));
    }
}

#[test]
fn a_head_is_taught_on_the_features_of_every_family() {
    let place = Place::new();
    let data = place.images("photos", &COLOURS, 12);
    for (name, side) in [
        ("resnet18", 64),
        ("resnext50_32x4d", 64),
        ("mobilenet_v1_025", 64),
        ("mobilenet_v2_035", 64),
        ("mobilenet_v3_small", 64),
        ("efficientnet_b0", 64),
        ("efficientnet_lite0", 64),
        ("efficientnet_v2_s", 64),
        ("densenet121", 64),
        ("googlenet", 64),
        ("bn_inception", 64),
        ("inception_v3", 96),
        ("squeezenet1_1", 64),
    ] {
        let weights = place.path("weights.safetensors");
        small(name, side).save(&weights).unwrap();
        let args = [
            data.to_str().unwrap(),
            "--strategy",
            "features",
            "--weights",
            weights.to_str().unwrap(),
            "--epochs",
            "12",
            "--json",
        ];
        let out = place.path(name);
        let all = [&["train", "--device", "cpu", "--out", out.to_str().unwrap()][..], &args].concat();
        let mut epochs = place.ok(&all).events();
        epochs.retain(|event| event["event"] == "epoch");
        let loss = |i: usize| epochs[i]["train_loss"].as_f64().unwrap();
        assert!(epochs.len() == 12 && loss(11) < 0.98 * loss(0), "{name}: {} to {}", loss(0), loss(11));
    }
}

/// Rows of classes that a head has been taught stay under their names; ImageNet's do not count.
#[test]
fn known_classes_keep_their_rows() {
    let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
    for (name, weight, bias) in [
        ("mobilenet_v2_035", "classifier.1.weight", "classifier.1.bias"),
        ("squeezenet1_1", "classifier.1.weight", "classifier.1.bias"),
    ] {
        let mut net = models::create(name, 2).unwrap();
        net.replace_head_for(names(&["ant", "bee"]), 1).unwrap();
        assert!(net.has_fresh_head());
        let taught: Vec<f32> = net.tensor(weight).unwrap().iter().map(|w| w + 0.5).collect();
        let width = taught.len() / 2;
        net.set_tensor(weight, taught.clone()).unwrap();
        net.set_tensor(bias, vec![0.25, -0.25]).unwrap();
        let body = net.tensor("features.0.0.weight").or(net.tensor("features.0.weight")).unwrap().to_vec();
        net.replace_head_for(names(&["bee", "wasp", "ant"]), 2).unwrap();
        assert!(!net.has_fresh_head());
        let now = net.tensor(weight).unwrap();
        assert_eq!(now[..width], taught[width..], "{name}: bee");
        assert_eq!(now[2 * width..], taught[..width], "{name}: ant");
        assert!(now[width..2 * width].iter().all(|w| w.abs() < 0.3), "{name}: wasp starts anew");
        let biases = net.tensor(bias).unwrap();
        assert_eq!((biases[0], biases[2]), (-0.25, 0.25));
        assert_eq!(net.tensor("features.0.0.weight").or(net.tensor("features.0.weight")).unwrap(), body);
        net.replace_head_for(names(&["cat", "dog"]), 3).unwrap();
        assert!(net.has_fresh_head());
    }
}

#[test]
fn a_head_can_have_a_hidden_layer() {
    let place = Place::new();
    let data = place.images("photos", &COLOURS, 8);
    for (name, head) in [("resnet18", "fc"), ("squeezenet1_0", "classifier.1"), ("vgg11", "classifier.6")] {
        let mut net = models::blank(name, 3).unwrap();
        net.replace_head_with(vec!["a".into(), "b".into()], Some(16), 0).unwrap();
        assert_eq!(net.spec(&format!("{head}.0.weight")).unwrap().shape[0], 16);
        assert_eq!(net.spec(&format!("{head}.3.bias")).unwrap().shape, [2]);
        net.freeze(Freeze::all_but_head()).unwrap();
        assert_eq!(net.learning().count(), 4, "{name}");
    }
    let weights = place.path("weights.safetensors");
    small("resnet18", 32).save(&weights).unwrap();
    let (data, weights) = (data.to_str().unwrap(), weights.to_str().unwrap());
    let out = ["--out", "run", "--epochs", "3", "--device", "cpu"];
    place.ok(&[
        &["train", data, "--strategy", "features", "--weights", weights, "--head-hidden", "24"][..],
        &out,
    ]
    .concat());
    let run = place.path("run");
    let net = Network::open(run.join("model.safetensors")).unwrap();
    assert_eq!(net.config().hidden, Some(24));
    place.ok(&["predict", run.to_str().unwrap(), data, "--device", "cpu"]);
}

/// The auxiliary heads' losses reach the layers below them, and only in training.
#[test]
fn auxiliary_heads_learn_where_they_are_wanted() {
    for (name, side, heads) in [("googlenet", 64, 2), ("inception_v3", 299, 1)] {
        let mut net = small(name, side);
        let plain = net.parameters();
        net.set_auxiliary(true, 0).unwrap();
        assert!(net.parameters() > plain);
        let logits = |net: &Network, mode| {
            let mut tape = Tape::new();
            net.record(&mut tape, Recording::new(mode, 2)).unwrap().auxiliary.len()
        };
        net.freeze(Freeze::none().norm(NormMode::FrozenStats)).unwrap();
        assert_eq!((logits(&net, Mode::Train), logits(&net, Mode::Eval)), (heads, 0), "{name}");
        let config = Config::default().with(|c| c.strategy = Strategy::Finetune);
        let plan = training_plan(&net, &config, 2, &Device::Cpu.caps()).unwrap().to_string();
        let layers = net.architecture().auxiliary().unwrap().layers;
        assert!(layers.iter().all(|layer| plan.contains(&format!("{layer}."))), "{name}");
        // A new task replaces their last layers, too.
        net.replace_head_for(vec!["a".into(), "b".into(), "c".into()], 0).unwrap();
        for head in net.architecture().auxiliary().unwrap().heads {
            assert_eq!(net.spec(&format!("{head}.bias")).unwrap().shape, [3]);
        }
        net.freeze(Freeze::all_but_head()).unwrap();
        assert_eq!((logits(&net, Mode::Train), net.learning().count()), (0, 2), "{name}: the head alone");
    }
    assert_eq!(models::create("resnet18", 2).unwrap().set_auxiliary(true, 0).unwrap_err().exit_code(), 2);
}

/// What a DenseNet keeps for the backward pass grows with its layers, not with their square: each layer's normed and
/// narrowed values and its new channels, and of all joined values the last of each block.
#[test]
fn a_densenet_keeps_each_channel_once() {
    let net = {
        let mut net = small("densenet121", 64);
        net.freeze(Freeze::none()).unwrap();
        net
    };
    let config = Config::default().with(|c| c.strategy = Strategy::Finetune);
    let plan = training_plan(&net, &config, 4, &Device::Cpu.caps()).unwrap();
    let saved = plan.saved();
    let of = |layer: &str, op: &str| {
        let made = |v: &&defrost::tape::ValueId| {
            let step = plan.steps.iter().find(|s| s.node.outputs.contains(v));
            step.is_some_and(|s| s.node.op.name() == op && s.node.layer.ends_with(layer))
        };
        saved.iter().filter(made).count()
    };
    let joined = of("cat", "concat.forward");
    assert!(joined <= 4, "{joined} joined values are kept; there are 4 blocks");
    assert_eq!(of("norm1", "batch_norm.forward"), 0, "norms of joined values");
    assert_eq!(of("norm2", "batch_norm.forward"), 58, "one narrow value a layer");
}
