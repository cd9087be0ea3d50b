// Gradient of a depthwise convolution with respect to its weight: dw[tap, c] = sum over output pixels of
// x[under, c] dy[pixel, c]. One thread a tap, channel and split of the pixels; matmul/reduce.wgsl adds the
// splits in order.

// import lib/index.wgsl
// import lib/window.wgsl

// f32, or vec4<f32> where channels are a multiple of 4; LANES is its width.
alias Elem = vec4<f32>;
const LANES: u32 = 4u;

@group(0) @binding(1) var<storage, read> x: array<Elem>;
@group(0) @binding(2) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<Elem>;

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let lanes = params.in_channels / LANES;
    let taps = KERNEL_H * KERNEL_W;
    let split = i / (lanes * taps);
    if split >= params.splits { return; }
    let tap = i / lanes % taps;
    let c = i % lanes;
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.batch * params.out_height * params.out_width);
    var p = pixel(begin, params.out_height, params.out_width);
    var sum = Elem();
    for (var row = begin; row < end; row++) {
        let under = input_under(p, tap / KERNEL_W, tap % KERNEL_W);
        let value = select(Elem(), x[u32(max(under, 0)) * lanes + c], under >= 0);
        sum += value * grad_y[row * lanes + c];
        p = next(p, params.out_height, params.out_width);
    }
    grad_w[i] = sum;
}
