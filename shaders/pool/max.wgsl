// y[n, oh, ow, c] = max over the taps (kh, kw) inside the picture of
//   x[n, oh * stride - padding + kh * dilation, ow * stride - padding + kw * dilation, c]
// argmax = h * in_width + w of the first largest tap. A NaN counts as largest, as in PyTorch.
// NHWC; one thread an Elem of y: four channels, or one where channels are not a multiple of four.
// Every window has a tap inside: `PoolWindow::output` refuses shapes where one has none.

// import lib/index.wgsl

alias Elem = vec4<f32>;
alias Word = vec4<u32>;

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
@group(0) @binding(3) var<storage, read_write> argmax: array<Word>;

// The first tap at or behind 0.
fn first_tap(origin: i32, dilation: u32) -> u32 {
    let before = u32(max(-origin, 0));
    return (before + dilation - 1u) / dilation;
}

// One behind the last tap below `extent`; the origin lies below it.
fn end_tap(origin: i32, dilation: u32, kernel: u32, extent: u32) -> u32 {
    return min(kernel, (u32(i32(extent) - origin) + dilation - 1u) / dilation);
}

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

    let origin_h = i32(oh * STRIDE_HEIGHT) - i32(PADDING_HEIGHT);
    let origin_w = i32(ow * STRIDE_WIDTH) - i32(PADDING_WIDTH);
    let first_h = first_tap(origin_h, DILATION_HEIGHT);
    let first_w = first_tap(origin_w, DILATION_WIDTH);
    let end_h = end_tap(origin_h, DILATION_HEIGHT, KERNEL_HEIGHT, params.in_height);
    let end_w = end_tap(origin_w, DILATION_WIDTH, KERNEL_WIDTH, params.in_width);

    let corner = u32(origin_h + i32(first_h * DILATION_HEIGHT)) * params.in_width
        + u32(origin_w + i32(first_w * DILATION_WIDTH));
    var best = x[(plane + corner) * params.channels + c];
    var found = Word(corner);
    for (var kh = first_h; kh < end_h; kh++) {
        let h = u32(origin_h + i32(kh * DILATION_HEIGHT));
        for (var kw = first_w; kw < end_w; kw++) {
            let w = u32(origin_w + i32(kw * DILATION_WIDTH));
            let place = h * params.in_width + w;
            let v = x[(plane + place) * params.channels + c];
            // By bits: a driver may assume that floats are never NaN.
            let is_nan = (bitcast<Word>(v) & Word(0x7fffffffu)) > Word(0x7f800000u);
            let take = (v > best) | is_nan;
            best = select(best, v, take);
            found = select(found, Word(place), take);
        }
    }
    y[i] = best;
    if STORE_ARGMAX { argmax[i] = found; }
}
