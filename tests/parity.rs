//! Real weights: the same logits as PyTorch.

#![allow(clippy::unwrap_used)]

mod common;

use common::{gpu, logits, material, over_range};
use defrost::models::{self, InputKind};
use defrost::nn::TensorFile;
use defrost::plan::Device;

/// Logits of a material file against PyTorch's, over their range.
fn difference(device: &Device, model: &str, file: &str) -> Option<f64> {
    let material = material()?;
    let net = models::load(model, material.join("weights").join(file)).unwrap();
    let reference = material.join("reference").join(file);
    let images = read_bytes(&reference, "image_u8_nhwc");
    let expected = TensorFile::open(&reference).unwrap().read_f32("output").unwrap();
    let size = net.preprocess().crop;
    let batch = images.len() / (size * size * 3);
    let t = std::time::Instant::now();
    let found = logits(device, &net, batch, size, InputKind::Bytes, &images);
    let off = over_range(&found, &expected);
    println!("{file}: {off:.2e} of the range ({:.1} s)", t.elapsed().as_secs_f64());
    Some(off)
}

/// A `U8` tensor's bytes.
fn read_bytes(path: &std::path::Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensor(name).unwrap().data().to_vec()
}

#[test]
fn mobilenet_v2_on_the_gpu() {
    let device = Device::Gpu(gpu());
    for file in ["mobilenet_v2.safetensors", "mobilenet_v2.tf_same_f16.safetensors"] {
        let Some(off) = difference(&device, "mobilenet_v2", file) else { return };
        assert!(off < 1e-3, "{file}: {off}");
    }
}

#[test]
fn mobilenet_v2_on_the_cpu() {
    let file = "mobilenet_v2.safetensors";
    let Some(off) = difference(&Device::Cpu, "mobilenet_v2", file) else { return };
    assert!(off < 1e-3, "{file}: {off}");
}
