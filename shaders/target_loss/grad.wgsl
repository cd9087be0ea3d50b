// d logits of the losses of rows.wgsl, one thread a row.

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
@group(0) @binding(4) var<storage, read> grad_loss: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad_logits: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let row = linear_index(id, groups);
    if row >= params.rows { return; }
    let first = row * params.classes;
    let factor = grad_loss[0] * weights[row] * params.scale;
    let share = 1.0 / f32(params.classes);
    var top = 0.0;
    var exponentials = 1.0;
    var whole = 0.0;
    if KIND == 0u {
        top = logits[first];
        for (var c = 1u; c < params.classes; c++) { top = max(top, logits[first + c]); }
        exponentials = 0.0;
        for (var c = 0u; c < params.classes; c++) {
            exponentials += exp((logits[first + c] - top) * params.scale);
            whole += targets[first + c];
        }
    }
    for (var c = 0u; c < params.classes; c++) {
        let x = logits[first + c] * params.scale;
        let t = targets[first + c];
        var slope = 0.0;
        if KIND == 0u {
            slope = whole * exp((logits[first + c] - top) * params.scale) / exponentials - t;
        } else if KIND == 1u {
            slope = share * (1.0 / (1.0 + exp(-x)) - t);
        } else {
            slope = 2.0 * share * (x - t);
        }
        grad_logits[first + c] = factor * slope;
    }
}
