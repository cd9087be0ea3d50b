//! The choice of an adapter: the best real GPU, software on request, or by name; and its limits and features.

use super::{Choices, Gpu};
use crate::{Error, Result, did_you_mean};

/// The device that the caller asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The best real GPU: discrete, integrated, virtual. Where there is none, [`Device::open`] takes the CPU, which
    /// runs plans faster natively than through software Vulkan. [`Gpu::with_options`] must return a GPU, so it takes
    /// a software adapter then.
    ///
    /// [`Device::open`]: crate::plan::Device::open
    #[default]
    Auto,
    /// The best real GPU, or an error; software adapters do not count.
    Gpu,
    /// The first software adapter, such as Mesa's llvmpipe.
    Software,
    /// No adapter: the plan runs natively on the CPU.
    Cpu,
    /// The adapter with this number in [`adapters`].
    Index(usize),
    /// The adapter whose name or driver contains this, in any case.
    Name(String),
}

impl DeviceChoice {
    /// Parses the text of an option; never fails, since any text may be a name.
    pub fn parse(text: &str) -> Self {
        match text.to_lowercase().as_str() {
            "" | "auto" => DeviceChoice::Auto,
            "gpu" => DeviceChoice::Gpu,
            "software" => DeviceChoice::Software,
            "cpu" => DeviceChoice::Cpu,
            other => match other.parse() {
                Ok(index) => DeviceChoice::Index(index),
                Err(_) => DeviceChoice::Name(text.to_string()),
            },
        }
    }
}

/// How to open a device. The environment has no influence.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
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
    /// The backends, of Vulkan, Metal and DX12, that are asked for adapters: all by default.
    pub backends: wgpu::Backends,
}

options!(GpuOptions);

/// The limits and features that kernels may use.
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
    /// Whether kernels can compute in f16.
    pub f16: bool,
    /// Whether the adapter is software: there, loads are the main cost and arithmetic is cheap.
    pub software: bool,
    /// Whether there is no adapter at all: ops run their CPU code, not kernels.
    pub native: bool,
    /// Kernels that were chosen by measurement.
    pub choices: Choices,
}

impl Caps {
    /// WebGPU's default limits: what every implementation must offer.
    pub fn webgpu_defaults() -> Self {
        Self::from_limits(&wgpu::Limits::defaults(), wgpu::Features::empty(), false)
    }

    /// The CPU: a single buffer may use all memory.
    pub fn host() -> Self {
        Caps {
            max_binding: 1 << 40,
            max_buffer: 1 << 40,
            software: true,
            native: true,
            ..Self::webgpu_defaults()
        }
    }

    pub(super) fn of(limits: &wgpu::Limits, features: wgpu::Features, info: &wgpu::AdapterInfo) -> Self {
        Self::from_limits(limits, features, info.device_type == wgpu::DeviceType::Cpu)
    }

    fn from_limits(limits: &wgpu::Limits, features: wgpu::Features, software: bool) -> Self {
        Caps {
            // A binding's size must be a multiple of 4; drivers report 2^31 - 1 and similar limits.
            max_binding: limits.max_storage_buffer_binding_size & !15,
            max_buffer: limits.max_buffer_size & !15,
            storage_alignment: limits.min_storage_buffer_offset_alignment.into(),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment.into(),
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            groups_per_dimension: limits.max_compute_workgroups_per_dimension,
            timestamps: features.contains(timestamp_features()),
            f16: features.contains(wgpu::Features::SHADER_F16),
            software,
            native: false,
            choices: Choices::default(),
        }
    }
}

fn timestamp_features() -> wgpu::Features {
    wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
}

/// One adapter of this machine.
#[derive(Debug, Clone)]
pub struct AdapterEntry {
    /// Its number, as [`DeviceChoice::parse`] takes it.
    pub index: usize,
    /// Name, driver, kind.
    pub info: wgpu::AdapterInfo,
    /// Its limits and features.
    pub caps: Caps,
}

/// `discrete GPU`, `software`, ...
pub fn kind(info: &wgpu::AdapterInfo) -> &'static str {
    match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "unknown kind",
    }
}

