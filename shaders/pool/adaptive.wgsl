// y[n, oh, ow, c] = mean of x over rows floor(oh * in / out) .. ceil((oh + 1) * in / out), and the
// same columns. An output of 1x1 is global average pooling; an output may exceed the input.
// NHWC; one thread an Elem of y: four channels, or one. Neighbouring threads read neighbouring
// channels, so the plain loop over a 7x7 plane already runs at the speed of memory.

// import lib/index.wgsl

alias Elem = vec4<f32>;

struct Params {
    count: u32,    // Elems of y
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32, // Elems of a pixel
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let c = i % params.channels;
    let pixel = i / params.channels;
    let ow = pixel % params.out_width;
    let row = pixel / params.out_width;
    let oh = row % params.out_height;
    let plane = row / params.out_height * params.in_height * params.in_width;

    let first_h = oh * params.in_height / params.out_height;
    let first_w = ow * params.in_width / params.out_width;
    let end_h = ((oh + 1u) * params.in_height + params.out_height - 1u) / params.out_height;
    let end_w = ((ow + 1u) * params.in_width + params.out_width - 1u) / params.out_width;

    var sum = Elem(0.0);
    for (var h = first_h; h < end_h; h++) {
        for (var w = first_w; w < end_w; w++) {
            sum += x[(plane + h * params.in_width + w) * params.channels + c];
        }
    }
    y[i] = sum / f32((end_h - first_h) * (end_w - first_w));
}
