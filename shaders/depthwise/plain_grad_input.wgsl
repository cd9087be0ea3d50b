// The input gradient of a depthwise convolution, one thread an element, any number of channels.

// import lib/index.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> grad_y: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let channels = params.in_channels;
    if i >= params.batch * params.in_height * params.in_width * channels { return; }
    let c = i % channels;
    let p = pixel(i / channels, params.in_height, params.in_width);
    var sum = 0.0;
    for (var kh = 0u; kh < KERNEL_H; kh++) {
        for (var kw = 0u; kw < KERNEL_W; kw++) {
            let over = output_over(p, kh, kw);
            if over >= 0 { sum += grad_y[u32(over) * channels + c] * w[(kh * KERNEL_W + kw) * channels + c]; }
        }
    }
    grad_x[i] = sum;
}
