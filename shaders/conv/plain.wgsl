// Convolution, one thread an output element, any geometry and any number of groups:
//   y[n, oh, ow, co] = sum over kh, kw, ci of x[n, oh s - p + kh d, ow s - p + kw d, g + ci] w[kh, kw, ci, co]
// NHWC, w [kernel_h, kernel_w, in_channels / groups, out_channels].

// import lib/index.wgsl
// import lib/finish1.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.batch * params.out_height * params.out_width * params.out_channels { return; }
    let co = i % params.out_channels;
    let p = pixel(i / params.out_channels, params.out_height, params.out_width);
    let depth = params.in_channels / params.groups;
    let first = co / (params.out_channels / params.groups) * depth;
    var sum = 0.0;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let under = input_under(p, kh, kw);
            if under < 0 { continue; }
            let from_x = u32(under) * params.in_channels + first;
            let from_w = (kh * KERNEL_W + kw) * depth;
            for (var ci = 0u; ci < depth; ci++) {
                sum += x[from_x + ci] * w[(from_w + ci) * params.out_channels + co];
            }
        }
    }
    y[i] = finish1(sum, co, params.out_channels, i);
}
