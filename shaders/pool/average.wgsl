// y[n, oh, ow, c] = sum over the window of x / divisor, where the divisor counts the window's taps: with
// COUNT_PADDING also those in the padding, but never those beyond it (ceil mode), as in PyTorch.
// NHWC; one thread an Elem of y: four channels, or one.

// import lib/index.wgsl

alias Elem = vec4<f32>;

override KERNEL_HEIGHT: u32 = 2u;
override KERNEL_WIDTH: u32 = 2u;
override STRIDE_HEIGHT: u32 = 2u;
override STRIDE_WIDTH: u32 = 2u;
override PADDING_HEIGHT: u32 = 0u;
override PADDING_WIDTH: u32 = 0u;
override COUNT_PADDING: bool = true;

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

    // Counted from the padding's edge.
    let padded_h = oh * STRIDE_HEIGHT;
    let padded_w = ow * STRIDE_WIDTH;
    let first_h = max(padded_h, PADDING_HEIGHT) - PADDING_HEIGHT;
    let first_w = max(padded_w, PADDING_WIDTH) - PADDING_WIDTH;
    let end_h = min(padded_h + KERNEL_HEIGHT - PADDING_HEIGHT, params.in_height);
    let end_w = min(padded_w + KERNEL_WIDTH - PADDING_WIDTH, params.in_width);
    var taps = (end_h - first_h) * (end_w - first_w);
    if COUNT_PADDING {
        let tall = min(KERNEL_HEIGHT, params.in_height + 2u * PADDING_HEIGHT - padded_h);
        let wide = min(KERNEL_WIDTH, params.in_width + 2u * PADDING_WIDTH - padded_w);
        taps = tall * wide;
    }

    var sum = Elem(0.0);
    for (var h = first_h; h < end_h; h++) {
        for (var w = first_w; w < end_w; w++) {
            sum += x[(plane + h * params.in_width + w) * params.channels + c];
        }
    }
    y[i] = sum / f32(taps);
}
