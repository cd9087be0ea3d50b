// The weight gradient of tile_grad_weight.wgsl for any number of input channels (an image has 3): a row is one
// element of the flattened (tap, input channel), so a tile may span taps. One pixel at a time.
// Needs groups = 1 and out_channels a multiple of 4. Dispatch: a thread a tile and split.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

// The element of the patch under output pixel p that belongs to row `k` (tap, channel) of the weight.
fn load_x(p: Pixel, k: u32) -> f32 {
    let tap = k / params.in_channels;
    let offset = input_under(p, tap / KERNEL_W, tap % KERNEL_W);
    return select(0.0, x[u32(max(offset, 0)) * params.in_channels + k % params.in_channels], offset >= 0);
}

fn store(value: vec4<f32>, split: u32, k: u32, quad: u32) {
    let quads = params.out_channels / 4u;
    let depth = KERNEL_H * KERNEL_W * params.in_channels;
    if k >= depth || quad >= quads { return; }
    grad_w[(split * depth + k) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.out_channels / 4u;
    let wide = (quads + 3u) / 4u;
    let depth = KERNEL_H * KERNEL_W * params.in_channels;
    let high = (depth + 7u) / 8u;
    let split = i / (wide * high);
    if split >= params.splits { return; }
    let tile = i % (wide * high);
    let k = tile / wide * 8u;
    let quad = tile % wide * 4u;
    let q0 = quad;
    let q1 = min(quad + 1u, quads - 1u);
    let q2 = min(quad + 2u, quads - 1u);
    let q3 = min(quad + 3u, quads - 1u);
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.batch * params.out_height * params.out_width);
    var p = pixel(begin, params.out_height, params.out_width);
    var t: Tile;
    for (var row = begin; row < end; row++) {
        let y = row * quads;
        multiply_one(&t,
            Scalars(load_x(p, k + 0u), load_x(p, k + 1u), load_x(p, k + 2u), load_x(p, k + 3u),
                    load_x(p, k + 4u), load_x(p, k + 5u), load_x(p, k + 6u), load_x(p, k + 7u)),
            grad_y[y + q0], grad_y[y + q1], grad_y[y + q2], grad_y[y + q3]);
        p = next(p, params.out_height, params.out_width);
    }
    store(t.c00, split, k + 0u, quad + 0u); store(t.c01, split, k + 0u, quad + 1u); store(t.c02, split, k + 0u, quad + 2u); store(t.c03, split, k + 0u, quad + 3u);
    store(t.c10, split, k + 1u, quad + 0u); store(t.c11, split, k + 1u, quad + 1u); store(t.c12, split, k + 1u, quad + 2u); store(t.c13, split, k + 1u, quad + 3u);
    store(t.c20, split, k + 2u, quad + 0u); store(t.c21, split, k + 2u, quad + 1u); store(t.c22, split, k + 2u, quad + 2u); store(t.c23, split, k + 2u, quad + 3u);
    store(t.c30, split, k + 3u, quad + 0u); store(t.c31, split, k + 3u, quad + 1u); store(t.c32, split, k + 3u, quad + 2u); store(t.c33, split, k + 3u, quad + 3u);
    store(t.c40, split, k + 4u, quad + 0u); store(t.c41, split, k + 4u, quad + 1u); store(t.c42, split, k + 4u, quad + 2u); store(t.c43, split, k + 4u, quad + 3u);
    store(t.c50, split, k + 5u, quad + 0u); store(t.c51, split, k + 5u, quad + 1u); store(t.c52, split, k + 5u, quad + 2u); store(t.c53, split, k + 5u, quad + 3u);
    store(t.c60, split, k + 6u, quad + 0u); store(t.c61, split, k + 6u, quad + 1u); store(t.c62, split, k + 6u, quad + 2u); store(t.c63, split, k + 6u, quad + 3u);
    store(t.c70, split, k + 7u, quad + 0u); store(t.c71, split, k + 7u, quad + 1u); store(t.c72, split, k + 7u, quad + 2u); store(t.c73, split, k + 7u, quad + 3u);
}
