//! The device module: adapters, buffers, pipelines, upload, readback, timestamps. It uses wgpu and contains no
//! mathematics.

mod adapter;
mod buffer;
mod choices;
mod host;
mod kernel;
mod pipelines;
mod timestamps;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use adapter::{AdapterEntry, Auto, Caps, DeviceChoice, GpuOptions, adapters, auto, driver, kind};
pub use buffer::{Readback, Uploader};
pub use choices::Choices;
pub use host::Host;
pub(crate) use host::vector;
pub use kernel::{Kernel, Source, expand};
pub use timestamps::Timestamps;

use crate::{Error, Result};

/// An open device. Cheap to clone; every clone is the same device.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    caps: Caps,
    checked: bool,
    budget: Option<u64>,
    allocated: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
    choices: Mutex<Choices>,
    kept: Mutex<Option<pipelines::Kept>>,
    buffers: AtomicU64,
    bind_groups: AtomicU64,
    layouts: Mutex<HashMap<(u32, u32), Arc<kernel::Layout>>>,
    modules: Mutex<HashMap<String, wgpu::ShaderModule>>,
    pipelines: Mutex<HashMap<Kernel, Arc<wgpu::ComputePipeline>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(kept) = lock(&self.kept).as_ref() {
            kept.save();
        }
    }
}

/// A device buffer that is subtracted from the counted memory when dropped.
pub struct GpuBuffer {
    raw: wgpu::Buffer,
    bytes: u64,
    account: Arc<AtomicU64>,
}

impl std::ops::Deref for GpuBuffer {
    type Target = wgpu::Buffer;
    fn deref(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        self.account.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A mutex whose holder panicked is still usable here: no panic leaves a value under it incomplete.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({}, {:?})", self.inner.info.name, self.inner.info.backend)
    }
}

impl Gpu {
    /// The best GPU: discrete, integrated, else software, since the caller asked for a GPU.
    ///
    /// # Errors
    /// [`Error::Gpu`] where there is no adapter at all, or the device cannot be opened.
    pub fn new() -> Result<Self> {
        Self::with_options(&GpuOptions::default())
    }

    /// The GPU that `options` names; see [`Gpu::new`] for [`DeviceChoice::Auto`].
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that no adapter has, [`Error::Gpu`] as for [`Gpu::new`].
    pub fn with_options(options: &GpuOptions) -> Result<Self> {
        let all = adapter::enumerate(options);
        let infos: Vec<_> = all.iter().map(wgpu::Adapter::get_info).collect();
        Self::open(&all[adapter::choose(&options.device, &infos)?], options)
    }

