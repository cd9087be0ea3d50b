//! Real weights: the same logits as PyTorch.

#![allow(clippy::unwrap_used)]

use crate::common;

use std::sync::Arc;

use common::{gpu, logits, material, over_range, run_once};
use defrost::models::{self, HeadPolicy, InputKind, Recording};
use defrost::nn::{Freeze, Mode, TensorFile};
use defrost::plan::{Device, Request};
use defrost::tape::Tape;
use defrost::task::SingleLabel;
use defrost::train::{Silent, evaluate};

/// Logits of a material file against PyTorch's, over their range.
fn difference(device: &Device, model: &str, file: &str) -> f64 {
    let material = material();
    let net = models::load(model, material.join("weights").join(file)).unwrap();
    let reference = material.join("reference").join(file);
    let images = read_bytes(&reference, "image_u8_nhwc");
    let expected = TensorFile::open(&reference).unwrap().read_f32("output").unwrap();
    let size = net.preprocess().size[0];
    let batch = images.len() / (size * size * 3);
    let t = std::time::Instant::now();
    let found = logits(device, &net, batch, size, InputKind::Bytes, &images);
    let off = over_range(&found, &expected);
    println!("{file}: {off:.2e} of the range ({:.1} s)", t.elapsed().as_secs_f64());
    off
}

/// A `U8` tensor's bytes.
fn read_bytes(path: &std::path::Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().to_vec()
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn mobilenet_v2_on_the_gpu() {
    let device = Device::Gpu(gpu());
    for file in ["mobilenet_v2.safetensors", "mobilenet_v2.tf_same_f16.safetensors"] {
        let off = difference(&device, "mobilenet_v2", file);
        assert!(off < 1e-3, "{file}: {off}");
    }
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn mobilenet_v2_on_the_cpu() {
    let file = "mobilenet_v2.safetensors";
    let off = difference(&Device::Cpu, "mobilenet_v2", file);
    assert!(off < 1e-3, "{file}: {off}");
}

/// Every other file of real weights: model, file, and how far its logits may lie off.
#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn other_families_on_both_devices() {
    let files = [
        ("mobilenet_v1", "mobilenet_v1_025_128", 1e-3),
        ("mobilenet_v1_050", "mobilenet_v1_050_160", 1e-3),
        ("mobilenet_v1", "mobilenet_v1_075_192_f16", 1e-2),
        ("squeezenet1_0", "squeezenet1_0", 1e-3),
        ("squeezenet1_1", "squeezenet1_1", 1e-3),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.flowers5", 1e-3),
    ];
    let gpu = Device::Gpu(gpu());
    for (model, file, allowed) in files {
        for device in [&gpu, &Device::Cpu] {
            let off = difference(device, model, &format!("{file}.safetensors"));
            assert!(off < allowed, "{file}: {off}");
        }
    }
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn mobilenet_v2_035_feature_maps() {
    let material = material();
    let file = "mobilenet_v2_035.features.safetensors";
    let weights = material.join("weights").join(file);
    let (mut net, _) = models::load_with("mobilenet_v2", weights, HeadPolicy::Replace).unwrap();
    net.freeze(Freeze::all()).unwrap();
    let reference = material.join("reference").join(file);
    let images = read_bytes(&reference, "image_u8_nhwc");
    let expected = TensorFile::open(&reference).unwrap().read_f32("output").unwrap();
    let mut tape = Tape::new();
    net.record(&mut tape, Recording::new(Mode::Eval, 3)).unwrap();
    // The last value of the last block is the map before it is averaged: [3, 7, 7, 1280].
    let last = tape.nodes.iter().rfind(|n| n.layer.starts_with("features.18")).unwrap().outputs[0];
    let request = Request::inference(tape, &[("map", last)]);
    let found = run_once(&Device::Gpu(gpu()), &net, request, &[("image", &images)]).remove(0);
    // PyTorch's is [3, 1280, 7, 7].
    let at = |i: usize| found[(i / 49 / 1280 * 49 + i % 49) * 1280 + i / 49 % 1280];
    let found: Vec<f32> = (0..expected.len()).map(at).collect();
    let off = over_range(&found, &expected);
    println!("{file}: {off:.2e} of the range");
    assert!(off < 1e-3, "{off}");
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn accuracy_on_real_images_is_pytorchs() {
    let material = material();
    let net = models::load("mobilenet_v2", material.join("weights/mobilenet_v2.safetensors")).unwrap();
    let folder = material.join("data/imagenet_samples/val");
    let lookup = |wnid: &str| models::imagenet::index_of(wnid).map(|i| i as u32);
    let set = Arc::new(defrost::data::open_labelled(&folder, net.classes(), lookup).unwrap());
    let worth = evaluate(&net, &Device::Cpu, set, 16, &mut Silent).unwrap();
    let worth = worth.metrics_of::<SingleLabel>().unwrap();
    let of = |share: f64| (share * worth.count as f64).round() as i64;
    println!("{} of {} right, {} within five", of(worth.top1), worth.count, of(worth.top5));
    assert_eq!(worth.count, 200);
    // PyTorch: 165 and 194; JPEG decoders differ by a few levels.
    assert!((of(worth.top1) - 165).abs() <= 1 && (of(worth.top5) - 194).abs() <= 1);
}
