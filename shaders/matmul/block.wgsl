// y = x w, one workgroup for each tile (lib/block.wgsl): linear layers and 1x1 convolutions on GPUs. Row-major: x
// [rows, depth], w [depth, columns], y [rows, columns], depth and columns multiples of 4; parts of w as in tile.wgsl.
// Dispatch: one workgroup for each tile, columns fastest.

// import lib/block.wgsl
// import lib/finish4.wgsl

override ACCUMULATE: bool = false;

const LEFT_ALONG: bool = true;
const RIGHT_ALONG: bool = false;

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

// Where the four rows begin; rows after the edge repeat the last one and are not stored.
struct Place {
    rows: vec4<u32>,
}

fn place(quad: u32) -> Place {
    let rows = min(vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    return Place((rows * params.depth_stride + params.depth_offset) / 4u);
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    let at = p.rows + min(k, end - 4u) / 4u;
    let m = f32(k < end);
    return transpose(mat4x4<f32>(m * x[at.x], m * x[at.y], m * x[at.z], m * x[at.w]));
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    let quads = params.columns / 4u;
    let at = min(k, end - 4u) * quads + min(quad, quads - 1u);
    return mat4x4<f32>(w[at], w[at + quads], w[at + 2u * quads], w[at + 3u * quads]);
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    let quads = params.columns / 4u;
    if row >= params.rows || quad >= quads { return; }
    let i = row * quads + quad;
    var v = value;
    if ACCUMULATE { v += y[i]; }
    y[i] = finish4(v, quad, quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.columns / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let row = i / wide * SIDE_QUADS;
    if row * 4u >= params.rows { return; }
    multiply_square(l, 0u, row, i % wide * SIDE_QUADS, 0u, params.depth);
}
