//! Memory that outlasts a step and that several plans share: pages of trainable parameters, their gradients and
//! moments, running statistics, and the constants computed from frozen parameters.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use super::constant::{Params, constant};
use super::{Constant, Layout, Plan, Segment};
use crate::gpu::{Gpu, GpuBuffer, lock};
use crate::tape::{Data, Real};
use crate::{Error, Result};

/// A store on either kind of device.
pub enum Store {
    /// On a GPU.
    Gpu(Arc<GpuStore>),
    /// In host memory.
    Cpu(Arc<CpuStore<f32>>),
}

/// A store in GPU memory.
pub struct GpuStore {
    pub(super) gpu: Gpu,
    layout: Arc<Layout>,
    pub(super) buffers: Vec<GpuBuffer>,
    constants: Mutex<HashMap<String, Arc<Vec<GpuBuffer>>>>,
}

/// A store in host memory.
pub struct CpuStore<T> {
    layout: Arc<Layout>,
    pub(super) buffers: Mutex<Vec<Data<T>>>,
    constants: Mutex<HashMap<String, Arc<Data<T>>>>,
}

/// The elements of `rows` in a tensor of `total_rows` and `elements`.
fn slice_of(rows: &Range<usize>, total_rows: usize, elements: usize) -> Range<usize> {
    let row = elements / total_rows.max(1);
    rows.start * row..rows.end * row
}

fn segments<'a>(layout: &'a Layout, name: &str) -> Result<&'a [Segment]> {
    let found = layout.segments.get(name).map(Vec::as_slice);
    found.ok_or_else(|| Error::Shape(format!("the store holds no '{name}'")))
}

impl GpuStore {
    /// Allocates the layout's buffers and fills in the parameters and statistics; gradients and
    /// moments begin as zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where memory does not suffice; from `params`.
    pub fn new(gpu: &Gpu, layout: &Arc<Layout>, params: &dyn Params) -> Result<Self> {
        let buffers =
            layout.buffers.iter().map(|b| gpu.storage(&b.name, b.ty.bytes())).collect::<Result<Vec<_>>>()?;
        let constants = Mutex::default();
        let store = GpuStore { gpu: gpu.clone(), layout: layout.clone(), buffers, constants };
        for (page, blocks) in layout.blocks.iter().enumerate() {
            let segment = &segments(layout, &format!("blocks#{page}"))?[0];
            gpu.write(&store.buffers[segment.buffer], 0, bytemuck::cast_slice(blocks));
        }
        for path in layout.live() {
            store.write(path, &params.packed(path)?)?;
        }
        Ok(store)
    }

    /// Overwrites a value by its name in the layout.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no such value or its size differs.
    pub fn write(&self, name: &str, data: &[f32]) -> Result<()> {
        let mut at = 0;
        for s in segments(&self.layout, name)? {
            let piece = data.get(at..at + s.elements).ok_or_else(|| {
                Error::Shape(format!("'{name}' needs more than the {} elements given", data.len()))
            })?;
            self.gpu.write(&self.buffers[s.buffer], s.offset as u64 * 4, bytemuck::cast_slice(piece));
            at += s.elements;
        }
        Ok(())
    }

    /// A value by its name in the layout, once all earlier work is done; see [`Readback`](crate::gpu::Readback) for
    /// who polls the device meanwhile.
    ///
    /// # Errors
    /// [`Error::Shape`] where there is no such value, [`Error::Gpu`] where the device fails.
    pub async fn value(&self, name: &str) -> Result<Vec<f32>> {
        let mut data = Vec::new();
        for s in segments(&self.layout, name)? {
            let (offset, bytes) = (s.offset as u64 * 4, s.elements as u64 * 4);
            let bytes = self.gpu.bytes(&self.buffers[s.buffer], offset, bytes).await?;
            data.extend_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
        }
        Ok(data)
    }

    /// The same, waiting for it.
    ///
    /// # Errors
    /// As for [`GpuStore::value`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let mut data = Vec::new();
        for s in segments(&self.layout, name)? {
            let (offset, bytes) = (s.offset as u64 * 4, s.elements as u64 * 4);
            let bytes = self.gpu.read(&self.buffers[s.buffer], offset, bytes)?;
            data.extend_from_slice(&bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
        }
        Ok(data)
    }

