// dx = dy w^T with a register tile of 8 rows x 16 columns of dx a thread; see tile.wgsl.
// The sum runs over the columns of w: vec4 of dy and of w along them.

// import lib/index.wgsl
// import lib/tile.wgsl

struct Params {
    rows: u32,
    depth: u32,        // of this part of w: columns of dx written here
    columns: u32,
    depth_offset: u32, // where the part begins in a row of dx
    depth_stride: u32, // of the whole dx
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn store(value: vec4<f32>, row: u32, quad: u32) {
    if row >= params.rows || quad >= params.depth / 4u { return; }
    grad_x[row * (params.depth_stride / 4u) + params.depth_offset / 4u + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let tiles = (params.depth + 15u) / 16u;
    let row = i / tiles * 8u;
    let quad = i % tiles * 4u;
    if row >= params.rows { return; }
    let quads = params.columns / 4u;
    let last = params.rows - 1u;
    let o0 = min(row + 0u, last) * quads;
    let o1 = min(row + 1u, last) * quads;
    let o2 = min(row + 2u, last) * quads;
    let o3 = min(row + 3u, last) * quads;
    let o4 = min(row + 4u, last) * quads;
    let o5 = min(row + 5u, last) * quads;
    let o6 = min(row + 6u, last) * quads;
    let o7 = min(row + 7u, last) * quads;
    // Four rows of w for each of the tile's four quads; after the edge the last ones repeat.
    let bottom = params.depth / 4u - 1u;
    let w0 = min(quad + 0u, bottom) * 4u * quads;
    let w1 = min(quad + 1u, bottom) * 4u * quads;
    let w2 = min(quad + 2u, bottom) * 4u * quads;
    let w3 = min(quad + 3u, bottom) * 4u * quads;
    var t: Tile;
    for (var k = 0u; k < quads; k++) {
        multiply_transposed(&t,
            Rows(grad_y[o0 + k], grad_y[o1 + k], grad_y[o2 + k], grad_y[o3 + k],
                 grad_y[o4 + k], grad_y[o5 + k], grad_y[o6 + k], grad_y[o7 + k]),
            mat4x4<f32>(w[w0 + k], w[w0 + quads + k], w[w0 + 2u * quads + k], w[w0 + 3u * quads + k]),
            mat4x4<f32>(w[w1 + k], w[w1 + quads + k], w[w1 + 2u * quads + k], w[w1 + 3u * quads + k]),
            mat4x4<f32>(w[w2 + k], w[w2 + quads + k], w[w2 + 2u * quads + k], w[w2 + 3u * quads + k]),
            mat4x4<f32>(w[w3 + k], w[w3 + quads + k], w[w3 + 2u * quads + k], w[w3 + 3u * quads + k]));
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
