//! Measures the limits of a device and the time of single ops: for `defrost bench`, `defrost tune` and `benches/`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::{Device, Layout, Params, Program, Request, compile};
use crate::gpu::{Caps, Gpu, GpuBuffer, Kernel};
use crate::ops::{groups, multiply_adds};
use crate::shader;
use crate::tape::{Data, Io, IoValue, Launch, Op, Operand, Tape, Type, ValueId, Variant};
use crate::{Error, Result};

/// Seconds that a sample of many runs should take: far longer than a clock's tick and a submission's cost.
const SAMPLE: f64 = 0.02;

/// Rounds in which kernels run in turn.
const ROUNDS: usize = 7;

/// A kernel this many times slower than the fastest is timed once: more samples would not change the conclusion.
const HOPELESS: f64 = 8.0;

/// Dispatches in one submission: enough to hide its cost, few enough for a driver's watchdog.
const BURST: u64 = 32;

/// Seconds of one run, over several samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    /// The median.
    pub median: f64,
    /// The shortest.
    pub least: f64,
    /// The longest.
    pub most: f64,
}

impl Timing {
    /// Statistics of these samples; all zero where there are none.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |i: usize| seconds.get(i).copied().unwrap_or(0.0);
        Timing { median: at(seconds.len() / 2), least: at(0), most: at(seconds.len().saturating_sub(1)) }
    }
}

/// Seconds of one call of `run`, whose argument is the number of repetitions: the best of `samples`, each of many
/// repetitions where one is short.
fn best(samples: usize, mut run: impl FnMut(u64) -> Result<f64>) -> Result<f64> {
    let mut best = run(1)?;
    for _ in 0..samples {
        let count = ((SAMPLE / best.max(1e-9)).ceil() as u64).clamp(1, 1 << 20);
        best = best.min(run(count)? / count as f64);
    }
    Ok(best)
}

/// The measured limits of a device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes a second that a copy in memory reads and writes together.
    pub bytes: f64,
    /// Floating-point operations a second in f32; a multiply-add is two.
    pub flops: f64,
    /// The same in f16, where the device supports it.
    pub flops_f16: Option<f64>,
}

impl Limits {
    /// Measures a device in well under a second.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub fn measure(device: &Device) -> Result<Self> {
        match device {
            Device::Gpu(gpu) => Self::of_gpu(gpu),
            Device::Cpu => Ok(Self::of_cpu()),
        }
    }

    /// Least seconds for work of this size, by the limits.
    pub fn least(&self, cost: crate::tape::Cost) -> f64 {
        (cost.flops / self.flops).max(cost.bytes / self.bytes)
    }

    fn of_cpu() -> Self {
        let len = 1 << 24;
        let source = vec![1.0_f32; len];
        let mut target = vec![0.0_f32; len];
        let piece = len / 16 / rayon::current_num_threads().max(1);
        let copy = best(7, |count| {
            let began = Instant::now();
            for _ in 0..count {
                let pieces = target.par_chunks_mut(piece).zip(source.par_chunks(piece));
                pieces.for_each(|(to, from)| to.copy_from_slice(from));
                std::hint::black_box(&target);
            }
            Ok(began.elapsed().as_secs_f64())
        });
        let rounds = 1 << 20;
        let fused = best(5, |count| {
            let began = Instant::now();
            (0..count).for_each(|_| multiply_adds(rounds));
            Ok(began.elapsed().as_secs_f64())
        });
        let threads = rayon::current_num_threads() as f64;
        // Neither of these can fail.
        let rate = |seconds: Result<f64>, work: f64| seconds.map_or(0.0, |seconds| work / seconds);
        let flops = 2.0 * crate::ops::MULTIPLY_ADDS as f64 * rounds as f64 * threads;
        Limits { bytes: rate(copy, 8.0 * len as f64), flops: rate(fused, flops), flops_f16: None }
    }

    fn of_gpu(gpu: &Gpu) -> Result<Self> {
        let caps = gpu.caps();
        // Larger than the caches of a GPU; a software adapter has the caches of the CPU.
        let bytes = if caps.software { 64 << 20 } else { 512 << 20 };
        let bytes = bytes.min(caps.max_binding).min(caps.max_buffer);
        let quads = (bytes / 16) as usize;
        let ty = Type::f32(&[quads, 4]);
        let [copy, single, half] = kernels();
        let launch = Launch::new(copy, &CopyParams { quads: quads as u32 }, groups(quads, caps));
        let seconds = time_launch(gpu, launch.inputs([0]).output(0), &[&ty], &ty)?;
        let flops = |kernel| -> Result<f64> {
            let (threads, rounds): (usize, u32) = if caps.software { (1 << 12, 8) } else { (1 << 19, 64) };
            let params = MultiplyAddParams { rounds, factor: 0.5 };
            let launch = Launch::new(kernel, &params, groups(threads, caps)).output(0);
            let flops = threads as f64 * f64::from(rounds) * 64.0 * 4.0 * 2.0;
            Ok(flops / time_launch(gpu, launch, &[], &Type::f32(&[threads, 4]))?)
        };
        let half = caps.f16.then(|| flops(half)).transpose()?;
        Ok(Limits { bytes: 2.0 * bytes as f64 / seconds, flops: flops(single)?, flops_f16: half })
    }
}

