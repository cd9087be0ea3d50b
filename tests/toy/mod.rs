//! Kernels of a few lines for `y = 2 x`, right ones and wrong ones, for tests of what judges kernels.

use bytemuck::{Pod, Zeroable};
use defrost::gpu::{Kernel, Source};
use defrost::tape::{CpuCall, Io, Launch, Real, Variant};

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

/// What they should compute.
pub(crate) fn double<T: Real>(call: &mut CpuCall<'_, T>) {
    let y: Vec<T> = call.real(0).iter().map(|&x| x + x).collect();
    call.set(0, y);
}
