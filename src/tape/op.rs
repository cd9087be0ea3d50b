//! The contract of an op: shapes, gradient, kernels, cost and one CPU implementation.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;

use num_traits::{Float, NumAssign};

use super::{Shape, Tape, Type, ValueId};
use crate::Result;
use crate::gpu::{Caps, Kernel};

/// The gradient of each input, where there is one.
pub type GradRule = Vec<Option<ValueId>>;

/// One operation with its attributes. An op is one file of `ops/`: geometry, shape rule, gradient rule, kernels,
/// cost, the CPU implementation, and its cases. An op may also be part of another crate: `examples/own_op.rs` defines
/// one and checks it.
pub trait Op: Debug + Send + Sync + Any {
    /// `family.direction`, as plans and benches print it: `conv.forward`, `conv.grad_weight`.
    fn name(&self) -> &'static str;

    /// Attributes for people: `3x3 s2 p1`. Two ops with the same name and attributes are the same.
    fn attributes(&self) -> String {
        String::new()
    }

    /// Types of the outputs.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] saying which operand does not fit; the tape adds layer and op.
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>>;

    /// Records the gradients of the inputs that need one, given the gradients of the outputs. Returns one entry for
    /// each input. The default: the op has no gradient.
    ///
    /// # Errors
    /// As for [`Tape::record`].
    fn grad(
        &self,
        _tape: &mut Tape,
        _inputs: &[ValueId],
        _outputs: &[ValueId],
        _upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        Ok(Vec::new())
    }

    /// The number of leading inputs that are changed in place (statistics, parameters).
    fn updates(&self) -> usize {
        0
    }

    /// Whether the output is the input's memory under another shape.
    fn is_view(&self) -> bool {
        false
    }

    /// An op that does the work of this op and then of `consumer`, whose operand `operand` is this op's only output.
    /// Its inputs are those of this op, then the other inputs of the consumer in order.
    fn absorb(&self, _consumer: &dyn Op, _operand: usize) -> Option<Box<dyn Op>> {
        None
    }

    /// The kernels for a device with `caps`, the preferred first, the plainest last. Tests run every one of them on
    /// every case.
    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant>;

    /// Work and traffic.
    fn cost(&self, io: &Io<'_>) -> Cost;

    /// Whether the kernels can address the dimension-0 parts of an operand one by one: operands are inputs, then
    /// outputs. A value too large for one binding is split only where all its ops support that.
    fn splittable(&self, _operand: usize) -> bool {
        false
    }

    /// Runs the op on the CPU in f32.
    fn cpu_f32(&self, call: &mut CpuCall<'_, f32>);

    /// Runs the op on the CPU in f64: the reference of every test.
    fn cpu_f64(&self, call: &mut CpuCall<'_, f64>);

    /// Access to the concrete type, for [`Op::absorb`].
    fn as_any(&self) -> &dyn Any;
}

/// Fills in the two monomorphic entry points from a generic `fn cpu<T: Real>(&self, &mut CpuCall<T>)`.
#[macro_export]
macro_rules! op_boilerplate {
    () => {
        fn cpu_f32(&self, call: &mut $crate::tape::CpuCall<'_, f32>) {
            self.cpu(call);
        }
        fn cpu_f64(&self, call: &mut $crate::tape::CpuCall<'_, f64>) {
            self.cpu(call);
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    };
}

/// Rows (dimension 0) of a split value that lie in one binding.
pub type Part = Range<usize>;

/// The properties of an operand that a kernel choice may use.
#[derive(Debug, Clone)]
pub struct IoValue<'a> {
    /// Shape and type.
    pub ty: &'a Type,
    /// Its parts; one part with all rows where it is not split.
    pub parts: Vec<Part>,
    /// Whether any node reads it (outputs only).
    pub used: bool,
}

/// Operands of one node.
#[derive(Debug, Clone)]
pub struct Io<'a> {
    /// Inputs in order.
    pub inputs: Vec<IoValue<'a>>,
    /// Outputs in order.
    pub outputs: Vec<IoValue<'a>>,
}

impl<'a> Io<'a> {
    /// Operands that are not split and all used.
    pub fn whole(inputs: &[&'a Type], outputs: &[&'a Type]) -> Self {
        let whole = |ty: &&'a Type| IoValue {
            ty,
            parts: vec![0..ty.shape.first().copied().unwrap_or(1)],
            used: true,
        };
        Io { inputs: inputs.iter().map(whole).collect(), outputs: outputs.iter().map(whole).collect() }
    }

    /// Shape of an input.
    pub fn input(&self, i: usize) -> &'a Shape {
        &self.inputs[i].ty.shape
    }