/// The kernels that measure a GPU's limits: a copy, multiply-adds in f32 and in f16.
pub fn kernels() -> [Kernel; 3] {
    [
        Kernel::new(shader!("measure/copy.wgsl"), "copy"),
        Kernel::new(shader!("measure/multiply_add.wgsl"), "multiply_add"),
        Kernel::new(shader!("measure/multiply_add_f16.wgsl"), "multiply_add"),
    ]
}

/// `Params` of `shaders/measure/copy.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct CopyParams {
    quads: u32,
}

/// `Params` of `shaders/lib/multiply_add.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct MultiplyAddParams {
    rounds: u32,
    factor: f32,
}

/// Seconds of one dispatch on inputs and an output of these types.
fn time_launch(gpu: &Gpu, launch: Launch, inputs: &[&Type], output: &Type) -> Result<f64> {
    let mut kernels = Variants::new(gpu, &Io::whole(inputs, &[output]), &[])?;
    kernels.add(&Variant::single("limit", launch))?;
    best(7, |count| kernels.time(0, count))
}

/// Wall seconds of `count` repetitions of the work that `record` records, in submissions of [`BURST`].
fn bursts(gpu: &Gpu, count: u64, record: impl Fn(&mut wgpu::ComputePass<'_>)) -> Result<f64> {
    let began = Instant::now();
    let mut last = None;
    for start in (0..count).step_by(BURST as usize) {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            (start..count.min(start + BURST)).for_each(|_| record(&mut pass));
        }
        // The device computes one burst while the host records the next.
        let submitted = gpu.submit(encoder)?;
        if let Some(before) = last.replace(submitted) {
            gpu.wait(Some(before))?;
        }
    }
    gpu.wait(last)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Kernels of one op on the same operands, to be timed in turn.
pub struct Variants<'a> {
    gpu: &'a Gpu,
    inputs: Vec<GpuBuffer>,
    outputs: Vec<GpuBuffer>,
    ready: Vec<Vec<Dispatch>>,
}

/// Seconds of a run of each of these kernels of one op, on the same operands, measured in turn.
///
/// # Errors
/// [`Error::Gpu`] where one does not compile, or the device fails.
pub fn in_turn(gpu: &Gpu, io: &Io<'_>, inputs: &[Data<f32>], variants: &[&Variant]) -> Result<Vec<Timing>> {
    let mut kernels = Variants::new(gpu, io, inputs)?;
    for variant in variants {
        kernels.add(variant)?;
    }
    let mut once = Vec::new();
    for number in 0..variants.len() {
        // The first run compiles; of the others the shortest counts, since a run may be disturbed.
        kernels.time(number, 1)?;
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            least = least.min(kernels.time(number, 1)?);
        }
        once.push(least);
    }
    let fastest = once.iter().copied().fold(f64::INFINITY, f64::min);
    let mut seconds = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (number, &once) in once.iter().enumerate().filter(|(_, once)| **once < HOPELESS * fastest) {
            let count = ((SAMPLE / once.max(1e-9)).ceil() as u64).clamp(1, 1 << 12);
            seconds[number].push(kernels.time(number, count)? / count as f64);
        }
    }
    let timing = |(seconds, once): (Vec<f64>, f64)| match seconds.is_empty() {
        true => Timing::of(vec![once]),
        false => Timing::of(seconds),
    };
    Ok(seconds.into_iter().zip(once).map(timing).collect())
}

/// One dispatch with its bindings.
struct Dispatch {
    pipeline: Arc<wgpu::ComputePipeline>,
    group: wgpu::BindGroup,
    groups: [u32; 3],
}

impl<'a> Variants<'a> {
    /// The operands, all whole.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where memory does not suffice.
    pub fn new(gpu: &'a Gpu, io: &Io<'_>, inputs: &[Data<f32>]) -> Result<Self> {
        let room = |values: &[IoValue<'_>], name: &str| {
            let one = |v: &IoValue<'_>| gpu.storage(name, v.ty.bytes());
            values.iter().map(one).collect::<Result<Vec<_>>>()
        };
        let (buffers, outputs) = (room(&io.inputs, "input")?, room(&io.outputs, "output")?);
        for (buffer, data) in buffers.iter().zip(inputs) {
            if let Data::Real(values) = data {
                gpu.write(buffer, 0, bytemuck::cast_slice(values));
            }
        }
        Ok(Variants { gpu, inputs: buffers, outputs, ready: Vec::new() })
    }

