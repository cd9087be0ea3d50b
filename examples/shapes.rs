//! A whole training with nothing at hand: draws pictures of four shapes, teaches a ResNet-20 from its first
//! weights to tell them apart, saves it, and reads it back.
//!
//! cargo run --release --example shapes -- FOLDER

use std::path::{Path, PathBuf};
use std::sync::Arc;

use defrost::data::{self, Augment, OpenOptions};
use defrost::gpu::GpuOptions;
use defrost::models::{self, Network};
use defrost::nn::{Freeze, NormMode};
use defrost::plan::Device;
use defrost::rng::Stream;
use defrost::train::{Config, Event, Observer, Predictor, Strategy, Trainer, interval};
use defrost::{Error, Result};

const CLASSES: [&str; 4] = ["cross", "disc", "ring", "square"];
const SIDE: u32 = 32;
const PICTURES: u64 = 60;

/// Whether the shape covers a point, given relative to its centre in units of its size.
fn covers(class: &str, x: f64, y: f64) -> bool {
    let radius = x.hypot(y);
    match class {
        "cross" => (x.abs() < 0.35 && y.abs() < 1.0) || (y.abs() < 0.35 && x.abs() < 1.0),
        "disc" => radius < 1.0,
        "ring" => (0.6..1.05).contains(&radius),
        _ => x.abs() < 0.85 && y.abs() < 0.85,
    }
}

/// One shape of random place, size, angle and colour on a noisy ground.
fn draw(class: &str, random: &mut Stream) -> image::RgbImage {
    let mut colour = |low, high| [0, 1, 2].map(|_| random.range(low, high));
    let (ink, ground) = (colour(150.0, 255.0), colour(0.0, 100.0));
    let size = random.range(7.0, 11.0);
    let (cx, cy) = (random.range(13.0, 19.0), random.range(13.0, 19.0));
    let (sin, cos) = random.range(-0.3, 0.3).sin_cos();
    image::RgbImage::from_fn(SIDE, SIDE, |px, py| {
        let (x, y) = ((f64::from(px) - cx) / size, (f64::from(py) - cy) / size);
        let inside = covers(class, x * cos + y * sin, y * cos - x * sin);
        let base = if inside { ink } else { ground };
        image::Rgb(base.map(|c| (c + 12.0 * random.normal()).clamp(0.0, 255.0) as u8))
    })
}

fn write_pictures(folder: &Path) -> Result<()> {
    for (label, class) in CLASSES.iter().enumerate() {
        let place = folder.join(class);
        std::fs::create_dir_all(&place).map_err(|e| Error::io(&place, "create folder", e))?;
        for i in 0..PICTURES {
            let path = place.join(format!("{i:03}.png"));
            let picture = draw(class, &mut Stream::new(&[label as u64, i]));
            picture.save(&path).map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        }
    }
    Ok(())
}

struct Print;

impl Observer for Print {
    fn event(&mut self, event: &Event) {
        if let Event::Epoch(e) = event {
            let (train, val) = (100.0 * e.train_accuracy, 100.0 * e.val_accuracy);
            println!(
                "epoch {:2}: loss {:.3}, training {train:.1}%, validation {val:.1}%",
                e.epoch, e.train_loss
            );
        }
    }
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).map_or(std::env::temp_dir().join("defrost-shapes"), PathBuf::from);
    let device = Device::open(&GpuOptions::default())?;
    println!("device: {}", device.describe());
    write_pictures(&folder)?;
    let splits = data::open(&folder, &OpenOptions::default())?;
    let (train, val) = (Arc::new(splits.train), Arc::new(splits.val));
    println!(
        "{} pictures to learn from, {} to measure with, in {}",
        train.len(),
        val.len(),
        folder.display()
    );

    let mut net = models::create("resnet20", CLASSES.len())?;
    net.set_classes(train.classes.clone())?;
    net.freeze(Freeze::none().norm(NormMode::Train))?;
    let config = Config {
        strategy: Strategy::Finetune,
        epochs: Some(8),
        batch: Some(16),
        lr: vec![1e-2],
        augment: Augment { scale: (0.8, 1.0), ..Augment::default() },
        ..Config::default()
    };
    let report = Trainer::new(&device, config).observer(&mut Print).fit(&mut net, &train, &val)?;
    let right = (report.val_accuracy * val.len() as f64).round() as usize;
    let (low, high) = interval(right, val.len());
    println!(
        "{right} of {} right ({:.1}%, 95% interval {:.1} to {:.1}), in {:.1} s",
        val.len(),
        100.0 * report.val_accuracy,
        100.0 * low,
        100.0 * high,
        report.seconds
    );

    let path = folder.join("shapes.safetensors");
    net.save(&path)?;
    let again = Network::open(&path)?;
    let picture = data::eval(&val.samples[0].picture()?, again.preprocess());
    let probabilities = Predictor::new(&device, &again, 1)?.predict(&[picture])?.remove(0);
    println!("saved to {}; it calls {}:", path.display(), val.samples[0].name().display());
    for (class, p) in again.classes().iter().zip(probabilities) {
        println!("  {class:8}{p:.3}");
    }
    Ok(())
}
