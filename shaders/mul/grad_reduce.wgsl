// grad_s = sum of grad_y * x over the axes that s is broadcast over, in a fixed order.
// One thread an Elem of s: four channels where s has them all and they are a multiple of four, else
// one. `repeat` is the extent of x along an axis that s is broadcast over, else 1.

// import lib/index.wgsl

alias Elem = vec4<f32>;

struct Params {
    count: u32, // Elems of s
    s_height: u32,
    s_width: u32,
    s_channels: u32, // Elems
    height: u32, // of x
    width: u32,
    channels: u32, // Elems
    repeat_batch: u32,
    repeat_height: u32,
    repeat_width: u32,
    repeat_channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(2) var<storage, read> x: array<Elem>;
@group(0) @binding(3) var<storage, read_write> grad_s: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let c = i % params.s_channels;
    let pixel = i / params.s_channels;
    let w = pixel % params.s_width;
    let row = pixel / params.s_width;
    let h = row % params.s_height;
    let n = row / params.s_height;

    var sum = Elem(0.0);
    for (var rn = 0u; rn < params.repeat_batch; rn++) {
        for (var rh = 0u; rh < params.repeat_height; rh++) {
            let line = ((n + rn) * params.height + h + rh) * params.width + w;
            for (var rw = 0u; rw < params.repeat_width; rw++) {
                let first = (line + rw) * params.channels + c;
                for (var rc = 0u; rc < params.repeat_channels; rc++) {
                    sum += grad_y[first + rc] * x[first + rc];
                }
            }
        }
    }
    grad_s[i] = sum;
}