    /// Adds a kernel.
    ///
    /// # Errors
    /// [`Error::Gpu`] where it does not compile or memory does not suffice.
    pub fn add(&mut self, variant: &Variant) -> Result<()> {
        use wgpu::BufferUsages as U;
        let gpu = self.gpu;
        let scratch = variant.scratch.iter().map(|&bytes| gpu.storage("scratch", bytes));
        let scratch = scratch.collect::<Result<Vec<_>>>()?;
        let nothing = gpu.storage("nothing", 256)?;
        let mut dispatches = Vec::new();
        for launch in &variant.launches {
            let (reads, writes) = launch.access();
            let params = gpu.buffer("params", launch.params.len() as u64, U::UNIFORM | U::COPY_DST)?;
            let mut bytes = launch.params.clone();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            gpu.write(&params, 0, &bytes);
            let buffer = |operand| match operand {
                Operand::Input(i, _) => &self.inputs[i],
                Operand::Output(i, _) => &self.outputs[i],
                Operand::Scratch(i) => &scratch[i],
                Operand::Unused => &nothing,
            };
            let bound = launch.bindings.iter().map(|binding| buffer(binding.operand));
            let all: Vec<&GpuBuffer> = std::iter::once(&params).chain(bound).collect();
            let mut bindings = Vec::new();
            for &buffer in &all {
                bindings.push(wgpu::BufferBinding { buffer, offset: 0, size: None });
            }
            dispatches.push(Dispatch {
                pipeline: gpu.pipeline(&launch.kernel, reads, writes)?,
                group: gpu.scoped(&launch.kernel.label(), || gpu.bind_group(&bindings, writes))?,
                groups: launch.groups,
            });
        }
        self.ready.push(dispatches);
        Ok(())
    }

    /// Wall seconds of `count` runs of the kernel with this number, in the order of their addition.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub fn time(&self, number: usize, count: u64) -> Result<f64> {
        bursts(self.gpu, count, |pass| {
            for dispatch in &self.ready[number] {
                pass.set_pipeline(&dispatch.pipeline);
                pass.set_bind_group(0, &dispatch.group, &[]);
                let [x, y, z] = dispatch.groups;
                pass.dispatch_workgroups(x, y, z);
            }
        })
    }
}

/// Single ops have no parameters: all their operands are inputs.
struct NoParams;

impl Params for NoParams {
    fn packed(&self, path: &str) -> Result<Vec<f32>> {
        Err(Error::Shape(format!("there is no parameter {path}")))
    }
}

/// One op whose operands lie on the device, with the kernel that a plan would choose there.
pub struct Single {
    program: Program,
    device: Device,
    inputs: Vec<(String, Vec<u8>)>,
    outputs: Vec<Vec<u8>>,
}

impl Single {
    /// Compiles `op` for a device with `caps` on inputs of these types and bytes, and runs it once.
    ///
    /// # Errors
    /// [`Error::Shape`] where the operands do not fit, [`Error::Gpu`] where the device fails.
    pub fn new(device: &Device, caps: &Caps, op: &Arc<dyn Op>, inputs: Vec<(Type, Vec<u8>)>) -> Result<Self> {
        let mut tape = Tape::new();
        let operands: Vec<ValueId> =
            inputs.iter().enumerate().map(|(i, (ty, _))| tape.input(&i.to_string(), ty.clone())).collect();
        let results = tape.record_arc(op.clone(), &operands)?;
        let outputs = results.iter().enumerate().map(|(i, &v)| (i.to_string(), v)).collect();
        let request =
            Request { tape, outputs, gradients: BTreeMap::new(), update: None, checkpointing: false };
        let layout = Arc::new(Layout::default());
        let store = device.store(&layout, &NoParams)?;
        let program = Program::new(compile(request, &layout, caps)?, &store, &NoParams)?;
        let inputs = inputs.into_iter().enumerate().map(|(i, (_, bytes))| (i.to_string(), bytes)).collect();
        let mut single = Single { program, device: device.clone(), inputs, outputs: Vec::new() };
        single.start()?;
        if !results.is_empty() {
            let outputs = single.program.finish()?;
            single.outputs = outputs.iter().map(|words| bytemuck::cast_slice(words).to_vec()).collect();
        }
        Ok(single)
    }

    /// Bytes of each output.
    pub fn outputs(&self) -> &[Vec<u8>] {
        &self.outputs
    }

    fn start(&mut self) -> Result<()> {
        let inputs: Vec<(&str, &[u8])> =
            self.inputs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.program.start(&inputs)
    }

    /// Wall seconds of `count` runs: on a GPU without upload and readback, on the CPU with them.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the device fails.
    pub fn time(&mut self, count: u64) -> Result<f64> {
        if let (Program::Gpu(program), Device::Gpu(gpu)) = (&self.program, &self.device) {
            return bursts(gpu, count, |pass| program.record(pass));
        }
        let began = Instant::now();
        for _ in 0..count {
            self.start()?;
            self.program.finish()?;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds of a run over several samples, as for [`Single::time`].
    ///
    /// # Errors
    /// As for [`Single::time`].
    pub fn timing(&mut self) -> Result<Timing> {
        let once = self.time(1)?;
        let count = ((SAMPLE / once.max(1e-9)).ceil() as u64).clamp(1, 1 << 12);
        let samples = (0..ROUNDS).map(|_| Ok(self.time(count)? / count as f64));
        Ok(Timing::of(samples.collect::<Result<_>>()?))
    }
}
