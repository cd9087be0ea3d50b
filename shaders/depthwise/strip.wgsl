// Depthwise convolution: each channel with its own window, y[.., c] = sum over taps of x[under, c] w[tap, c].
// One thread computes four neighbouring output pixels (along the flattened batch) of four channels,
// so that a weight is loaded once for four pixels. NHWC, w [kernel_h, kernel_w, channels].
// Needs channels a multiple of 4. Dispatch: a thread a strip, channels fastest.

// import lib/index.wgsl
// import lib/finish4.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn load_x(under: i32, c: u32) -> vec4<f32> {
    let i = u32(max(under, 0)) * (params.in_channels / 4u) + c;
    return select(vec4<f32>(0.0), x[i], under >= 0);
}

fn store(value: vec4<f32>, row: u32, rows: u32, c: u32) {
    if row >= rows { return; }
    let quads = params.in_channels / 4u;
    let i = row * quads + c;
    y[i] = finish4(value, c, quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let rows = params.batch * params.out_height * params.out_width;
    let c = i % quads;
    let row = i / quads * 4u;
    if row >= rows { return; }
    let p0 = pixel(row, params.out_height, params.out_width);
    let p1 = next(p0, params.out_height, params.out_width);
    let p2 = next(p1, params.out_height, params.out_width);
    let p3 = next(p2, params.out_height, params.out_width);
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let weight = w[(kh * KERNEL_W + kw) * quads + c];
            s0 += load_x(input_under(p0, kh, kw), c) * weight;
            s1 += load_x(input_under(p1, kh, kw), c) * weight;
            s2 += load_x(input_under(p2, kh, kw), c) * weight;
            s3 += load_x(input_under(p3, kh, kw), c) * weight;
        }
    }
    store(s0, row + 0u, rows, c);
    store(s1, row + 1u, rows, c);
    store(s2, row + 2u, rows, c);
    store(s3, row + 3u, rows, c);
}
