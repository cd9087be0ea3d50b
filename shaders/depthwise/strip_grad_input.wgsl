// Gradient of a depthwise convolution with respect to its input: dx[p, c] = sum over taps of
// dy[output over p, c] w[tap, c]. Four neighbouring input pixels of four channels a thread; see strip.wgsl.

// import lib/index.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn upstream(over: i32, c: u32) -> vec4<f32> {
    let i = u32(max(over, 0)) * (params.in_channels / 4u) + c;
    return select(vec4<f32>(0.0), grad_y[i], over >= 0);
}

fn store(value: vec4<f32>, row: u32, rows: u32, c: u32) {
    if row >= rows { return; }
    grad_x[row * (params.in_channels / 4u) + c] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let rows = params.batch * params.in_height * params.in_width;
    let c = i % quads;
    let row = i / quads * 4u;
    if row >= rows { return; }
    let p0 = pixel(row, params.in_height, params.in_width);
    let p1 = next(p0, params.in_height, params.in_width);
    let p2 = next(p1, params.in_height, params.in_width);
    let p3 = next(p2, params.in_height, params.in_width);
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let weight = w[(kh * KERNEL_W + kw) * quads + c];
            s0 += upstream(output_over(p0, kh, kw), c) * weight;
            s1 += upstream(output_over(p1, kh, kw), c) * weight;
            s2 += upstream(output_over(p2, kh, kw), c) * weight;
            s3 += upstream(output_over(p3, kh, kw), c) * weight;
        }
    }
    store(s0, row + 0u, rows, c);
    store(s1, row + 1u, rows, c);
    store(s2, row + 2u, rows, c);
    store(s3, row + 3u, rows, c);
}
