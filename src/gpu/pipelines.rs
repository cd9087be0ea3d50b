//! The driver's cache of compiled pipelines, stored on disk where wgpu offers it (Vulkan). wgpu stores the adapter
//! and its own version in front of the data and ignores data of another adapter or version; drivers check their own
//! versions.

use std::path::{Path, PathBuf};

use super::{Gpu, lock};

/// A cache, and its file.
pub(super) struct Kept {
    pub(super) cache: wgpu::PipelineCache,
    file: PathBuf,
    /// Size when it was read: a cache that has not grown is not written again.
    bytes: usize,
}

impl Kept {
    /// Writes new pipelines. A cache that cannot be written costs only time.
    pub(super) fn save(&self) {
        let Some(data) = self.cache.get_data().filter(|data| data.len() > self.bytes) else { return };
        let aside = self.file.with_extension(format!("{}.new", std::process::id()));
        if std::fs::write(&aside, data).is_ok() {
            let _ = std::fs::rename(&aside, &self.file);
        }
    }
}

impl Gpu {
    /// Stores pipelines that are compiled from now on in `folder` for later processes, where the driver can; they are
    /// written when the device is dropped. The folder must be the user's own, since drivers trust its contents.
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
