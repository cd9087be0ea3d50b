//! What several test files share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

mod device;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use defrost::gpu::Gpu;
use defrost::models::{InputKind, Network, Recording};
use defrost::nn::{Freeze, Mode};
use defrost::plan::{Device, Layout, Program, Request, compile};
use defrost::tape::Tape;
pub use device::options;

/// The folder of real weights and images. Tests that need it carry `cfg_attr(not(material), ignore = ...)`.
pub fn material() -> PathBuf {
    std::env::var_os("DEFROST_MATERIAL").map(PathBuf::from).expect("DEFROST_MATERIAL is set")
}

/// One GPU for all tests of a process: pipelines are compiled once. Fails where there is none.
pub fn gpu() -> Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::with_options(&options())
            .expect("these tests need a GPU adapter; tools/setup installs a software one")
    })
    .clone()
}

/// Runs a network on normalised images or bytes and returns the logits (or what `pick` chooses).
pub fn logits(
    device: &Device,
    net: &Network,
    batch: usize,
    size: usize,
    input: InputKind,
    data: &[u8],
) -> Vec<f32> {
    let mut net = net.clone();
    net.freeze(Freeze::all()).unwrap();
    let net = &net;
    let mut tape = Tape::new();
    let recording = Recording::new(Mode::Eval, batch).with(|c| {
        c.size = Some([size, size]);
        c.input = input;
    });
    let recorded = net.record(&mut tape, recording).unwrap();
    let request = Request::inference(tape, &[("logits", recorded.logits)]);
    run_once(device, net, request, &[("image", data)]).remove(0)
}

/// Compiles a request without trainable parameters and runs it once.
pub fn run_once(device: &Device, net: &Network, request: Request, inputs: &[(&str, &[u8])]) -> Vec<Vec<f32>> {
    let layout = Arc::new(Layout::default());
    let params: &dyn defrost::plan::Params = net;
    let store = device.store(&layout, params).unwrap();
    let plan = compile(request, &layout, &device.caps()).unwrap();
    Program::new(plan, &store, params).unwrap().run(inputs).unwrap()
}

/// Largest difference, over the range of the expected values.
pub fn over_range(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let (low, high) = expected.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let worst = found.iter().zip(expected).map(|(a, b)| {
        let d = f64::from(a - b).abs();
        if d.is_nan() { f64::INFINITY } else { d }
    });
    worst.fold(0.0, f64::max) / f64::from(high - low)
}
