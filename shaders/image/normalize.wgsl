// Images from bytes: y = byte * scale[c] + shift[c], channels interleaved (red, green, blue). A thread processes one
// word of four bytes; the channel of element 4 i + j is (i + j) mod 3.

// import lib/index.wgsl

struct Params {
    scale: vec4<f32>,
    shift: vec4<f32>,
    words: u32, // ceil(bytes / 4)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn normalize(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.words { return; }
    let word = x[i];
    let bytes = vec4<f32>(vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u) & vec4<u32>(255u));
    let c0 = i % 3u;
    let c1 = (i + 1u) % 3u;
    let c2 = (i + 2u) % 3u;
    let scale = vec4<f32>(params.scale[c0], params.scale[c1], params.scale[c2], params.scale[c0]);
    let shift = vec4<f32>(params.shift[c0], params.shift[c1], params.shift[c2], params.shift[c0]);
    y[i] = bytes * scale + shift;
}
