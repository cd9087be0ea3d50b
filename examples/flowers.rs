//! Transfer learning with the library: a pretrained network, a folder of class folders, a new head.
//!
//! cargo run --release --example flowers -- PHOTOS mobilenet_v2 mobilenet_v2.safetensors

use std::path::Path;
use std::sync::Arc;

use defrost::data::{self, OpenOptions};
use defrost::gpu::GpuOptions;
use defrost::models::{self, HeadPolicy};
use defrost::nn::Freeze;
use defrost::plan::Device;
use defrost::train::{Config, Event, Observer, Trainer};

struct Print;

impl Observer for Print {
    fn event(&mut self, event: &Event) {
        if let Event::Epoch(e) = event {
            println!(
                "epoch {:2}: loss {:.3}, validation {:.1}%",
                e.epoch,
                e.train_loss,
                100.0 * e.val_accuracy
            );
        }
    }
}

fn main() -> defrost::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [photos, model, weights] = &arguments[..] else {
        return Err(defrost::Error::Usage("give a folder of photos, a model, and its weights".into()));
    };
    let device = Device::open(&GpuOptions::default())?;
    let splits = data::open(Path::new(photos), &OpenOptions::default())?;

    let (mut net, _) = models::load_with(model, weights, HeadPolicy::Replace)?;
    net.replace_head_for(splits.train.classes.clone(), 0)?;
    println!("{}", net.freeze(Freeze::all_but_head())?);

    let (train, val) = (Arc::new(splits.train), Arc::new(splits.val));
    let report = Trainer::new(&device, Config::default()).observer(&mut Print).fit(&mut net, &train, &val)?;
    println!("{:.1}% on {} images in {:.1} s", 100.0 * report.val_accuracy, val.len(), report.seconds);
    net.save("flowers.safetensors")?;

    for (class, probability) in net.predict(&device, &val.samples[0].image()?)?.top(3) {
        println!("{class}: {probability:.3}");
    }
    Ok(())
}
