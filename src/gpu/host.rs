//! The processor of this machine, which runs plans where there is no GPU.

/// The properties of the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, where the system reports it, else its architecture.
    pub name: String,
    /// Threads that it offers to this process.
    pub threads: usize,
    /// Its vector instructions, as far as Defrost uses them.
    pub vector: &'static str,
    /// Bytes of memory, where the system reports it.
    pub memory: Option<u64>,
}

impl Host {
    /// Detects the properties of this machine.
    pub fn new() -> Self {
        Host {
            name: name().unwrap_or_else(|| std::env::consts::ARCH.into()),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            vector: vector(),
            memory: memory(),
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// The vector instructions by which the CPU implementations choose: `avx2+fma`, `neon` or `none`.
pub(crate) fn vector() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return "avx2+fma";
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "none" }
}

/// The value after `key` in a file of Linux's `/proc`.
fn proc(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn name() -> Option<String> {
    proc("/proc/cpuinfo", "model name").filter(|name| !name.is_empty())
}

fn memory() -> Option<u64> {
    let text = proc("/proc/meminfo", "MemTotal")?;
    Some(text.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
