// grad_x of a batch norm over running statistics, which are constants:
//   grad_x = grad_y * activation'(v) * weight / sqrt(var + eps)
// where v, the activation's input, is recomputed from x; without an activation, x, mean and bias are not bound. x and
// grad_y are [rows, channels]. One thread processes ROWS rows of one Elem of channels.

// import lib/index.wgsl
// import lib/derivative.wgsl
// import lib/norm.wgsl

override ROWS: u32 = 4u;

struct Params {
    rows: u32,
    channels: u32, // Elems
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(2) var<storage, read> variance: array<Elem>;
@group(0) @binding(3) var<storage, read> weight: array<Elem>;
@group(0) @binding(4) var<storage, read> x: array<Elem>;
@group(0) @binding(5) var<storage, read> mean: array<Elem>;
@group(0) @binding(6) var<storage, read> bias: array<Elem>;
@group(0) @binding(7) var<storage, read_write> grad_x: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let c = i % params.channels;
    let first = i / params.channels * ROWS;
    if first >= params.rows { return; }
    let end = min(first + ROWS, params.rows);

    let scale = weight[c] * inverseSqrt(variance[c] + params.eps);
    var norm = Norm();
    if ACTIVATION != 0u { norm = norm_of(mean[c], variance[c], weight[c], bias[c], params.eps); }
    for (var row = first; row < end; row++) {
        let at = row * params.channels + c;
        var g = grad_y[at];
        if ACTIVATION != 0u { g *= derivative_at(normalise(norm, x[at])); }
        grad_x[at] = g * scale;
    }
}
