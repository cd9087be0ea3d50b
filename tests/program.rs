//! Programs, and the memory that several share.

#![allow(clippy::unwrap_used)]

mod common;

use defrost::gpu::Gpu;
use defrost::models::{self, Preprocess};
use defrost::nn::Freeze;
use defrost::plan::{Arena, Device, Plan, Program};
use defrost::train::{inference_plan, noise};

fn run(program: &mut Program) -> Vec<f32> {
    let inputs = noise(program.plan(), 10, 0.0);
    let inputs: Vec<(&str, &[u8])> = inputs.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    program.run(&inputs).unwrap().remove(0)
}

/// Programs that take turns need the memory of the largest, and compute the same bits.
#[test]
fn programs_of_an_arena_share_their_activations() {
    let mut net = models::blank("resnet50", 10).unwrap();
    models::rule_fill(&mut net);
    net.set_preprocess(Preprocess::whole(32)).unwrap();
    net.freeze(Freeze::all()).unwrap();
    // A device of its own, whose memory no other test takes.
    for device in [Device::Cpu, Device::Gpu(Gpu::new().unwrap())] {
        let plan = |batch| inference_plan(&net, batch, &device.caps()).unwrap();
        let store = device.store(&plan(5).layout, &net).unwrap();
        let allocated = || if let Device::Gpu(gpu) = &device { gpu.allocated() } else { 0 };
        let alone = |plan: Plan| Program::new(plan, &store, &net).unwrap();
        let expected = [5, 2].map(|batch| run(&mut alone(plan(batch))));

        let arena = Arena::default();
        let mut large = Program::sharing(plan(5), &store, &net, &arena).unwrap();
        let before = allocated();
        let small = alone(plan(2));
        let own = allocated() - before;
        drop(small);
        let mut small = Program::sharing(plan(2), &store, &net, &arena).unwrap();
        let shared = allocated() - before;
        if let Device::Gpu(_) = &device {
            assert_eq!(own - shared, plan(2).slots.iter().sum::<u64>(), "{own} alone, {shared} in the arena");
        }
        for turn in 0..2 {
            assert_eq!(run(&mut large), expected[0], "{device:?}, turn {turn}");
            assert_eq!(run(&mut small), expected[1], "{device:?}, turn {turn}");
        }
        // One that needs more than there is: the others keep what they have.
        let mut larger = Program::sharing(plan(6), &store, &net, &arena).unwrap();
        run(&mut larger);
        assert_eq!(run(&mut large), expected[0], "{device:?}, beside a larger one");
    }
}