/// Name and version of the adapter's driver.
pub fn driver(info: &wgpu::AdapterInfo) -> String {
    [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_string()
}

pub(super) fn describe(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({}, {:?}, {})", info.name, kind(info), info.backend, driver(info))
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    info.device_type == wgpu::DeviceType::Cpu
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

pub(super) fn enumerate(options: &GpuOptions) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = options.backends & wgpu::Backends::PRIMARY;
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let mut all = pollster::block_on(instance.enumerate_adapters(backends));
    all.sort_by_key(|a| rank(&a.get_info()));
    all
}

/// The machine's adapters, best first, numbered as [`DeviceChoice::parse`] takes them; `options.device` is ignored.
pub fn adapters(options: &GpuOptions) -> Vec<AdapterEntry> {
    enumerate(options)
        .iter()
        .enumerate()
        .map(|(index, a)| {
            let info = a.get_info();
            AdapterEntry { index, caps: Caps::of(&a.limits(), a.features(), &info), info }
        })
        .collect()
}

/// The number of the adapter that `choice` names, among all of them, best first.
pub(super) fn choose(choice: &DeviceChoice, infos: &[wgpu::AdapterInfo]) -> Result<usize> {
    if infos.is_empty() {
        return Err(Error::Gpu(
            "no GPU adapter was found: no Vulkan, Metal or DX12 driver answers. Install your GPU's driver \
             (or a software one: `tools/setup` does it on Debian), or run on the CPU with `device` cpu"
                .into(),
        ));
    }
    let listed = || {
        let all = infos.iter().enumerate().map(|(i, info)| format!("{i}, {}; ", describe(info)));
        format!("this machine has {}and the CPU, cpu", all.collect::<String>())
    };
    match choice {
        DeviceChoice::Auto => Ok(0),
        DeviceChoice::Gpu if is_software(&infos[0]) => Err(Error::Gpu(format!(
            "`device` gpu: there is no real GPU here; `device` software runs the same kernels, slowly, \
             `device` cpu the same plan natively; {}",
            listed()
        ))),
        DeviceChoice::Gpu => Ok(0),
        DeviceChoice::Software => infos
            .iter()
            .position(is_software)
            .ok_or_else(|| Error::Gpu(format!("`device` software: no driver offers one; {}", listed()))),
        DeviceChoice::Index(i) if *i < infos.len() => Ok(*i),
        DeviceChoice::Index(i) => {
            Err(Error::setting("device", i, format!("there is no such adapter; {}", listed())))
        }
        DeviceChoice::Cpu => {
            Err(Error::setting("device", "cpu", "it names no adapter; the plan runs natively"))
        }
        DeviceChoice::Name(name) => {
            let wanted = name.to_lowercase();
            let matches = |info: &wgpu::AdapterInfo| {
                [&info.name, &info.driver].iter().any(|text| text.to_lowercase().contains(&wanted))
            };
            infos.iter().position(matches).ok_or_else(|| {
                let hint = did_you_mean(name, ["auto", "gpu", "software", "cpu"]);
                Error::setting("device", name, format!("no adapter has that name{hint}; {}", listed()))
            })
        }
    }
}

/// Limits and features to ask `adapter` for.
pub(super) fn wanted(adapter: &wgpu::Adapter, options: &GpuOptions) -> (wgpu::Limits, wgpu::Features) {
    if options.webgpu_limits {
        return (wgpu::Limits::defaults(), wgpu::Features::empty());
    }
    let wanted = wgpu::Features::SHADER_F16 | wgpu::Features::PIPELINE_CACHE;
    (adapter.limits(), adapter.features() & (timestamp_features() | wanted))
}

/// The result of the choice `auto`.
#[derive(Debug)]
pub struct Auto<G = Gpu> {
    /// The best real GPU that could be opened, with its number in [`adapters`]; none: take the CPU.
    pub gpu: Option<(usize, G)>,
    /// The reason of the choice.
    pub why: String,
    /// Real GPUs that could not be opened, each with its error.
    pub warnings: Vec<String>,
}

/// The best real GPU that can be opened.
pub fn auto(options: &GpuOptions) -> Auto {
    let all = enumerate(options);
    let infos: Vec<_> = all.iter().map(wgpu::Adapter::get_info).collect();
    auto_of(&infos, |i| Gpu::open(&all[i], options))
}

fn auto_of<G>(infos: &[wgpu::AdapterInfo], mut open: impl FnMut(usize) -> Result<G>) -> Auto<G> {
    let mut warnings = Vec::new();
    let real = infos.iter().take_while(|info| !is_software(info)).count();
    for (i, info) in infos[..real].iter().enumerate() {
        match open(i) {
            Ok(gpu) => {
                let why = match (warnings.is_empty(), real) {
                    (false, _) => "the best real GPU that could be opened",
                    (true, 1) => "the only real GPU here",
                    (true, _) => "the best real GPU here",
                };
                return Auto { gpu: Some((i, gpu)), why: format!("{why}: {}", kind(info)), warnings };
            }
            Err(e) => warnings.push(format!("not used: {e}")),
        }
    }
    let mut why = String::from(if real == 0 { "no real GPU here" } else { "no real GPU could be opened" });
    if let Some(software) = infos.get(real) {
        let name = software.name.split(" (").next().unwrap_or_default();
        let backend = software.backend;
        why += &format!("; software {backend:?} \"{name}\" runs only when asked: `device` software");
    }
    Auto { gpu: None, why, warnings }
}

#[cfg(test)]
mod tests {
    use wgpu::{AdapterInfo, Backend, DeviceType};

    use super::*;

    fn machine(kinds: &[(&str, DeviceType)]) -> Vec<AdapterInfo> {
        let info = |&(name, kind): &(&str, DeviceType)| AdapterInfo {
            name: name.into(),
            ..AdapterInfo::new(kind, Backend::Vulkan)
        };
        kinds.iter().map(info).collect()
    }

    const LLVMPIPE: (&str, DeviceType) = ("llvmpipe (LLVM 15.0.6, 256 bits)", DeviceType::Cpu);
    const FAST: (&str, DeviceType) = ("Fast", DeviceType::DiscreteGpu);
    const SMALL: (&str, DeviceType) = ("Small", DeviceType::IntegratedGpu);

    fn refuse(i: usize) -> Result<usize> {
        Err(Error::Gpu(format!("adapter {i}: the device cannot be opened")))
    }

    #[test]
    fn auto_takes_real_gpus_only() {
        let found = auto_of(&machine(&[FAST, SMALL, LLVMPIPE]), Ok);
        assert_eq!((found.gpu, found.warnings.len()), (Some((0, 0)), 0));
        let found = auto_of(&machine(&[LLVMPIPE]), refuse);
        assert_eq!((found.gpu, found.warnings.len()), (None, 0), "software is not even tried");
        assert!(
            found.why.contains("\"llvmpipe\"") && found.why.contains("`device` software"),
            "{}",
            found.why
        );
        assert_eq!(auto_of(&machine(&[]), refuse).why, "no real GPU here");
    }

    #[test]
    fn auto_goes_on_where_a_gpu_cannot_be_opened() {
        let all = machine(&[FAST, SMALL, LLVMPIPE]);
        let found = auto_of(&all, |i| if i == 0 { refuse(i) } else { Ok(i) });
        assert_eq!(found.gpu, Some((1, 1)));
        assert_eq!(found.warnings, ["not used: adapter 0: the device cannot be opened"]);
        let found = auto_of(&all, refuse);
        assert_eq!((found.gpu, found.warnings.len()), (None, 2));
        assert!(found.why.starts_with("no real GPU could be opened; software"), "{}", found.why);
    }

    #[test]
    fn a_choice_finds_its_adapter_or_says_what_there_is() {
        let (both, software) = (machine(&[FAST, LLVMPIPE]), machine(&[LLVMPIPE]));
        let found = |text: &str, all| choose(&DeviceChoice::parse(text), all).map_err(|e| e.to_string());
        for (text, index) in
            [("auto", 0), ("gpu", 0), ("software", 1), ("LLVMpipe", 1), ("1", 1), ("fast", 0)]
        {
            assert_eq!(found(text, &both), Ok(index), "{text}");
        }
        assert_eq!(found("auto", &software), Ok(0));
        for (text, all, things) in [
            ("gpu", &software, ["no real GPU", "`device` software", "llvmpipe"]),
            ("software", &machine(&[FAST]), ["`device` software", "no driver", "Fast"]),
            ("sofware", &both, ["sofware", "did you mean 'software'", "llvmpipe"]),
            ("7", &both, ["device 7", "no such adapter", "Fast"]),
            ("auto", &machine(&[]), ["no GPU adapter", "driver", "`device` cpu"]),
        ] {
            let refused = found(text, all).unwrap_err();
            assert!(things.iter().all(|thing| refused.contains(thing)), "{text}: {refused}");
        }
    }
}
