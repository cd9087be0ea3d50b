//! A network of one's own: an [`Architecture`] written like the paper's table. It learns from nothing, then its first layers
//! are frozen and it learns on; all strategies, plans and savings are those of Defrost's own networks.
//!
//! cargo run --release --example own_model

use std::sync::Arc;

use defrost::Result;
use defrost::data::{Augment, DrawnSet, Scenes, Splits};
use defrost::gpu::{Caps, GpuOptions};
use defrost::models::{self, Architecture, Model, Network, Preprocess};
use defrost::nn::init::LinearInit;
use defrost::nn::{Conv2d, Freeze, Graph, NormMode};
use defrost::plan::Device;
use defrost::tape::ValueId;
use defrost::train::{Config, Event, Observer, Strategy, Trainer, training_plan};

const SIDE: usize = 32;
const BATCH: usize = 16;

/// Stages of two 3x3 convolutions with batch norm, each stage at half the size and twice as wide; then the mean of all
/// places, and a linear layer.
#[derive(Debug)]
struct Tiny {
    channels: [usize; 3],
}

impl Architecture for Tiny {
    fn features(&self, g: &mut Graph<'_>, mut x: ValueId) -> Result<ValueId> {
        for (stage, channels) in self.channels.into_iter().enumerate() {
            x = g.at(format_args!("stage{stage}"), |g| {
                (0..2).try_fold(x, |x, i| {
                    g.at(i, |g| {
                        let stride = if i == 0 { 2 } else { 1 };
                        let x = g.conv2d("conv", x, Conv2d::same(channels, 3, stride))?;
                        let x = g.batch_norm("norm", x)?;
                        g.relu("relu", x)
                    })
                })
            })?;
        }
        let x = g.adaptive_avg_pool("pool", x, [1, 1])?;
        g.flatten("flatten", x)
    }

    fn head(&self, g: &mut Graph<'_>, features: ValueId, classes: usize) -> Result<ValueId> {
        g.linear_head("head", features, classes)
    }

    fn head_path(&self) -> &'static str {
        "head"
    }

    fn features_path(&self) -> &'static str {
        "flatten"
    }

    fn last_map(&self) -> String {
        "stage2".into()
    }

    fn groups(&self) -> Vec<String> {
        ["stage0", "stage1", "head"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}

struct Print;

impl Observer for Print {
    fn event(&mut self, event: &Event) {
        if let Event::Epoch(e) = event {
            println!(
                "  epoch {:2}: loss {:.3}, validation {:.1}%",
                e.epoch,
                e.train_loss,
                100.0 * e.val_accuracy
            );
        }
    }
}

fn teach(device: &Device, net: &mut Network, splits: Splits, epochs: usize) -> Result<()> {
    let config = Config::default().with(|c| {
        c.strategy = Strategy::Finetune;
        c.epochs = Some(epochs);
        c.batch = Some(BATCH);
        c.lr = vec![5e-3];
        c.augment = Augment::default().with(|c| c.scale = (0.8, 1.0));
    });
    let (train, val) = (Arc::new(splits.train), Arc::new(splits.val));
    Trainer::new(device, config).observer(&mut Print).fit(net, &train, &val)?;
    Ok(())
}

fn main() -> Result<()> {
    let device = Device::open(&GpuOptions::default())?;
    let drawn = |train, seed| {
        DrawnSet::new(Scenes::Things)
            .with(|c| {
                c.side = SIDE;
                c.train = train;
                c.seed = seed;
            })
            .splits()
    };
    let things = drawn(100, 0);
    // From here on it is known by its name: files of it are opened, and runs with it resumed, like all others.
    models::register(Model::new("tiny", "three stages for 32x32 images", Preprocess::whole(SIDE), |_| {
        Arc::new(Tiny { channels: [16, 32, 64] })
    }))?;
    let mut net = models::create("tiny", things.train.classes.len())?;
    net.replace_head_for(things.train.classes.clone(), 0)?;
    println!("{} parameters, {:.1} M multiply-adds", net.parameters(), net.mult_adds()? / 1e6);
    println!("{} things, from nothing:", things.train.classes.len());
    net.freeze(Freeze::none().norm(NormMode::Train))?;
    teach(&device, &mut net, things, 8)?;

    println!("the same on other images, the first stage frozen:");
    println!("{}", net.freeze(Freeze::through("stage0").norm(NormMode::Train))?);
    let plan = training_plan(&net, &Config::default(), BATCH, &Caps::webgpu_defaults())?;
    let learning = plan.steps.iter().filter(|step| step.is_training()).count();
    println!("{learning} of the {} steps of its plan are there for learning", plan.steps.len());
    let frozen = net.tensor("stage0.0.conv.weight")?.to_vec();
    teach(&device, &mut net, drawn(100, 1), 4)?;
    assert_eq!(net.tensor("stage0.0.conv.weight")?, frozen, "what is frozen keeps its bytes");

    let file = std::env::temp_dir().join("tiny.safetensors");
    net.save(&file)?;
    let again = Network::open(&file)?;
    assert_eq!(again.tensor("head.weight")?, net.tensor("head.weight")?);
    println!("saved and read back: {}", file.display());
    Ok(())
}
