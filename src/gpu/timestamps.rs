//! Device time of each dispatch.

use super::{Gpu, GpuBuffer, Readback};
use crate::{Error, Result};

/// A query set with one timestamp before the first dispatch and one after each.
pub struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: GpuBuffer,
    readback: Readback,
    taps: u32,
    /// Nanoseconds a tick.
    period: f32,
}

impl Timestamps {
    /// Room for `taps` taps.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the adapter has no timestamps or `taps` is beyond 4096.
    pub fn new(gpu: &Gpu, taps: u32) -> Result<Self> {
        if !gpu.caps().timestamps {
            return Err(Error::Gpu(format!("{} offers no timestamps inside a pass", gpu.info().name)));
        }
        if taps > wgpu::QUERY_SET_MAX_QUERIES {
            return Err(Error::Gpu(format!("a plan of {taps} taps is too long to be timed in one run")));
        }
        let queries = gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: taps,
        });
        use wgpu::BufferUsages as U;
        let bytes = u64::from(taps) * 8;
        let resolved = gpu.buffer("timestamps", bytes, U::QUERY_RESOLVE | U::COPY_SRC)?;
        let period = gpu.queue().get_timestamp_period();
        Ok(Timestamps { queries, resolved, readback: Readback::new(gpu, bytes)?, taps, period })
    }

    /// Writes mark `index`.
    pub fn mark(&self, pass: &mut wgpu::ComputePass<'_>, index: u32) {
        pass.write_timestamp(&self.queries, index);
    }

    /// Records the resolve; call it after the pass.
    pub fn resolve(&mut self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..self.taps, &self.resolved, 0);
        self.readback.copy(encoder, &self.resolved, 0, u64::from(self.taps) * 8);
    }

    /// Waits for the run, and returns the seconds between each timestamp and the next.
    ///
    /// # Errors
    /// As for [`Readback::take`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn seconds(&mut self, gpu: &Gpu) -> Result<Vec<f64>> {
        let bytes = self.readback.take(gpu)?;
        let ticks: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|&b| u64::from_le_bytes(b)).collect();
        let scale = f64::from(self.period) * 1e-9;
        Ok(ticks.windows(2).map(|w| w[1].saturating_sub(w[0]) as f64 * scale).collect())
    }
}
