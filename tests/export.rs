//! Checkpoints written by Defrost load into PyTorch with `strict=True` and give the same logits.
//! Runs `tools/check_export.py` with the Python that `DEFROST_PYTHON` names (it needs torch, torchvision, timm
//! and safetensors); without it the test says that it was skipped.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::process::Command;

use common::logits;
use defrost::models::{self, InputKind, Naming};
use defrost::nn::{PaddingStyle, SavedTensor, save_tensors};
use defrost::plan::Device;
use defrost::rng;

/// Names, sides, and whether TensorFlow pads.
const NETWORKS: [(&str, usize, bool); 5] = [
    ("resnet18", 64, false),
    ("resnet50", 64, false),
    ("mobilenet_v2", 64, false),
    ("mobilenet_v2", 64, true),
    ("vgg11_bn", 64, false),
];

#[test]
fn checkpoints_load_strictly_into_torchvision_and_timm() {
    let Some(python) = std::env::var_os("DEFROST_PYTHON") else {
        println!("skipped: DEFROST_PYTHON names no Python with torch, torchvision, timm and safetensors");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/check_export.py");
    for (name, side, same) in NETWORKS {
        let mut net = models::create(name, 7).unwrap();
        models::rule_fill(&mut net);
        if same {
            net.set_padding(PaddingStyle::TfSame);
        }
        let shape = [2, side, side, 3];
        let key = rng::key_of("export");
        let image: Vec<f32> =
            (0..shape.iter().product::<usize>() as u64).map(|i| 2.0 * rng::unit(key, i) - 1.0).collect();
        let bytes = bytemuck::cast_slice(&image);
        let found = logits(&Device::Cpu, &net, 2, side, InputKind::Normalised, bytes);
        let folder = tempfile::tempdir().unwrap();
        let expected = folder.path().join("logits.safetensors");
        let tensors = BTreeMap::from([
            ("image_f32".to_string(), SavedTensor::F32(&shape, &image)),
            ("logits".to_string(), SavedTensor::F32(&[2, 7], &found)),
        ]);
        save_tensors(&expected, &tensors, &BTreeMap::new()).unwrap();
        for (dialect, naming) in [("torchvision", Naming::Torchvision), ("timm", Naming::Timm)] {
            let file = folder.path().join("model.safetensors");
            net.save_as(&file, naming).unwrap();
            let outcome = Command::new(&python)
                .arg(script)
                .arg(&file)
                .args(["--model", name, "--dialect", dialect, "--logits"])
                .arg(&expected)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&outcome.stdout).to_string()
                + &String::from_utf8_lossy(&outcome.stderr);
            println!("{name} {dialect} {}: {}", if same { "SAME" } else { "" }, said.trim());
            assert!(outcome.status.success(), "{name} as {dialect}: {said}");
        }
    }
}
