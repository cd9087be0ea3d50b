// Gradient of a convolution with respect to its input, as an implicit matrix product: a row is an input pixel, a
// column an input channel; the sum runs over taps and output channels. With a stride, input pixels of equal
// remainder, a phase, lie under the same taps: each phase is a dispatch of its own, and does no work for the others.
// One thread holds 8 neighbouring input pixels of a phase x 16 input channels. NHWC, w HWIO.
// Needs groups = 1, in_channels and out_channels multiples of 4. Dispatch: a thread a tile, channels fastest.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/phase.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn store(value: vec4<f32>, p: Pixel, quad: u32) {
    let quads = params.in_channels / 4u;
    if behind(p, phase_height()) || quad >= quads { return; }
    grad_x[index_of(placed(p), params.in_height, params.in_width) * quads + quad] = value;
}

// Whether a tap lies over pixels of the phase: `kernel` and `padding` of one axis. No subtraction goes below 0.
fn covers(k: u32, kernel: u32, dilation: u32, stride: u32, phase: u32, padding: u32) -> bool {
    return (phase + padding + kernel * dilation * stride - k * dilation) % stride == 0u;
}

fn upstream(offset: i32, k: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), grad_y[u32(max(offset, 0)) + k], offset >= 0);
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let tiles = (params.in_channels + 15u) / 16u;
    let height = phase_height();
    let width = phase_width();
    let rows = params.batch * height * width;
    let row = i / tiles * 8u;
    let quad = i % tiles * 4u;
    if row >= rows { return; }
    let p0 = pixel(row, height, width);
    let p1 = next(p0, height, width);
    let p2 = next(p1, height, width);
    let p3 = next(p2, height, width);
    let p4 = next(p3, height, width);
    let p5 = next(p4, height, width);
    let p6 = next(p5, height, width);
    let p7 = next(p6, height, width);
    let quads = params.out_channels / 4u;
    let scale = i32(quads);
    // Four rows of w for each of the tile's four quads; after the edge the last ones repeat.
    let bottom = params.in_channels / 4u - 1u;
    let c0 = min(quad + 0u, bottom) * 4u * quads;
    let c1 = min(quad + 1u, bottom) * 4u * quads;
    let c2 = min(quad + 2u, bottom) * 4u * quads;
    let c3 = min(quad + 3u, bottom) * 4u * quads;
    var t: Tile;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        if !covers(kh, KERNEL_H, DILATION_H, STRIDE_H, PHASE_H, params.pad_top) { continue; }
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            if !covers(kw, KERNEL_W, DILATION_W, STRIDE_W, PHASE_W, params.pad_left) { continue; }
            let o0 = output_over(placed(p0), kh, kw) * scale;
            let o1 = output_over(placed(p1), kh, kw) * scale;
            let o2 = output_over(placed(p2), kh, kw) * scale;
            let o3 = output_over(placed(p3), kh, kw) * scale;
            let o4 = output_over(placed(p4), kh, kw) * scale;
            let o5 = output_over(placed(p5), kh, kw) * scale;
            let o6 = output_over(placed(p6), kh, kw) * scale;
            let o7 = output_over(placed(p7), kh, kw) * scale;
            if BY_PLACE && all(max(vec4(o0, o1, o2, o3), vec4(o4, o5, o6, o7)) < vec4(0)) { continue; }
            let tap = (kh * KERNEL_W + kw) * params.in_channels * quads;
            let w0 = tap + c0;
            let w1 = tap + c1;
            let w2 = tap + c2;
            let w3 = tap + c3;
            for (var k = 0u; k < quads; k++) {
                multiply_transposed(&t,
                    Rows(upstream(o0, k), upstream(o1, k), upstream(o2, k), upstream(o3, k),
                         upstream(o4, k), upstream(o5, k), upstream(o6, k), upstream(o7, k)),
                    mat4x4<f32>(w[w0 + k], w[w0 + quads + k], w[w0 + 2u * quads + k], w[w0 + 3u * quads + k]),
                    mat4x4<f32>(w[w1 + k], w[w1 + quads + k], w[w1 + 2u * quads + k], w[w1 + 3u * quads + k]),
                    mat4x4<f32>(w[w2 + k], w[w2 + quads + k], w[w2 + 2u * quads + k], w[w2 + 3u * quads + k]),
                    mat4x4<f32>(w[w3 + k], w[w3 + quads + k], w[w3 + 2u * quads + k], w[w3 + 3u * quads + k]));
            }
        }
    }
    store(t.c00, p0, quad + 0u); store(t.c01, p0, quad + 1u); store(t.c02, p0, quad + 2u); store(t.c03, p0, quad + 3u);
    store(t.c10, p1, quad + 0u); store(t.c11, p1, quad + 1u); store(t.c12, p1, quad + 2u); store(t.c13, p1, quad + 3u);
    store(t.c20, p2, quad + 0u); store(t.c21, p2, quad + 1u); store(t.c22, p2, quad + 2u); store(t.c23, p2, quad + 3u);
    store(t.c30, p3, quad + 0u); store(t.c31, p3, quad + 1u); store(t.c32, p3, quad + 2u); store(t.c33, p3, quad + 3u);
    store(t.c40, p4, quad + 0u); store(t.c41, p4, quad + 1u); store(t.c42, p4, quad + 2u); store(t.c43, p4, quad + 3u);
    store(t.c50, p5, quad + 0u); store(t.c51, p5, quad + 1u); store(t.c52, p5, quad + 2u); store(t.c53, p5, quad + 3u);
    store(t.c60, p6, quad + 0u); store(t.c61, p6, quad + 1u); store(t.c62, p6, quad + 2u); store(t.c63, p6, quad + 3u);
    store(t.c70, p7, quad + 0u); store(t.c71, p7, quad + 1u); store(t.c72, p7, quad + 2u); store(t.c73, p7, quad + 3u);
}
