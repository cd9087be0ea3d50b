// grad_x[n, h, w, c] = sum of grad_y over the windows whose argmax, kh * KERNEL_WIDTH + kw in a byte, is this pixel.
// Each pixel sums over the windows that cover it, so there is no scatter and there are no atomics.
// NHWC; one thread an Elem of grad_x: four channels, or one.

// import lib/index.wgsl

alias Elem = vec4<f32>;
alias Word = vec4<u32>;
const LANES: u32 = 4u; // numbers of an Elem
const SHIFTS: Word = vec4<u32>(0u, 8u, 16u, 24u); // of their bytes in a word

override KERNEL_HEIGHT: u32 = 2u;
override KERNEL_WIDTH: u32 = 2u;
override STRIDE_HEIGHT: u32 = 2u;
override STRIDE_WIDTH: u32 = 2u;
override PADDING_HEIGHT: u32 = 0u;
override PADDING_WIDTH: u32 = 0u;
override DILATION_HEIGHT: u32 = 1u;
override DILATION_WIDTH: u32 = 1u;

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
@group(0) @binding(2) var<storage, read> argmax: array<u32>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<Elem>;

// The first window that reaches `padded`, a pixel's position counted from the padding's edge: ceil((padded - reach) /
// stride), where the last tap of a window lies `reach` after its first.
fn first_window(padded: u32, reach: u32, stride: u32) -> u32 {
    return (max(padded, reach) - reach + stride - 1u) / stride;
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

    let padded_h = h + PADDING_HEIGHT;
    let padded_w = w + PADDING_WIDTH;
    let first_h = first_window(padded_h, (KERNEL_HEIGHT - 1u) * DILATION_HEIGHT, STRIDE_HEIGHT);
    let first_w = first_window(padded_w, (KERNEL_WIDTH - 1u) * DILATION_WIDTH, STRIDE_WIDTH);
    let end_h = min(padded_h / STRIDE_HEIGHT + 1u, params.out_height);
    let end_w = min(padded_w / STRIDE_WIDTH + 1u, params.out_width);

    var sum = Elem(0.0);
    for (var oh = first_h; oh < end_h; oh++) {
        let down = padded_h - oh * STRIDE_HEIGHT;
        for (var ow = first_w; ow < end_w; ow++) {
            let across = padded_w - ow * STRIDE_WIDTH;
            // A dilated window may step over the pixel.
            if down % DILATION_HEIGHT != 0u || across % DILATION_WIDTH != 0u { continue; }
            let tap = down / DILATION_HEIGHT * KERNEL_WIDTH + across / DILATION_WIDTH;
            let o = (plane + oh * params.out_width + ow) * params.channels + c;
            let found = (Word(argmax[o * LANES / 4u]) >> (SHIFTS + Word(o % (4u / LANES) * 8u))) & Word(255u);
            sum += select(Elem(0.0), grad_y[o], found == Word(tap));
        }
    }
    grad_x[i] = sum;
}
