// y[n, oh, ow, c] = max over the taps (kh, kw) inside the image of
//   x[n, oh * stride - padding + kh * dilation, ow * stride - padding + kw * dilation, c]
// argmax = kh * KERNEL_WIDTH + kw of the first largest tap, a byte each. A NaN counts as largest, as in PyTorch.
// NHWC; an Elem is four channels, or one where channels are not a multiple of four. A thread computes four numbers of
// y, since their argmax is one word. Every window has a tap inside: `PoolWindow::output` refuses other shapes.

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
override STORE_ARGMAX: bool = true;

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
@group(0) @binding(3) var<storage, read_write> argmax: array<u32>;

// The first tap at or after 0.
fn first_tap(origin: i32, dilation: u32) -> u32 {
    let before = u32(max(-origin, 0));
    return (before + dilation - 1u) / dilation;
}

// One after the last tap below `extent`; the origin lies below it.
fn end_tap(origin: i32, dilation: u32, kernel: u32, extent: u32) -> u32 {
    return min(kernel, (u32(i32(extent) - origin) + dilation - 1u) / dilation);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let word = linear_index(id, groups);
    let elems = 4u / LANES;
    if word * elems >= params.count { return; }
    var bytes = 0u;
    for (var e = 0u; e < elems; e++) {
        let i = word * elems + e;
        if i >= params.count { break; }
        let bits = vec4<u32>(largest(i) << (SHIFTS + Word(e * 8u)));
        bytes |= bits.x | bits.y | bits.z | bits.w;
    }
    if STORE_ARGMAX { argmax[word] = bytes; }
}

// Writes Elem i of y; returns the tap of each of its numbers.
fn largest(i: u32) -> Word {
    let c = i % params.channels;
    let pixel = i / params.channels;
    let ow = pixel % params.out_width;
    let row = pixel / params.out_width;
    let oh = row % params.out_height;
    let plane = row / params.out_height * params.in_height * params.in_width;

    let origin_h = i32(oh * STRIDE_HEIGHT) - i32(PADDING_HEIGHT);
    let origin_w = i32(ow * STRIDE_WIDTH) - i32(PADDING_WIDTH);
    let first_h = first_tap(origin_h, DILATION_HEIGHT);
    let first_w = first_tap(origin_w, DILATION_WIDTH);
    let end_h = end_tap(origin_h, DILATION_HEIGHT, KERNEL_HEIGHT, params.in_height);
    let end_w = end_tap(origin_w, DILATION_WIDTH, KERNEL_WIDTH, params.in_width);

    let corner = u32(origin_h + i32(first_h * DILATION_HEIGHT)) * params.in_width
        + u32(origin_w + i32(first_w * DILATION_WIDTH));
    var best = x[(plane + corner) * params.channels + c];
    var found = Word(first_h * KERNEL_WIDTH + first_w);
    for (var kh = first_h; kh < end_h; kh++) {
        let h = u32(origin_h + i32(kh * DILATION_HEIGHT));
        for (var kw = first_w; kw < end_w; kw++) {
            let w = u32(origin_w + i32(kw * DILATION_WIDTH));
            let v = x[(plane + h * params.in_width + w) * params.channels + c];
            // Compares bits: a driver may assume that floats are never NaN.
            let is_nan = (bitcast<Word>(v) & Word(0x7fffffffu)) > Word(0x7f800000u);
            let take = (v > best) | is_nan;
            best = select(best, v, take);
            found = select(found, Word(kh * KERNEL_WIDTH + kw), take);
        }
    }
    y[i] = best;
    return found;
}
