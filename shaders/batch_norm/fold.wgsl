// A batch norm over constants as scale and shift of each channel:
//   scale = weight / sqrt(var + eps)        shift = bias - mean * scale, with one rounding
// affine is [2, channels]: scale, then shift. One thread a channel; it runs once, at compile time.

// import lib/index.wgsl
// import lib/shift.wgsl

alias Elem = f32;
alias Word = u32;

struct Params {
    channels: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> variance: array<f32>;
@group(0) @binding(5) var<storage, read_write> affine: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn fold(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = linear_index(id, groups);
    if c >= params.channels { return; }
    let scale = weight[c] / sqrt(variance[c] + params.eps);
    affine[c] = scale;
    affine[params.channels + c] = shift_of(bias[c], mean[c], scale);
}
