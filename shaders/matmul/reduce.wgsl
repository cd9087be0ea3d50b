// The second pass of a split sum: out[i] = sum over splits of partial[split][i], in order, so that the
// result does not depend on timing. One thread an element.

// import lib/index.wgsl

struct Params {
    elements: u32,
    splits: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn reduce(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.elements { return; }
    var sum = 0.0;
    for (var split = 0u; split < params.splits; split++) {
        sum += partial[split * params.elements + i];
    }
    out[i] = sum;
}
