// Both gradients of a matrix product, one thread an element, any sizes; see plain.wgsl.

// import lib/index.wgsl

struct Params {
    rows: u32,
    depth: u32,        // of this part of w
    columns: u32,
    depth_offset: u32, // where the part begins
    depth_stride: u32, // of the whole x
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// dx[r][k] = sum over c of dy[r][c] w[k][c]; a = dy, b = w
@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.rows * params.depth { return; }
    let row = i / params.depth;
    let k = i % params.depth;
    var sum = 0.0;
    for (var c = 0u; c < params.columns; c++) {
        sum += a[row * params.columns + c] * b[k * params.columns + c];
    }
    out[row * params.depth_stride + params.depth_offset + k] = sum;
}

// dw[k][c] = sum over r of x[r][k] dy[r][c]; a = x, b = dy
@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.depth * params.columns { return; }
    let k = i / params.columns;
    let c = i % params.columns;
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        sum += a[row * params.depth_stride + params.depth_offset + k] * b[row * params.columns + c];
    }
    out[i] = sum;
}
