//! The GPU executor: a plan recorded as dispatches whose pipelines and bind groups are made once. A step is one
//! encoder and one compute pass: no allocation, no new bind group, no readback except the outputs.

use std::collections::{HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use rayon::prelude::*;

use super::constant::Params;
use super::inputs::sized;
use super::store::GpuStore;
use super::{Place, Plan, Step, describe};
use crate::gpu::{Gpu, GpuBuffer, Kernel, Readback, Timestamps, Uploader, lock};
use crate::tape::{Operand, ValueId};
use crate::{Error, Result};

/// Number of steps in flight before the host waits for the first.
pub(super) const IN_FLIGHT: usize = 2;

struct Dispatch {
    pipeline: Arc<wgpu::ComputePipeline>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
    step: usize,
}

impl Dispatch {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.groups[0], self.groups[1], self.groups[2]);
    }
}

/// A plan ready to run on a GPU.
pub struct GpuProgram {
    plan: Plan,
    gpu: Gpu,
    slots: Vec<Arc<GpuBuffer>>,
    dispatches: Vec<Dispatch>,
    uploader: Uploader,
    free: Vec<Readback>,
    pending: VecDeque<Readback>,
    // The buffers that the bind groups refer to.
    store: Arc<GpuStore>,
    _constants: Vec<Arc<Vec<GpuBuffer>>>,
    _uniforms: GpuBuffer,
    _nothing: GpuBuffer,
}

/// Slot buffers that several programs share, the largest first.
pub(super) type Slots = Mutex<Vec<Arc<GpuBuffer>>>;

/// Buffers for the slots of `plan`: shared ones where they are large enough, else new ones, which replace the shared
/// ones.
fn slots(gpu: &Gpu, plan: &Plan, shared: &Slots) -> Result<Vec<Arc<GpuBuffer>>> {
    let mut shared = lock(shared);
    let slot = |(i, &bytes): (usize, &u64)| match shared.get(i) {
        Some(buffer) if buffer.size() >= bytes => Ok(buffer.clone()),
        known => {
            let is_known = known.is_some();
            let buffer = Arc::new(gpu.storage(&format!("slot {i}"), bytes)?);
            match is_known {
                true => shared[i] = buffer.clone(),
                false => shared.push(buffer.clone()),
            }
            Ok(buffer)
        }
    };
    plan.slots.iter().enumerate().map(slot).collect()
}

/// One range of a buffer.
type Bound<'a> = (&'a wgpu::Buffer, u64, u64);

/// Compiles all pipelines of a plan, on several threads; the device caches them.
pub(super) fn compile_kernels(gpu: &Gpu, plan: &Plan) -> Result<()> {
    let launches = plan.steps.iter().flat_map(|s| &s.variant.launches);
    let kernels: HashSet<(&Kernel, (u32, u32))> = launches.map(|l| (&l.kernel, l.access())).collect();
    kernels
        .into_par_iter()
        .try_for_each(|(kernel, (reads, writes))| gpu.pipeline(kernel, reads, writes).map(drop))
}

impl GpuProgram {
    /// Compiles all pipelines (on several threads), allocates slots, uploads constants, makes all bind
    /// groups.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where memory does not suffice, [`Error::Gpu`] where a kernel does not compile; from
    /// `params`.
    pub fn new(plan: Plan, store: &Arc<GpuStore>, params: &dyn Params) -> Result<Self> {
        Self::sharing(plan, store, params, &Slots::default())
    }

