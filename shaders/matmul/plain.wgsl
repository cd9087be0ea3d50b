// Matrix products, one thread an element, any sizes: the plain form of tile.wgsl's three passes.
// Row-major: x [rows, depth], w [depth, columns], y [rows, columns].

// import lib/index.wgsl
// import lib/finish1.wgsl

override ACCUMULATE: bool = false;

struct Params {
    rows: u32,
    depth: u32,        // of this part of w
    columns: u32,
    depth_offset: u32, // where the part begins
    depth_stride: u32, // of the whole x
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

// y[r][c] = sum over k of x[r][k] w[k][c]
@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.rows * params.columns { return; }
    let row = i / params.columns;
    let column = i % params.columns;
    let start = row * params.depth_stride + params.depth_offset;
    var sum = 0.0;
    for (var k = 0u; k < params.depth; k++) {
        sum += x[start + k] * w[k * params.columns + column];
    }
    if ACCUMULATE { sum += y[i]; }
    y[i] = finish1(sum, column, params.columns, i);
}