    /// The buffers of a plan's constant: computed now, unless another plan has computed it already.
    pub(super) fn constant(
        &self,
        plan: &Plan,
        c: &Constant,
        params: &dyn Params,
    ) -> Result<Arc<Vec<GpuBuffer>>> {
        if let Some(found) = lock(&self.constants).get(&c.key) {
            return Ok(found.clone());
        }
        let Data::Real(data) = constant::<f32>(plan, c.value, params)? else {
            return Err(Error::Shape(format!("the constant {} is not made of floats", c.key)));
        };
        let rows = plan.tape.shape(c.value).first().copied().unwrap_or(1);
        let upload = |part: &Range<usize>| {
            let piece = &data[slice_of(part, rows, data.len())];
            let buffer = self.gpu.storage("constant", piece.len() as u64 * 4)?;
            self.gpu.write(&buffer, 0, bytemuck::cast_slice(piece));
            Ok(buffer)
        };
        let buffers = Arc::new(c.parts.iter().map(upload).collect::<Result<Vec<_>>>()?);
        lock(&self.constants).insert(c.key.clone(), buffers.clone());
        Ok(buffers)
    }
}

impl<T: Real> CpuStore<T> {
    /// As [`GpuStore::new`].
    ///
    /// # Errors
    /// From `params`.
    pub fn new(layout: &Arc<Layout>, params: &dyn Params) -> Result<Self> {
        let zeros = |(i, b): (usize, &super::BufferSpec)| {
            let n = b.ty.shape.numel();
            if layout.is_words(i) { Data::U32(vec![0; n]) } else { Data::Real(vec![T::zero(); n]) }
        };
        let mut buffers: Vec<Data<T>> = layout.buffers.iter().enumerate().map(zeros).collect();
        for (page, blocks) in layout.blocks.iter().enumerate() {
            let segment = &segments(layout, &format!("blocks#{page}"))?[0];
            buffers[segment.buffer] = Data::U32(blocks.clone());
        }
        let store =
            CpuStore { layout: layout.clone(), buffers: Mutex::new(buffers), constants: Mutex::default() };
        for path in layout.live() {
            store.write(path, &params.packed(path)?)?;
        }
        Ok(store)
    }

    /// As [`GpuStore::write`].
    ///
    /// # Errors
    /// As for [`GpuStore::write`].
    pub fn write(&self, name: &str, data: &[f32]) -> Result<()> {
        let mut at = 0;
        for s in segments(&self.layout, name)? {
            let piece = data.get(at..at + s.elements).ok_or_else(|| {
                Error::Shape(format!("'{name}' needs more than the {} elements given", data.len()))
            })?;
            if let Data::Real(buffer) = &mut lock(&self.buffers)[s.buffer] {
                for (to, &from) in buffer[s.offset..][..s.elements].iter_mut().zip(piece) {
                    *to = T::of(from.into());
                }
            }
            at += s.elements;
        }
        Ok(())
    }

    /// As [`GpuStore::read`], in the store's own number type.
    ///
    /// # Errors
    /// As for [`GpuStore::read`].
    pub fn read(&self, name: &str) -> Result<Vec<T>> {
        let buffers = lock(&self.buffers);
        let piece = |s: &Segment| match &buffers[s.buffer] {
            Data::Real(buffer) => &buffer[s.offset..][..s.elements],
            _ => &[],
        };
        Ok(match segments(&self.layout, name)? {
            // Uses all threads: the first touch of new memory costs more than the copy.
            [whole] => piece(whole).par_iter().with_min_len(1 << 18).copied().collect(),
            parts => parts.iter().flat_map(piece).copied().collect(),
        })
    }

    pub(super) fn constant(&self, plan: &Plan, c: &Constant, params: &dyn Params) -> Result<Arc<Data<T>>> {
        if let Some(found) = lock(&self.constants).get(&c.key) {
            return Ok(found.clone());
        }
        let data = Arc::new(constant::<T>(plan, c.value, params)?);
        lock(&self.constants).insert(c.key.clone(), data.clone());
        Ok(data)
    }
}

impl Store {
    /// Overwrites a value by its name in the layout.
    ///
    /// # Errors
    /// As for [`GpuStore::write`].
    pub fn write(&self, name: &str, data: &[f32]) -> Result<()> {
        match self {
            Store::Gpu(store) => store.write(name, data),
            Store::Cpu(store) => store.write(name, data),
        }
    }

    /// Reads a value by its name in the layout.
    ///
    /// # Errors
    /// As for [`GpuStore::read`].
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        match self {
            Store::Gpu(store) => store.read(name),
            Store::Cpu(store) => store.read(name),
        }
    }
}
