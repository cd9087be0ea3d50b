// grad_logits[n, c] = grad_loss * weight[n] * (softmax[n, c] - (1 - s) [c = label] - s / classes),
// one thread a row; see rows.wgsl.

// import lib/index.wgsl

struct Params {
    rows: u32,
    classes: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> grad_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_logits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    var top = logits[first];
    for (var c = 1u; c < params.classes; c++) { top = max(top, logits[first + c]); }
    var sum = 0.0;
    for (var c = 0u; c < params.classes; c++) { sum += exp(logits[first + c] - top); }
    let factor = grad_loss[0] * weights[row];
    let spread = params.smoothing / f32(params.classes);
    for (var c = 0u; c < params.classes; c++) {
        let target_share = select(0.0, 1.0 - params.smoothing, c == labels[row]) + spread;
        grad_logits[first + c] = factor * (exp(logits[first + c] - top) / sum - target_share);
    }
}
