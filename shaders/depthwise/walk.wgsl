// Depthwise 3x3 without dilation, stride 1 or 2: a thread walks along LINES output rows of four channels and loads
// every pixel of its columns once. Registers hold the contributions of a column to the outputs left of it. Threads
// walk along rows and not down columns, since neighbours in memory are then loaded one after the other: with 32
// channels and uncached memory, nearly three times as fast on software Vulkan.
// FLIPPED, and with the roles of x and y exchanged, `walk_1` is the gradient of the input at stride 1.
// `split_rows` are output columns of one thread, `splits` the number of threads beside one another. Dispatch:
// channels fastest, then splits, then strips of rows.

// import lib/index.wgsl
// import lib/finish4.wgsl
// import lib/lines.wgsl

override FLIPPED: bool = false;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

// The work of a thread: image, first output row, output columns, channel quad.
struct Start {
    n: u32,
    row: u32,
    begin: u32,
    end: u32,
    c: u32,
}

fn start(i: u32) -> Start {
    let quads = params.in_channels / 4u;
    let rest = i / quads;
    let down = rest / params.splits;
    let begin = rest % params.splits * params.split_rows;
    let end = min(begin + params.split_rows, params.out_width);
    return Start(down / strips(), down % strips() * LINES, begin, end, i % quads);
}

// Quad `at` of a row; zero outside.
fn load_x(row: i32, at: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), x[u32(max(row, 0)) + at], row >= 0);
}

// The same in a row that only the fourth output needs.
fn load_fourth(row: i32, at: u32) -> vec4<f32> {
    if LINES < 4u { return vec4<f32>(0.0); }
    return load_x(row, at);
}

fn weight(tap: u32, c: u32) -> vec4<f32> {
    return w[select(tap, 8u - tap, FLIPPED) * (params.in_channels / 4u) + c];
}

fn put(value: vec4<f32>, row: i32, at: u32, c: u32) {
    let i = u32(row) + at;
    y[i] = finish4(value, c, params.in_channels / 4u, i);
}

// Outputs of a column; rows after the last one are not stored.
fn store(v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, s: Start, column: u32) {
    let at = column * (params.in_channels / 4u) + s.c;
    put(v0, y_line(s.n, s.row), at, s.c);
    if s.row + 1u < params.out_height { put(v1, y_line(s.n, s.row + 1u), at, s.c); }
    if s.row + 2u < params.out_height { put(v2, y_line(s.n, s.row + 2u), at, s.c); }
    if LINES > 3u && s.row + 3u < params.out_height { put(v3, y_line(s.n, s.row + 3u), at, s.c); }
}

@compute @workgroup_size(WORKGROUP)
fn walk_1(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let s = start(linear_index(id, groups));
    if s.n >= params.batch { return; }
    let quads = params.in_channels / 4u;
    let w0 = weight(0u, s.c); let w1 = weight(1u, s.c); let w2 = weight(2u, s.c);
    let w3 = weight(3u, s.c); let w4 = weight(4u, s.c); let w5 = weight(5u, s.c);
    let w6 = weight(6u, s.c); let w7 = weight(7u, s.c); let w8 = weight(8u, s.c);
    let top = s.row - params.pad_top;
    let o0 = x_line(s.n, top + 0u);
    let o1 = x_line(s.n, top + 1u);
    let o2 = x_line(s.n, top + 2u);
    let o3 = x_line(s.n, top + 3u);
    let o4 = x_line(s.n, top + 4u);
    let o5 = x_line(s.n, top + 5u);
    // Sums of the column that began two input columns ago (a), and one ago (b).
    var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0); var b1 = vec4<f32>(0.0); var b2 = vec4<f32>(0.0); var b3 = vec4<f32>(0.0);
    // Columns are counted from the padding's corner; the padding is not loaded.
    let first = max(s.begin, params.pad_left);
    let last = clamp(params.in_width + params.pad_left, first, s.end + 2u);
    for (var k = first; k < last; k++) {
        let at = (k - params.pad_left) * quads + s.c;
        let x0 = load_x(o0, at);
        let x1 = load_x(o1, at);
        let x2 = load_x(o2, at);
        let x3 = load_x(o3, at);
        let x4 = load_x(o4, at);
        let x5 = load_fourth(o5, at);
        if k >= s.begin + 2u {
            store(a0 + x0 * w2 + x1 * w5 + x2 * w8, a1 + x1 * w2 + x2 * w5 + x3 * w8,
                a2 + x2 * w2 + x3 * w5 + x4 * w8, a3 + x3 * w2 + x4 * w5 + x5 * w8, s, k - 2u);
        }
        a0 = b0 + x0 * w1 + x1 * w4 + x2 * w7;
        a1 = b1 + x1 * w1 + x2 * w4 + x3 * w7;
        a2 = b2 + x2 * w1 + x3 * w4 + x4 * w7;
        a3 = b3 + x3 * w1 + x4 * w4 + x5 * w7;
        b0 = x0 * w0 + x1 * w3 + x2 * w6;
        b1 = x1 * w0 + x2 * w3 + x3 * w6;
        b2 = x2 * w0 + x3 * w3 + x4 * w6;
        b3 = x3 * w0 + x4 * w3 + x5 * w6;
    }
    for (var k = last; k < s.end + 2u; k++) {
        if k >= s.begin + 2u { store(a0, a1, a2, a3, s, k - 2u); }
        a0 = b0; a1 = b1; a2 = b2; a3 = b3;
        b0 = vec4<f32>(0.0); b1 = vec4<f32>(0.0); b2 = vec4<f32>(0.0); b3 = vec4<f32>(0.0);
    }
}