    /// Shape of an output.
    pub fn output(&self, i: usize) -> &'a Shape {
        &self.outputs[i].ty.shape
    }
}

/// The operand of a dispatch's binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// Input `.0`, part `.1`.
    Input(usize, usize),
    /// Output `.0`, part `.1`.
    Output(usize, usize),
    /// Scratch memory `.0` of the variant.
    Scratch(usize),
    /// No operand: the kernel is specialised not to use the binding.
    Unused,
}

/// One binding with its access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The operand that is bound.
    pub operand: Operand,
    /// Whether the kernel writes it. Written bindings come last.
    pub write: bool,
}

/// One dispatch: the params struct at binding 0, then `bindings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Pipeline.
    pub kernel: Kernel,
    /// Bytes of the params struct.
    pub params: Vec<u8>,
    /// Storage bindings from 1 on.
    pub bindings: Vec<Binding>,
    /// Workgroups.
    pub groups: [u32; 3],
}

impl Launch {
    /// A launch without bindings yet.
    pub fn new(kernel: Kernel, params: &impl bytemuck::Pod, groups: [u32; 3]) -> Self {
        Launch { kernel, params: params_bytes(params), bindings: Vec::new(), groups }
    }

    /// Binds whole inputs by number, read-only.
    #[must_use]
    pub fn inputs(self, numbers: impl IntoIterator<Item = usize>) -> Self {
        numbers.into_iter().fold(self, |launch, i| launch.read(Operand::Input(i, 0)))
    }

    /// Binds one operand read-only.
    #[must_use]
    pub fn read(mut self, operand: Operand) -> Self {
        self.bindings.push(Binding { operand, write: false });
        self
    }

    /// Binds one operand read-write.
    #[must_use]
    pub fn write(mut self, operand: Operand) -> Self {
        self.bindings.push(Binding { operand, write: true });
        self
    }

    /// Binds whole output `i`.
    #[must_use]
    pub fn output(self, i: usize) -> Self {
        self.write(Operand::Output(i, 0))
    }

    /// Read-only and read-write bindings.
    pub fn access(&self) -> (u32, u32) {
        let writes = self.bindings.iter().filter(|b| b.write).count() as u32;
        (self.bindings.len() as u32 - writes, writes)
    }
}

/// Bytes of a params struct.
pub fn params_bytes(params: &impl bytemuck::Pod) -> Vec<u8> {
    bytemuck::bytes_of(params).to_vec()
}

/// One way to run an op: dispatches in order, with scratch memory between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Names the algorithm: `tile`, `plain`, `split_k`.
    pub name: &'static str,
    /// Dispatches.
    pub launches: Vec<Launch>,
    /// Bytes of each scratch buffer.
    pub scratch: Vec<u64>,
}

impl Variant {
    /// One dispatch without scratch.
    pub fn single(name: &'static str, launch: Launch) -> Self {
        Variant { name, launches: vec![launch], scratch: Vec::new() }
    }
}

/// Work and traffic of one op.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add is two.
    pub flops: f64,
    /// Least number of bytes to move: each operand once.
    pub bytes: f64,
}

