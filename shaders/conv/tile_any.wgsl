// The implicit matrix product of tile.wgsl for any number of input channels (an image has 3): the patches are read
// element by element, the weights four output channels at a time.
// Needs groups = 1 and out_channels a multiple of 4. Dispatch: a thread a tile, channels fastest.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/finish4.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn store(value: vec4<f32>, row: u32, rows: u32, quad: u32) {
    let quads = params.out_channels / 4u;
    if row >= rows || quad >= quads { return; }
    let i = row * quads + quad;
    y[i] = finish4(value, quad, quads, i);
}

// Channel c of the pixel at `offset`, zero in the padding.
fn load_x(offset: i32, c: u32) -> f32 {
    return select(0.0, x[u32(max(offset, 0)) + c], offset >= 0);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.out_channels / 4u;
    let tiles = (quads + 3u) / 4u;
    let rows = params.batch * params.out_height * params.out_width;
    let row = i / tiles * 8u;
    let quad = i % tiles * 4u;
    if row >= rows { return; }
    let p0 = pixel(row, params.out_height, params.out_width);
    let p1 = next(p0, params.out_height, params.out_width);
    let p2 = next(p1, params.out_height, params.out_width);
    let p3 = next(p2, params.out_height, params.out_width);
    let p4 = next(p3, params.out_height, params.out_width);
    let p5 = next(p4, params.out_height, params.out_width);
    let p6 = next(p5, params.out_height, params.out_width);
    let p7 = next(p6, params.out_height, params.out_width);
    let q0 = quad;
    let q1 = min(quad + 1u, quads - 1u);
    let q2 = min(quad + 2u, quads - 1u);
    let q3 = min(quad + 3u, quads - 1u);
    let scale = i32(params.in_channels);
    var t: Tile;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let o0 = input_under(p0, kh, kw) * scale;
            let o1 = input_under(p1, kh, kw) * scale;
            let o2 = input_under(p2, kh, kw) * scale;
            let o3 = input_under(p3, kh, kw) * scale;
            let o4 = input_under(p4, kh, kw) * scale;
            let o5 = input_under(p5, kh, kw) * scale;
            let o6 = input_under(p6, kh, kw) * scale;
            let o7 = input_under(p7, kh, kw) * scale;
            for (var c = 0u; c < params.in_channels; c++) {
                let k = ((kh * KERNEL_W + kw) * params.in_channels + c) * quads;
                multiply_one(&t,
                    Scalars(load_x(o0, c), load_x(o1, c), load_x(o2, c), load_x(o3, c),
                            load_x(o4, c), load_x(o5, c), load_x(o6, c), load_x(o7, c)),
                    w[k + q0], w[k + q1], w[k + q2], w[k + q3]);
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
