//! Steps of a gradual training around its changes of mask: does a stage start cold?
//!
//!     cargo run --release --example gradual -- photos/ mobilenet_v2 mobilenet_v2.safetensors [cpu|gpu|software]
//!
//! Prints, for each phase, the median of its steps, the first steps behind the change, and the largest, in milliseconds.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use defrost::Result;
use defrost::data::{self, OpenOptions};
use defrost::gpu::{DeviceChoice, GpuOptions};
use defrost::models::{self, HeadPolicy};
use defrost::plan::Device;
use defrost::train::{Config, Event, Observer, Strategy, Trainer};

/// Milliseconds between one step's result and the next, by phase.
#[derive(Default)]
struct Steps {
    phases: Vec<Vec<f64>>,
    last: Option<(usize, Instant)>,
}

impl Observer for Steps {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Note(note) if note.starts_with("phase") => {
                self.phases.push(Vec::new());
                println!("{note}");
            }
            Event::Progress { what: "train", done, .. } => {
                let now = Instant::now();
                // Within an epoch: between two lies an evaluation.
                if let (Some((before, then)), Some(phase)) = (self.last, self.phases.last_mut())
                    && *done > before
                {
                    phase.push(1e3 * (now - then).as_secs_f64());
                }
                self.last = Some((*done, now));
            }
            _ => {}
        }
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, model, weights, rest @ ..] = &args[..] else {
        eprintln!("give a folder of images, a network and its weights");
        std::process::exit(2);
    };
    let choice = match rest.first().map(String::as_str) {
        Some("gpu") => DeviceChoice::Gpu,
        Some("software") => DeviceChoice::Software,
        _ => DeviceChoice::Cpu,
    };
    let device = Device::open(&GpuOptions::default().with(|c| c.device = choice))?;
    println!("{}", device.describe());
    let splits = data::open(Path::new(folder), &OpenOptions::default())?;
    let (mut net, _) = models::load_with(model, weights, HeadPolicy::Replace)?;
    net.replace_head_for(splits.train.classes.clone(), 0)?;
    let config = Config::default().with(|c| c.strategy = Strategy::Gradual);
    let mut steps = Steps::default();
    let (train, val) = (Arc::new(splits.train), Arc::new(splits.val));
    Trainer::new(&device, config).observer(&mut steps).fit(&mut net, &train, &val)?;
    for (number, phase) in steps.phases.iter().enumerate().skip(1) {
        let mut sorted = phase.clone();
        sorted.sort_by(f64::total_cmp);
        let first: Vec<String> = phase.iter().take(4).map(|t| format!("{t:.0}")).collect();
        println!(
            "phase {}: median {:.0}, first {}, largest {:.0}",
            number + 1,
            sorted.get(sorted.len() / 2).unwrap_or(&0.0),
            first.join(" "),
            sorted.last().unwrap_or(&0.0)
        );
    }
    Ok(())
}
