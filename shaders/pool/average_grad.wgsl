// grad_x[n, h, w, c] = sum over the windows that cover (h, w) of grad_y / divisor of that window.
// The divisor is that of average.wgsl. NHWC; one thread an Elem of grad_x: four channels, or one.

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
    count: u32,    // Elems of grad_x
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32, // Elems of a pixel
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(2) var<storage, read_write> grad_x: array<Elem>;

// Number of taps in the divisor of window `o`, along one axis.
fn taps(o: u32, kernel: u32, stride: u32, padding: u32, extent: u32) -> u32 {
    let padded = o * stride;
    if COUNT_PADDING { return min(kernel, extent + 2u * padding - padded); }
    return min(padded + kernel - padding, extent) - (max(padded, padding) - padding);
}

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let c = i % params.channels;
    let pixel = i / params.channels;
    let w = pixel % params.in_width;
    let row = pixel / params.in_width;
    let h = row % params.in_height;
    let plane = row / params.in_height * params.out_height * params.out_width;

    // Windows o with o * stride <= padded < o * stride + kernel.
    let padded_h = h + PADDING_HEIGHT;
    let padded_w = w + PADDING_WIDTH;
    let first_h = (max(padded_h + 1u, KERNEL_HEIGHT) - KERNEL_HEIGHT + STRIDE_HEIGHT - 1u) / STRIDE_HEIGHT;
    let first_w = (max(padded_w + 1u, KERNEL_WIDTH) - KERNEL_WIDTH + STRIDE_WIDTH - 1u) / STRIDE_WIDTH;
    let end_h = min(padded_h / STRIDE_HEIGHT + 1u, params.out_height);
    let end_w = min(padded_w / STRIDE_WIDTH + 1u, params.out_width);

    var sum = Elem(0.0);
    for (var oh = first_h; oh < end_h; oh++) {
        let tall = taps(oh, KERNEL_HEIGHT, STRIDE_HEIGHT, PADDING_HEIGHT, params.in_height);
        for (var ow = first_w; ow < end_w; ow++) {
            let wide = taps(ow, KERNEL_WIDTH, STRIDE_WIDTH, PADDING_WIDTH, params.in_width);
            sum += grad_y[(plane + oh * params.out_width + ow) * params.channels + c] / f32(tall * wide);
        }
    }
    grad_x[i] = sum;
}
