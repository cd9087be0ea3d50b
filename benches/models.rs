//! Whole networks on the chosen device: predictions, and training steps under three masks (everything,
//! the last stage, the head). One iteration is one step with upload and readback; `elem/s` are pictures
//! a second. The pictures are small, so that software Vulkan comes to an end.
//!
//! cargo bench --bench models -- mobilenet_v2
//! cargo bench --bench models -- --test                  # each once: does it run?

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use defrost::gpu::GpuOptions;
use defrost::models::{self, Network, Preprocess};
use defrost::nn::Freeze;
use defrost::plan::{Device, Plan, Program};
use defrost::tape::DType;
use defrost::train::{Config, inference_plan, training_plan};
use defrost::{Error, Result, rng};

const BATCH: usize = 4;
const CLASSES: usize = 10;

/// Model, side of its pictures, the last layer that is frozen when the last stage learns.
const NETWORKS: [(&str, usize, &str); 2] = [("resnet18", 64, "layer3"), ("mobilenet_v2", 96, "features.13")];

/// A program with random pictures; labels, rates and dropout's counters are zero, so nothing moves.
struct Ready {
    program: Program,
    inputs: Vec<(String, Vec<u8>)>,
}

impl Ready {
    fn new(device: &Device, net: &Network, plan: Plan) -> Result<Self> {
        let contents = |name: &str, dtype: DType, bytes: usize| match (name, dtype) {
            (_, DType::U8) => (0..bytes as u64).map(|i| rng::mix(7, i) as u8).collect(),
            ("weights", _) => bytemuck::cast_slice(&vec![1.0 / BATCH as f32; bytes / 4]).to_vec(),
            // Rate, decay, and the two corrections AdamW divides by.
            ("rates", _) => bytemuck::cast_slice(&[0.0_f32, 0.0, 1.0, 1.0].repeat(bytes / 16)).to_vec(),
            _ => vec![0; bytes],
        };
        let inputs = plan.inputs.iter().map(|(name, &v)| {
            let ty = plan.tape.ty(v);
            (name.clone(), contents(name, ty.dtype, ty.bytes() as usize))
        });
        let inputs = inputs.collect();
        let store = device.store(&plan.layout, net)?;
        Ok(Ready { program: Program::new(plan, &store, net)?, inputs })
    }

    fn run(&mut self) -> Result<Vec<Vec<f32>>> {
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.program.run(&inputs)
    }
}

fn main() -> Result<()> {
    let device = Device::open(&GpuOptions::default())?;
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

        type Compile = fn(&Network, &Device) -> Result<Plan>;
        let forward: Compile = |net, device| inference_plan(net, BATCH, &device.caps());
        let step: Compile = |net, device| training_plan(net, &Config::default(), BATCH, &device.caps());
        for (name, freeze, compile) in [
            ("forward", Freeze::all(), forward),
            ("step, all learns", Freeze::none(), step),
            ("step, last stage learns", Freeze::through(through), step),
            ("step, head learns", Freeze::all_but_head(), step),
        ] {
            net.freeze(freeze)?;
            let mut ready = None;
            group.bench_function(name, |b| {
                let fail = |e: Error| -> ! { panic!("{model}, {name}: {e}") };
                let ready = ready.get_or_insert_with(|| {
                    let plan = compile(&net, &device);
                    plan.and_then(|plan| Ready::new(&device, &net, plan)).unwrap_or_else(|e| fail(e))
                });
                b.iter(|| ready.run().unwrap_or_else(|e| fail(e)));
            });
        }
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}
