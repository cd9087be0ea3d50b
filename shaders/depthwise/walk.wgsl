// Depthwise 3x3 without dilation, stride 1 or 2: a thread walks down four output columns of four channels and loads
// every pixel of the rows below it once. What a row gives to the outputs above and below it waits in registers.
// FLIPPED, and with the roles of x and y exchanged, `walk_1` is the gradient of the input at stride 1.
// `split_rows` are output rows of one thread, `splits` threads one below another. Dispatch: channels fastest.

// import lib/index.wgsl
// import lib/finish4.wgsl
// import lib/window.wgsl

override FLIPPED: bool = false;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

// Where a thread begins: picture, first output row and column, channel quad.
struct Start {
    n: u32,
    row: u32,
    column: u32,
    c: u32,
}

fn start(i: u32) -> Start {
    let quads = params.in_channels / 4u;
    let across = (params.out_width + 3u) / 4u;
    let rest = i / quads;
    let down = rest / across;
    return Start(down / params.splits, down % params.splits * params.split_rows, rest % across * 4u, i % quads);
}

// The input pixel in row h (of picture n) and column k, both counted from the padding's corner; zero outside.
fn load_x(n: u32, h: u32, k: u32, c: u32) -> vec4<f32> {
    let row = h - params.pad_top;
    let column = k - params.pad_left;
    let inside = row < params.in_height && column < params.in_width;
    let pixel = (n * params.in_height + row) * params.in_width + column;
    return select(vec4<f32>(0.0), x[select(0u, pixel, inside) * (params.in_channels / 4u) + c], inside);
}

fn weight(tap: u32, c: u32) -> vec4<f32> {
    return w[select(tap, 8u - tap, FLIPPED) * (params.in_channels / 4u) + c];
}

