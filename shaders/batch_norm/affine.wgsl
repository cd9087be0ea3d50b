// y = x * scale + shift, a folded batch norm; then residual and activation.
// x is [rows, channels]; affine is [2, channels]: scale, then shift. One thread processes ROWS rows of one Elem of
// channels.

// import lib/index.wgsl
// import lib/elementwise.wgsl

override ROWS: u32 = 4u;
override HAS_RESIDUAL: bool = false;

struct Params {
    rows: u32,
    channels: u32, // Elems
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> affine: array<Elem>;
@group(0) @binding(3) var<storage, read> residual: array<Elem>;
@group(0) @binding(4) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let c = i % params.channels;
    let first = i / params.channels * ROWS;
    if first >= params.rows { return; }
    let end = min(first + ROWS, params.rows);

    let scale = affine[c];
    let shift = affine[params.channels + c];
    for (var row = first; row < end; row++) {
        let at = row * params.channels + c;
        var v = x[at] * scale + shift;
        if HAS_RESIDUAL { v += residual[at]; }
        y[at] = activate(v);
    }
}
