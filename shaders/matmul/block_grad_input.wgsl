// dx = dy w^T, one workgroup for each tile (lib/block.wgsl): a row is a row of dy, a column a column of dx; the sum
// runs over the columns of w. See block.wgsl. Dispatch: one workgroup for each tile, columns fastest.

// import lib/block.wgsl

const LEFT_ALONG: bool = true;
const RIGHT_ALONG: bool = true;

struct Params {
    rows: u32,
    depth: u32,        // of this part of w
    columns: u32,
    depth_offset: u32, // where the part begins in a row of dx
    depth_stride: u32, // of the whole dx
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

// Where the four rows of dy begin; rows after the edge repeat the last one and are not stored.
struct Place {
    rows: vec4<u32>,
}

fn place(quad: u32) -> Place {
    let rows = min(vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    return Place(rows * (params.columns / 4u));
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    let at = p.rows + min(k, end - 4u) / 4u;
    let m = f32(k < end);
    return transpose(mat4x4<f32>(m * grad_y[at.x], m * grad_y[at.y], m * grad_y[at.z], m * grad_y[at.w]));
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    let quads = params.columns / 4u;
    let at = min(quad, params.depth / 4u - 1u) * 4u * quads + min(k, end - 4u) / 4u;
    return transpose(mat4x4<f32>(w[at], w[at + quads], w[at + 2u * quads], w[at + 3u * quads]));
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    if row >= params.rows || quad * 4u >= params.depth { return; }
    grad_x[(row * params.depth_stride + params.depth_offset) / 4u + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.depth / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let row = i / wide * SIDE_QUADS;
    if row * 4u >= params.rows { return; }
    multiply_square(l, 0u, row, i % wide * SIDE_QUADS, 0u, params.columns);
}
