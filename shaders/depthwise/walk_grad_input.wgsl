// Gradient of a depthwise 3x3 convolution at stride 2 with respect to its input. With u = column + padding, an even
// column u = 2p gets dy[p] w[0] + dy[p - 1] w[2], an odd one u = 2p + 1 gets dy[p] w[1]; rows likewise. A thread
// walks along four rows of x, of four channels, two columns at a time, and loads their three rows of dy once.
// `split_rows` are pairs of columns of one thread, `splits` the number of threads beside one another. Dispatch:
// channels fastest, then splits, then strips of rows.

// import lib/index.wgsl
// import lib/lines.wgsl

// Whether the first row and the first column of x are odd: whether the padding is.
override ODD_TOP: bool = true;
override ODD_LEFT: bool = true;

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

// A column of three rows of dy.
struct Column {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
}

// A column of four rows of x.
struct Four {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
}

// Column p of a row of dy; zero outside, and 'below 0' wraps around.
fn upstream(row: i32, p: u32, c: u32) -> vec4<f32> {
    let inside = row >= 0 && p < params.out_width;
    return select(vec4<f32>(0.0), grad_y[select(0u, u32(row) + p * (params.in_channels / 4u), inside) + c], inside);
}

// The contribution of a column of dy to four rows of x by a column of taps: an even row has two taps, an odd one the
// middle one.
fn spread(d: Column, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>) -> Four {
    if ODD_TOP { return Four(d.a * w1, d.b * w0 + d.a * w2, d.b * w1, d.c * w0 + d.b * w2); }
    return Four(d.b * w0 + d.a * w2, d.b * w1, d.c * w0 + d.b * w2, d.c * w1);
}

fn sum(a: Four, b: Four) -> Four {
    return Four(a.x0 + b.x0, a.x1 + b.x1, a.x2 + b.x2, a.x3 + b.x3);
}

fn put(value: vec4<f32>, row: i32, at: u32) {
    if row >= 0 { grad_x[u32(row) + at] = value; }
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let high = (params.in_height + 3u) / 4u;
    let rest = i / quads;
    let down = rest / params.splits;
    let c = i % quads;
    let n = down / high;
    if n >= params.batch { return; }
    let begin = rest % params.splits * params.split_rows;
    let end = min(begin + params.split_rows, (params.in_width + 1u) / 2u);
    let w0 = w[c]; let w1 = w[quads + c]; let w2 = w[2u * quads + c];
    let w3 = w[3u * quads + c]; let w4 = w[4u * quads + c]; let w5 = w[5u * quads + c];
    let w6 = w[6u * quads + c]; let w7 = w[7u * quads + c]; let w8 = w[8u * quads + c];
    let row = down % high * 4u;
    let r0 = x_line(n, row);
    let r1 = x_line(n, row + 1u);
    let r2 = x_line(n, row + 2u);
    let r3 = x_line(n, row + 3u);
    // The three rows of dy, and the column before the first.
    let m = (row + params.pad_top + 1u) / 2u - 1u;
    let o0 = y_line(n, m);
    let o1 = y_line(n, m + 1u);
    let o2 = y_line(n, m + 2u);
    let first = (params.pad_left + 1u) / 2u;
    var before = Column(
        upstream(o0, begin + first - 1u, c), upstream(o1, begin + first - 1u, c), upstream(o2, begin + first - 1u, c));
    for (var p = begin; p < end; p++) {
        let d = Column(upstream(o0, p + first, c), upstream(o1, p + first, c), upstream(o2, p + first, c));
        let even = sum(spread(d, w0, w3, w6), spread(before, w2, w5, w8));
        var left = even;
        var right = even;
        if ODD_LEFT { left = spread(before, w1, w4, w7); } else { right = spread(d, w1, w4, w7); }
        let at = p * 2u * quads + c;
        put(left.x0, r0, at); put(left.x1, r1, at); put(left.x2, r2, at); put(left.x3, r3, at);
        if p * 2u + 1u < params.in_width {
            put(right.x0, r0, at + quads); put(right.x1, r1, at + quads);
            put(right.x2, r2, at + quads); put(right.x3, r3, at + quads);
        }
        before = d;
    }
}
