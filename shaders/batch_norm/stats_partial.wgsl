// First of two passes of the batch statistics: mean and sum of squared deviations of one chunk of
// rows. Sums are taken of x - shift, with the chunk's first row as shift, so that f32 keeps the
// variance even where |mean| is far larger than the deviation:
//   mean = shift + sum(d) / n        squares = sum(d^2) - sum(d)^2 / n,   d = x - shift
// x is [rows, channels]; partials is [chunks, 2, channels]: mean, then squares. One thread an Elem of
// channels of one chunk, channels fastest, so a wave reads whole rows.

// import lib/index.wgsl

alias Elem = vec4<f32>;

struct Params {
    rows: u32,
    channels: u32, // Elems
    chunks: u32,
    chunk_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read_write> partials: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn partial_moments(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.channels * params.chunks { return; }
    let c = i % params.channels;
    let chunk = i / params.channels;
    let first = chunk * params.chunk_rows;
    let end = min(first + params.chunk_rows, params.rows);

    let shift = x[first * params.channels + c];
    var sum = Elem(0.0);
    var squares = Elem(0.0);
    for (var row = first + 1u; row < end; row++) {
        let d = x[row * params.channels + c] - shift;
        sum += d;
        squares += d * d;
    }
    let mean = sum / f32(end - first);
    partials[chunk * 2u * params.channels + c] = shift + mean;
    let rest = squares - sum * mean;
    // `max` would hide a NaN.
    partials[(chunk * 2u + 1u) * params.channels + c] = select(rest, Elem(0.0), rest < Elem(0.0));
}
