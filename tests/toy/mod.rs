//! The op `y = 2 x` and kernels of a few lines for it, right ones and wrong ones, for tests of what judges kernels.

use std::fmt::{self, Debug, Formatter};

use bytemuck::{Pod, Zeroable};
use defrost::gpu::{Caps, Kernel, Source};
use defrost::tape::{Cost, CpuCall, Io, Launch, Op, Real, Type, Variant};
use defrost::{Result, op_boilerplate};

/// `Params` of the kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Params {
    count: u32,
}

/// A source whose body is `$body`, for elements `i` below `params.count` = n.
macro_rules! source {
    ($name:literal, $body:literal) => {{
        static SOURCE: defrost::gpu::Source = defrost::gpu::Source {
            path: concat!("test/", $name, ".wgsl"),
            text: concat!(
                "struct Params { count: u32 }\n",
                "@group(0) @binding(0) var<uniform> params: Params;\n",
                "@group(0) @binding(1) var<storage, read> x: array<f32>;\n",
                "@group(0) @binding(2) var<storage, read_write> y: array<f32>;\n",
                "@compute @workgroup_size(64)\n",
                "fn forward(@builtin(global_invocation_id) id: vec3<u32>) {\n",
                "    let i = id.x; let n = params.count;\n",
                "    if i >= n { return; }\n    ",
                $body,
                "\n}\n"
            ),
        };
        &SOURCE
    }};
}

/// A kernel for every element of output 0.
pub(crate) fn variant(name: &'static str, source: &'static Source, io: &Io<'_>) -> Variant {
    let count = io.output(0).numel() as u32;
    let groups = [count.div_ceil(64), 1, 1];
    let launch = Launch::new(Kernel::new(source, "forward"), &Params { count }, groups);
    Variant::single(name, launch.inputs([0]).output(0))
}

/// `y = 2 x`, by the kernels that a test gives it.
pub(crate) struct Double(pub(crate) fn(&Io<'_>) -> Vec<Variant>);

impl Double {
    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let y: Vec<T> = call.real(0).iter().map(|&x| x + x).collect();
        call.set(0, y);
    }
}

/// Not where its kernels lie in memory.
impl Debug for Double {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

impl Op for Double {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "double.forward"
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        Ok(vec![inputs[0].clone()])
    }

    fn kernels(&self, io: &Io<'_>, _caps: &Caps) -> Vec<Variant> {
        (self.0)(io)
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, io.output(0).numel() as f64)
    }
}
