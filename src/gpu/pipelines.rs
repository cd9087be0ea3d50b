//! The driver's cache of compiled pipelines, kept on disk where wgpu offers it (Vulkan). wgpu puts the adapter and
//! its own version in front of the data and does not use what is not of both; drivers check theirs.

use std::path::{Path, PathBuf};

use super::{Gpu, lock};

/// A cache, and the file it is kept in.
pub(super) struct Kept {
    pub(super) cache: wgpu::PipelineCache,
    file: PathBuf,
    /// As it was read: what is no larger is not written again.
    bytes: usize,
}

impl Kept {
    /// Writes what was added. A cache that cannot be written costs only time.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data().filter(|data| data.len() > self.bytes) else { return };
        let aside = self.file.with_extension(format!("{}.new", std::process::id()));
        if std::fs::write(&aside, data).is_ok() {
            let _ = std::fs::rename(&aside, &self.file);
        }
    }
}

impl Gpu {
    /// Keeps pipelines that are compiled from now on in `folder` between processes, where the driver can; they are
    /// written when the device is dropped. The folder must be the user's own: drivers trust what lies in it.
    #[allow(unsafe_code)]
    pub fn keep_pipelines(&self, folder: &Path) {
        let Some(key) = wgpu::util::pipeline_cache_key(self.info()) else { return };
        if !self.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return;
        }
        if std::fs::create_dir_all(folder).is_err() {
            return;
        }
        let file = folder.join(key);
        let data = std::fs::read(&file).ok();
        let bytes = data.as_ref().map_or(0, Vec::len);
        let descriptor =
            wgpu::PipelineCacheDescriptor { label: Some("defrost"), data: data.as_deref(), fallback: true };
        // SAFETY: the data is what `get_data` gave for this adapter (the file is named by wgpu's key of adapter and
        // driver, and wgpu checks its header), in a folder that only the user writes to.
        let cache = unsafe { self.device().create_pipeline_cache(&descriptor) };
        *lock(&self.inner.kept) = Some(Kept { cache, file, bytes });
    }
}
