// Channels of one value copied into, or out of, a range of the channels of another.
//   join:  y[row, offset + c] = x[row, c]     one launch an input of a concatenation
//   slice: y[row, c] = x[row, offset + c]     its gradient
// One thread an Elem: four channels where every extent and offset is a multiple of four, else one.

// import lib/index.wgsl

alias Elem = vec4<f32>;

struct Params {
    count: u32, // Elems copied
    in_channels: u32, // all in Elems
    out_channels: u32,
    offset: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn join(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let row = i / params.in_channels;
    y[row * params.out_channels + params.offset + i % params.in_channels] = x[i];
}

@compute @workgroup_size(WORKGROUP)
fn slice(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let row = i / params.out_channels;
    y[i] = x[row * params.in_channels + params.offset + i % params.out_channels];
}
