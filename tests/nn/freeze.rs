//! What a mask does to names and to recordings.

use defrost::models::{self, Network, Recording, registry};
use defrost::nn::{Freeze, Mode, NormMode};
use defrost::tape::{Role, Tape};

fn learns(net: &Network, path: &str) -> bool {
    net.learning().any(|s| s.path == path)
}

#[test]
fn freezing_follows_names_prefixes_layers_and_groups() {
    let mut net = models::blank("resnet18", 5).unwrap();
    let all = net.learning().count();

    net.freeze(Freeze::name("layer1.0.conv1.weight")).unwrap();
    assert!(!learns(&net, "layer1.0.conv1.weight") && net.learning().count() == all - 1);

    net.freeze(Freeze::prefix("layer1.0")).unwrap();
    assert!(
        !learns(&net, "layer1.0.bn2.bias")
            && learns(&net, "layer1.1.conv1.weight")
            && learns(&net, "conv1.weight")
    );

    let summary = net.freeze(Freeze::through("layer3")).unwrap();
    assert!(!learns(&net, "conv1.weight") && !learns(&net, "layer3.1.bn2.weight"));
    assert!(learns(&net, "layer4.0.conv1.weight") && learns(&net, "fc.bias"));
    let text = summary.to_string();
    assert!(text.contains("layer4") && text.contains("frozen: conv1 to layer3"), "{text}");

    net.freeze(Freeze::through("maxpool")).unwrap();
    assert!(
        !learns(&net, "bn1.weight") && learns(&net, "layer1.0.conv1.weight"),
        "layers without parameters count"
    );

    let summary = net.freeze(Freeze::all_but_head()).unwrap();
    assert_eq!((summary.total.tensors, summary.total.parameters), (2, 5 * 513));

    net.freeze(Freeze::groups([0])).unwrap();
    assert!(!learns(&net, "layer2.1.conv2.weight") && learns(&net, "layer3.0.conv1.weight"));
    net.freeze(Freeze::groups([0, 1])).unwrap();
    assert_eq!(net.learning().count(), 2);

    net.freeze(Freeze::prefix("layer4").and(Freeze::name("fc.bias"))).unwrap();
    assert!(!learns(&net, "layer4.0.bn1.weight") && !learns(&net, "fc.bias") && learns(&net, "fc.weight"));

    net.freeze(Freeze::none()).unwrap();
    assert_eq!(net.learning().count(), all);
    assert_eq!(net.freeze(Freeze::through("fc")).unwrap().total.tensors, 0);
}

#[test]
fn groups_cover_every_parameter_once() {
    for model in registry::MODELS {
        let net = models::blank(model.name, 3).unwrap();
        let ranges = net.structure().group_ranges();
        let covered: Vec<usize> = ranges.iter().cloned().flatten().collect();
        assert_eq!(covered, (0..net.specs().len()).collect::<Vec<_>>(), "{}", model.name);
        assert!(ranges.iter().all(|r| !r.is_empty()), "{}: {ranges:?}", model.name);
        let head = ranges.last().unwrap().clone();
        assert!(net.specs()[head].iter().all(|s| s.layer_path() == model.head()), "{}", model.name);
    }
}

#[test]
fn unknown_layers_are_refused_with_the_nearest_name() {
    let mut net = models::blank("mobilenet_v2_035", 2).unwrap();
    let before = net.mask().clone();
    for freeze in [Freeze::through("feature.13"), Freeze::prefix("feature.13"), Freeze::name("feature.13")] {
        let e = net.freeze(freeze).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("did you mean 'features.1"), "{e}");
    }
    assert!(net.freeze(Freeze::groups([7])).unwrap_err().to_string().contains("no layer group 7"));
    assert!(net.freeze(Freeze::prefix("features.1.")).is_err());
    assert_eq!(*net.mask(), before, "a refused request changes nothing");
    net.freeze(Freeze::prefix("features.1")).unwrap();
    assert!(learns(&net, "features.10.conv.2.weight"), "features.1 does not hold features.10");
}

fn ops_of(net: &Network, mode: Mode) -> Vec<(String, &'static str)> {
    let mut tape = Tape::new();
    net.record(&mut tape, Recording::new(mode, 2)).unwrap();
    tape.nodes.iter().map(|n| (n.layer.clone(), n.op.name())).collect()
}

#[test]
fn frozen_norms_are_inference_only() {
    let mut net = models::blank("resnet18", 2).unwrap();
    let train_only = |ops: &[(String, &str)], layer: &str| {
        ops.iter().any(|(l, op)| l == layer && (op.contains("stats") || op.contains("running")))
    };
    assert!(train_only(&ops_of(&net, Mode::Train), "bn1"));
    assert!(!train_only(&ops_of(&net, Mode::Eval), "bn1"));

    net.freeze(Freeze::through("layer2")).unwrap();
    let ops = ops_of(&net, Mode::Train);
    assert!(
        !train_only(&ops, "bn1") && !train_only(&ops, "layer2.1.bn2") && train_only(&ops, "layer3.0.bn1")
    );

    // Where a frozen layer's norms are to go on learning, they do, and only they.
    net.freeze(Freeze::through("layer2").norms_learn()).unwrap();
    assert!(train_only(&ops_of(&net, Mode::Train), "bn1"));
    assert!(learns(&net, "bn1.weight") && !learns(&net, "conv1.weight"));

    net.freeze(Freeze::through("layer2").norm(NormMode::FrozenStats)).unwrap();
    assert!(!train_only(&ops_of(&net, Mode::Train), "layer3.0.bn1") && learns(&net, "layer3.0.bn1.weight"));
    net.freeze(Freeze::through("layer2").norm(NormMode::Frozen)).unwrap();
    assert!(!learns(&net, "layer3.0.bn1.weight") && learns(&net, "layer3.0.conv1.weight"));
    assert!(!net.mask().changes(net.spec("layer3.0.bn1.running_mean").unwrap()));
}

