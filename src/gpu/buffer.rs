//! Moving bytes without stalls: a staging belt up, mapped buffers down.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};

use super::{Gpu, GpuBuffer, lock};
use crate::{Error, Result};

/// Uploads through persistent staging memory: no call creates a staging buffer.
pub struct Uploader {
    belt: wgpu::util::StagingBelt,
}

impl Uploader {
    /// A belt whose chunks hold at least `bytes`; the bytes of one step are best.
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

/// A copy that was recorded and has not been read yet.
struct Pending {
    outcome: mpsc::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    /// The waker to call when the copy is done.
    waker: Arc<Mutex<Option<Waker>>>,
    /// The submission that contains the copy.
    submission: Option<wgpu::SubmissionIndex>,
}

/// A buffer that is copied into on the device and read on the host later.
///
/// [`Readback::bytes`] and [`Readback::poll`] never block. wgpu reports a finished copy while the device is polled: a
/// browser polls by itself, a renderer once a frame, any other program with [`wgpu::Device::poll`] or [`Gpu::wait`].
/// [`Readback::take`] polls the device itself and blocks until its own submission is done; later submissions
/// continue.
pub struct Readback {
    buffer: GpuBuffer,
    bytes: u64,
    pending: Option<Pending>,
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

    /// Records several copies to contiguous positions; the size of each is a multiple of 4 bytes.
    pub fn copy_all(&mut self, encoder: &mut wgpu::CommandEncoder, parts: &[(&wgpu::Buffer, u64, u64)]) {
        let mut at = 0;
        for &(source, offset, bytes) in parts {
            encoder.copy_buffer_to_buffer(source, offset, &self.buffer, at, bytes.next_multiple_of(4));
            at += bytes.next_multiple_of(4);
        }
        self.bytes = at;
        let (sender, outcome) = mpsc::channel();
        let waker: Arc<Mutex<Option<Waker>>> = Arc::default();
        let told = waker.clone();
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |outcome| {
            // The receiver is gone only where no caller wants the bytes any more.
            let _ = sender.send(outcome);
            if let Some(waker) = lock(&told).take() {
                waker.wake();
            }
        });
        self.pending = Some(Pending { outcome, waker, submission: None });
    }

    /// Sets the submission that contains the copies, so that [`Readback::take`] waits for no later one.
    pub fn submitted(&mut self, submission: wgpu::SubmissionIndex) {
        if let Some(pending) = &mut self.pending {
            pending.submission = Some(submission);
        }
    }

    /// The bytes of the copy, if it is done; else `context` is woken when it is.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device failed or nothing was copied.
    pub fn poll(&mut self, gpu: &Gpu, context: &mut Context<'_>) -> Poll<Result<Vec<u8>>> {
        let Some(pending) = &self.pending else {
            return Poll::Ready(Err(Error::Gpu("readback: nothing was copied to read".into())));
        };
        // Before the check, so that a copy that finishes in between wakes it.
        *lock(&pending.waker) = Some(context.waker().clone());
        let outcome = match pending.outcome.try_recv() {
            Err(mpsc::TryRecvError::Empty) => return Poll::Pending,
            Err(mpsc::TryRecvError::Disconnected) => {
                gpu.check().and(Err(Error::Gpu("readback: the device dropped the copy".into())))
            }
            Ok(outcome) => outcome.map_err(|e| Error::Gpu(format!("readback: {e}"))),
        };
        self.pending = None;
        Poll::Ready(outcome.and_then(|()| self.mapped()))
    }

    /// The bytes of the copy, once it is done.
    ///
    /// # Errors
    /// As for [`Readback::poll`].
    pub async fn bytes(&mut self, gpu: &Gpu) -> Result<Vec<u8>> {
        poll_fn(|context| self.poll(gpu, context)).await
    }

    /// Waits for the copy and returns its bytes.
    ///
    /// # Errors
    /// As for [`Readback::poll`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn take(&mut self, gpu: &Gpu) -> Result<Vec<u8>> {
        let submission = self.pending.as_ref().and_then(|pending| pending.submission.clone());
        loop {
            match self.poll(gpu, &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(bytes) => return bytes,
                Poll::Pending => gpu.wait(submission.clone())?,
            }
        }
    }

    fn mapped(&self) -> Result<Vec<u8>> {
        let view = self.buffer.slice(..self.bytes).get_mapped_range();
        let bytes = view.map_err(|e| Error::Gpu(format!("readback: {e}")))?.to_vec();
        self.buffer.unmap();
        Ok(bytes)
    }
}