    /// As [`GpuProgram::new`], with slots that it shares with other programs, which run in turn.
    pub(super) fn sharing(
        plan: Plan,
        store: &Arc<GpuStore>,
        params: &dyn Params,
        shared: &Slots,
    ) -> Result<Self> {
        let gpu = store.gpu.clone();
        compile_kernels(&gpu, &plan)?;
        let launches = || plan.steps.iter().flat_map(|s| &s.variant.launches);
        let slots = slots(&gpu, &plan, shared)?;
        let constants =
            plan.constants.iter().map(|c| store.constant(&plan, c, params)).collect::<Result<Vec<_>>>()?;
        let nothing = gpu.storage("nothing", 256)?;

        let stride = gpu.caps().uniform_alignment.max(16);
        let mut bytes = Vec::new();
        for launch in launches() {
            bytes.extend_from_slice(&launch.params);
            bytes.resize(bytes.len().next_multiple_of(stride as usize), 0);
        }
        use wgpu::BufferUsages as U;
        let uniforms = gpu.buffer("params", bytes.len() as u64, U::UNIFORM | U::COPY_DST)?;
        gpu.write(&uniforms, 0, &bytes);

        let mut dispatches = Vec::new();
        let mut offset = 0;
        for (number, step) in plan.steps.iter().enumerate() {
            for launch in &step.variant.launches {
                let (reads, writes) = launch.access();
                let mut bindings = vec![wgpu::BufferBinding {
                    buffer: &uniforms,
                    offset,
                    size: wgpu::BufferSize::new((launch.params.len() as u64).next_multiple_of(16)),
                }];
                for b in &launch.bindings {
                    let operand = resolve(&plan, step, b.operand, &slots, &constants, &store.buffers)?;
                    let (buffer, offset, size) = operand.unwrap_or((&nothing, 0, 256));
                    let size = wgpu::BufferSize::new(size);
                    bindings.push(wgpu::BufferBinding { buffer, offset, size });
                }
                let name = describe(step.node.op.as_ref());
                dispatches.push(Dispatch {
                    pipeline: gpu.pipeline(&launch.kernel, reads, writes)?,
                    bind_group: gpu.scoped(&name, || gpu.bind_group(&bindings, writes))?,
                    groups: launch.groups,
                    step: number,
                });
                offset += (launch.params.len() as u64).next_multiple_of(stride);
            }
        }
        let inputs: u64 = plan.inputs.values().map(|v| plan.tape.ty(*v).bytes().next_multiple_of(16)).sum();
        let uploader = Uploader::new(&gpu, inputs);
        let outputs: u64 = plan.outputs.iter().map(|(_, v)| plan.tape.ty(*v).bytes()).sum();
        let free = (0..IN_FLIGHT).map(|_| Readback::new(&gpu, outputs)).collect::<Result<Vec<_>>>()?;
        Ok(GpuProgram {
            plan,
            gpu,
            slots,
            dispatches,
            uploader,
            free,
            pending: VecDeque::new(),
            store: store.clone(),
            _constants: constants,
            _uniforms: uniforms,
            _nothing: nothing,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The buffer of an input or output by name, for hosts that fill or read it on the device.
    ///
    /// # Errors
    /// [`Error::Usage`] where the plan has no such value.
    pub fn buffer(&self, name: &str) -> Result<&wgpu::Buffer> {
        let output = self.plan.outputs.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
        let value = self.plan.inputs.get(name).copied().or(output);
        let value = value.ok_or_else(|| Error::Usage(format!("the plan has no input or output '{name}'")))?;
        Ok(self.bound(value)?.0)
    }

    fn bound(&self, v: ValueId) -> Result<Bound<'_>> {
        let root = self.plan.root(v);
        match self.plan.places.get(&root) {
            Some(Place::Slot(slot)) => Ok((&self.slots[*slot], 0, self.plan.tape.ty(v).bytes())),
            Some(Place::Store(segments)) => {
                let s = &segments[0];
                Ok((&self.store.buffers[s.buffer], s.offset as u64 * 4, s.elements as u64 * 4))
            }
            _ => Err(Error::Shape(format!("%{} lies in no buffer of the step", v.0))),
        }
    }

    /// Records the whole step into `encoder` as one compute pass. Never submits, never polls: the inputs are the
    /// contents of their buffers when the host submits.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        self.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
    }

    /// Wall seconds to record a step and have wgpu validate it, without submitting it.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device has failed.
    pub fn record_alone(&self) -> Result<f64> {
        let began = Instant::now();
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.encode(&mut encoder);
        drop(encoder.finish());
        let seconds = began.elapsed().as_secs_f64();
        self.gpu.check()?;
        Ok(seconds)
    }

    /// Records the whole step into a compute pass.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.dispatches.iter().for_each(|d| d.record(pass));
    }

    fn upload(&mut self, encoder: &mut wgpu::CommandEncoder, inputs: &[(&str, ValueId, &[u8])]) {
        for (_, v, data) in inputs {
            let Some(Place::Slot(slot)) = self.plan.places.get(v) else { continue };
            self.uploader.write(encoder, &self.slots[*slot], 0, data);
        }
        self.uploader.finish(encoder);
    }

    /// Uploads inputs, submits one step, and returns at once unless two steps are in flight already.
    ///
    /// # Errors
    /// [`Error::Shape`] for an input that is missing, unknown, read by no step, given twice or of another size,
    /// [`Error::Gpu`] where the device fails.
    pub fn start(&mut self, inputs: &[(&str, &[u8])]) -> Result<()> {
        let inputs = sized(&self.plan, inputs)?;
        let Some(mut readback) = self.free.pop() else {
            return Err(Error::Gpu("two steps are under way: take the first one's outputs".into()));
        };
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.upload(&mut encoder, &inputs);
        self.encode(&mut encoder);
        let parts = (self.plan.outputs.iter()).map(|(_, v)| self.bound(*v)).collect::<Result<Vec<_>>>()?;
        readback.copy_all(&mut encoder, &parts);
        readback.submitted(self.gpu.submit(encoder)?);
        self.pending.push_back(readback);
        Ok(())
    }

