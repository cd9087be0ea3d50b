//! The engine alone: a small network, trained from tensors in memory by a loop of one's own. No files, no images, no
//! command; built without default features it has 74 crates.
//!
//! cargo run --release --example engine --no-default-features

use std::sync::Arc;

use defrost::Result;
use defrost::gpu::GpuOptions;
use defrost::models::{Architecture, InputKind, Network, Preprocess, Recording};
use defrost::nn::init::LinearInit;
use defrost::nn::{Conv2d, Freeze, Graph, Mode};
use defrost::ops::{AdamW, CrossEntropy};
use defrost::plan::{Device, Program, Request, compile};
use defrost::rng::Stream;
use defrost::tape::{Tape, Type, ValueId};

const SIDE: usize = 16;
const BATCH: usize = 32;
const CLASSES: [&str; 2] = ["horizontal", "vertical"];

/// Two convolutions, the mean of all places, a linear layer.
#[derive(Debug)]
struct Small;

impl Architecture for Small {
    fn features(&self, g: &mut Graph<'_>, x: ValueId) -> Result<ValueId> {
        let x = g.conv2d("conv0", x, Conv2d::same(8, 3, 1))?;
        let x = g.relu("relu0", x)?;
        let x = g.conv2d("conv1", x, Conv2d::same(16, 3, 2))?;
        let x = g.relu("relu1", x)?;
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
        "relu1".into()
    }

    fn groups(&self) -> Vec<String> {
        ["conv0", "conv1", "head"].map(String::from).into()
    }

    fn linear_init(&self) -> LinearInit {
        LinearInit::Uniform
    }
}

/// Stripes of random width and place under noise, `[BATCH, SIDE, SIDE, 3]` around 0, and which way they lie.
fn batch(stream: &mut Stream) -> (Vec<f32>, Vec<u32>) {
    let mut images = Vec::with_capacity(BATCH * SIDE * SIDE * 3);
    let labels: Vec<u32> = (0..BATCH).map(|_| stream.below(2) as u32).collect();
    for &label in &labels {
        let (width, shift) = (2.0 + 2.0 * stream.unit(), 6.0 * stream.unit());
        for (row, column) in (0..SIDE).flat_map(|row| (0..SIDE).map(move |column| (row, column))) {
            let along = if label == 0 { row } else { column } as f64 + shift;
            let stripe = if ((along / width) as usize).is_multiple_of(2) { 1.0 } else { -1.0 };
            images.extend((0..3).map(|_| (stripe + 0.5 * stream.normal()) as f32));
        }
    }
    (images, labels)
}

fn main() -> Result<()> {
    let device = Device::open(&GpuOptions::default())?;
    let classes = CLASSES.map(String::from).to_vec();
    let mut net = Network::custom("small", Arc::new(Small), Preprocess::whole(SIDE), classes)?;
    net.freeze(Freeze::none())?;
    println!("{} parameters on {}", net.parameters(), device.describe());

    let recording = Recording::new(Mode::Train, BATCH).with(|c| c.input = InputKind::Normalised);
    let mut step = net.training_step(&device, recording, AdamW::default(), |tape, recorded| {
        let labels = tape.input("labels", Type::u32(&[BATCH]));
        let weights = tape.fill(&[BATCH], 1.0 / BATCH as f32);
        tape.apply(CrossEntropy { smoothing: 0.0 }, &[recorded.logits, labels, weights])
    })?;
    let mut stream = Stream::new(&[1]);
    for number in 0..=150 {
        let (images, labels) = batch(&mut stream);
        let inputs = [("image", bytemuck::cast_slice(&images)), ("labels", bytemuck::cast_slice(&labels))];
        let loss = step.run(&inputs, 3e-3, 0.0)?;
        if number % 50 == 0 {
            println!("step {number:3}: loss {loss:.4}");
        }
    }
    step.write_back(&mut net)?;

    // Frozen, it is compiled as an inference program.
    net.freeze(Freeze::all())?;
    let mut tape = Tape::new();
    let recording = Recording::new(Mode::Eval, BATCH).with(|c| c.input = InputKind::Normalised);
    let logits = net.record(&mut tape, recording)?.logits;
    let layout = Arc::default();
    let plan = compile(Request::inference(tape, &[("logits", logits)]), &layout, &device.caps())?;
    let store = device.store(&layout, &net)?;
    let mut program = Program::new(plan, &store, &net)?;
    let (images, labels) = batch(&mut stream);
    let logits = &program.run(&[("image", bytemuck::cast_slice(&images))])?[0];
    let correct =
        logits.chunks_exact(2).zip(&labels).filter(|(row, label)| (row[1] > row[0]) == (**label == 1));
    let correct = correct.count();
    println!("{correct} of {BATCH} new images are classified correctly");
    assert!(correct > BATCH * 9 / 10, "it has learned nothing");
    Ok(())
}
