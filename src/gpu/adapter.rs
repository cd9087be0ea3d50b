//! Which device: discrete, integrated, then software, or by name; and what it can do.

use crate::{Error, Result, did_you_mean};

/// What the caller asked for with `--device`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best adapter: discrete, integrated, virtual, then software.
    #[default]
    Auto,
    /// Any real GPU; software adapters do not count.
    Gpu,
    /// No adapter: the plan runs natively on the CPU.
    Cpu,
    /// The adapter with this number in [`adapters`].
    Index(usize),
    /// The adapter whose name or driver contains this, in any case.
    Name(String),
}

impl DeviceChoice {
    /// Reads an option's text; never fails, since anything may be a name.
    pub fn parse(text: &str) -> Self {
        match text.to_lowercase().as_str() {
            "" | "auto" => DeviceChoice::Auto,
            "gpu" => DeviceChoice::Gpu,
            "cpu" => DeviceChoice::Cpu,
            other => match other.parse() {
                Ok(index) => DeviceChoice::Index(index),
                Err(_) => DeviceChoice::Name(text.to_string()),
            },
        }
    }
}

/// How to open a device. The default reads the environment: `DEFROST_DEVICE` (a name, an index,
/// `gpu`, `cpu`), `DEFROST_LIMITS=webgpu`, `DEFROST_CHECKED=1`, `DEFROST_GPU_MEMORY` (MiB).
#[derive(Debug, Clone)]
pub struct GpuOptions {
    /// Which adapter.
    pub device: DeviceChoice,
    /// Ask for exactly WebGPU's default limits and no features, whatever the adapter has.
    pub webgpu_limits: bool,
    /// Keep bounds checks and bounded loops in the shaders: slower, for debugging.
    pub checked: bool,
    /// Refuse allocations beyond this many bytes.
    pub memory_budget: Option<u64>,
    /// Leave the device's error handlers as they are.
    pub keep_handlers: bool,
}

impl Default for GpuOptions {
    fn default() -> Self {
        let text = |name: &str| std::env::var(name).unwrap_or_default();
        GpuOptions {
            device: DeviceChoice::parse(&text("DEFROST_DEVICE")),
            webgpu_limits: text("DEFROST_LIMITS") == "webgpu",
            checked: text("DEFROST_CHECKED") == "1",
            memory_budget: text("DEFROST_GPU_MEMORY").parse::<u64>().ok().map(|mib| mib << 20),
            keep_handlers: false,
        }
    }
}

/// What kernels may count on.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Bytes of one storage binding.
    pub max_binding: u64,
    /// Bytes of one buffer.
    pub max_buffer: u64,
    /// Alignment of a storage binding's offset, bytes.
    pub storage_alignment: u64,
    /// Alignment of a uniform binding's offset, bytes.
    pub uniform_alignment: u64,
    /// Storage buffers one kernel may bind.
    pub storage_buffers: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Workgroups along one dimension of a dispatch.
    pub groups_per_dimension: u32,
    /// Whether kernels can be timed.
    pub timestamps: bool,
    /// Whether the adapter is software: loads cost, arithmetic is cheap.
    pub software: bool,
}

impl Caps {
    /// WebGPU's default limits: what every implementation must offer.
    pub fn webgpu_defaults() -> Self {
        Self::from_limits(&wgpu::Limits::defaults(), wgpu::Features::empty(), false)
    }

    /// The CPU: as much memory at once as there is.
    pub fn host() -> Self {
        Caps { max_binding: 1 << 40, max_buffer: 1 << 40, software: true, ..Self::webgpu_defaults() }
    }

    pub(super) fn of(limits: &wgpu::Limits, features: wgpu::Features, info: &wgpu::AdapterInfo) -> Self {
        Self::from_limits(limits, features, info.device_type == wgpu::DeviceType::Cpu)
    }

