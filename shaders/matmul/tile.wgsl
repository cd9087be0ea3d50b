// y = x w with a register tile of 8 rows x 16 columns a thread: linear layers and 1x1 convolutions.
// Row-major: x [rows, depth], w [depth, columns], y [rows, columns], depth and columns multiples of 4. The sum
// runs over depth: vec4 of x along depth, vec4 of w along columns. Dispatch: a thread a tile, columns fastest.
// The gradients are tile_grad_input.wgsl and tile_grad_weight.wgsl.
// w may be one part of a matrix split by rows. Then x is addressed at `depth_offset` within rows of `depth_stride`,
// and each part adds to the sums of earlier parts.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/finish4.wgsl

override ACCUMULATE: bool = false;

struct Params {
    rows: u32,
    depth: u32,        // of this part of w
    columns: u32,
    depth_offset: u32, // where the part begins
    depth_stride: u32, // of the whole x
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn store(value: vec4<f32>, row: u32, quad: u32) {
    let quads = params.columns / 4u;
    if row >= params.rows || quad >= quads { return; }
    let i = row * quads + quad;
    var v = value;
    if ACCUMULATE { v += y[i]; }
    y[i] = finish4(v, quad, quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.columns / 4u;
    let tiles = (quads + 3u) / 4u;
    let row = i / tiles * 8u;
    let quad = i % tiles * 4u;
    if row >= params.rows { return; }
    let stride = params.depth_stride / 4u;
    let first = params.depth_offset / 4u;
    let last = params.rows - 1u;
    let o0 = min(row + 0u, last) * stride + first;
    let o1 = min(row + 1u, last) * stride + first;
    let o2 = min(row + 2u, last) * stride + first;
    let o3 = min(row + 3u, last) * stride + first;
    let o4 = min(row + 4u, last) * stride + first;
    let o5 = min(row + 5u, last) * stride + first;
    let o6 = min(row + 6u, last) * stride + first;
    let o7 = min(row + 7u, last) * stride + first;
    // Columns after the edge repeat the last quad and are not stored.
    let q0 = quad;
    let q1 = min(quad + 1u, quads - 1u);
    let q2 = min(quad + 2u, quads - 1u);
    let q3 = min(quad + 3u, quads - 1u);
    var t: Tile;
    let depth = params.depth / 4u;
    for (var k = 0u; k < depth; k++) {
        let k0 = k * 4u * quads;
        let k1 = k0 + quads;
        let k2 = k1 + quads;
        let k3 = k2 + quads;
        multiply(&t,
            Rows(x[o0 + k], x[o1 + k], x[o2 + k], x[o3 + k], x[o4 + k], x[o5 + k], x[o6 + k], x[o7 + k]),
            mat4x4<f32>(w[k0 + q0], w[k1 + q0], w[k2 + q0], w[k3 + q0]),
            mat4x4<f32>(w[k0 + q1], w[k1 + q1], w[k2 + q1], w[k3 + q1]),
            mat4x4<f32>(w[k0 + q2], w[k1 + q2], w[k2 + q2], w[k3 + q2]),
            mat4x4<f32>(w[k0 + q3], w[k1 + q3], w[k2 + q3], w[k3 + q3]));
    }
    store(t.c00, row + 0u, quad + 0u); store(t.c01, row + 0u, quad + 1u); store(t.c02, row + 0u, quad + 2u); store(t.c03, row + 0u, quad + 3u);
    store(t.c10, row + 1u, quad + 0u); store(t.c11, row + 1u, quad + 1u); store(t.c12, row + 1u, quad + 2u); store(t.c13, row + 1u, quad + 3u);
    store(t.c20, row + 2u, quad + 0u); store(t.c21, row + 2u, quad + 1u); store(t.c22, row + 2u, quad + 2u); store(t.c23, row + 2u, quad + 3u);
    store(t.c30, row + 3u, quad + 0u); store(t.c31, row + 3u, quad + 1u); store(t.c32, row + 3u, quad + 2u); store(t.c33, row + 3u, quad + 3u);
    store(t.c40, row + 4u, quad + 0u); store(t.c41, row + 4u, quad + 1u); store(t.c42, row + 4u, quad + 2u); store(t.c43, row + 4u, quad + 3u);
    store(t.c50, row + 5u, quad + 0u); store(t.c51, row + 5u, quad + 1u); store(t.c52, row + 5u, quad + 2u); store(t.c53, row + 5u, quad + 3u);
    store(t.c60, row + 6u, quad + 0u); store(t.c61, row + 6u, quad + 1u); store(t.c62, row + 6u, quad + 2u); store(t.c63, row + 6u, quad + 3u);
    store(t.c70, row + 7u, quad + 0u); store(t.c71, row + 7u, quad + 1u); store(t.c72, row + 7u, quad + 2u); store(t.c73, row + 7u, quad + 3u);
}