fn store(value: vec4<f32>, n: u32, row: u32, column: u32, c: u32) {
    if column >= params.out_width { return; }
    let quads = params.in_channels / 4u;
    let i = ((n * params.out_height + row) * params.out_width + column) * quads + c;
    y[i] = finish4(value, c, quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn walk_1(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let s = start(linear_index(id, groups));
    if s.n >= params.batch { return; }
    let w0 = weight(0u, s.c); let w1 = weight(1u, s.c); let w2 = weight(2u, s.c);
    let w3 = weight(3u, s.c); let w4 = weight(4u, s.c); let w5 = weight(5u, s.c);
    let w6 = weight(6u, s.c); let w7 = weight(7u, s.c); let w8 = weight(8u, s.c);
    // Of the row that began two input rows ago (a), one ago (b).
    var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0); var b1 = vec4<f32>(0.0); var b2 = vec4<f32>(0.0); var b3 = vec4<f32>(0.0);
    let end = min(s.row + params.split_rows, params.out_height) + 2u;
    // No row of the padding is loaded.
    let first = max(s.row, params.pad_top);
    let last = clamp(params.in_height + params.pad_top, first, end);
    for (var h = first; h < last; h++) {
        let x0 = load_x(s.n, h, s.column, s.c);
        let x1 = load_x(s.n, h, s.column + 1u, s.c);
        let x2 = load_x(s.n, h, s.column + 2u, s.c);
        let x3 = load_x(s.n, h, s.column + 3u, s.c);
        let x4 = load_x(s.n, h, s.column + 4u, s.c);
        let x5 = load_x(s.n, h, s.column + 5u, s.c);
        if h >= s.row + 2u {
            let row = h - 2u;
            store(a0 + x0 * w6 + x1 * w7 + x2 * w8, s.n, row, s.column, s.c);
            store(a1 + x1 * w6 + x2 * w7 + x3 * w8, s.n, row, s.column + 1u, s.c);
            store(a2 + x2 * w6 + x3 * w7 + x4 * w8, s.n, row, s.column + 2u, s.c);
            store(a3 + x3 * w6 + x4 * w7 + x5 * w8, s.n, row, s.column + 3u, s.c);
        }
        a0 = b0 + x0 * w3 + x1 * w4 + x2 * w5;
        a1 = b1 + x1 * w3 + x2 * w4 + x3 * w5;
        a2 = b2 + x2 * w3 + x3 * w4 + x4 * w5;
        a3 = b3 + x3 * w3 + x4 * w4 + x5 * w5;
        b0 = x0 * w0 + x1 * w1 + x2 * w2;
        b1 = x1 * w0 + x2 * w1 + x3 * w2;
        b2 = x2 * w0 + x3 * w1 + x4 * w2;
        b3 = x3 * w0 + x4 * w1 + x5 * w2;
    }
    for (var h = last; h < end; h++) {
        if h >= s.row + 2u {
            let row = h - 2u;
            store(a0, s.n, row, s.column, s.c);
            store(a1, s.n, row, s.column + 1u, s.c);
            store(a2, s.n, row, s.column + 2u, s.c);
            store(a3, s.n, row, s.column + 3u, s.c);
        }
        a0 = b0; a1 = b1; a2 = b2; a3 = b3;
        b0 = vec4<f32>(0.0); b1 = vec4<f32>(0.0); b2 = vec4<f32>(0.0); b3 = vec4<f32>(0.0);
    }
}

@compute @workgroup_size(WORKGROUP)
fn walk_2(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let s = start(linear_index(id, groups));
    if s.n >= params.batch { return; }
    let w0 = weight(0u, s.c); let w1 = weight(1u, s.c); let w2 = weight(2u, s.c);
    let w3 = weight(3u, s.c); let w4 = weight(4u, s.c); let w5 = weight(5u, s.c);
    let w6 = weight(6u, s.c); let w7 = weight(7u, s.c); let w8 = weight(8u, s.c);
    let k = s.column * 2u;
    // What the row above gives to the outputs below it.
    var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
    let end = min(s.row + params.split_rows, params.out_height);
    // The first turn only loads that row.
    for (var turn = s.row * 2u; turn <= end * 2u; turn++) {
        let x0 = load_x(s.n, turn, k, s.c);
        let x1 = load_x(s.n, turn, k + 1u, s.c);
        let x2 = load_x(s.n, turn, k + 2u, s.c);
        let x3 = load_x(s.n, turn, k + 3u, s.c);
        let x4 = load_x(s.n, turn, k + 4u, s.c);
        let x5 = load_x(s.n, turn, k + 5u, s.c);
        let x6 = load_x(s.n, turn, k + 6u, s.c);
        let x7 = load_x(s.n, turn, k + 7u, s.c);
        let x8 = load_x(s.n, turn, k + 8u, s.c);
        if turn % 2u == 1u {
            a0 += x0 * w3 + x1 * w4 + x2 * w5;
            a1 += x2 * w3 + x3 * w4 + x4 * w5;
            a2 += x4 * w3 + x5 * w4 + x6 * w5;
            a3 += x6 * w3 + x7 * w4 + x8 * w5;
        } else {
            if turn > s.row * 2u {
                let row = turn / 2u - 1u;
                store(a0 + x0 * w6 + x1 * w7 + x2 * w8, s.n, row, s.column, s.c);
                store(a1 + x2 * w6 + x3 * w7 + x4 * w8, s.n, row, s.column + 1u, s.c);
                store(a2 + x4 * w6 + x5 * w7 + x6 * w8, s.n, row, s.column + 2u, s.c);
                store(a3 + x6 * w6 + x7 * w7 + x8 * w8, s.n, row, s.column + 3u, s.c);
            }
            a0 = x0 * w0 + x1 * w1 + x2 * w2;
            a1 = x2 * w0 + x3 * w1 + x4 * w2;
            a2 = x4 * w0 + x5 * w1 + x6 * w2;
            a3 = x6 * w0 + x7 * w1 + x8 * w2;
        }
    }
}
