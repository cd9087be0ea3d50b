// Gradient of a convolution with respect to its input, as an implicit matrix product, one workgroup for each tile
// (lib/block.wgsl): a row is an input pixel, a column an input channel; the sum runs over taps and output channels.
// With a stride, input pixels of equal remainder, a phase, lie under the same taps: each phase is a dispatch of its
// own. Its taps are FIRST_H, FIRST_H + STEP_H, .., TAPS_H of them, and the same along columns. NHWC, w HWIO. Needs
// groups = 1, in_channels and out_channels multiples of 4.
// Dispatch: one workgroup for each tile, channels fastest.

// import lib/block.wgsl
// import lib/phase.wgsl

override FIRST_H: u32 = 0u;
override FIRST_W: u32 = 0u;
override STEP_H: u32 = 1u;
override STEP_W: u32 = 1u;
override TAPS_H: u32 = 3u;
override TAPS_W: u32 = 3u;

const LEFT_ALONG: bool = true;
const RIGHT_ALONG: bool = true;

@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn pixels() -> u32 { return params.batch * phase_height() * phase_width(); }

// Row and column of four input pixels, counted from the padding's corner (far outside for pixels after the batch),
// and the first row of the image in dy.
struct Place {
    h: vec4<u32>,
    w: vec4<u32>,
    first: vec4<u32>,
}

fn place(quad: u32) -> Place {
    let i = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let row = i / phase_width();
    let h = row % phase_height() * STRIDE_H + PHASE_H + params.pad_top;
    return Place(
        select(vec4<u32>(1u << 30u), h, i < vec4<u32>(pixels())),
        i % phase_width() * STRIDE_W + PHASE_W + params.pad_left,
        row / phase_height() * params.out_height);
}

// The tap of step k.
fn tap_h(k: u32) -> u32 { return k / params.out_channels / max(TAPS_W, 1u) * STEP_H + FIRST_H; }
fn tap_w(k: u32) -> u32 { return k / params.out_channels % max(TAPS_W, 1u) * STEP_W + FIRST_W; }

fn upstream(at: u32, inside: bool) -> vec4<f32> {
    return select(vec4<f32>(0.0), grad_y[at], inside);
}

fn left(p: Place, k: u32, end: u32) -> mat4x4<f32> {
    let quads = params.out_channels / 4u;
    // Negative values wrap around, and stay far above the height when divided.
    let h = (p.h - tap_h(k) * DILATION_H) / STRIDE_H;
    let w = (p.w - tap_w(k) * DILATION_W) / STRIDE_W;
    let inside = (h < vec4<u32>(params.out_height)) & (w < vec4<u32>(params.out_width)) & vec4<bool>(k < end);
    let at = select(vec4<u32>(0u), ((p.first + h) * params.out_width + w) * quads, inside) + k / 4u % quads;
    return transpose(mat4x4<f32>(
        upstream(at.x, inside.x), upstream(at.y, inside.y), upstream(at.z, inside.z), upstream(at.w, inside.w)));
}

fn right(quad: u32, k: u32, end: u32) -> mat4x4<f32> {
    let quads = params.out_channels / 4u;
    let step = min(k, end - 4u);
    let tap = (tap_h(step) * KERNEL_W + tap_w(step)) * params.in_channels;
    let at = (tap + min(quad, params.in_channels / 4u - 1u) * 4u) * quads + step / 4u % quads;
    return transpose(mat4x4<f32>(w[at], w[at + quads], w[at + 2u * quads], w[at + 3u * quads]));
}

fn store(value: vec4<f32>, part: u32, row: u32, quad: u32) {
    let quads = params.in_channels / 4u;
    if row >= pixels() || quad >= quads { return; }
    let p = placed(pixel(row, phase_height(), phase_width()));
    grad_x[index_of(p, params.in_height, params.in_width) * quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn grad_input(@builtin(local_invocation_index) l: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = square(group, groups);
    let wide = (params.in_channels / 4u + SIDE_QUADS - 1u) / SIDE_QUADS;
    let row = i / wide * SIDE_QUADS;
    if row * 4u >= pixels() { return; }
    multiply_square(l, 0u, row, i % wide * SIDE_QUADS, 0u, TAPS_H * TAPS_W * params.out_channels);
}
