//! `defrost devices`: lists the devices of this machine.

use clap::Args;
use serde_json::{Value, json};

use super::names::in_options;
use super::output::{Style, count, mib};
use super::{Session, environment};
use crate::Result;
use crate::gpu::{Caps, DeviceChoice, Host, adapters, driver, kind};
use crate::plan::{Chosen, Device};

const EXAMPLES: &str = "\
Examples:
  defrost devices
  defrost train photos/ --model resnet50 --weights resnet50.safetensors --device 1
  DEFROST_DEVICE=llvmpipe defrost predict runs/photos image.jpg";

/// List the GPUs that Defrost can use, and the CPU
///
/// The first column is what --device takes; part of the name is understood too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Devices {}

/// An adapter as a JSON object.
pub(super) fn adapter_json(info: &wgpu::AdapterInfo, caps: &Caps) -> Value {
    json!({
        "name": info.name,
        "kind": kind(info),
        "backend": format!("{:?}", info.backend).to_lowercase(),
        "driver": driver(info),
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

/// The limits of an adapter, in a line.
pub(super) fn adapter_limits(caps: &Caps) -> String {
    let timestamps = if caps.timestamps { "kernels can be timed" } else { "no timestamps" };
    format!(
        "a binding holds {}, a buffer {}; {} storage buffers, {} invocations and {} KiB a workgroup; {timestamps}",
        mib(caps.max_binding),
        mib(caps.max_buffer),
        caps.storage_buffers,
        caps.invocations,
        caps.workgroup_bytes / 1024,
    )
}

/// The CPU as a JSON object; `threads` are those that Defrost runs on.
pub(super) fn host_json(host: &Host, threads: usize) -> Value {
    json!({
        "name": "CPU",
        "kind": "native",
        "processor": host.name,
        "threads": threads,
        "threads_available": host.threads,
        "vector": host.vector,
        "memory": host.memory,
    })
}

/// The features of the CPU, in a line.
pub(super) fn host_limits(host: &Host, threads: usize) -> String {
    let of = if threads == host.threads { String::new() } else { format!(" of {}", host.threads) };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let memory = host.memory.map_or(String::new(), |bytes| format!(", {:.1} GiB of memory", gib(bytes)));
    let threads = count(threads, "thread", "threads");
    format!(
        "{}; native, no driver needed: {threads}{of}, vector instructions {}{memory}",
        host.name, host.vector
    )
}

impl Devices {
    pub(super) fn run(&self, session: &Session) -> Result<()> {
        let options = environment::gpu_options(DeviceChoice::Auto);
        let (out, all) = (&session.out, adapters(&options));
        // The device is opened, since only that shows whether it works.
        let Chosen { adapter: auto, why, warnings, .. } = Device::choose(&options)?;
        let why = in_options(&why);
        let (host, threads) = (Host::new(), rayon::current_num_threads());
        if out.json {
            for entry in &all {
                let mut object = adapter_json(&entry.info, &entry.caps);
                object["index"] = entry.index.into();
                object["auto"] = (auto == Some(entry.index)).into();
                out.event("device", object);
            }
            let mut object = host_json(&host, threads);
            object["index"] = "cpu".into();
            object["auto"] = auto.is_none().into();
            out.event("device", object);
            let name = auto.and_then(|i| all.get(i)).map_or("CPU", |entry| entry.info.name.as_str());
            out.event("done", json!({ "adapters": all.len(), "auto": name, "why": why }));
        } else {
            let mark = |auto: bool| if auto { format!("  <- auto ({why})") } else { String::new() };
            for entry in &all {
                let (info, caps) = (&entry.info, &entry.caps);
                let name = out.style(Style::Bold, &info.name);
                out.line(format_args!("{:>3}  {name}{}", entry.index, mark(auto == Some(entry.index))));
                out.line(format_args!("     {}, {:?}, {}", kind(info), info.backend, driver(info)));
                out.line(format_args!("     {}", adapter_limits(caps)));
            }
            out.line(format_args!("cpu  {}{}", out.style(Style::Bold, "CPU"), mark(auto.is_none())));
            out.line(format_args!("     {}", host_limits(&host, threads)));
        }
        warnings.iter().for_each(|warning| out.warn(warning));
        if all.is_empty() {
            out.warn(
                "no GPU adapter was found: no Vulkan, Metal or DX12 driver answers; the CPU runs without",
            );
        }
        Ok(())
    }
}
