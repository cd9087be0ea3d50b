// Softmax cross-entropy and hits, one thread a row of logits [rows, classes]; the rows are summed by
// matmul/reduce.wgsl. The exponentials are shifted by the row's largest logit.

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
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

// weight * ((1 - s) (lse - logit[label]) + s (lse - mean))
@compute @workgroup_size(WORKGROUP)
fn losses(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    var top = logits[first];
    for (var c = 1u; c < params.classes; c++) { top = max(top, logits[first + c]); }
    var exponentials = 0.0;
    var sum = 0.0;
    for (var c = 0u; c < params.classes; c++) {
        let x = logits[first + c] - top;
        exponentials += exp(x);
        sum += x;
    }
    // All values relative to `top`, which cancels.
    let lse = log(exponentials);
    let hard = lse - (logits[first + labels[row]] - top);
    let soft = lse - sum / f32(params.classes);
    out[row] = weights[row] * ((1.0 - params.smoothing) * hard + params.smoothing * soft);
}

// 1 where the largest logit is the label's (the first of equal ones counts) and the row's weight is positive
@compute @workgroup_size(WORKGROUP)
fn hits(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    var best = 0u;
    for (var c = 1u; c < params.classes; c++) {
        if logits[first + c] > logits[first + best] { best = c; }
    }
    out[row] = f32(best == labels[row] && weights[row] > 0.0);
}
