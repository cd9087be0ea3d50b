// y = (x - mean) / sqrt(var + eps) * weight + bias; then residual and activation.
// x is [rows, channels]. One thread processes ROWS rows of one Elem of channels, so that the four loads of a
// channel's numbers serve ROWS rows.

// import lib/index.wgsl
// import lib/norm.wgsl

override ROWS: u32 = 4u;
override HAS_RESIDUAL: bool = false;

struct Params {
    rows: u32,
    channels: u32, // Elems
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> mean: array<Elem>;
@group(0) @binding(3) var<storage, read> variance: array<Elem>;
@group(0) @binding(4) var<storage, read> weight: array<Elem>;
@group(0) @binding(5) var<storage, read> bias: array<Elem>;
@group(0) @binding(6) var<storage, read> residual: array<Elem>;
@group(0) @binding(7) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let c = i % params.channels;
    let first = i / params.channels * ROWS;
    if first >= params.rows { return; }
    let end = min(first + ROWS, params.rows);

    let norm = norm_of(mean[c], variance[c], weight[c], bias[c], params.eps);
    for (var row = first; row < end; row++) {
        let at = row * params.channels + c;
        var v = normalise(norm, x[at]);
        if HAS_RESIDUAL { v += residual[at]; }
        y[at] = activate(v);
    }
}
