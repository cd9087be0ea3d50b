// Gradient of a depthwise 3x3 convolution at stride 2 with respect to its input. With t = row + padding, an even row
// t = 2m gets dy[m] w[0] + dy[m - 1] w[2], an odd one dy[m] w[1]; columns likewise. A thread walks down two columns
// of dy, of four channels, and writes the four columns of x that they make: each dy of its own is loaded once.
// `split_rows` are rows m of one thread, `splits` threads one below another. Dispatch: channels fastest.

// import lib/index.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

// Zero outside; 'below 0' wraps around to 'above the height'.
fn upstream(n: u32, row: u32, column: u32, c: u32) -> vec4<f32> {
    let inside = row < params.out_height && column < params.out_width;
    let pixel = (n * params.out_height + row) * params.out_width + column;
    return select(vec4<f32>(0.0), grad_y[select(0u, pixel, inside) * (params.in_channels / 4u) + c], inside);
}

// At t and u, row and column counted from the padding's corner.
fn store(value: vec4<f32>, n: u32, t: u32, u: u32, c: u32) {
    let row = t - params.pad_top;
    let column = u - params.pad_left;
    if row >= params.in_height || column >= params.in_width { return; }
    grad_x[((n * params.in_height + row) * params.in_width + column) * (params.in_channels / 4u) + c] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let across = (params.in_width + params.pad_left + 3u) / 4u;
    let rest = i / quads;
    let down = rest / across;
    let c = i % quads;
    let n = down / params.splits;
    if n >= params.batch { return; }
    let begin = down % params.splits * params.split_rows;
    let column = rest % across * 2u;
    let u = column * 2u;
    let w0 = w[c]; let w1 = w[quads + c]; let w2 = w[2u * quads + c];
    let w3 = w[3u * quads + c]; let w4 = w[4u * quads + c]; let w5 = w[5u * quads + c];
    let w6 = w[6u * quads + c]; let w7 = w[7u * quads + c]; let w8 = w[8u * quads + c];
    // The row of dy above: the column before the two, and the two.
    var a = upstream(n, begin - 1u, column - 1u, c);
    var b = upstream(n, begin - 1u, column, c);
    var d = upstream(n, begin - 1u, column + 1u, c);
    let end = min(begin + params.split_rows, (params.in_height + params.pad_top + 1u) / 2u);
    for (var m = begin; m < end; m++) {
        let e = upstream(n, m, column - 1u, c);
        let f = upstream(n, m, column, c);
        let g = upstream(n, m, column + 1u, c);
        let t = m * 2u;
        store(f * w0 + e * w2 + b * w6 + a * w8, n, t, u, c);
        store(f * w1 + b * w7, n, t, u + 1u, c);
        store(g * w0 + f * w2 + d * w6 + b * w8, n, t, u + 2u, c);
        store(g * w1 + d * w7, n, t, u + 3u, c);
        store(f * w3 + e * w5, n, t + 1u, u, c);
        store(f * w4, n, t + 1u, u + 1u, c);
        store(g * w3 + f * w5, n, t + 1u, u + 2u, c);
        store(g * w4, n, t + 1u, u + 3u, c);
        a = e;
        b = f;
        d = g;
    }
}
