//! Twenty updates on fixed batches, as the trainer makes them, beside PyTorch's (`tools/curve_fixtures.py`): update
//! rules, schedules, rates by layer, clipping, sums over micro-batches, averaged weights, soft labels, mixed images.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use defrost::data::Augment;
use defrost::models::{self, Preprocess};
use defrost::plan::Device;
use defrost::rng;
use defrost::train::{Config, Context, Event, Observer, Strategy, run};
use serde_json::Value;

const SIDE: u32 = 32;
const CLASSES: usize = 4;

/// Losses of the steps, and of the validation after each epoch.
#[derive(Default)]
struct Curve {
    steps: Vec<f64>,
    val: Vec<f64>,
}

impl Observer for Curve {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Progress { loss: Some(loss), .. } => self.steps.push(*loss),
            Event::Epoch(metrics) => self.val.push(metrics.val_loss),
            _ => {}
        }
    }
}

fn images(folder: &Path, part: &str, first: usize, each: usize) {
    for number in 0..CLASSES * each {
        let class = number / each;
        let key = rng::key_of(&format!("picture {}", first + number));
        let byte = |i: u64| (40.0 * class as f32 + 120.0 * rng::unit(key, i)).floor() as u8;
        let pixels = (0..u64::from(SIDE * SIDE * 3)).map(byte).collect();
        let into = folder.join(part).join(format!("class{class}"));
        std::fs::create_dir_all(&into).unwrap();
        let image = image::RgbImage::from_raw(SIDE, SIDE, pixels).unwrap();
        image.save(into.join(format!("{number:02}.png"))).unwrap();
    }
}

#[test]
fn curves_are_those_of_pytorch() {
    let text = std::fs::read_to_string("tests/fixtures/curves.json").unwrap();
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 10);
    let folder = tempfile::tempdir().unwrap();
    let (data, weights) = (folder.path().join("data"), folder.path().join("resnet20.safetensors"));
    images(&data, "train", 0, 10);
    images(&data, "val", CLASSES * 10, 3);
    let mut net = models::blank("resnet20", CLASSES).unwrap();
    models::rule_fill(&mut net);
    net.set_classes((0..CLASSES).map(|c| format!("class{c}")).collect()).unwrap();
    let side = SIDE as usize;
    net.set_preprocess(Preprocess::whole(side).with(|c| {
        c.mean = [0.5; 3];
        c.std = [0.25; 3];
    }))
    .unwrap();
    net.save(&weights).unwrap();

    for (name, case) in cases {
        let settings: Config = serde_json::from_value(case["config"].clone()).unwrap();
        let config = settings.with(|c| {
            c.data = data.clone();
            c.model = "resnet20".into();
            c.weights = Some(weights.clone());
            c.strategy = Strategy::Finetune;
            c.augment = Augment::none().with(|a| a.mixup = c.augment.mixup);
        });
        let (mut curve, stop, device) = (Curve::default(), AtomicBool::new(false), Device::Cpu);
        let cache = folder.path().join("cache");
        let context = Context { device: &device, cache, observer: &mut curve, stop: &stop };
        run(&config, &folder.path().join(&name), context).unwrap();
        // Parts of one update are told one by one.
        let parts = config.accumulate;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / parts as f64;
        let steps: Vec<f64> = curve.steps.chunks(parts).map(mean).collect();
        let numbers = |key: &str| -> Vec<f64> {
            case[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let (expected, expected_val) = (numbers("losses"), numbers("val"));
        assert_eq!((steps.len(), curve.val.len()), (20, 4), "{name}");
        let off = |found: &[f64], expected: &[f64]| {
            found.iter().zip(expected).map(|(f, e)| (f - e).abs() / e.max(0.1)).fold(0.0, f64::max)
        };
        let (train_off, val_off) = (off(&steps, &expected), off(&curve.val, &expected_val));
        println!("{name}: steps {train_off:.1e}, validation {val_off:.1e}");
        assert!(train_off < 1e-4, "{name}: {steps:?} for {expected:?}");
        // Without averaged weights, the figure in the fixture is of the present ones.
        assert!(val_off < 1e-4, "{name}: {:?} for {expected_val:?}", curve.val);
    }
}
