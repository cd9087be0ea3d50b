//! Which device tests and benches run on: the environment says it, as it does for the command.

#![allow(unreachable_pub)]

use defrost::gpu::{DeviceChoice, GpuOptions};

/// `DEFROST_DEVICE` (as [`DeviceChoice::parse`] reads it), `DEFROST_LIMITS=webgpu`, `DEFROST_CHECKED=1`.
pub fn options() -> GpuOptions {
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    GpuOptions::default().with(|c| {
        c.device = DeviceChoice::parse(&text("DEFROST_DEVICE"));
        c.webgpu_limits = text("DEFROST_LIMITS") == "webgpu";
        c.checked = text("DEFROST_CHECKED") == "1";
        c.backends = wgpu::Backends::from_env().unwrap_or_default();
    })
}
