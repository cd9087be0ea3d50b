// y = 0 where a draw of (seed, step, layer, element) falls below the threshold, else x * scale.
// Four elements a thread. The same kernel is the gradient, on grad_y.

// import lib/index.wgsl
// import lib/random.wgsl

struct Params {
    quads: u32,     // ceil(elements / 4)
    threshold: u32, // p * 2^24
    salt: u32,      // differs between layers
    scale: f32,     // 1 / (1 - p)
    unit: u32,      // elements that share a draw: 1, or those of an image
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> step: array<u32>; // seed, step
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.quads { return; }
    let key = pcg(pcg(pcg(step[0]) ^ step[1]) ^ params.salt);
    let first = i * 4u;
    let draws = vec4<u32>(
        draw24(key, first / params.unit), draw24(key, (first + 1u) / params.unit),
        draw24(key, (first + 2u) / params.unit), draw24(key, (first + 3u) / params.unit));
    y[i] = select(x[i] * params.scale, vec4<f32>(0.0), draws < vec4<u32>(params.threshold));
}
