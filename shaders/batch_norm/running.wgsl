// running = (1 - momentum) * running + momentum * batch, in place; the variance of the batch is first made unbiased:
// * rows / (rows - 1). One thread a channel.

// import lib/index.wgsl

struct Params {
    channels: u32,
    momentum: f32,
    unbias: f32, // rows / (rows - 1)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read> variance: array<f32>;
@group(0) @binding(3) var<storage, read_write> running_mean: array<f32>;
@group(0) @binding(4) var<storage, read_write> running_var: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = linear_index(id, groups);
    if c >= params.channels { return; }
    let keep = 1.0 - params.momentum;
    running_mean[c] = keep * running_mean[c] + params.momentum * mean[c];
    running_var[c] = keep * running_var[c] + params.momentum * (variance[c] * params.unbias);
}
