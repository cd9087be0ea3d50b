// SGD with momentum over a flat page, QUADS times four elements a thread, all of one block:
//   g = grad + decay p;  m = momentum m + g;  p -= rate (nesterov ? g + momentum m : m)
// Each block of 64 elements (16 quads) belongs to one group; rates[group] = (rate, decay, -, -).

// import lib/index.wgsl

override NESTEROV: bool = false;
override QUADS: u32 = 1u;

struct Params {
    quads: u32,
    a: f32, // momentum
    b: f32,
    c: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> rates: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let first = linear_index(id, groups) * QUADS;
    if first >= params.quads { return; }
    let rate = rates[blocks[first / 16u]];
    for (var i = first; i < first + QUADS; i++) {
        let before = p[i];
        let g = grad[i] + rate.y * before;
        let moved = params.a * m[i] + g;
        m[i] = moved;
        p[i] = before - rate.x * select(moved, g + params.a * moved, NESTEROV);
    }
}
