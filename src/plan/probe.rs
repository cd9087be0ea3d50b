//! Runs single ops outside any plan: on the GPU between guard words, on the CPU as the reference,
//! and a case with its gradients as a tape. For tests, `certify` and `bench`.

use std::collections::BTreeMap;

use crate::gpu::{Gpu, GpuBuffer, Readback};
use crate::ops::{BatchNorm, BatchStats, Case, Statistics, backward_from};
use crate::tape::{
    Arg, CpuCall, DType, Data, Io, IoValue, Launch, Op, Operand, Real, Role, Tape, Type, Use, ValueId,
    Variant,
};
use crate::{Error, Result, rng};

/// The fill of every byte that a kernel must not read or has yet to write: NaN as a float, an impossible index as a
/// word. Each region has a fill of its own, so that a copy from guard to guard is detected, too.
fn poison(region: &str) -> u32 {
    0x7FC0_0000 | (rng::key_of(region) as u32 & 0xFFFF)
}

/// Bytes of poison before and after each operand: more than one workgroup of vec4 stores. The guard after the operand
/// is bound, too, since drivers drop or clamp writes beyond a binding, and so hide them.
const GUARD: usize = 2048;

/// The results of an op.
#[derive(Debug, Clone)]
pub struct ProbeResult {
    /// Its outputs; NaN where a kernel leaves out elements that are not read.
    pub outputs: Vec<Data<f32>>,
    /// The inputs that the op changes in place.
    pub updates: Vec<Vec<f32>>,
}

/// One operand, or part of one, in a buffer of its own: guard, contents, guard.
struct Region {
    name: String,
    buffer: GpuBuffer,
    /// Offset of the contents in the buffer.
    offset: usize,
    /// Bytes of the values.
    bytes: usize,
    /// Initial contents of the buffer.
    initial: Vec<u8>,
}

impl Region {
    fn new(gpu: &Gpu, name: String, bytes: usize, contents: &[u8]) -> Result<Self> {
        let offset = GUARD.next_multiple_of(gpu.caps().storage_alignment as usize);
        let size = offset + bytes.max(16).next_multiple_of(16) + GUARD;
        let mut initial: Vec<u8> = poison(&name).to_le_bytes().into_iter().cycle().take(size).collect();
        initial[offset..offset + contents.len()].copy_from_slice(contents);
        let buffer = gpu.storage(&name, size as u64)?;
        gpu.write(&buffer, 0, &initial);
        Ok(Region { name, buffer, offset, bytes, initial })
    }

    /// Bytes that a kernel may touch: the values, up to a whole vec4.
    fn room(&self) -> usize {
        self.bytes.max(16).next_multiple_of(16)
    }

    fn binding(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offset as u64,
            size: wgpu::BufferSize::new((self.room() + GUARD) as u64),
        }
    }

    /// The first changed byte where no change is allowed, counted from the contents.
    fn violation(&self, after: &[u8], writable: bool) -> Option<isize> {
        let open = if writable { self.offset..self.offset + self.room() } else { 0..0 };
        let changed = |&i: &usize| after[i] != self.initial[i] && !open.contains(&i);
        (0..after.len()).find(changed).map(|i| i as isize - self.offset as isize)
    }
}

fn bytes_of<T: bytemuck::Pod>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

fn words<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytemuck::pod_collect_to_vec(bytes)
}

/// All bytes of a value.
fn encode(data: &Data<f32>) -> Vec<u8> {
    match data {
        Data::Real(values) => bytes_of(values),
        Data::U32(values) => bytes_of(values),
        Data::U8(values) => values.clone(),
    }
}

fn decode(dtype: DType, bytes: &[u8]) -> Data<f32> {
    match dtype {
        DType::F32 => Data::Real(words(bytes)),
        DType::U32 => Data::U32(words(bytes)),
        DType::U8 => Data::U8(bytes.to_vec()),
    }
}

/// Bytes of one row (dimension 0) of a value.
fn row_bytes(ty: &Type) -> usize {
    let size = if ty.dtype == DType::U8 { 1 } else { 4 };
    ty.shape.iter().skip(1).product::<usize>() * size
}

/// The regions of one operand, one for each part. Operands without contents are filled with poison.
fn regions(gpu: &Gpu, name: &str, value: &IoValue<'_>, contents: Option<&[u8]>) -> Result<Vec<Region>> {
    let row = row_bytes(value.ty);
    let part = |(number, rows): (usize, &std::ops::Range<usize>)| {
        let name = format!("{name} part {number}");
        let own = contents.map_or(&[][..], |all| &all[rows.start * row..rows.end * row]);
        Region::new(gpu, name, rows.len() * row, own)
    };
    value.parts.iter().enumerate().map(part).collect()
}

