// Gradient of a convolution with respect to its input, as an implicit matrix product: a row is an input
// pixel, a column an input channel; the sum runs over taps and output channels. The output pixel whose
// tap lies over an input pixel exists only where the stride divides; elsewhere it counts as zero.
// One thread holds 8 consecutive input pixels x 16 input channels. NHWC, w HWIO.
// Needs groups = 1, in_channels and out_channels multiples of 4. Dispatch: a thread a tile, channels fastest.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn store(value: vec4<f32>, row: u32, rows: u32, quad: u32) {
    let quads = params.in_channels / 4u;
    if row >= rows || quad >= quads { return; }
    grad_x[row * quads + quad] = value;
}

fn upstream(offset: i32, k: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), grad_y[u32(max(offset, 0)) + k], offset >= 0);
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let tiles = (params.in_channels + 15u) / 16u;
    let rows = params.batch * params.in_height * params.in_width;
    let row = i / tiles * 8u;
    let quad = i % tiles * 4u;
    if row >= rows { return; }
    let p0 = pixel(row, params.in_height, params.in_width);
    let p1 = next(p0, params.in_height, params.in_width);
    let p2 = next(p1, params.in_height, params.in_width);
    let p3 = next(p2, params.in_height, params.in_width);
    let p4 = next(p3, params.in_height, params.in_width);
    let p5 = next(p4, params.in_height, params.in_width);
    let p6 = next(p5, params.in_height, params.in_width);
    let p7 = next(p6, params.in_height, params.in_width);
    let quads = params.out_channels / 4u;
    let scale = i32(quads);
    // Four rows of w for each of the tile's four quads; beyond the edge the last ones repeat.
    let bottom = params.in_channels / 4u - 1u;
    let c0 = min(quad + 0u, bottom) * 4u * quads;
    let c1 = min(quad + 1u, bottom) * 4u * quads;
    let c2 = min(quad + 2u, bottom) * 4u * quads;
    let c3 = min(quad + 3u, bottom) * 4u * quads;
    var t: Tile;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let o0 = output_over(p0, kh, kw) * scale;
            let o1 = output_over(p1, kh, kw) * scale;
            let o2 = output_over(p2, kh, kw) * scale;
            let o3 = output_over(p3, kh, kw) * scale;
            let o4 = output_over(p4, kh, kw) * scale;
            let o5 = output_over(p5, kh, kw) * scale;
            let o6 = output_over(p6, kh, kw) * scale;
            let o7 = output_over(p7, kh, kw) * scale;
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
    store(t.c00, row + 0u, rows, quad + 0u); store(t.c01, row + 0u, rows, quad + 1u); store(t.c02, row + 0u, rows, quad + 2u); store(t.c03, row + 0u, rows, quad + 3u);
    store(t.c10, row + 1u, rows, quad + 0u); store(t.c11, row + 1u, rows, quad + 1u); store(t.c12, row + 1u, rows, quad + 2u); store(t.c13, row + 1u, rows, quad + 3u);
    store(t.c20, row + 2u, rows, quad + 0u); store(t.c21, row + 2u, rows, quad + 1u); store(t.c22, row + 2u, rows, quad + 2u); store(t.c23, row + 2u, rows, quad + 3u);
    store(t.c30, row + 3u, rows, quad + 0u); store(t.c31, row + 3u, rows, quad + 1u); store(t.c32, row + 3u, rows, quad + 2u); store(t.c33, row + 3u, rows, quad + 3u);
    store(t.c40, row + 4u, rows, quad + 0u); store(t.c41, row + 4u, rows, quad + 1u); store(t.c42, row + 4u, rows, quad + 2u); store(t.c43, row + 4u, rows, quad + 3u);
    store(t.c50, row + 5u, rows, quad + 0u); store(t.c51, row + 5u, rows, quad + 1u); store(t.c52, row + 5u, rows, quad + 2u); store(t.c53, row + 5u, rows, quad + 3u);
    store(t.c60, row + 6u, rows, quad + 0u); store(t.c61, row + 6u, rows, quad + 1u); store(t.c62, row + 6u, rows, quad + 2u); store(t.c63, row + 6u, rows, quad + 3u);
    store(t.c70, row + 7u, rows, quad + 0u); store(t.c71, row + 7u, rows, quad + 1u); store(t.c72, row + 7u, rows, quad + 2u); store(t.c73, row + 7u, rows, quad + 3u);
}
