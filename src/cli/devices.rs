//! `defrost devices`: what there is to run on.

use clap::Args;
use serde_json::{Value, json};

use super::Session;
use super::output::{Style, mib};
use crate::Result;
use crate::gpu::{AdapterEntry, adapters};

const EXAMPLES: &str = "\
Examples:
  defrost devices
  defrost train photos/ --model resnet50 --weights resnet50.safetensors --device 1
  DEFROST_DEVICE=llvmpipe defrost predict runs/photos picture.jpg";

/// List the GPUs that Defrost can use, and the CPU
///
/// The first column is what --device takes; part of the name is understood too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Devices {}

fn kind(entry: &AdapterEntry) -> &'static str {
    match entry.info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown kind",
    }
}

fn driver(entry: &AdapterEntry) -> String {
    format!("{} {}", entry.info.driver, entry.info.driver_info).trim().to_string()
}

fn describe(entry: &AdapterEntry) -> Value {
    let (info, caps) = (&entry.info, &entry.caps);
    json!({
        "index": entry.index,
        "name": info.name,
        "kind": kind(entry),
        "backend": format!("{:?}", info.backend).to_lowercase(),
        "driver": driver(entry),
        "auto": entry.index == 0,
        "limits": {
            "max_binding": caps.max_binding,
            "max_buffer": caps.max_buffer,
            "storage_buffers": caps.storage_buffers,
            "workgroup_bytes": caps.workgroup_bytes,
            "invocations": caps.invocations,
            "groups_per_dimension": caps.groups_per_dimension,
        },
        "timestamps": caps.timestamps,
    })
}

impl Devices {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let (out, all) = (&session.out, adapters());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        if out.json {
            for entry in &all {
                out.event("device", describe(entry));
            }
            out.event(
                "device",
                json!({ "index": "cpu", "name": "CPU", "kind": "native", "threads": threads }),
            );
            let auto = all.first().map(|entry| entry.info.name.as_str());
            out.event("done", json!({ "adapters": all.len(), "auto": auto }));
            return Ok(());
        }
        for entry in &all {
            let (info, caps) = (&entry.info, &entry.caps);
            let mark = if entry.index == 0 { "  <- auto" } else { "" };
            out.line(format_args!("{:>3}  {}{mark}", entry.index, out.style(Style::Bold, &info.name)));
            out.line(format_args!("     {}, {:?}, {}", kind(entry), info.backend, driver(entry)));
            let timestamps = if caps.timestamps { "kernels can be timed" } else { "no timestamps" };
            out.line(format_args!(
                "     a binding holds {}, a buffer {}; {} storage buffers, {} invocations and {} KiB a \
                 workgroup; {timestamps}",
                mib(caps.max_binding),
                mib(caps.max_buffer),
                caps.storage_buffers,
                caps.invocations,
                caps.workgroup_bytes / 1024,
            ));
        }
        out.line(format_args!("cpu  {}", out.style(Style::Bold, "CPU")));
        out.line(format_args!("     native, no adapter needed, {threads} threads"));
        if all.is_empty() {
            out.warn(
                "no GPU adapter was found: no Vulkan, Metal or DX12 driver answers; --device cpu runs without",
            );
        }
        Ok(())
    }
}