@compute @workgroup_size(WORKGROUP)
fn walk_2(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let s = start(linear_index(id, groups));
    if s.n >= params.batch { return; }
    let quads = params.in_channels / 4u;
    let w0 = weight(0u, s.c); let w1 = weight(1u, s.c); let w2 = weight(2u, s.c);
    let w3 = weight(3u, s.c); let w4 = weight(4u, s.c); let w5 = weight(5u, s.c);
    let w6 = weight(6u, s.c); let w7 = weight(7u, s.c); let w8 = weight(8u, s.c);
    let top = s.row * 2u - params.pad_top;
    let o0 = x_line(s.n, top + 0u);
    let o1 = x_line(s.n, top + 1u);
    let o2 = x_line(s.n, top + 2u);
    let o3 = x_line(s.n, top + 3u);
    let o4 = x_line(s.n, top + 4u);
    let o5 = x_line(s.n, top + 5u);
    let o6 = x_line(s.n, top + 6u);
    let o7 = x_line(s.n, top + 7u);
    let o8 = x_line(s.n, top + 8u);
    // The sums of the columns so far for the outputs of the last even column.
    var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
    // Every even column except the first ends an output, and begins the next. The padding is not loaded.
    let first = max(s.begin * 2u, params.pad_left);
    let last = clamp(params.in_width + params.pad_left, first, s.end * 2u + 1u);
    for (var k = first; k < last; k++) {
        let at = (k - params.pad_left) * quads + s.c;
        let x0 = load_x(o0, at);
        let x1 = load_x(o1, at);
        let x2 = load_x(o2, at);
        let x3 = load_x(o3, at);
        let x4 = load_x(o4, at);
        let x5 = load_x(o5, at);
        let x6 = load_x(o6, at);
        let x7 = load_fourth(o7, at);
        let x8 = load_fourth(o8, at);
        if k % 2u == 1u {
            a0 += x0 * w1 + x1 * w4 + x2 * w7;
            a1 += x2 * w1 + x3 * w4 + x4 * w7;
            a2 += x4 * w1 + x5 * w4 + x6 * w7;
            a3 += x6 * w1 + x7 * w4 + x8 * w7;
        } else {
            if k > s.begin * 2u {
                store(a0 + x0 * w2 + x1 * w5 + x2 * w8, a1 + x2 * w2 + x3 * w5 + x4 * w8,
                    a2 + x4 * w2 + x5 * w5 + x6 * w8, a3 + x6 * w2 + x7 * w5 + x8 * w8, s, k / 2u - 1u);
            }
            a0 = x0 * w0 + x1 * w3 + x2 * w6;
            a1 = x2 * w0 + x3 * w3 + x4 * w6;
            a2 = x4 * w0 + x5 * w3 + x6 * w6;
            a3 = x6 * w0 + x7 * w3 + x8 * w6;
        }
    }
    for (var k = last; k <= s.end * 2u; k++) {
        if k % 2u == 1u || k == s.begin * 2u { continue; }
        store(a0, a1, a2, a3, s, k / 2u - 1u);
        a0 = vec4<f32>(0.0); a1 = vec4<f32>(0.0); a2 = vec4<f32>(0.0); a3 = vec4<f32>(0.0);
    }
}