/// The buffers of one run.
struct Bench {
    inputs: Vec<Vec<Region>>,
    outputs: Vec<Vec<Region>>,
    scratch: Vec<Region>,
    /// Bound where a kernel does not use a binding: one to read, one to write.
    unused: [Region; 2],
}

impl Bench {
    fn find(&self, operand: Operand, write: bool) -> Option<&Region> {
        match operand {
            Operand::Input(i, part) => self.inputs.get(i)?.get(part),
            Operand::Output(i, part) => self.outputs.get(i)?.get(part),
            Operand::Scratch(i) => self.scratch.get(i),
            Operand::Unused => Some(&self.unused[usize::from(write)]),
        }
    }

    /// All regions, and whether the op may write them.
    fn all(&self, updates: usize) -> Vec<(&Region, bool)> {
        let inputs = self.inputs.iter().enumerate();
        let mut all: Vec<_> =
            inputs.flat_map(|(i, parts)| parts.iter().map(move |part| (part, i < updates))).collect();
        all.extend(self.outputs.iter().flatten().chain(&self.scratch).map(|region| (region, true)));
        all.extend(self.unused.iter().map(|region| (region, false)));
        all
    }
}

/// Runs one variant of `op` on whole operands; see [`run_io`].
///
/// # Errors
/// As for [`run_io`].
pub fn run(
    gpu: &Gpu,
    op: &dyn Op,
    variant: &Variant,
    inputs: &[Data<f32>],
    input_types: &[&Type],
    output_types: &[&Type],
) -> Result<ProbeResult> {
    run_io(gpu, op, variant, &Io::whole(input_types, output_types), inputs)
}

/// Runs one variant of `op`, made for exactly this `io`. Every part of every operand lies in a buffer of its own
/// between guard words; outputs and scratch memory are filled with NaN before. Afterwards all guards, all inputs that
/// are not updated, and all unused bindings must be unchanged.
///
/// # Errors
/// [`Error::Gpu`] naming op, variant and operand where a kernel wrote outside its outputs, bound an absent operand,
/// or failed.
pub fn run_io(
    gpu: &Gpu,
    op: &dyn Op,
    variant: &Variant,
    io: &Io<'_>,
    inputs: &[Data<f32>],
) -> Result<ProbeResult> {
    let label = format!("{}[{}] variant {}", op.name(), op.attributes(), variant.name);
    let fail = |text: String| Error::Gpu(format!("{label}: {text}"));
    let mut bench = Bench {
        inputs: Vec::new(),
        outputs: Vec::new(),
        scratch: Vec::new(),
        unused: [
            Region::new(gpu, "unused, read".into(), 16, &[])?,
            Region::new(gpu, "unused, written".into(), 16, &[])?,
        ],
    };
    for (i, (value, data)) in io.inputs.iter().zip(inputs).enumerate() {
        bench.inputs.push(regions(gpu, &format!("input {i}"), value, Some(&encode(data)))?);
    }
    for (i, value) in io.outputs.iter().enumerate() {
        bench.outputs.push(regions(gpu, &format!("output {i}"), value, None)?);
    }
    for (i, &bytes) in variant.scratch.iter().enumerate() {
        bench.scratch.push(Region::new(gpu, format!("scratch {i}"), bytes as usize, &[])?);
    }

    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for launch in &variant.launches {
        record_launch(gpu, op, &bench, launch, &mut encoder).map_err(|e| fail(e.to_string()))?;
    }
    let all = bench.all(op.updates());
    let mut readback = Readback::new(gpu, all.iter().map(|(region, _)| region.initial.len() as u64).sum())?;
    let copies: Vec<(&wgpu::Buffer, u64, u64)> =
        all.iter().map(|(region, _)| (&*region.buffer, 0, region.initial.len() as u64)).collect();
    readback.copy_all(&mut encoder, &copies);
    gpu.submit(encoder)?;
    let after = readback.take(gpu)?;

    let mut at = 0;
    let mut found = BTreeMap::new();
    for (region, writable) in all {
        let bytes = &after[at..at + region.initial.len()];
        at += bytes.len();
        if let Some(place) = region.violation(bytes, writable) {
            let what = if writable { "wrote outside of" } else { "changed" };
            return Err(fail(format!("{what} {} ({} bytes) at byte {place}", region.name, region.bytes)));
        }
        found.insert(region.name.clone(), bytes[region.offset..region.offset + region.bytes].to_vec());
    }
    let gather = |name: &str, i: usize, value: &IoValue<'_>| {
        let part = |number| found.get(&format!("{name} {i} part {number}")).map_or(&[][..], Vec::as_slice);
        let bytes: Vec<&[u8]> = (0..value.parts.len()).map(part).collect();
        decode(value.ty.dtype, &bytes.concat())
    };
    let outputs = io.outputs.iter().enumerate().map(|(i, value)| gather("output", i, value)).collect();
    let updated = io.inputs.iter().take(op.updates()).enumerate();
    let updates = updated.map(|(i, value)| into_real(gather("input", i, value))).collect();
    Ok(ProbeResult { outputs, updates })
}

