// out[split][c] = sum of x[row][c] over the rows of one split: the gradient of a bias. One thread a
// column and split; reduce.wgsl adds the splits.

// import lib/index.wgsl

struct Params {
    rows: u32,
    columns: u32,
    split_rows: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn sum_rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.columns * params.splits { return; }
    let split = i / params.columns;
    let column = i % params.columns;
    let end = min((split + 1u) * params.split_rows, params.rows);
    var sum = 0.0;
    for (var row = split * params.split_rows; row < end; row++) {
        sum += x[row * params.columns + column];
    }
    out[i] = sum;
}