    /// Steps that were started and not finished.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The outputs of the oldest started step, if it is done; else `context` is woken when it is. See [`Readback`]
    /// for who polls the device meanwhile.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails or nothing was started.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Vec<Vec<f32>>>> {
        let Some(readback) = self.pending.front_mut() else { return Poll::Ready(Err(not_started())) };
        readback.poll(&self.gpu, context).map(|bytes| self.outputs_in(bytes))
    }

    /// Outputs of the oldest started step, once it is done.
    ///
    /// # Errors
    /// As for [`GpuProgram::poll`].
    pub async fn outputs(&mut self) -> Result<Vec<Vec<f32>>> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Waits for the oldest started step, and for no later one, and returns its outputs.
    ///
    /// # Errors
    /// As for [`GpuProgram::poll`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish(&mut self) -> Result<Vec<Vec<f32>>> {
        let readback = self.pending.front_mut().ok_or_else(not_started)?;
        let bytes = readback.take(&self.gpu);
        self.outputs_in(bytes)
    }

    /// Decodes the outputs from the oldest step's readback, which is free again afterwards.
    fn outputs_in(&mut self, bytes: Result<Vec<u8>>) -> Result<Vec<Vec<f32>>> {
        let readback = self.pending.pop_front();
        let bytes = bytes?;
        self.free.extend(readback);
        let mut rest = &bytes[..];
        let mut outputs = Vec::new();
        for (_, v) in &self.plan.outputs {
            let (own, behind) = rest.split_at(self.plan.tape.ty(*v).bytes() as usize);
            outputs.push(bytemuck::pod_collect_to_vec(own));
            rest = behind;
        }
        Ok(outputs)
    }

    /// Runs one step with a timestamp after every dispatch: seconds of each step of the plan.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the adapter has no timestamps; as for [`GpuProgram::start`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&mut self, inputs: &[(&str, &[u8])]) -> Result<Vec<f64>> {
        let inputs = sized(&self.plan, inputs)?;
        let mut stamps = Timestamps::new(&self.gpu, self.dispatches.len() as u32 + 1)?;
        let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
        self.upload(&mut encoder, &inputs);
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            stamps.mark(&mut pass, 0);
            for (d, mark) in self.dispatches.iter().zip(1..) {
                d.record(&mut pass);
                stamps.mark(&mut pass, mark);
            }
        }
        stamps.resolve(&mut encoder);
        self.gpu.submit(encoder)?;
        let mut seconds = vec![0.0; self.plan.steps.len()];
        for (d, s) in self.dispatches.iter().zip(stamps.seconds(&self.gpu)?) {
            seconds[d.step] += s;
        }
        Ok(seconds)
    }
}

pub(super) fn not_started() -> Error {
    Error::Gpu("no step was started".into())
}

/// The memory of one operand; none where the kernel does not use it.
fn resolve<'a>(
    plan: &Plan,
    step: &Step,
    operand: Operand,
    slots: &'a [Arc<GpuBuffer>],
    constants: &'a [Arc<Vec<GpuBuffer>>],
    store: &'a [GpuBuffer],
) -> Result<Option<Bound<'a>>> {
    let (v, part) = match operand {
        Operand::Unused => return Ok(None),
        Operand::Scratch(i) => {
            let slot = &slots[step.scratch[i]];
            return Ok(Some((slot, 0, step.variant.scratch[i].next_multiple_of(16))));
        }
        Operand::Input(i, part) => (step.node.inputs[i], part),
        Operand::Output(i, part) => (step.node.outputs[i], part),
    };
    let bytes = plan.tape.ty(v).bytes().next_multiple_of(16);
    match plan.places.get(&plan.root(v)) {
        Some(Place::Slot(slot)) => Ok(Some((&slots[*slot], 0, bytes))),
        Some(Place::Constant(c)) => {
            let buffer = &constants[*c][part];
            Ok(Some((buffer, 0, buffer.size())))
        }
        Some(Place::Store(segments)) => {
            let s = &segments[part];
            let bytes = (s.elements as u64 * 4).next_multiple_of(16);
            Ok(Some((&store[s.buffer], s.offset as u64 * 4, bytes)))
        }
        _ => Err(Error::Shape(format!("{}: operand %{} lies nowhere", step.node.layer, v.0))),
    }
}
