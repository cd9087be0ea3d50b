// Gradient of a convolution with respect to its weight, as an implicit matrix product, one workgroup for each tile
// (lib/block.wgsl): a row is a tap and an input channel, a column an output channel; the sum runs over output pixels.
// Where the weight has few tiles, the sum is split: each split writes its own partial sum, and matmul/reduce.wgsl
// adds them in order. NHWC, w HWIO. Needs groups = 1, in_channels and out_channels multiples of 4.
// Dispatch: one workgroup for each tile and split, channels fastest.

// import lib/block.wgsl
// import lib/window.wgsl

const LEFT_ALONG: bool = false;
const RIGHT_ALONG: bool = false;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

// The tap and quad of channels of four rows of the weight; after the edge the last ones repeat and are not stored.
struct Place {
    kh: u32,
    kw: u32,
    quad: u32,
}

fn rows() -> u32 { return KERNEL_H * KERNEL_W * params.in_channels; }

fn place(quad: u32) -> Place {
    let depth = params.in_channels / 4u;
    let q = min(quad, rows() / 4u - 1u);
    return Place(q / depth / KERNEL_W, q / depth % KERNEL_W, q % depth);
}

fn left_at(p: Place, o: Pixel, inside: bool) -> vec4<f32> {
    let i = input_under(o, p.kh, p.kw);
    let at = u32(max(i, 0)) * (params.in_channels / 4u) + p.quad;
    return select(vec4<f32>(0.0), x[at], inside && i >= 0);
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    let p0 = pixel(k, params.out_height, params.out_width);
    let p1 = next(p0, params.out_height, params.out_width);
    let p2 = next(p1, params.out_height, params.out_width);
    let p3 = next(p2, params.out_height, params.out_width);
    return mat4x4<f32>(left_at(p, p0, k < end), left_at(p, p1, k + 1u < end),
        left_at(p, p2, k + 2u < end), left_at(p, p3, k + 3u < end));
}

fn right_at(quad: u32, k: u32, end: u32) -> vec4<f32> {
    let quads = params.out_channels / 4u;
    return grad_y[min(k, end - 1u) * quads + min(quad, quads - 1u)];
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    return mat4x4<f32>(right_at(quad, k, end), right_at(quad, k + 1u, end),
        right_at(quad, k + 2u, end), right_at(quad, k + 3u, end));
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    let quads = params.out_channels / 4u;
    if row >= rows() || quad >= quads { return; }
    grad_w[(part * rows() + row) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.out_channels / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let high = (rows() / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let split = i / (wide * high);
    if split >= params.splits { return; }
    let s = i % (wide * high);
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.batch * params.out_height * params.out_width);
    multiply_square(l, split, s / wide * SIDE_QUADS, s % wide * SIDE_QUADS, begin, end);
}
