// Depthwise convolution, one thread an element, any number of channels; see strip.wgsl.

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
    let channels = params.in_channels;
    if i >= params.batch * params.out_height * params.out_width * channels { return; }
    let c = i % channels;
    let p = pixel(i / channels, params.out_height, params.out_width);
    var sum = 0.0;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let under = input_under(p, kh, kw);
            if under >= 0 { sum += x[u32(under) * channels + c] * w[(kh * KERNEL_W + kw) * channels + c]; }
        }
    }
    y[i] = finish1(sum, c, channels, i);
}
