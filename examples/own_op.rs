//! An op of one's own: the squared ReLU of So et al. 2021 (arXiv:2109.08668), `y = max(x, 0)^2`, with its gradient, its
//! kernels in WGSL and its CPU implementation. It is checked as Defrost checks its own ops: every kernel between guard words
//! against f64, the gradient against finite differences. Then it stands in a network.
//!
//! cargo run --release --example own_op

use bytemuck::{Pod, Zeroable};
use defrost::gpu::{Caps, GpuOptions, Kernel, Source};
use defrost::nn::{Graph, Linear, Mask, Mode, Norm, PaddingStyle, Settings};
use defrost::ops::{Case, backward_from, groups};
use defrost::plan::Device;
use defrost::plan::certify::{Certifier, slopes};
use defrost::tape::{Cost, CpuCall, GradRule, Io, Launch, Op, Real, Tape, Type, ValueId, Variant};
use defrost::{Error, Result, op_boilerplate};

/// In a crate of several shaders each has a file: `shader!("squared_relu/forward.wgsl")`, from its folder `shaders/`.
static FORWARD: Source = Source {
    path: "squared_relu/forward.wgsl",
    text: "
// y = max(x, 0)^2. One element a thread.

// import lib/index.wgsl

struct Params { elements: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.elements { return; }
    y[i] = select(x[i] * x[i], 0.0, x[i] < 0.0);
}
",
};

static GRAD: Source = Source {
    path: "squared_relu/grad.wgsl",
    text: "
// dx = 2 max(x, 0) dy. One element a thread.

// import lib/index.wgsl

struct Params { elements: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> grad_y: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.elements { return; }
    grad_x[i] = select(2.0 * x[i] * grad_y[i], 0.0, x[i] < 0.0);
}
",
};

/// `Params` of both shaders.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    elements: u32,
}

/// One dispatch over all elements: `inputs` bindings to read, then the output.
fn pointwise(io: &Io<'_>, caps: &Caps, kernel: Kernel, inputs: usize) -> Vec<Variant> {
    let elements = io.output(0).numel();
    let launch = Launch::new(kernel, &Params { elements: elements as u32 }, groups(elements, caps));
    vec![Variant::single("pointwise", launch.inputs(0..inputs).output(0))]
}

/// `y = max(x, 0)^2`, any shape.
#[derive(Debug, Clone, Copy)]
struct SquaredRelu;

/// `grad_x = 2 max(x, 0) grad_y`; inputs: x, grad_y.
#[derive(Debug, Clone, Copy)]
struct SquaredReluGrad;

impl SquaredRelu {
    /// One loop for f32, which the CPU runs, and f64, which all tests compare with.
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let x = call.real(0);
        call.set(0, x.iter().map(|&x| if x < T::zero() { T::zero() } else { x * x }));
    }
}

impl Op for SquaredRelu {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "squared_relu.forward"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn grad(
        &self,
        tape: &mut Tape,
        inputs: &[ValueId],
        _outputs: &[ValueId],
        upstream: &[Option<ValueId>],
        _needs: &[bool],
    ) -> Result<GradRule> {
        let Some(grad_y) = upstream[0] else { return Ok(vec![None]) };
        Ok(vec![Some(tape.apply(SquaredReluGrad, &[inputs[0], grad_y])?)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        pointwise(io, caps, Kernel::new(&FORWARD, "forward"), 1)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}

impl SquaredReluGrad {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let (x, grad_y) = (call.real(0), call.real(1));
        let two = T::of(2.0);
        call.set(
            0,
            x.iter().zip(grad_y).map(|(&x, &dy)| if x < T::zero() { T::zero() } else { two * x * dy }),
        );
    }
}

impl Op for SquaredReluGrad {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "squared_relu.grad"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[1].clone()])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        pointwise(io, caps, Kernel::new(&GRAD, "grad"), 2)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}

fn main() -> Result<()> {
    let device = Device::open(&GpuOptions::default())?;
    println!("{}", device.describe());
    let mut certifier = Certifier::new(&device);
    let mut wrong = Vec::new();
    for shape in [&[3, 5, 7][..], &[1, 1], &[2, 4, 4, 130]] {
        let case = Case::new(SquaredRelu, &[shape]);
        certifier.case(&case, |_| true)?;
        let (places, complaints) = slopes(&case)?;
        println!("{}: the gradient against slopes at {places} places", case.label());
        wrong.extend(complaints);
    }
    for tally in certifier.finish() {
        println!(
            "{:21} {:10} {} runs, {:.2}% of the allowed error",
            tally.op,
            tally.variant,
            tally.runs,
            100.0 * tally.error
        );
        wrong.extend(tally.failures.iter().map(|failure| format!("{}: {}", failure.case, failure.what)));
    }
    if !wrong.is_empty() {
        return Err(Error::Gpu(wrong.join("\n")));
    }

    // A layer like any other: between two linear ones, of which the first is frozen, its gradient is not even recorded.
    let mut tape = Tape::new();
    let mask = Mask::default();
    let x = tape.input("x", Type::f32(&[8, 16]));
    let settings = Settings {
        mode: Mode::Train,
        padding: PaddingStyle::default(),
        norm: Norm::default(),
        mask: &mask,
        dropout: None,
        auxiliary: None,
        hidden: None,
    };
    let mut g = Graph::new(&mut tape, settings);
    let y = g.linear("first", x, Linear::new(32))?;
    let y = g.op("act", SquaredRelu, &[y])?;
    let y = g.linear("second", y, Linear::new(1))?;
    let forward = tape.nodes.len();
    let one = tape.fill(&[8, 1], 1.0);
    backward_from(&mut tape, &[(y, one)])?;
    for node in &tape.nodes[forward..] {
        println!("{:8} {}", node.layer, node.op.name());
    }
    Ok(())
}
