// AdamW over a flat page, QUADS times four elements a thread, all of one block:
//   p -= rate decay p;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= rate / c1 * m / (sqrt(v) / c2 + epsilon),   c1 = 1 - b1^t, c2 = sqrt(1 - b2^t)
// Each block of 64 elements (16 quads) belongs to one group; rates[group] = (rate, decay, c1, c2).

// import lib/index.wgsl

override QUADS: u32 = 1u;

struct Params {
    quads: u32,
    a: f32, // b1
    b: f32, // b2
    c: f32, // epsilon
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read> rates: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> p: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let first = linear_index(id, groups) * QUADS;
    if first >= params.quads { return; }
    let rate = rates[blocks[first / 16u]];
    for (var i = first; i < first + QUADS; i++) {
        let before = p[i];
        let g = grad[i];
        let mean = params.a * m[i] + (1.0 - params.a) * g;
        let square = params.b * v[i] + (1.0 - params.b) * g * g;
        m[i] = mean;
        v[i] = square;
        p[i] = before * (1.0 - rate.x * rate.y) - rate.x / rate.z * mean / (sqrt(square) / rate.w + params.c);
    }
}