    fn open(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self> {
        let (limits, features) = adapter::wanted(adapter, options);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("defrost"),
            required_features: features,
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        }))
        .map_err(|e| Error::Gpu(format!("{}: the device cannot be opened: {e}", adapter.get_info().name)))?;
        Ok(Self::assemble(device, queue, options))
    }

    /// A device that the host application owns, from wgpu. Defrost uses its limits as they are and reads no
    /// environment. It installs no error handler: errors reach the application's own handler.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let options = GpuOptions { keep_handlers: true, ..GpuOptions::default() };
        Self::assemble(device, queue, &options)
    }

    fn assemble(device: wgpu::Device, queue: wgpu::Queue, options: &GpuOptions) -> Self {
        let failure = Arc::new(Mutex::new(None::<String>));
        if !options.keep_handlers {
            let slot = failure.clone();
            device.on_uncaptured_error(Arc::new(move |e| {
                lock(&slot).get_or_insert_with(|| e.to_string());
            }));
            let slot = failure.clone();
            device.set_device_lost_callback(move |reason, message| {
                if !matches!(reason, wgpu::DeviceLostReason::Destroyed) {
                    *lock(&slot) = Some(format!("the device was lost: {message}"));
                }
            });
        }
        let info = device.adapter_info();
        let caps = Caps::of(&device.limits(), device.features(), &info);
        Gpu {
            inner: Arc::new(Inner {
                device,
                queue,
                info,
                caps,
                checked: options.checked,
                budget: options.memory_budget,
                allocated: Arc::default(),
                failure,
                choices: Mutex::default(),
                kept: Mutex::default(),
                buffers: AtomicU64::default(),
                bind_groups: AtomicU64::default(),
                layouts: Mutex::default(),
                modules: Mutex::default(),
                pipelines: Mutex::default(),
            }),
        }
    }

    /// wgpu's device, for hosts and tests.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// wgpu's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.inner.queue
    }

    /// The limits and features of the device.
    pub fn caps(&self) -> &Caps {
        &self.inner.caps
    }

    /// The kernels that plans choose where an op offers several; where empty, plans choose the default for this kind
    /// of device.
    pub fn choices(&self) -> Choices {
        lock(&self.inner.choices).clone()
    }

    /// Makes plans that are compiled from now on use these kernels.
    pub fn choose(&self, choices: Choices) {
        *lock(&self.inner.choices) = choices;
    }

    /// Name, driver and kind of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.inner.info
    }

    /// One line for people: name, driver, backend.
    pub fn describe(&self) -> String {
        adapter::describe(&self.inner.info)
    }

    /// Bytes that Defrost holds on the device at this time.
    pub fn allocated(&self) -> u64 {
        self.inner.allocated.load(Ordering::Relaxed)
    }

    /// Number of buffers and bind groups made so far: a step makes none.
    pub fn made(&self) -> (u64, u64) {
        (self.inner.buffers.load(Ordering::Relaxed), self.inner.bind_groups.load(Ordering::Relaxed))
    }

    /// Runs `work` inside an out-of-memory and a validation scope.
    pub(crate) fn scoped<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T> {
        let validation = self.inner.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.inner.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let value = work();
        let out_of_memory = pollster::block_on(memory.pop());
        let invalid = pollster::block_on(validation.pop());
        if out_of_memory.is_some() {
            return Err(self.out_of_memory(what));
        }
        match invalid {
            Some(e) => Err(Error::Gpu(format!("{what}: {e}"))),
            None => Ok(value),
        }
    }

    fn out_of_memory(&self, what: &str) -> Error {
        Error::OutOfMemory(format!(
            "out of memory on {} while creating {what} ({:.1} MiB are in use); \
             choose a smaller `batch`, freeze more layers, or use `device` cpu",
            self.inner.info.name,
            self.allocated() as f64 / (1 << 20) as f64
        ))
    }

    /// A buffer of at least `bytes`, rounded up to 16.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the device or the memory budget has no room, [`Error::Gpu`] where the device's
    /// limits do not allow it.
    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<GpuBuffer> {
        let bytes = bytes.max(16).next_multiple_of(16);
        if bytes > self.inner.caps.max_buffer {
            return Err(Error::Gpu(format!(
                "{label} needs {bytes} bytes, and {} allows {} in one buffer; choose a smaller `batch`",
                self.inner.info.name, self.inner.caps.max_buffer
            )));
        }
        if self.inner.budget.is_some_and(|budget| self.allocated() + bytes > budget) {
            return Err(self.out_of_memory(label));
        }
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        let raw = self.scoped(label, || self.inner.device.create_buffer(&descriptor))?;
        self.inner.allocated.fetch_add(bytes, Ordering::Relaxed);
        self.inner.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(GpuBuffer { raw, bytes, account: self.inner.allocated.clone() })
    }

    /// A storage buffer that can be copied from and to.
    ///
    /// # Errors
    /// As for [`Gpu::buffer`].
    pub fn storage(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        use wgpu::BufferUsages as U;
        self.buffer(label, bytes, U::STORAGE | U::COPY_SRC | U::COPY_DST)
    }

    /// Writes `data` at `offset` through a temporary staging buffer: for set-up, not for steps (see [`Uploader`]).
    /// Large data is written in pieces, so that staging buffers stay small.
    pub fn write(&self, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) {
        const PIECE: usize = 32 << 20;
        for (i, piece) in data.chunks(PIECE).enumerate() {
            self.inner.queue.write_buffer(buffer, offset + (i * PIECE) as u64, piece);
            if data.len() > PIECE {
                self.inner.queue.submit([]);
            }
        }
    }

    /// Submits one recorded encoder.
    ///
    /// # Errors
    /// [`Error::Gpu`] where an earlier command failed or the device is lost.
    pub fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex> {
        let index = self.inner.queue.submit([encoder.finish()]);
        self.check()?;
        Ok(index)
    }

    /// Waits for `submission`, or for all work.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device is lost or a command failed.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        // wgpu panics where the device was lost while it waits.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.inner.device.poll(poll)));
        self.check()?;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(Error::Gpu(format!("{}: waiting failed: {e}", self.inner.info.name))),
            Err(_) => Err(Error::Gpu(format!("{}: the device was lost", self.inner.info.name))),
        }
    }

    /// The first failure that the device has reported, as an error.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the device's message.
    pub fn check(&self) -> Result<()> {
        match lock(&self.inner.failure).as_ref() {
            Some(message) => Err(Error::Gpu(format!("{}: {message}", self.inner.info.name))),
            None => Ok(()),
        }
    }

    /// The bytes of a range, once all earlier work is done; see [`Readback`] for who polls the device meanwhile. For
    /// tests and set-up; steps have a [`Readback`] of their own.
    ///
    /// # Errors
    /// As for [`Readback::poll`].
    pub async fn bytes(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.readback(buffer, offset, bytes)?.bytes(self).await
    }

    /// The same, waiting for it.
    ///
    /// # Errors
    /// As for [`Readback::poll`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.readback(buffer, offset, bytes)?.take(self)
    }

    /// A submitted copy of a range.
    fn readback(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Readback> {
        let mut readback = Readback::new(self, bytes)?;
        let mut encoder = self.inner.device.create_command_encoder(&Default::default());
        readback.copy(&mut encoder, buffer, offset, bytes);
        readback.submitted(self.submit(encoder)?);
        Ok(readback)
    }
}
