//! Whole networks on the chosen device: predictions, and training steps under three masks (everything,
//! the last stage, the head). One iteration is one step with upload and readback; `elem/s` are images
//! a second. The images are small, so that software Vulkan comes to an end.
//!
//! cargo bench --bench models -- mobilenet_v2
//! cargo bench --bench models -- --test                  # each once: does it run?

#[path = "../tests/common/device.rs"]
mod device;

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use defrost::models::{self, Network, Preprocess};
use defrost::nn::Freeze;
use defrost::plan::Device;
use defrost::train::{Config, Workload};
use defrost::{Error, Result};

const BATCH: usize = 4;
const CLASSES: usize = 10;

/// Model, side of its images, the last layer that is frozen when the last stage learns.
const NETWORKS: [(&str, usize, &str); 2] = [("resnet18", 64, "layer3"), ("mobilenet_v2", 96, "features.13")];

fn main() -> Result<()> {
    let device = Device::open(&device::options())?;
    println!("device: {}", device.describe());
    let mut criterion = Criterion::default().configure_from_args();
    for (model, side, through) in NETWORKS {
        let mut net = models::blank(model, CLASSES)?;
        models::rule_fill(&mut net);
        net.set_preprocess(Preprocess::whole(side))?;
        let mut group = criterion.benchmark_group(format!("{model} {side}x{side} batch {BATCH}"));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
        group.throughput(Throughput::Elements(BATCH as u64));

        type Make = fn(&Network, &Device) -> Result<Workload>;
        let forward: Make = |net, device| Workload::inference(device, net, BATCH);
        // At a rate of 0 nothing moves.
        let step: Make = |net, device| Workload::training(device, net, &Config::default(), BATCH, 0.0);
        for (name, freeze, make) in [
            ("forward", Freeze::all(), forward),
            ("step, all learns", Freeze::none(), step),
            ("step, last stage learns", Freeze::through(through), step),
            ("step, head learns", Freeze::all_but_head(), step),
        ] {
            net.freeze(freeze)?;
            let mut ready = None;
            group.bench_function(name, |b| {
                let fail = |e: Error| -> ! { panic!("{model}, {name}: {e}") };
                let ready: &mut Workload =
                    ready.get_or_insert_with(|| make(&net, &device).unwrap_or_else(|e| fail(e)));
                b.iter(|| ready.run().unwrap_or_else(|e| fail(e)));
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
