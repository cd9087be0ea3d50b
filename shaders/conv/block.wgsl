// Convolution as an implicit matrix product, one workgroup for each tile (lib/block.wgsl): y [pixels, out_channels] =
// patches [pixels, taps * in_channels] times w [taps * in_channels, out_channels]. Patches are read in place.
// Activations NHWC, w HWIO. Needs groups = 1, in_channels and out_channels multiples of 4.
// Dispatch: one workgroup for each tile, channels fastest.

// import lib/block.wgsl
// import lib/finish4.wgsl
// import lib/window.wgsl

const LEFT_ALONG: bool = true;
const RIGHT_ALONG: bool = false;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn pixels() -> u32 { return params.batch * params.out_height * params.out_width; }

// Row and column of the first tap's input for four output pixels (far outside for pixels after the batch), and the
// image's first row.
struct Place {
    h: vec4<u32>,
    w: vec4<u32>,
    first: vec4<u32>,
}

fn place(quad: u32) -> Place {
    let i = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let row = i / params.out_width;
    let h = row % params.out_height * STRIDE_H - params.pad_top;
    return Place(
        select(vec4<u32>(1u << 30u), h, i < vec4<u32>(pixels())),
        i % params.out_width * STRIDE_W - params.pad_left,
        row / params.out_height * params.in_height);
}

fn load_x(at: u32, inside: bool) -> vec4<f32> {
    return select(vec4<f32>(0.0), x[at], inside);
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    let depth = params.in_channels / 4u;
    let tap = k / params.in_channels;
    let h = p.h + tap / KERNEL_W * DILATION_H;
    let w = p.w + tap % KERNEL_W * DILATION_W;
    // 'Below 0' wraps around to 'above the height'.
    let inside = (h < vec4<u32>(params.in_height)) & (w < vec4<u32>(params.in_width)) & vec4<bool>(k < end);
    let at = select(vec4<u32>(0u), ((p.first + h) * params.in_width + w) * depth, inside) + k / 4u % depth;
    return transpose(mat4x4<f32>(
        load_x(at.x, inside.x), load_x(at.y, inside.y), load_x(at.z, inside.z), load_x(at.w, inside.w)));
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    let quads = params.out_channels / 4u;
    let at = min(k, end - 4u) * quads + min(quad, quads - 1u);
    return mat4x4<f32>(w[at], w[at + quads], w[at + 2u * quads], w[at + 3u * quads]);
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    let quads = params.out_channels / 4u;
    if row >= pixels() || quad >= quads { return; }
    let i = row * quads + quad;
    y[i] = finish4(value, quad, quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.out_channels / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let row = i / wide * SIDE_QUADS;
    if row * 4u >= pixels() { return; }
    multiply_square(l, 0u, row, i % wide * SIDE_QUADS, 0u, KERNEL_H * KERNEL_W * params.in_channels);
}
