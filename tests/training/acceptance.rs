//! The whole chain on real images with real weights, as the command runs it: accuracies that PyTorch reaches
//! too (a linear probe: hymenoptera 95.4%, clothing10 78.8% on validation and 81.2% on test). On the CPU: on
//! some processors software Vulkan takes minutes.

#![allow(clippy::unwrap_used)]

use crate::common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::material;
use defrost::data::{by_name, open_labelled};
use defrost::models::Network;
use defrost::plan::Device;
use defrost::task::SingleLabel;
use defrost::train::{Config, Context, Event, Observer, Report, Silent, Strategy, evaluate, run};

/// Keeps what is said of features that need not be computed again.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn event(&mut self, event: &Event) {
        if let Event::Note(note) = event {
            self.0.push(note.clone());
        }
    }
}

fn teach(config: &Config, out: &Path, cache: &Path) -> (Report, Vec<String>) {
    let (device, mut notes, stop) = (Device::Cpu, Notes::default(), AtomicBool::new(false));
    let context = Context { device: &device, cache: cache.into(), observer: &mut notes, stop: &stop };
    let report = run(config, out, context).unwrap();
    println!("{}: {:.2}% in {:.1} s", config.data.display(), 100.0 * report.val_accuracy, report.seconds);
    (report, notes.0)
}

fn settings(material: &Path, data: &str) -> Config {
    Config::default().with(|c| {
        c.data = material.join("data").join(data);
        c.strategy = Strategy::Features;
        c.model = "mobilenet_v2".into();
        c.weights = Some(material.join("weights/mobilenet_v2.safetensors"));
    })
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn ants_and_bees() {
    let material = material();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let features = settings(&material, "hymenoptera");
    let (first, _) = teach(&features, &place("first"), &place("cache"));
    assert!(first.val_accuracy >= 0.94, "{first:?}");

    // Once more: nothing is computed again, and everything comes out the same.
    let (second, notes) = teach(&features, &place("second"), &place("cache"));
    assert!(notes.iter().any(|n| n.contains("397 images were kept")), "{notes:?}");
    assert_eq!((first.val_accuracy, first.val_loss), (second.val_accuracy, second.val_loss));
    let bytes = |run: &str| std::fs::read(place(run).join("model.safetensors")).unwrap();
    assert!(bytes("first") == bytes("second"), "the same run gave other bytes");

    let finetune = features.with(|c| {
        c.strategy = Strategy::Finetune;
        c.freeze_through = Some("features.13".into());
        c.epochs = Some(2);
    });
    let (tuned, _) = teach(&finetune, &place("tuned"), &place("cache"));
    assert!(tuned.val_accuracy >= first.val_accuracy - 0.01, "{tuned:?}");
}

#[test]
#[cfg_attr(not(material), ignore = "needs DEFROST_MATERIAL")]
fn ten_kinds_of_clothing() {
    let material = material();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let config = settings(&material, "clothing10");
    let (report, _) = teach(&config, &out, &folder.path().join("cache"));
    assert!(report.val_accuracy >= 0.77, "{report:?}");
    let net = Network::open(out.join("model.safetensors")).unwrap();
    let test = open_labelled(&config.data.join("test"), net.classes(), by_name(net.classes())).unwrap();
    let worth = evaluate(&net, &Device::Cpu, Arc::new(test), 16, &mut Silent).unwrap();
    let worth = worth.metrics_of::<SingleLabel>().unwrap();
    println!("test: {:.2}% of {}", 100.0 * worth.top1, worth.count);
    assert!(worth.count == 293 && worth.top1 >= 0.80, "{worth:?}");
}
