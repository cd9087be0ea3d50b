//! Environment variables of the command. The library reads none of them and receives options instead.

use std::path::PathBuf;

use crate::gpu::{DeviceChoice, GpuOptions};
use crate::models::Hub;

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A folder that a variable names.
fn folder(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// How to open `device`: `DEFROST_LIMITS=webgpu`, `DEFROST_CHECKED=1`, `DEFROST_GPU_MEMORY` (MiB) and wgpu's own
/// `WGPU_BACKEND`. (`DEFROST_DEVICE` and `DEFROST_THREADS` are read with the options of the same name.)
pub(super) fn gpu_options(device: DeviceChoice) -> GpuOptions {
    let memory = variable("DEFROST_GPU_MEMORY").and_then(|mib| mib.parse::<u64>().ok());
    GpuOptions {
        device,
        webgpu_limits: variable("DEFROST_LIMITS").is_some_and(|limits| limits == "webgpu"),
        checked: variable("DEFROST_CHECKED").is_some_and(|checked| checked == "1"),
        memory_budget: memory.map(|mib| mib << 20),
        backends: wgpu::Backends::from_env().unwrap_or_default(),
        ..GpuOptions::default()
    }
}

/// The hub as Python's client finds it: `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_HUB_OFFLINE`,
/// `HF_TOKEN` or the file `$HF_HOME/token`.
pub(super) fn hub() -> Hub {
    let home = || folder("HOME").or_else(|| folder("USERPROFILE")).unwrap_or_else(|| ".".into());
    let base = folder("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
    let hf = folder("HF_HOME").unwrap_or_else(|| base.join("huggingface"));
    let saved = || std::fs::read_to_string(hf.join("token")).ok().map(|token| token.trim().to_string());
    let on = |value: String| !matches!(&*value.to_lowercase(), "0" | "false" | "no");
    Hub {
        endpoint: variable("HF_ENDPOINT").map_or(Hub::ENDPOINT.into(), |e| e.trim_end_matches('/').into()),
        cache: folder("HF_HUB_CACHE").unwrap_or_else(|| hf.join("hub")),
        offline: variable("HF_HUB_OFFLINE").is_some_and(on),
        token: variable("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
    }
}

/// The user's cache folder for Defrost, else a temporary one: cached features, tuned kernels.
pub(super) fn cache_folder() -> PathBuf {
    let base = if cfg!(windows) {
        folder("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library/Caches"))
    } else {
        folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))
    };
    let own = |base: PathBuf| base.join("defrost");
    folder("DEFROST_CACHE").or(base.map(own)).unwrap_or_else(|| std::env::temp_dir().join("defrost"))
}