fn record_launch(
    gpu: &Gpu,
    op: &dyn Op,
    bench: &Bench,
    launch: &Launch,
    encoder: &mut wgpu::CommandEncoder,
) -> Result<()> {
    use wgpu::BufferUsages as U;
    let (reads, writes) = launch.access();
    let pipeline = gpu.pipeline(&launch.kernel, reads, writes)?;
    let uniform = gpu.buffer("params", launch.params.len() as u64, U::UNIFORM | U::COPY_DST)?;
    let mut params = launch.params.clone();
    params.resize(params.len().next_multiple_of(4), 0);
    gpu.write(&uniform, 0, &params);
    let mut bindings = vec![wgpu::BufferBinding { buffer: &uniform, offset: 0, size: None }];
    for (i, binding) in launch.bindings.iter().enumerate() {
        let allowed = match binding.operand {
            Operand::Input(i, _) => !binding.write || i < op.updates(),
            _ => true,
        };
        let ordered = binding.write || !launch.bindings[..i].iter().any(|before| before.write);
        let region = bench
            .find(binding.operand, binding.write)
            .filter(|_| allowed && ordered)
            .ok_or_else(|| Error::Gpu(format!("{} must not bind {binding:?}", launch.kernel.label())))?;
        bindings.push(region.binding());
    }
    gpu.scoped(&launch.kernel.label(), || {
        let group = gpu.bind_group(&bindings, writes);
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        let [x, y, z] = launch.groups;
        pass.dispatch_workgroups(x, y, z);
    })
}

fn into_real<T>(data: Data<T>) -> Vec<T> {
    match data {
        Data::Real(values) => values,
        Data::U32(_) | Data::U8(_) => Vec::new(),
    }
}

/// Outputs, and the updated inputs, of an op on the CPU.
pub type Reference<T> = (Vec<Data<T>>, Vec<Vec<T>>);

/// Runs `op` on the CPU: outputs, and the inputs that the op changes in place.
///
/// # Errors
/// [`Error::Shape`] where the operands do not fit.
pub fn reference<T: Real>(op: &dyn Op, inputs: &[Data<T>], input_types: &[&Type]) -> Result<Reference<T>> {
    let types = op.infer(input_types)?;
    let io = Io::whole(input_types, &types.iter().collect::<Vec<_>>());
    let mut updates: Vec<Vec<T>> = inputs.iter().take(op.updates()).cloned().map(into_real).collect();
    let mut args: Vec<Arg<'_, T>> = Vec::new();
    for (i, data) in inputs.iter().enumerate() {
        args.push(match data {
            _ if i < op.updates() => Arg::Real(&[]),
            Data::Real(values) => Arg::Real(values),
            Data::U32(values) => Arg::U32(values),
            Data::U8(values) => Arg::U8(values),
        });
    }
    // An element that the op leaves out is NaN or an impossible index.
    let poisoned = |ty: &Type| match ty.dtype {
        DType::F32 => Data::Real(vec![T::nan(); ty.shape.numel()]),
        DType::U32 => Data::U32(vec![u32::MAX; ty.shape.numel()]),
        DType::U8 => Data::U8(vec![u8::MAX; ty.shape.numel()]),
    };
    let mut outputs: Vec<Data<T>> = types.iter().map(poisoned).collect();
    let mut call = CpuCall {
        io: &io,
        inputs: args,
        updates: updates.iter_mut().map(Vec::as_mut_slice).collect(),
        outputs: outputs.iter_mut().map(|data| data.out(0..data.len())).collect(),
        memory: Some(&mut Vec::new()),
    };
    T::run(op, &mut call);
    Ok((outputs, updates))
}

/// The contents of the values of a tape.
pub type Values<T> = BTreeMap<ValueId, Data<T>>;

