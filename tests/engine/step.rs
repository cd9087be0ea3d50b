//! A training step makes nothing that it could have kept: no buffer, no bind group, no device memory.

#![allow(clippy::unwrap_used)]

use defrost::gpu::{Gpu, GpuOptions};
use defrost::models::{self, Preprocess};
use defrost::nn::Freeze;
use defrost::plan::Device;
use defrost::train::{Config, Workload};

#[test]
fn after_the_first_steps_nothing_is_made_any_more() {
    // Of its own: others of this process make things on the one that they share.
    let gpu = Gpu::with_options(&GpuOptions::default()).unwrap();
    let mut net = models::blank("resnet50", 10).unwrap();
    models::rule_fill(&mut net);
    net.set_preprocess(Preprocess::whole(32)).unwrap();
    net.freeze(Freeze::none()).unwrap();
    let device = Device::Gpu(gpu.clone());
    let mut work = Workload::training(&device, &net, &Config::default(), 2, 1e-4).unwrap();
    let state = || {
        gpu.wait(None).unwrap();
        // Also what wgpu makes by itself, such as staging memory.
        let report = gpu.device().generate_allocator_report().unwrap();
        (gpu.made(), report.allocations.len(), report.total_allocated_bytes)
    };
    let before = state();
    // The first two steps fill the belts of staging memory.
    for _ in 0..2 {
        work.run().unwrap();
    }
    let first = state();
    for _ in 0..4 {
        work.run().unwrap();
    }
    assert_eq!(state(), first);
    assert_eq!(first.0, before.0);
    // The counters count: a second program makes more.
    let more = Workload::training(&device, &net, &Config::default(), 2, 1e-4).unwrap();
    let ((buffers, groups), ..) = state();
    assert!(buffers > first.0.0 && groups >= first.0.1 + 400, "{buffers} {groups} {first:?}");
    drop(more);
}
