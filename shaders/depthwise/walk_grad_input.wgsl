// Gradient of a depthwise 3x3 convolution at stride 2 with respect to its input. With u = column + padding, an even column
// u = 2p gets dy[p] w[0] + dy[p - 1] w[2], an odd one dy[p] w[1]; rows likewise. A thread walks along two rows of dy,
// of four channels, and writes the four rows of x that they make: each dy of its own is loaded once, and the row above.
// `split_rows` are columns p of one thread, `splits` threads beside one another. Dispatch: channels fastest, then splits,
// then strips of rows.

// import lib/index.wgsl
// import lib/lines.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

// Column p of a row of dy; zero outside, and 'below 0' wraps around.
fn upstream(row: i32, p: u32, c: u32) -> vec4<f32> {
    let inside = row >= 0 && p < params.out_width;
    return select(vec4<f32>(0.0), grad_y[select(0u, u32(row) + p * (params.in_channels / 4u), inside) + c], inside);
}

// In column u, counted from the padding's corner, of a row of x.
fn store(value: vec4<f32>, row: i32, u: u32, c: u32) {
    let column = u - params.pad_left;
    if row < 0 || column >= params.in_width { return; }
    grad_x[u32(row) + column * (params.in_channels / 4u) + c] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let strips = (params.in_height + params.pad_top + 3u) / 4u;
    let rest = i / quads;
    let down = rest / params.splits;
    let c = i % quads;
    let n = down / strips;
    if n >= params.batch { return; }
    let begin = rest % params.splits * params.split_rows;
    let end = min(begin + params.split_rows, (params.in_width + params.pad_left + 1u) / 2u);
    let m = down % strips * 2u;
    let w0 = w[c]; let w1 = w[quads + c]; let w2 = w[2u * quads + c];
    let w3 = w[3u * quads + c]; let w4 = w[4u * quads + c]; let w5 = w[5u * quads + c];
    let w6 = w[6u * quads + c]; let w7 = w[7u * quads + c]; let w8 = w[8u * quads + c];
    // The row of dy above the two, and the two; the rows of x.
    let o0 = y_line(n, m - 1u);
    let o1 = y_line(n, m);
    let o2 = y_line(n, m + 1u);
    let t = m * 2u - params.pad_top;
    let r0 = x_line(n, t);
    let r1 = x_line(n, t + 1u);
    let r2 = x_line(n, t + 2u);
    let r3 = x_line(n, t + 3u);
    // The column before.
    var a = upstream(o0, begin - 1u, c);
    var b = upstream(o1, begin - 1u, c);
    var d = upstream(o2, begin - 1u, c);
    for (var p = begin; p < end; p++) {
        let e = upstream(o0, p, c);
        let f = upstream(o1, p, c);
        let g = upstream(o2, p, c);
        let u = p * 2u;
        store(f * w0 + b * w2 + e * w6 + a * w8, r0, u, c);
        store(f * w1 + e * w7, r0, u + 1u, c);
        store(f * w3 + b * w5, r1, u, c);
        store(f * w4, r1, u + 1u, c);
        store(g * w0 + d * w2 + f * w6 + b * w8, r2, u, c);
        store(g * w1 + f * w7, r2, u + 1u, c);
        store(g * w3 + d * w5, r3, u, c);
        store(g * w4, r3, u + 1u, c);
        a = e;
        b = f;
        d = g;
    }
}