/// Runs the first `nodes` nodes of a tape on the CPU, in order. `values` holds inputs and parameters before the call,
/// and all values after it.
///
/// # Errors
/// As for [`reference()`]; [`Error::Shape`] where an input was not given.
pub fn interpret<T: Real>(tape: &Tape, nodes: usize, values: &mut Values<T>) -> Result<()> {
    for (i, value) in tape.values.iter().enumerate() {
        if let Role::Fill(number) = value.role {
            values.insert(ValueId(i), Data::Real(vec![T::of(number.into()); value.ty.shape.numel()]));
        }
    }
    for node in &tape.nodes[..nodes] {
        let types: Vec<&Type> = node.inputs.iter().map(|&v| tape.ty(v)).collect();
        let inputs: Option<Vec<Data<T>>> = node.inputs.iter().map(|v| values.get(v).cloned()).collect();
        let inputs =
            inputs.ok_or_else(|| Error::Shape(format!("{}: an input is missing", node.op.name())))?;
        let (outputs, updates) = reference(node.op.as_ref(), &inputs, &types)?;
        values.extend(node.inputs.iter().copied().zip(updates.into_iter().map(Data::Real)));
        values.extend(node.outputs.iter().copied().zip(outputs));
    }
    Ok(())
}

/// A case on a tape, with the gradients of its first output under an upstream gradient.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The op, followed by the gradient ops.
    pub tape: Tape,
    /// The case's inputs.
    pub inputs: Vec<ValueId>,
    /// The op's outputs.
    pub outputs: Vec<ValueId>,
    /// Number of forward nodes.
    pub forward: usize,
    /// The upstream gradient of the first output; none where no input is trainable.
    pub upstream: Option<ValueId>,
    /// Gradient of each trainable input, by the input.
    pub grads: BTreeMap<ValueId, ValueId>,
}

/// Records `case` with the inputs `trainable`, and its gradients. A batch norm over batch statistics is recorded
/// together with the op that computes them from x, which then replaces the case's mean and var: only together are
/// they differentiable.
///
/// # Errors
/// As for [`Tape::record`] and [`Tape::backward`].
pub fn record(case: &Case, trainable: &[usize]) -> Result<Recorded> {
    let mut tape = Tape::new();
    let mut inputs = Vec::new();
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let name = format!("x{i}");
        let usage = if trainable.contains(&i) { Use::Trainable } else { Use::Live };
        inputs.push(match ty.dtype {
            DType::F32 => tape.param(&name, &ty.shape, usage)?,
            DType::U32 | DType::U8 => tape.input(&name, ty.clone()),
        });
    }
    let mut operands = inputs.clone();
    let norm = case.op.as_any().downcast_ref::<BatchNorm>();
    if norm.is_some_and(|norm| norm.statistics == Statistics::Batch) {
        let statistics = tape.record(BatchStats, &inputs[..1])?;
        operands[1..3].copy_from_slice(&statistics);
    }
    let outputs = tape.record_arc(case.op.clone(), &operands)?;
    let forward = tape.nodes.len();
    let (mut upstream, mut grads) = (None, BTreeMap::new());
    if !trainable.is_empty() {
        let target = outputs[0];
        let seed = tape.input("upstream", tape.ty(target).clone());
        upstream = Some(seed);
        grads = backward_from(&mut tape, &[(target, seed)])?;
    }
    Ok(Recorded { tape, inputs, outputs, forward, upstream, grads })
}

/// [`record()`], and the contents of all its values in f64.
///
/// # Errors
/// As for [`record()`] and [`interpret`].
pub fn interpreted(case: &Case, trainable: &[usize]) -> Result<(Recorded, Values<f64>)> {
    let recorded = record(case, trainable)?;
    let mut values = recorded.values::<f64>(case);
    interpret(&recorded.tape, recorded.tape.nodes.len(), &mut values)?;
    Ok((recorded, values))
}

impl Recorded {
    /// The case's inputs and an upstream gradient in [-1, 1): the same in every number type.
    pub fn values<T: Real>(&self, case: &Case) -> Values<T> {
        let mut values: Values<T> = self.inputs.iter().enumerate().map(|(i, &v)| (v, case.data(i))).collect();
        if let Some(seed) = self.upstream {
            let key = rng::key_of(&case.label()) ^ 0x5EED;
            let unit = |c| T::of((2.0 * rng::unit(key, c) - 1.0).into());
            let count = self.tape.shape(seed).numel() as u64;
            values.insert(seed, Data::Real((0..count).map(unit).collect()));
        }
        values
    }
}
