//! Checkpoints written by Defrost load into PyTorch with `strict=True` and give the same logits.
//! Runs `tools/check_export.py` with the Python that `DEFROST_PYTHON` names (it needs torch, torchvision, timm
//! and safetensors); without it these tests are ignored.

#![allow(clippy::unwrap_used)]

use crate::command;
use crate::common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use command::Place;
use common::logits;
use defrost::models::{self, InputKind, Naming};
use defrost::nn::{PaddingStyle, SavedTensor, save_tensors};
use defrost::plan::Device;
use defrost::rng;

/// Names, sides, whether TensorFlow pads, and whether timm has the network.
const NETWORKS: [(&str, usize, bool, bool); 20] = [
    ("resnet18", 64, false, true),
    ("resnet50", 64, false, true),
    ("resnext50_32x4d", 64, false, true),
    ("wide_resnet50_2", 64, false, true),
    ("mobilenet_v1", 64, false, true),
    ("mobilenet_v2", 64, false, true),
    ("mobilenet_v2", 64, true, true),
    ("mobilenet_v2_050", 64, false, true),
    ("mobilenet_v3_large", 64, false, true),
    ("mobilenet_v3_small", 64, true, true),
    ("efficientnet_b0", 64, false, true),
    ("efficientnet_lite0", 64, true, true),
    ("efficientnet_v2_s", 64, false, true),
    ("densenet121", 64, false, true),
    ("googlenet", 64, false, false),
    ("bn_inception", 64, false, false),
    ("inception_v3", 96, false, true),
    ("squeezenet1_0", 64, false, false),
    ("squeezenet1_1", 64, false, false),
    ("vgg11_bn", 64, false, true),
];

#[test]
#[cfg_attr(not(python), ignore = "needs DEFROST_PYTHON")]
fn checkpoints_load_strictly_into_torchvision_and_timm() {
    let python = std::env::var_os("DEFROST_PYTHON").unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/check_export.py");
    for (name, side, same, timm) in NETWORKS {
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
        let dialects = [("torchvision", Naming::Torchvision), ("timm", Naming::Timm)];
        for (dialect, naming) in dialects.into_iter().take(1 + usize::from(timm)) {
            let place = folder.path().join(dialect);
            fs::create_dir(&place).unwrap();
            let file = place.join("model.safetensors");
            net.save_as(&file, naming).unwrap();
            if naming == Naming::Timm {
                net.save_timm_config(place.join("config.json")).unwrap();
            }
            let outcome = Command::new(&python)
                .arg(script)
                .arg(&file)
                .args(["--model", &net.config().model, "--dialect", dialect, "--logits"])
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

/// Networks whose cards name a program of Python for both libraries or one: arguments of the constructor, constants of
/// batch norms, padding.
const CARDS: [(&str, &str, &[&str]); 5] = [
    ("resnet18", "", &["torchvision", "timm"]),
    ("mobilenet_v2_050", "--half", &["torchvision", "timm"]),
    ("mobilenet_v3_small", "", &["torchvision", "timm"]),
    ("googlenet", "--half", &["torchvision"]),
    ("tf_efficientnet_lite0", "", &["timm"]),
];

#[test]
#[cfg_attr(not(python), ignore = "needs DEFROST_PYTHON")]
fn the_program_of_a_model_card_says_what_predict_says() {
    let python = std::env::var_os("DEFROST_PYTHON").unwrap();
    let place = Place::new();
    let image =
        image::RgbImage::from_fn(90, 70, |x, y| image::Rgb([(2 * x) as u8, (3 * y) as u8, (x ^ y) as u8]));
    for (name, half, libraries) in CARDS {
        let mut net = models::create(name, 4).unwrap();
        models::rule_fill(&mut net);
        let usual = models::registry::find(name).unwrap();
        net.set_padding(usual.padding);
        net.set_norm(usual.norm.unwrap_or(net.config().norm));
        net.set_preprocess(usual.preprocess.with(|c| {
            c.resize = 72;
            c.size = [64; 2];
        }))
        .unwrap();
        net.set_temperature(Some(1.7)).unwrap();
        net.save(place.path("net.safetensors")).unwrap();
        for library in libraries {
            let folder = format!("{name}-{library}");
            let half = if half.is_empty() { &[][..] } else { &[half] };
            place.ok(&[&["export", "net.safetensors", &folder, "--names", library], half].concat());
            // Neither library looks at the name; Defrost neither.
            image.save_with_format(place.path(&folder).join("image.jpg"), image::ImageFormat::Png).unwrap();
            let card = fs::read_to_string(place.path(&folder).join("README.md")).unwrap();
            let program = card.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
            let mut command = Command::new(&python);
            let said = command.args(["-c", program]).current_dir(place.path(&folder)).output().unwrap();
            let answer = String::from_utf8_lossy(&said.stdout).into_owned();
            let complaint = String::from_utf8_lossy(&said.stderr).into_owned();
            assert!(said.status.success(), "{folder}: {complaint}\n{program}");
            let file = format!("{folder}/model.safetensors");
            let own =
                place.ok(&["predict", &file, &format!("{folder}/image.jpg"), "--json", "--device", "cpu"]);
            let own = own.named("prediction")[0]["predictions"].clone();
            println!("{folder}: {answer}");
            assert_eq!(answer.lines().count(), 4, "{folder}: {answer}");
            for line in answer.lines() {
                let (share, class) = line.trim().split_once("%  ").unwrap();
                let own = own.as_array().unwrap().iter().find(|guess| guess["class"] == class).unwrap();
                let off = share.parse::<f64>().unwrap() - 100.0 * own["probability"].as_f64().unwrap();
                assert!(off.abs() < 0.03, "{folder}: {line}, {own}");
            }
        }
    }
}