#[test]
fn what_is_frozen_is_not_live() {
    let mut net = models::blank("mobilenet_v2_035", 2).unwrap();
    net.freeze(Freeze::through("features.13")).unwrap();
    for mode in [Mode::Train, Mode::Eval] {
        let mut tape = Tape::new();
        let recorded = net.record(&mut tape, Recording::new(mode, 2)).unwrap();
        assert_eq!(tape.shape(recorded.logits).0, [2, 2]);
        assert_eq!(tape.shape(recorded.features).0, [2, net.features()]);
        for value in tape.values.iter().filter(|v| v.role == Role::Param) {
            let spec = net.spec(&value.name).unwrap();
            let changes = net.mask().changes(spec);
            let learns = net.mask().learns(&spec.path, spec.kind);
            assert_eq!(value.live, changes, "{mode:?} {}", value.name);
            assert_eq!(value.requires_grad, learns && mode == Mode::Train, "{mode:?} {}", value.name);
            assert_eq!(value.ty.shape.0, spec.device_shape());
        }
    }
}

#[test]
fn dropout_is_active_in_the_head_and_where_gradients_flow() {
    let drops = |net: &Network, mode| -> Vec<String> {
        ops_of(net, mode)
            .into_iter()
            .filter(|(_, op)| op.starts_with("dropout"))
            .map(|(layer, _)| layer)
            .collect()
    };
    let mut net = models::blank("vgg11", 2).unwrap();
    assert_eq!(drops(&net, Mode::Train), ["classifier.2", "classifier.5"]);
    assert!(drops(&net, Mode::Eval).is_empty());
    net.freeze(Freeze::all_but_head()).unwrap();
    assert_eq!(drops(&net, Mode::Train), ["classifier.5"]);
    let mut tape = Tape::new();
    let head = net.record_head(&mut tape, Mode::Train, 4).unwrap();
    assert!(head.step.is_some() && tape.shape(head.logits).0 == [4, 2]);
}

#[test]
fn stochastic_depth_leaves_blocks_away_where_gradients_flow() {
    let dropped = |net: &Network, mode| -> Vec<(String, String)> {
        let mut tape = Tape::new();
        net.record(&mut tape, Recording::new(mode, 2)).unwrap();
        let nodes = tape.nodes.iter().filter(|node| node.layer.ends_with(".stochastic_depth"));
        nodes.map(|node| (node.layer.clone(), node.op.attributes())).collect()
    };
    // torchvision's: 0.2 times the number of the block over that of all blocks, in blocks with a way round.
    let mut net = models::blank("efficientnet_b0", 2).unwrap();
    let all = dropped(&net, Mode::Train);
    assert_eq!(all.len(), 9);
    assert_eq!(all[0].0, "features.2.1.stochastic_depth");
    assert!(all[0].1 == "p 0.025 by row" && all[8].1.ends_with(" by row"), "{all:?}");
    assert!(dropped(&net, Mode::Eval).is_empty());
    net.freeze(Freeze::through("features.5")).unwrap();
    assert!(dropped(&net, Mode::Train).iter().all(|(layer, _)| layer.starts_with("features.6.")));
    net.freeze(Freeze::none()).unwrap();
    net.set_dropout(Some(0.0)).unwrap();
    assert!(dropped(&net, Mode::Train).is_empty());
    assert!(dropped(&models::blank("tf_efficientnet_lite0", 2).unwrap(), Mode::Train).is_empty());
}

#[test]
fn every_model_records_whole_and_in_parts() {
    for model in registry::MODELS {
        let net = models::blank(model.name, 7).unwrap();
        for mode in [Mode::Train, Mode::Eval] {
            let mut tape = Tape::new();
            let recorded = net.record(&mut tape, Recording::new(mode, 3)).unwrap();
            assert_eq!(tape.shape(recorded.logits).0, [3, 7], "{}", model.name);
            let features = tape.shape(recorded.features);
            assert_eq!((features[0], features.numel()), (3, 3 * net.features()));
        }
        assert!(net.structure().layers.iter().any(|l| l.path == model.features_path()), "{}", model.name);
    }
}

#[test]
fn a_batch_of_one_value_has_no_variance() {
    let net = models::blank("mobilenet_v2_035", 2).unwrap();
    let recording = Recording::new(Mode::Train, 1).with(|c| c.size = Some([32, 32]));
    let e = net.record(&mut Tape::new(), recording).unwrap_err().to_string();
    assert!(e.contains("features.1") && e.contains("variance"), "{e}");
}
