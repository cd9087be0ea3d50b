// Convolution as an implicit matrix product: y [pixels, out_channels] = patches [pixels, taps * in_channels]
// times w [taps * in_channels, out_channels], where the patches are read in place and never stored.
// One thread holds 8 neighbouring output pixels x 16 output channels. Activations NHWC, w HWIO.
// Needs groups = 1, in_channels and out_channels multiples of 4. Dispatch: a thread a tile, channels fastest.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/finish4.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn store(value: vec4<f32>, p: Pixel, quad: u32) {
    let quads = params.out_channels / 4u;
    if behind(p, params.out_height) || quad >= quads { return; }
    let i = index_of(p, params.out_height, params.out_width) * quads + quad;
    y[i] = finish4(value, quad, quads, i);
}

// Quad k of the pixel at `offset` (in quads), zero in the padding.
fn load_x(offset: i32, k: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), x[u32(max(offset, 0)) + k], offset >= 0);
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
    let depth = params.in_channels / 4u;
    let scale = i32(depth);
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
            if BY_PLACE && all(max(vec4(o0, o1, o2, o3), vec4(o4, o5, o6, o7)) < vec4(0)) { continue; }
            let tap = (kh * KERNEL_W + kw) * params.in_channels * quads;
            for (var k = 0u; k < depth; k++) {
                let k0 = tap + k * 4u * quads;
                let k1 = k0 + quads;
                let k2 = k1 + quads;
                let k3 = k2 + quads;
                multiply(&t,
                    Rows(load_x(o0, k), load_x(o1, k), load_x(o2, k), load_x(o3, k),
                         load_x(o4, k), load_x(o5, k), load_x(o6, k), load_x(o7, k)),
                    mat4x4<f32>(w[k0 + q0], w[k1 + q0], w[k2 + q0], w[k3 + q0]),
                    mat4x4<f32>(w[k0 + q1], w[k1 + q1], w[k2 + q1], w[k3 + q1]),
                    mat4x4<f32>(w[k0 + q2], w[k1 + q2], w[k2 + q2], w[k3 + q2]),
                    mat4x4<f32>(w[k0 + q3], w[k1 + q3], w[k2 + q3], w[k3 + q3]));
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
