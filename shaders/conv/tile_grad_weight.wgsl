// Gradient of a convolution with respect to its weight, as an implicit matrix product: a row is a tap
// and an input channel, a column an output channel; the sum runs over output pixels, four at a time.
// 8 channels of 4 pixels are two transposed 4x4 blocks. Where the weight has few tiles, the pixels are
// split and each split writes its own partial sum; matmul/reduce.wgsl adds them in order.
// One thread holds one tap's 8 input channels x 16 output channels. NHWC, w HWIO.
// Needs groups = 1, in_channels and out_channels multiples of 4. Dispatch: a thread a tile and split.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

fn load_x(offset: i32, k: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), x[u32(max(offset, 0)) + k], offset >= 0);
}

fn store(value: vec4<f32>, row: u32, channel: u32, quad: u32) {
    let quads = params.out_channels / 4u;
    if channel >= params.in_channels || quad >= quads { return; }
    grad_w[(row + channel) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.out_channels / 4u;
    let wide = (quads + 3u) / 4u;
    let high = (params.in_channels + 7u) / 8u;
    let taps = KERNEL_H * KERNEL_W;
    let split = i / (wide * high * taps);
    if split >= params.splits { return; }
    let tile = i % (wide * high * taps);
    let tap = tile / (wide * high);
    let kh = tap / KERNEL_W;
    let kw = tap % KERNEL_W;
    let channel = tile % (wide * high) / wide * 8u;
    let quad = tile % wide * 4u;
    let left = channel / 4u;
    let right = left + select(0u, 1u, channel + 4u < params.in_channels);
    let q0 = quad;
    let q1 = min(quad + 1u, quads - 1u);
    let q2 = min(quad + 2u, quads - 1u);
    let q3 = min(quad + 3u, quads - 1u);
    let scale = i32(params.in_channels / 4u);
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.batch * params.out_height * params.out_width);
    var p = pixel(begin, params.out_height, params.out_width);
    var t: Tile;
    for (var row = begin; row < end; row += 4u) {
        let p0 = p;
        let p1 = next(p0, params.out_height, params.out_width);
        let p2 = next(p1, params.out_height, params.out_width);
        let p3 = next(p2, params.out_height, params.out_width);
        let o0 = input_under(p0, kh, kw) * scale;
        let o1 = select(-1, input_under(p1, kh, kw), row + 1u < end) * scale;
        let o2 = select(-1, input_under(p2, kh, kw), row + 2u < end) * scale;
        let o3 = select(-1, input_under(p3, kh, kw), row + 3u < end) * scale;
        p = next(p3, params.out_height, params.out_width);
        if BY_PLACE && all(vec4(o0, o1, o2, o3) < vec4(0)) { continue; }
        let l = transpose(mat4x4<f32>(load_x(o0, left), load_x(o1, left), load_x(o2, left), load_x(o3, left)));
        let r = transpose(mat4x4<f32>(load_x(o0, right), load_x(o1, right), load_x(o2, right), load_x(o3, right)));
        // Pixels after the end are zero in the left operand, so the right operand may repeat the first one.
        let y0 = index_of(p0, params.out_height, params.out_width) * quads;
        let y1 = select(y0, index_of(p1, params.out_height, params.out_width) * quads, row + 1u < end);
        let y2 = select(y0, index_of(p2, params.out_height, params.out_width) * quads, row + 2u < end);
        let y3 = select(y0, index_of(p3, params.out_height, params.out_width) * quads, row + 3u < end);
        multiply(&t, Rows(l[0], l[1], l[2], l[3], r[0], r[1], r[2], r[3]),
            mat4x4<f32>(grad_y[y0 + q0], grad_y[y1 + q0], grad_y[y2 + q0], grad_y[y3 + q0]),
            mat4x4<f32>(grad_y[y0 + q1], grad_y[y1 + q1], grad_y[y2 + q1], grad_y[y3 + q1]),
            mat4x4<f32>(grad_y[y0 + q2], grad_y[y1 + q2], grad_y[y2 + q2], grad_y[y3 + q2]),
            mat4x4<f32>(grad_y[y0 + q3], grad_y[y1 + q3], grad_y[y2 + q3], grad_y[y3 + q3]));
    }
    let base = (split * taps + tap) * params.in_channels;
    store(t.c00, base, channel + 0u, quad + 0u); store(t.c01, base, channel + 0u, quad + 1u); store(t.c02, base, channel + 0u, quad + 2u); store(t.c03, base, channel + 0u, quad + 3u);
    store(t.c10, base, channel + 1u, quad + 0u); store(t.c11, base, channel + 1u, quad + 1u); store(t.c12, base, channel + 1u, quad + 2u); store(t.c13, base, channel + 1u, quad + 3u);
    store(t.c20, base, channel + 2u, quad + 0u); store(t.c21, base, channel + 2u, quad + 1u); store(t.c22, base, channel + 2u, quad + 2u); store(t.c23, base, channel + 2u, quad + 3u);
    store(t.c30, base, channel + 3u, quad + 0u); store(t.c31, base, channel + 3u, quad + 1u); store(t.c32, base, channel + 3u, quad + 2u); store(t.c33, base, channel + 3u, quad + 3u);
    store(t.c40, base, channel + 4u, quad + 0u); store(t.c41, base, channel + 4u, quad + 1u); store(t.c42, base, channel + 4u, quad + 2u); store(t.c43, base, channel + 4u, quad + 3u);
    store(t.c50, base, channel + 5u, quad + 0u); store(t.c51, base, channel + 5u, quad + 1u); store(t.c52, base, channel + 5u, quad + 2u); store(t.c53, base, channel + 5u, quad + 3u);
    store(t.c60, base, channel + 6u, quad + 0u); store(t.c61, base, channel + 6u, quad + 1u); store(t.c62, base, channel + 6u, quad + 2u); store(t.c63, base, channel + 6u, quad + 3u);
    store(t.c70, base, channel + 7u, quad + 0u); store(t.c71, base, channel + 7u, quad + 1u); store(t.c72, base, channel + 7u, quad + 2u); store(t.c73, base, channel + 7u, quad + 3u);
}
