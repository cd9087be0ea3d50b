// grad_x = grad_y * scale of a folded batch norm.
// grad_y is [rows, channels]; affine is [2, channels]: scale, then shift. One thread processes ROWS rows of one Elem
// of channels.

// import lib/index.wgsl

alias Elem = vec4<f32>;

override ROWS: u32 = 4u;

struct Params {
    rows: u32,
    channels: u32, // Elems
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(2) var<storage, read> affine: array<Elem>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let c = i % params.channels;
    let first = i / params.channels * ROWS;
    if first >= params.rows { return; }
    let end = min(first + ROWS, params.rows);

    let scale = affine[c];
    for (var row = first; row < end; row++) {
        let at = row * params.channels + c;
        grad_x[at] = grad_y[at] * scale;
    }
}
