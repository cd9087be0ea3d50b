// y = x * s, where s has extent 1 along any axes over which it is broadcast: its stride there is 0. One thread an
// Elem of x: four channels where they are a multiple of four, else one. `Scale` is an Elem, or one number for all
// four channels where s is broadcast over them.

// import lib/index.wgsl

alias Elem = vec4<f32>;
alias Scale = vec4<f32>;

struct Params {
    count: u32, // Elems of x
    height: u32,
    width: u32,
    channels: u32, // Elems of a pixel
    stride_batch: u32, // of s, in Scales
    stride_height: u32,
    stride_width: u32,
    stride_channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> s: array<Scale>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let c = i % params.channels;
    let pixel = i / params.channels;
    let w = pixel % params.width;
    let row = pixel / params.width;
    let h = row % params.height;
    let n = row / params.height;
    let j = n * params.stride_batch + h * params.stride_height + w * params.stride_width
        + c * params.stride_channels;
    y[i] = x[i] * s[j];
}
