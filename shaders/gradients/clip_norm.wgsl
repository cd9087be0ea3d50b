// g *= min(1, max / (norm + 1e-6)) over a flat page, four elements a thread; `sum` is the norm's square.

// import lib/index.wgsl

struct Params {
    quads: u32,
    threads: u32,
    max: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sum: array<f32>;
@group(0) @binding(2) var<storage, read_write> page: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn clip_norm(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.quads { return; }
    let factor = params.max / (sqrt(sum[0]) + 1e-6);
    page[i] *= select(factor, 1.0, factor > 1.0); // not `min`: a NaN stays one
}
