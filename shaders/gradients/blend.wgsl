// page = keep page + gain other over a flat page, four elements a thread: sums of gradients, averages of weights.

// import lib/index.wgsl

struct Params {
    quads: u32,
    threads: u32,
    max: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> other: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> factors: array<f32>; // keep, gain
@group(0) @binding(3) var<storage, read_write> page: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn blend(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.quads { return; }
    page[i] = factors[0] * page[i] + factors[1] * other[i];
}
