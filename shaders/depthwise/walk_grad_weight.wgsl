// Gradient of a depthwise 3x3 convolution, stride 1 or 2, with respect to its weight. A thread walks along LINES
// output rows of four channels and sums all nine taps: it loads each pixel of x and dy once. It does so for
// `split_rows` images in order. Every strip and every split of the images has partial sums of its own, which
// matmul/reduce.wgsl adds in order. Dispatch: channels fastest, then strips, then splits.

// import lib/index.wgsl
// import lib/lines.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

// Column k, counted from the padding's corner, of a row of x; zero outside.
fn load_x(row: i32, k: u32, c: u32) -> vec4<f32> {
    let column = k - params.pad_left;
    let inside = row >= 0 && column < params.in_width;
    return select(vec4<f32>(0.0), x[select(0u, u32(row) + column * (params.in_channels / 4u), inside) + c], inside);
}

// A column of a row of dy; zero outside, and 'below 0' wraps around.
fn upstream(row: i32, column: u32, c: u32) -> vec4<f32> {
    let inside = row >= 0 && column < params.out_width;
    return select(vec4<f32>(0.0), grad_y[select(0u, u32(row) + column * (params.in_channels / 4u), inside) + c], inside);
}

// The same in rows that only the fourth output has.
fn load_fourth(row: i32, k: u32, c: u32) -> vec4<f32> {
    if LINES < 4u { return vec4<f32>(0.0); }
    return load_x(row, k, c);
}

fn upstream_fourth(row: i32, column: u32, c: u32) -> vec4<f32> {
    if LINES < 4u { return vec4<f32>(0.0); }
    return upstream(row, column, c);
}

struct Taps {
    w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>,
    w3: vec4<f32>, w4: vec4<f32>, w5: vec4<f32>,
    w6: vec4<f32>, w7: vec4<f32>, w8: vec4<f32>,
}

fn store(t: Taps, partial: u32, c: u32) {
    let quads = params.in_channels / 4u;
    let first = partial * 9u * quads + c;
    grad_w[first] = t.w0;
    grad_w[first + quads] = t.w1;
    grad_w[first + 2u * quads] = t.w2;
    grad_w[first + 3u * quads] = t.w3;
    grad_w[first + 4u * quads] = t.w4;
    grad_w[first + 5u * quads] = t.w5;
    grad_w[first + 6u * quads] = t.w6;
    grad_w[first + 7u * quads] = t.w7;
    grad_w[first + 8u * quads] = t.w8;
}

@compute @workgroup_size(WORKGROUP)
fn walk_1(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let partial = i / quads;
    if partial >= strips() * params.splits { return; }
    let c = i % quads;
    let row = partial % strips() * LINES;
    let top = row - params.pad_top;
    let begin = partial / strips() * params.split_rows;
    let end = min(begin + params.split_rows, params.batch);
    // Columns of x that an output reads.
    let last = min(params.in_width + params.pad_left, params.out_width + 2u);
    var t: Taps;
    for (var n = begin; n < end; n++) {
        let o0 = x_line(n, top + 0u);
        let o1 = x_line(n, top + 1u);
        let o2 = x_line(n, top + 2u);
        let o3 = x_line(n, top + 3u);
        let o4 = x_line(n, top + 4u);
        let o5 = x_line(n, top + 5u);
        let u0 = y_line(n, row + 0u);
        let u1 = y_line(n, row + 1u);
        let u2 = y_line(n, row + 2u);
        let u3 = y_line(n, row + 3u);
        // dy of the columns one (a) and two (b) before.
        var a0 = upstream(u0, params.pad_left - 1u, c);
        var a1 = upstream(u1, params.pad_left - 1u, c);
        var a2 = upstream(u2, params.pad_left - 1u, c);
        var a3 = upstream_fourth(u3, params.pad_left - 1u, c);
        var b0 = upstream(u0, params.pad_left - 2u, c);
        var b1 = upstream(u1, params.pad_left - 2u, c);
        var b2 = upstream(u2, params.pad_left - 2u, c);
        var b3 = upstream_fourth(u3, params.pad_left - 2u, c);
        for (var k = params.pad_left; k < last; k++) {
            let d0 = upstream(u0, k, c);
            let d1 = upstream(u1, k, c);
            let d2 = upstream(u2, k, c);
            let d3 = upstream_fourth(u3, k, c);
            let x0 = load_x(o0, k, c);
            let x1 = load_x(o1, k, c);
            let x2 = load_x(o2, k, c);
            let x3 = load_x(o3, k, c);
            let x4 = load_x(o4, k, c);
            let x5 = load_fourth(o5, k, c);
            t.w0 += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3;
            t.w3 += d0 * x1 + d1 * x2 + d2 * x3 + d3 * x4;
            t.w6 += d0 * x2 + d1 * x3 + d2 * x4 + d3 * x5;
            t.w1 += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
            t.w4 += a0 * x1 + a1 * x2 + a2 * x3 + a3 * x4;
            t.w7 += a0 * x2 + a1 * x3 + a2 * x4 + a3 * x5;
            t.w2 += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
            t.w5 += b0 * x1 + b1 * x2 + b2 * x3 + b3 * x4;
            t.w8 += b0 * x2 + b1 * x3 + b2 * x4 + b3 * x5;
            b0 = a0; b1 = a1; b2 = a2; b3 = a3;
            a0 = d0; a1 = d1; a2 = d2; a3 = d3;
        }
    }
    store(t, partial, c);
}

@compute @workgroup_size(WORKGROUP)
fn walk_2(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let partial = i / quads;
    if partial >= strips() * params.splits { return; }
    let c = i % quads;
    let row = partial % strips() * LINES;
    let top = row * 2u - params.pad_top;
    let begin = partial / strips() * params.split_rows;
    let end = min(begin + params.split_rows, params.batch);
    var t: Taps;
    for (var n = begin; n < end; n++) {
        let o0 = x_line(n, top + 0u);
        let o1 = x_line(n, top + 1u);
        let o2 = x_line(n, top + 2u);
        let o3 = x_line(n, top + 3u);
        let o4 = x_line(n, top + 4u);
        let o5 = x_line(n, top + 5u);
        let o6 = x_line(n, top + 6u);
        let o7 = x_line(n, top + 7u);
        let o8 = x_line(n, top + 8u);
        let u0 = y_line(n, row + 0u);
        let u1 = y_line(n, row + 1u);
        let u2 = y_line(n, row + 2u);
        let u3 = y_line(n, row + 3u);
        // dy of the output column whose first tap was the last even column: an odd column is its second tap, the next
        // even one its third.
        var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
        for (var k = 0u; k < params.out_width * 2u + 1u; k++) {
            let x0 = load_x(o0, k, c);
            let x1 = load_x(o1, k, c);
            let x2 = load_x(o2, k, c);
            let x3 = load_x(o3, k, c);
            let x4 = load_x(o4, k, c);
            let x5 = load_x(o5, k, c);
            let x6 = load_x(o6, k, c);
            let x7 = load_fourth(o7, k, c);
            let x8 = load_fourth(o8, k, c);
            if k % 2u == 1u {
                t.w1 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w4 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w7 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
            } else {
                t.w2 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w5 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w8 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
                a0 = upstream(u0, k / 2u, c);
                a1 = upstream(u1, k / 2u, c);
                a2 = upstream(u2, k / 2u, c);
                a3 = upstream_fourth(u3, k / 2u, c);
                t.w0 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w3 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w6 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
            }
        }
    }
    store(t, partial, c);
}
