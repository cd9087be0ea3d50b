// dw = x^T dy, one workgroup for each tile (lib/block.wgsl): a row is a column of x, a column a column of dy; the sum
// runs over rows. Where dw has few tiles, the rows are split: each split writes its own partial dw, and reduce.wgsl
// adds them in order. See block.wgsl. Dispatch: one workgroup for each tile and split, columns fastest.

// import lib/block.wgsl

const LEFT_ALONG: bool = false;
const RIGHT_ALONG: bool = false;

struct Params {
    rows: u32,
    depth: u32,        // of this part of dw
    columns: u32,
    depth_offset: u32, // where the part begins in a row of x
    depth_stride: u32, // of the whole x
    split_rows: u32,   // rows of one split
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

// Quad within a row of x; after the edge the last one repeats and is not stored.
struct Place {
    quad: u32,
}

fn place(quad: u32) -> Place {
    return Place(params.depth_offset / 4u + min(quad, params.depth / 4u - 1u));
}

fn left_at(p: Place, row: u32, end: u32) -> vec4<f32> {
    return f32(row < end) * x[min(row, end - 1u) * (params.depth_stride / 4u) + p.quad];
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(left_at(p, k, end), left_at(p, k + 1u, end), left_at(p, k + 2u, end), left_at(p, k + 3u, end));
}

fn right_at(quad: u32, row: u32, end: u32) -> vec4<f32> {
    let quads = params.columns / 4u;
    return grad_y[min(row, end - 1u) * quads + min(quad, quads - 1u)];
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(right_at(quad, k, end), right_at(quad, k + 1u, end),
        right_at(quad, k + 2u, end), right_at(quad, k + 3u, end));
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    let quads = params.columns / 4u;
    if row >= params.depth || quad >= quads { return; }
    grad_w[(part * params.depth + row) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.columns / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let high = (params.depth / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let split = i / (wide * high);
    if split >= params.splits { return; }
    let s = i % (wide * high);
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.rows);
    multiply_square(l, split, s / wide * SIDE_QUADS, s % wide * SIDE_QUADS, begin, end);
}
