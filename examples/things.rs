//! Transfer learning in thirty lines, with nothing at hand: images that Defrost draws, the network that comes with it,
//! a new head on cached features, and its accuracy on test images.
//!
//! cargo run --release --example things

use std::sync::Arc;

use defrost::data::{DrawnSet, Scenes, eval};
use defrost::gpu::GpuOptions;
use defrost::models::{Network, shipped};
use defrost::nn::Freeze;
use defrost::plan::Device;
use defrost::task::SingleLabel;
use defrost::train::{Config, Predictor, Silent, Strategy, Trainer, evaluate};

fn main() -> defrost::Result<()> {
    let device = Device::open(&GpuOptions::default())?;
    let set = DrawnSet::new(Scenes::Things)
        .with(|c| {
            c.side = 64;
            c.train = 25;
            c.val = 5;
            c.test = 25;
        })
        .splits();
    let (train, val, test) = (Arc::new(set.train), Arc::new(set.val), Arc::new(set.test.unwrap_or_default()));

    let weights = std::env::temp_dir().join(shipped::FILE);
    shipped::write(&weights)?;
    let mut net = Network::open(&weights)?;
    net.replace_head_for(train.classes.clone(), 0)?;
    println!("{}", net.freeze(Freeze::all_but_head())?);

    let config = Config::default().with(|c| c.strategy = Strategy::Features);
    let report = Trainer::new(&device, config).fit(&mut net, &train, &val)?;
    println!("{} epochs of the head in {:.1} s on {}", report.epochs, report.seconds, device.describe());

    let evaluation = evaluate(&net, &device, test.clone(), 32, &mut Silent)?;
    if let Some(found) = evaluation.metrics_of::<SingleLabel>() {
        let (low, high) = found.top1_interval;
        println!("{:.1}% of {} others correct", 100.0 * found.top1, found.count);
        println!("95% interval {:.1}% to {:.1}%", 100.0 * low, 100.0 * high);
    }
    let image = eval(&test.samples[0].image()?, net.preprocess());
    let answer = Predictor::new(&device, &net, 1)?.predict(&[image])?.remove(0);
    println!("the first, a {}:", test.samples[0].target.describe(&test.classes));
    net.classes().iter().zip(answer).for_each(|(class, p)| println!("  {class:10}{p:.3}"));
    Ok(())
}