    fn from_limits(limits: &wgpu::Limits, features: wgpu::Features, software: bool) -> Self {
        Caps {
            // A binding's size must be a multiple of 4; drivers report 2^31 - 1 and the like.
            max_binding: limits.max_storage_buffer_binding_size & !15,
            max_buffer: limits.max_buffer_size & !15,
            storage_alignment: limits.min_storage_buffer_offset_alignment.into(),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment.into(),
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            groups_per_dimension: limits.max_compute_workgroups_per_dimension,
            timestamps: features.contains(timestamp_features()),
            software,
        }
    }
}

fn timestamp_features() -> wgpu::Features {
    wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
}

/// One adapter of this machine.
#[derive(Debug, Clone)]
pub struct AdapterEntry {
    /// Its number, as `--device` takes it.
    pub index: usize,
    /// Name, driver, kind.
    pub info: wgpu::AdapterInfo,
    /// What it can do.
    pub caps: Caps,
}

pub(super) fn describe(info: &wgpu::AdapterInfo) -> String {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown kind",
    };
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    format!("{} ({kind}, {:?}, {})", info.name, info.backend, driver.trim())
}

fn rank(info: &wgpu::AdapterInfo) -> u8 {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends &= wgpu::Backends::PRIMARY;
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let mut all = pollster::block_on(instance.enumerate_adapters(backends));
    all.sort_by_key(|a| rank(&a.get_info()));
    all
}

/// The machine's adapters, best first, numbered as `--device` takes them.
pub fn adapters() -> Vec<AdapterEntry> {
    enumerate()
        .iter()
        .enumerate()
        .map(|(index, a)| {
            let info = a.get_info();
            AdapterEntry { index, caps: Caps::of(&a.limits(), a.features(), &info), info }
        })
        .collect()
}

pub(super) fn choose(options: &GpuOptions) -> Result<(wgpu::Adapter, wgpu::Limits, wgpu::Features)> {
    let mut all = enumerate();
    if all.is_empty() {
        return Err(Error::Gpu(
            "no GPU adapter was found: no Vulkan, Metal or DX12 driver answers. Install your GPU's driver \
             (or a software one: `tools/setup` does it on Debian), or run on the CPU with --device cpu"
                .into(),
        ));
    }
    let infos: Vec<_> = all.iter().map(wgpu::Adapter::get_info).collect();
    let listed = || {
        let lines = infos.iter().enumerate().map(|(i, info)| format!("\n  {i}  {}", describe(info)));
        format!("this machine has:{}\n  cpu  (no adapter)", lines.collect::<String>())
    };
    let index = match &options.device {
        DeviceChoice::Auto => 0,
        DeviceChoice::Gpu if infos[0].device_type == wgpu::DeviceType::Cpu => {
            return Err(Error::Gpu(format!("--device gpu: there is no real GPU; {}", listed())));
        }
        DeviceChoice::Gpu => 0,
        DeviceChoice::Index(i) if *i < all.len() => *i,
        DeviceChoice::Index(i) => {
            return Err(Error::Usage(format!("--device {i}: there is no such adapter; {}", listed())));
        }
        DeviceChoice::Cpu => {
            return Err(Error::Usage("--device cpu names no adapter; the plan runs natively".into()));
        }
        DeviceChoice::Name(name) => {
            let wanted = name.to_lowercase();
            let matches = |info: &wgpu::AdapterInfo| {
                [&info.name, &info.driver].iter().any(|text| text.to_lowercase().contains(&wanted))
            };
            infos.iter().position(matches).ok_or_else(|| {
                let hint = did_you_mean(name, ["auto", "gpu", "cpu"]);
                Error::Usage(format!("--device {name}: no adapter has that name{hint}; {}", listed()))
            })?
        }
    };
    let adapter = all.swap_remove(index);
    if options.webgpu_limits {
        return Ok((adapter, wgpu::Limits::defaults(), wgpu::Features::empty()));
    }
    let features = adapter.features() & timestamp_features();
    let limits = adapter.limits();
    Ok((adapter, limits, features))
}
