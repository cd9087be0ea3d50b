//! Programs: what they are given, what they give, and the memory that several share.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::gpu;
use defrost::gpu::Gpu;
use defrost::models::{self, Preprocess};
use defrost::nn::Freeze;
use defrost::ops::Add;
use defrost::plan::{Arena, Device, Plan, Program, Request, compile};
use defrost::tape::{Tape, Type};
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
    for device in [Device::Cpu, Device::Gpu(Gpu::with_options(&common::options()).unwrap())] {
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

/// `sum = x + y` and `twice = x + x` of four numbers, beside an input that no step reads.
fn sums(device: &Device) -> Program {
    let mut tape = Tape::new();
    let [x, y, _] = ["x", "y", "spare"].map(|name| tape.input(name, Type::f32(&[4])));
    let sum = tape.apply(Add::default(), &[x, y]).unwrap();
    let twice = tape.apply(Add::default(), &[x, x]).unwrap();
    let request = Request::inference(tape, &[("sum", sum), ("twice", twice)]);
    let plan = compile(request, &Arc::default(), &device.caps()).unwrap();
    let net = models::blank("resnet20", 2).unwrap();
    Program::new(plan, &device.store(&Arc::default(), &net).unwrap(), &net).unwrap()
}

#[test]
fn inputs_are_those_of_the_plan_and_outputs_have_names() {
    let data: Vec<u8> = bytemuck::cast_slice(&[1.0f32, 2.0, 3.0, 4.0]).to_vec();
    let short = &data[..12];
    for device in [Device::Cpu, Device::Gpu(gpu())] {
        let mut program = sums(&device);
        let mut refused = |given: &[(&str, &[u8])], things: &[&str]| {
            let message = program.run(given).unwrap_err().to_string();
            assert!(things.iter().all(|thing| message.contains(thing)), "{device:?}: {message}");
            assert_eq!(program.pending(), 0);
        };
        refused(&[("x", &data)], &["'y' is missing", "x, y"]);
        refused(&[("x", &data), ("y", &data), ("image", &data)], &["no input 'image'", "x, y"]);
        refused(&[("x", &data), ("y", &data), ("spare", &data)], &["no step reads", "'spare'", "x, y"]);
        refused(&[("x", &data), ("y", &data), ("x", &data)], &["'x' is given twice"]);
        refused(&[("x", &data), ("y", short)], &["'y' has 12 bytes", "[4]"]);
        // Whatever was refused, steps go on.
        for _ in 0..3 {
            let outputs = program.run(&[("y", &data), ("x", &data)]).unwrap();
            let named = program.plan().named(outputs);
            assert_eq!(named.keys().copied().collect::<Vec<_>>(), ["sum", "twice"]);
            assert_eq!(named["sum"], named["twice"]);
            assert_eq!(named["twice"], [2.0, 4.0, 6.0, 8.0]);
        }
    }
}

#[test]
fn outputs_of_one_name_are_refused() {
    let mut tape = Tape::new();
    let x = tape.input("x", Type::f32(&[4]));
    let y = tape.apply(Add::default(), &[x, x]).unwrap();
    let request = Request::inference(tape, &[("y", y), ("y", x)]);
    let refused = compile(request, &Arc::default(), &Device::Cpu.caps()).unwrap_err();
    assert!(refused.to_string().contains("'y'"), "{refused}");
}
