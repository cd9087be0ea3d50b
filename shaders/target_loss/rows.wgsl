// Losses and agreement of logits with targets, one thread a row of [rows, classes]; the rows are summed by
// matmul/reduce.wgsl. See src/ops/target_loss.rs for the formulas.

// import lib/index.wgsl

override KIND: u32 = 0u; // 0 softmax, 1 sigmoid, 2 squares

struct Params {
    rows: u32,
    classes: u32,
    scale: f32, // 1 / temperature
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn losses(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    var loss = 0.0;
    if KIND == 0u {
        var top = logits[first];
        for (var c = 1u; c < params.classes; c++) { top = max(top, logits[first + c]); }
        var exponentials = 0.0;
        for (var c = 0u; c < params.classes; c++) { exponentials += exp((logits[first + c] - top) * params.scale); }
        // Relative to `top`, which cancels.
        let total = log(exponentials);
        for (var c = 0u; c < params.classes; c++) {
            loss += targets[first + c] * (total - (logits[first + c] - top) * params.scale);
        }
    } else {
        for (var c = 0u; c < params.classes; c++) {
            let x = logits[first + c] * params.scale;
            let t = targets[first + c];
            if KIND == 1u {
                loss += max(x, 0.0) - x * t + log(1.0 + exp(-abs(x)));
            } else {
                loss += (x - t) * (x - t);
            }
        }
        loss /= f32(params.classes);
    }
    out[row] = weights[row] * loss;
}

@compute @workgroup_size(WORKGROUP)
fn agreements(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    var agreed = 0.0;
    if KIND == 0u {
        var best = 0u;
        var wanted = 0u;
        for (var c = 1u; c < params.classes; c++) {
            if logits[first + c] > logits[first + best] { best = c; }
            if targets[first + c] > targets[first + wanted] { wanted = c; }
        }
        agreed = f32(best == wanted);
    } else {
        for (var c = 0u; c < params.classes; c++) {
            let x = logits[first + c];
            let t = targets[first + c];
            if KIND == 1u {
                agreed += f32((x > 0.0) == (t > 0.5));
            } else {
                agreed += (x - t) * (x - t);
            }
        }
        agreed /= f32(params.classes);
    }
    out[row] = select(0.0, agreed, weights[row] > 0.0);
}
