//! Moving bytes without stalls: a staging belt up, mapped buffers down.

use std::sync::mpsc;

use super::{Gpu, GpuBuffer};
use crate::{Error, Result};

/// Uploads through persistent staging memory: no staging buffer is created a call.
pub struct Uploader {
    belt: wgpu::util::StagingBelt,
}

impl Uploader {
    /// A belt whose chunks hold at least `bytes`, best the bytes of one step.
    pub fn new(gpu: &Gpu, bytes: u64) -> Self {
        Uploader { belt: wgpu::util::StagingBelt::new(gpu.device().clone(), bytes.max(1 << 16)) }
    }

    /// Records the copy of `data` (a multiple of 4 bytes, else padded with zeros) to `target`.
    pub fn write(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        target: &wgpu::Buffer,
        offset: u64,
        data: &[u8],
    ) {
        let padded = (data.len() as u64).next_multiple_of(4);
        let Some(size) = wgpu::BufferSize::new(padded) else { return };
        let mut view = self.belt.write_buffer(encoder, target, offset, size);
        view.slice(..data.len()).copy_from_slice(data);
        if data.len() as u64 != padded {
            view.slice(data.len()..).copy_from_slice(&[0; 4][..padded as usize - data.len()]);
        }
    }

    /// Ends this step's writes; call it before the encoder is finished.
    pub fn finish(&mut self, encoder: &wgpu::CommandEncoder) {
        self.belt.finish_and_recall_on_submit(encoder);
    }
}

/// A buffer that is copied into on the device and read on the host later.
pub struct Readback {
    buffer: GpuBuffer,
    bytes: u64,
    pending: Option<mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>>,
}

impl Readback {
    /// Room for `bytes`.
    ///
    /// # Errors
    /// As for [`Gpu::buffer`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let buffer = gpu.buffer("readback", bytes, U::MAP_READ | U::COPY_DST)?;
        Ok(Readback { buffer, bytes, pending: None })
    }

    /// Records the copy of `bytes` at `offset` of `source`, to be mapped once submitted.
    pub fn copy(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        source: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) {
        self.copy_all(encoder, &[(source, offset, bytes)]);
    }

    /// Records several copies, one behind the other; each a multiple of 4 bytes.
    pub fn copy_all(&mut self, encoder: &mut wgpu::CommandEncoder, parts: &[(&wgpu::Buffer, u64, u64)]) {
        let mut at = 0;
        for &(source, offset, bytes) in parts {
            encoder.copy_buffer_to_buffer(source, offset, &self.buffer, at, bytes.next_multiple_of(4));
            at += bytes.next_multiple_of(4);
        }
        self.bytes = at;
        let (sender, receiver) = mpsc::channel();
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |outcome| {
            // The receiver is gone only where nobody wants the bytes any more.
            let _ = sender.send(outcome);
        });
        self.pending = Some(receiver);
    }

    /// Waits for the copy and returns its bytes.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device failed or nothing was copied.
    pub fn take(&mut self, gpu: &Gpu) -> Result<Vec<u8>> {
        let pending =
            self.pending.take().ok_or_else(|| Error::Gpu("readback: nothing was copied to read".into()))?;
        let outcome = loop {
            match pending.try_recv() {
                Ok(outcome) => break outcome,
                Err(mpsc::TryRecvError::Empty) => gpu.wait(None)?,
                Err(mpsc::TryRecvError::Disconnected) => {
                    gpu.check()?;
                    return Err(Error::Gpu("readback: the device dropped the copy".into()));
                }
            }
        };
        outcome.map_err(|e| Error::Gpu(format!("readback: {e}")))?;
        let bytes = {
            let view = self
                .buffer
                .slice(..self.bytes)
                .get_mapped_range()
                .map_err(|e| Error::Gpu(format!("readback: {e}")))?;
            view.to_vec()
        };
        self.buffer.unmap();
        Ok(bytes)
    }
}
