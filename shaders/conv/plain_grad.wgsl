// Both gradients of a convolution, one thread an element, any geometry and any number of groups; see plain.wgsl.

// import lib/index.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

// dx[n, ih, iw, ci] = sum over taps and co of dy[output over (ih, iw), co] w[kh, kw, ci, co]; a = dy, b = w
@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.batch * params.in_height * params.in_width * params.in_channels { return; }
    let c = i % params.in_channels;
    let p = pixel(i / params.in_channels, params.in_height, params.in_width);
    let depth = params.in_channels / params.groups;
    let width = params.out_channels / params.groups;
    let first = c / depth * width;
    let ci = c % depth;
    var sum = 0.0;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let over = output_over(p, kh, kw);
            if over < 0 { continue; }
            let from_y = u32(over) * params.out_channels + first;
            let from_w = ((kh * KERNEL_W + kw) * depth + ci) * params.out_channels + first;
            for (var co = 0u; co < width; co++) {
                sum += a[from_y + co] * b[from_w + co];
            }
        }
    }
    out[i] = sum;
}

// dw[kh, kw, ci, co] = sum over output pixels of x[under] dy[pixel, co]; a = x, b = dy
@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let depth = params.in_channels / params.groups;
    if i >= KERNEL_H * KERNEL_W * depth * params.out_channels { return; }
    let co = i % params.out_channels;
    let ci = i / params.out_channels % depth;
    let tap = i / params.out_channels / depth;
    let channel = co / (params.out_channels / params.groups) * depth + ci;
    let rows = params.batch * params.out_height * params.out_width;
    var p = pixel(0u, params.out_height, params.out_width);
    var sum = 0.0;
    for (var row = 0u; row < rows; row++) {
        let under = input_under(p, tap / KERNEL_W, tap % KERNEL_W);
        if under >= 0 {
            sum += a[u32(under) * params.in_channels + channel] * b[row * params.out_channels + co];
        }
        p = next(p, params.out_height, params.out_width);
    }
    out[i] = sum;
}
