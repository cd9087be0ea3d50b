// First of two passes of the gradients of weight and bias: over one chunk of rows
//   sum(g)   and   sum(g * (x - mean))        g = grad_y * activation'(v)
// where v, the activation's input, is recomputed from x. x and grad_y are [rows, channels]; partials is [chunks, 2,
// channels]. One thread an Elem of channels of one chunk, channels fastest, so a wave reads whole rows.

// import lib/index.wgsl
// import lib/derivative.wgsl
// import lib/norm.wgsl

struct Params {
    rows: u32,
    channels: u32, // Elems
    chunks: u32,
    chunk_rows: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(3) var<storage, read> mean: array<Elem>;
@group(0) @binding(4) var<storage, read> variance: array<Elem>;
@group(0) @binding(5) var<storage, read> weight: array<Elem>;
@group(0) @binding(6) var<storage, read> bias: array<Elem>;
@group(0) @binding(7) var<storage, read_write> partials: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn partial_sums(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.channels * params.chunks { return; }
    let c = i % params.channels;
    let chunk = i / params.channels;
    let first = chunk * params.chunk_rows;
    let end = min(first + params.chunk_rows, params.rows);

    let center = mean[c];
    let norm = norm_of(center, variance[c], weight[c], bias[c], params.eps);
    var sum = Elem(0.0);
    var product = Elem(0.0);
    for (var row = first; row < end; row++) {
        let at = row * params.channels + c;
        let here = x[at];
        let g = grad_y[at] * derivative_at(normalise(norm, here));
        sum += g;
        product += g * (here - center);
    }
    partials[chunk * 2u * params.channels + c] = sum;
    partials[(chunk * 2u + 1u) * params.channels + c] = product;
}
