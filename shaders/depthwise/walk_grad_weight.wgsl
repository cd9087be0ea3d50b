// Gradient of a depthwise 3x3 convolution, stride 1 or 2, with respect to its weight. A thread walks down four output
// columns of four channels and sums all nine taps: each pixel of x and dy is loaded once a thread. It does so for
// `split_rows` pictures one after the other; every strip and every split of the pictures has partial sums of its own,
// which matmul/reduce.wgsl adds in order. Dispatch: channels fastest, then strips, then splits.

// import lib/index.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

// Row h and column k are counted from the padding's corner; zero outside.
fn load_x(n: u32, h: u32, k: u32, c: u32) -> vec4<f32> {
    let row = h - params.pad_top;
    let column = k - params.pad_left;
    let inside = row < params.in_height && column < params.in_width;
    let pixel = (n * params.in_height + row) * params.in_width + column;
    return select(vec4<f32>(0.0), x[select(0u, pixel, inside) * (params.in_channels / 4u) + c], inside);
}

fn upstream(n: u32, row: u32, column: u32, c: u32) -> vec4<f32> {
    let inside = row < params.out_height && column < params.out_width;
    let pixel = (n * params.out_height + row) * params.out_width + column;
    return select(vec4<f32>(0.0), grad_y[select(0u, pixel, inside) * (params.in_channels / 4u) + c], inside);
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
    let across = (params.out_width + 3u) / 4u;
    let partial = i / quads;
    if partial >= across * params.splits { return; }
    let c = i % quads;
    let column = partial % across * 4u;
    let begin = partial / across * params.split_rows;
    let end = min(begin + params.split_rows, params.batch);
    var t: Taps;
    for (var n = begin; n < end; n++) {
        // dy of the rows one (a) and two (b) above.
        var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
        var b0 = vec4<f32>(0.0); var b1 = vec4<f32>(0.0); var b2 = vec4<f32>(0.0); var b3 = vec4<f32>(0.0);
        for (var h = 0u; h < params.out_height + 2u; h++) {
            let d0 = upstream(n, h, column, c);
            let d1 = upstream(n, h, column + 1u, c);
            let d2 = upstream(n, h, column + 2u, c);
            let d3 = upstream(n, h, column + 3u, c);
            let x0 = load_x(n, h, column, c);
            let x1 = load_x(n, h, column + 1u, c);
            let x2 = load_x(n, h, column + 2u, c);
            let x3 = load_x(n, h, column + 3u, c);
            let x4 = load_x(n, h, column + 4u, c);
            let x5 = load_x(n, h, column + 5u, c);
            t.w0 += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3;
            t.w1 += d0 * x1 + d1 * x2 + d2 * x3 + d3 * x4;
            t.w2 += d0 * x2 + d1 * x3 + d2 * x4 + d3 * x5;
            t.w3 += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3;
            t.w4 += a0 * x1 + a1 * x2 + a2 * x3 + a3 * x4;
            t.w5 += a0 * x2 + a1 * x3 + a2 * x4 + a3 * x5;
            t.w6 += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3;
            t.w7 += b0 * x1 + b1 * x2 + b2 * x3 + b3 * x4;
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
    let across = (params.out_width + 3u) / 4u;
    let partial = i / quads;
    if partial >= across * params.splits { return; }
    let c = i % quads;
    let column = partial % across * 4u;
    let k = column * 2u;
    let begin = partial / across * params.split_rows;
    let end = min(begin + params.split_rows, params.batch);
    var t: Taps;
    for (var n = begin; n < end; n++) {
        // dy of the output row whose first tap was the last even row: an odd row is its second tap, the next even
        // one its third.
        var a0 = vec4<f32>(0.0); var a1 = vec4<f32>(0.0); var a2 = vec4<f32>(0.0); var a3 = vec4<f32>(0.0);
        for (var h = 0u; h < params.out_height * 2u + 1u; h++) {
            let x0 = load_x(n, h, k, c);
            let x1 = load_x(n, h, k + 1u, c);
            let x2 = load_x(n, h, k + 2u, c);
            let x3 = load_x(n, h, k + 3u, c);
            let x4 = load_x(n, h, k + 4u, c);
            let x5 = load_x(n, h, k + 5u, c);
            let x6 = load_x(n, h, k + 6u, c);
            let x7 = load_x(n, h, k + 7u, c);
            let x8 = load_x(n, h, k + 8u, c);
            if h % 2u == 1u {
                t.w3 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w4 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w5 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
            } else {
                t.w6 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w7 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w8 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
                a0 = upstream(n, h / 2u, column, c);
                a1 = upstream(n, h / 2u, column + 1u, c);
                a2 = upstream(n, h / 2u, column + 2u, c);
                a3 = upstream(n, h / 2u, column + 3u, c);
                t.w0 += a0 * x0 + a1 * x2 + a2 * x4 + a3 * x6;
                t.w1 += a0 * x1 + a1 * x3 + a2 * x5 + a3 * x7;
                t.w2 += a0 * x2 + a1 * x4 + a2 * x6 + a3 * x8;
            }
        }
    }
    store(t, partial, c);
}