impl Cost {
    /// `flops`, and each operand moved once.
    pub fn streaming(io: &Io<'_>, flops: f64) -> Self {
        let bytes = |values: &[IoValue<'_>]| values.iter().map(|v| v.ty.bytes() as f64).sum::<f64>();
        Cost { flops, bytes: bytes(&io.inputs) + bytes(&io.outputs) }
    }
}

/// The number types of the CPU implementations: f32 and f64.
pub trait Real: Float + NumAssign + Debug + Default + Send + Sync + std::iter::Sum + 'static {
    /// From f64, rounded.
    fn of(x: f64) -> Self;
    /// To f64, exact.
    fn f64(self) -> f64;
    /// Runs `op` in this type.
    fn run(op: &dyn Op, call: &mut CpuCall<'_, Self>);
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn f64(self) -> f64 {
        self.into()
    }
    fn run(op: &dyn Op, call: &mut CpuCall<'_, f32>) {
        op.cpu_f32(call);
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn f64(self) -> f64 {
        self
    }
    fn run(op: &dyn Op, call: &mut CpuCall<'_, f64>) {
        op.cpu_f64(call);
    }
}

/// Elements of a value on the CPU.
#[derive(Debug, Clone, PartialEq)]
pub enum Data<T> {
    /// Floats.
    Real(Vec<T>),
    /// Words.
    U32(Vec<u32>),
    /// Bytes.
    U8(Vec<u8>),
}

/// A borrowed input.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a, T> {
    /// Floats.
    Real(&'a [T]),
    /// Words.
    U32(&'a [u32]),
    /// Bytes.
    U8(&'a [u8]),
}

/// A borrowed output.
#[derive(Debug)]
pub enum Out<'a, T> {
    /// Floats.
    Real(&'a mut [T]),
    /// Words.
    U32(&'a mut [u32]),
    /// Bytes.
    U8(&'a mut [u8]),
}

impl<T> Data<T> {
    /// The elements from `range.start` to `range.end`.
    pub fn arg(&self, range: Range<usize>) -> Arg<'_, T> {
        match self {
            Data::Real(x) => Arg::Real(&x[range]),
            Data::U32(x) => Arg::U32(&x[range]),
            Data::U8(x) => Arg::U8(&x[range]),
        }
    }

    /// The elements from `range.start` to `range.end`, to be written.
    pub fn out(&mut self, range: Range<usize>) -> Out<'_, T> {
        match self {
            Data::Real(x) => Out::Real(&mut x[range]),
            Data::U32(x) => Out::U32(&mut x[range]),
            Data::U8(x) => Out::U8(&mut x[range]),
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        match self {
            Data::Real(x) => x.len(),
            Data::U32(x) => x.len(),
            Data::U8(x) => x.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Operands of one op on the CPU. Outputs hold any numbers before the call; every element must be written. An output
/// that no node reads (`io.outputs[i].used` is false) may be empty.
#[derive(Debug)]
pub struct CpuCall<'a, T> {
    /// Shapes and types.
    pub io: &'a Io<'a>,
    /// Inputs that are not updated in place hold data; updated ones are empty here.
    pub inputs: Vec<Arg<'a, T>>,
    /// The first [`Op::updates`] inputs, to be changed in place.
    pub updates: Vec<&'a mut [T]>,
    /// Results.
    pub outputs: Vec<Out<'a, T>>,
    /// Memory for partial results and packed operands, reused from call to call; see [`CpuCall::scratch`].
    pub memory: Option<&'a mut Vec<T>>,
}

impl<'a, T: Real> CpuCall<'a, T> {
    /// Input `i` as floats; empty where it is of another type.
    pub fn real(&self, i: usize) -> &'a [T] {
        if let Arg::Real(data) = self.inputs[i] { data } else { &[] }
    }

    /// Input `i` as words; empty where it is of another type.
    pub fn words(&self, i: usize) -> &'a [u32] {
        if let Arg::U32(data) = self.inputs[i] { data } else { &[] }
    }

    /// Input `i` as bytes; empty where it is of another type.
    pub fn bytes(&self, i: usize) -> &'a [u8] {
        if let Arg::U8(data) = self.inputs[i] { data } else { &[] }
    }

    /// Output `i` as floats, once; empty where it has another type or no node reads it.
    pub fn output(&mut self, i: usize) -> &'a mut [T] {
        match std::mem::replace(&mut self.outputs[i], Out::Real(&mut [])) {
            Out::Real(data) => data,
            _ => &mut [],
        }
    }

    /// Writes output `i` in order, unless no node reads it.
    pub fn set(&mut self, i: usize, values: impl IntoIterator<Item = T>) {
        for (to, value) in self.output(i).iter_mut().zip(values) {
            *to = value;
        }
    }

    /// Output `i` as bytes, once; empty where it has another type or no node reads it.
    pub fn output_bytes(&mut self, i: usize) -> &'a mut [u8] {
        match std::mem::replace(&mut self.outputs[i], Out::Real(&mut [])) {
            Out::U8(data) => data,
            _ => &mut [],
        }
    }

    /// `elements` of scratch memory, once, with arbitrary contents.
    pub fn scratch(&mut self, elements: usize) -> &'a mut [T] {
        let Some(memory) = self.memory.take() else { return &mut [] };
        if memory.len() < elements {
            memory.clear();
            memory.shrink_to_fit();
            *memory = vec![T::zero(); elements];
        }
        &mut memory[..elements]
    }
}
