// dw = x^T dy with a register tile of 8 rows (depth) x 16 columns of dw a thread; see tile.wgsl.
// The sum runs over the rows of x and dy, four at a time: 8 depths of 4 rows are two transposed 4x4
// blocks. Where dw has few tiles, the rows are split and each split writes its own partial dw;
// reduce.wgsl adds them in order. Dispatch: one thread a tile and split.

// import lib/index.wgsl
// import lib/tile.wgsl

struct Params {
    rows: u32,
    depth: u32,        // of this part of dw
    columns: u32,
    depth_offset: u32, // where the part begins in a row of x
    depth_stride: u32, // of the whole x
    split_rows: u32,   // rows of one split, a multiple of 4
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

fn store(value: vec4<f32>, split: u32, row: u32, quad: u32) {
    let quads = params.columns / 4u;
    if row >= params.depth || quad >= quads { return; }
    grad_w[(split * params.depth + row) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.columns / 4u;
    let wide = (quads + 3u) / 4u;
    let high = (params.depth + 7u) / 8u;
    let split = i / (wide * high);
    if split >= params.splits { return; }
    let tile = i % (wide * high);
    let depth = tile / wide * 8u;
    let quad = tile % wide * 4u;
    let stride = params.depth_stride / 4u;
    let left = (params.depth_offset + depth) / 4u;
    let right = left + select(0u, 1u, depth + 4u < params.depth);
    let q0 = quad;
    let q1 = min(quad + 1u, quads - 1u);
    let q2 = min(quad + 2u, quads - 1u);
    let q3 = min(quad + 3u, quads - 1u);
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.rows);
    var t: Tile;
    for (var row = begin; row < end; row += 4u) {
        // Rows after the end are zero in the left operand, so the right operand may repeat the last one.
        let r1 = min(row + 1u, end - 1u);
        let r2 = min(row + 2u, end - 1u);
        let r3 = min(row + 3u, end - 1u);
        let m1 = f32(row + 1u < end);
        let m2 = f32(row + 2u < end);
        let m3 = f32(row + 3u < end);
        let l = transpose(mat4x4<f32>(
            x[row * stride + left], m1 * x[r1 * stride + left], m2 * x[r2 * stride + left], m3 * x[r3 * stride + left]));
        let r = transpose(mat4x4<f32>(
            x[row * stride + right], m1 * x[r1 * stride + right], m2 * x[r2 * stride + right], m3 * x[r3 * stride + right]));
        let y0 = row * quads;
        let y1 = r1 * quads;
        let y2 = r2 * quads;
        let y3 = r3 * quads;
        multiply(&t, Rows(l[0], l[1], l[2], l[3], r[0], r[1], r[2], r[3]),
            mat4x4<f32>(grad_y[y0 + q0], grad_y[y1 + q0], grad_y[y2 + q0], grad_y[y3 + q0]),
            mat4x4<f32>(grad_y[y0 + q1], grad_y[y1 + q1], grad_y[y2 + q1], grad_y[y3 + q1]),
            mat4x4<f32>(grad_y[y0 + q2], grad_y[y1 + q2], grad_y[y2 + q2], grad_y[y3 + q2]),
            mat4x4<f32>(grad_y[y0 + q3], grad_y[y1 + q3], grad_y[y2 + q3], grad_y[y3 + q3]));
    }
    store(t.c00, split, depth + 0u, quad + 0u); store(t.c01, split, depth + 0u, quad + 1u); store(t.c02, split, depth + 0u, quad + 2u); store(t.c03, split, depth + 0u, quad + 3u);
    store(t.c10, split, depth + 1u, quad + 0u); store(t.c11, split, depth + 1u, quad + 1u); store(t.c12, split, depth + 1u, quad + 2u); store(t.c13, split, depth + 1u, quad + 3u);
    store(t.c20, split, depth + 2u, quad + 0u); store(t.c21, split, depth + 2u, quad + 1u); store(t.c22, split, depth + 2u, quad + 2u); store(t.c23, split, depth + 2u, quad + 3u);
    store(t.c30, split, depth + 3u, quad + 0u); store(t.c31, split, depth + 3u, quad + 1u); store(t.c32, split, depth + 3u, quad + 2u); store(t.c33, split, depth + 3u, quad + 3u);
    store(t.c40, split, depth + 4u, quad + 0u); store(t.c41, split, depth + 4u, quad + 1u); store(t.c42, split, depth + 4u, quad + 2u); store(t.c43, split, depth + 4u, quad + 3u);
    store(t.c50, split, depth + 5u, quad + 0u); store(t.c51, split, depth + 5u, quad + 1u); store(t.c52, split, depth + 5u, quad + 2u); store(t.c53, split, depth + 5u, quad + 3u);
    store(t.c60, split, depth + 6u, quad + 0u); store(t.c61, split, depth + 6u, quad + 1u); store(t.c62, split, depth + 6u, quad + 2u); store(t.c63, split, depth + 6u, quad + 3u);
    store(t.c70, split, depth + 7u, quad + 0u); store(t.c71, split, depth + 7u, quad + 1u); store(t.c72, split, depth + 7u, quad + 2u); store(t.c73, split, depth + 7u, quad + 3u);
}
