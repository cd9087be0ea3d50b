// Augmented, normalised images from bytes, in one pass. A thread computes one pixel of the output.
//
//   geometry   source position = (source_x, source_y) . (column + 1/2, row + 1/2, 1), bilinear
//   colour     v = clamp(matrix . (r, g, b, 1), 0, 255)
//              the hue in HSV turned, then the grey of the pixel
//   levels     v = floor(byte / step) * step (posterize), 255 - v where v >= threshold (solarize), byte = round(v)
//   focus      Gaussian blur of radius 3, or sharper and smoother by a 3x3 kernel
//   normalise  y = v * scale[c] + shift[c]
//   erase      0, the mean, within a rectangle
//   mix        within a rectangle, own * y + (1 - own) * the partner's y, which has its own draws
//
// The host draws all random numbers, one struct Draws for each image; its fields are explained in src/ops/augment.rs.

// import lib/index.wgsl

struct Params {
    scale: vec4<f32>,
    shift: vec4<f32>,
    batch: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
}

struct Draws {
    source_x: vec3<f32>,
    reflect: f32,
    source_y: vec3<f32>,
    step: f32,
    red: vec4<f32>,
    green: vec4<f32>,
    blue: vec4<f32>,
    threshold: f32,
    sigma: f32,
    sharpness: f32,
    own: f32,
    erase: vec4<f32>, // left, top, right, bottom
    mix: vec4<f32>,
    partner: f32,
    hue: f32,
    grey: f32,
}

// Radius of the blur: src/ops/augment.rs has the same number.
const RADIUS: i32 = 3;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>; // bytes [batch, in_height, in_width, 3]
@group(0) @binding(2) var<storage, read> draws: array<Draws>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [batch, out_height, out_width, 3]

fn byte_at(i: u32) -> f32 {
    return f32((x[i >> 2u] >> ((i & 3u) * 8u)) & 255u);
}

// The source's pixel, or black outside of it.
fn source(n: u32, row: i32, column: i32) -> vec3<f32> {
    let inside = row >= 0 && column >= 0 && row < i32(params.in_height) && column < i32(params.in_width);
    if !inside { return vec3<f32>(0.0); }
    let i = ((n * params.in_height + u32(row)) * params.in_width + u32(column)) * 3u;
    return vec3<f32>(byte_at(i), byte_at(i + 1u), byte_at(i + 2u));
}

// A position mirrored at both edges of 0 .. size until it lies inside.
fn mirrored(at: f32, size: f32) -> f32 {
    let period = 2.0 * size;
    let t = at - period * floor(at / period);
    return min(t, period - t);
}

fn bilinear(n: u32, position: vec2<f32>) -> vec3<f32> {
    let size = vec2<f32>(f32(params.in_width), f32(params.in_height));
    // Farther than one pixel outside, everything is black; this also keeps the indices within i32.
    var at = clamp(position, vec2<f32>(-1.0), size + 1.0);
    let reflect = draws[n].reflect > 0.5;
    if reflect { at = vec2<f32>(mirrored(position.x, size.x), mirrored(position.y, size.y)); }
    let low = floor(at - 0.5);
    let share = at - 0.5 - low;
    var near = vec2<i32>(low);
    var far = near + 1;
    if reflect {
        let last = vec2<i32>(size) - 1;
        near = clamp(near, vec2<i32>(0), last);
        far = clamp(far, vec2<i32>(0), last);
    }
    let top = mix(source(n, near.y, near.x), source(n, near.y, far.x), share.x);
    let bottom = mix(source(n, far.y, near.x), source(n, far.y, far.x), share.x);
    return mix(top, bottom, share.y);
}

// The hue in HSV turned by a share of the circle: k is the sixth of the circle where the channel begins to fall.
fn turned(v: vec3<f32>, turn: f32) -> vec3<f32> {
    let value = max(max(v.r, v.g), v.b);
    let chroma = value - min(min(v.r, v.g), v.b);
    if chroma == 0.0 { return v; }
    var hue = 4.0 + (v.r - v.g) / chroma;
    if value == v.r { hue = (v.g - v.b) / chroma; } else if value == v.g { hue = 2.0 + (v.b - v.r) / chroma; }
    let k = vec3<f32>(5.0, 3.0, 1.0) + hue + 6.0 * turn;
    let sixths = k - 6.0 * floor(k / 6.0);
    return value - chroma * clamp(min(sixths, 4.0 - sixths), vec3<f32>(0.0), vec3<f32>(1.0));
}

// Geometry, colour and levels.
fn toned(n: u32, row: i32, column: i32) -> vec3<f32> {
    let place = vec3<f32>(f32(column) + 0.5, f32(row) + 0.5, 1.0);
    let v = vec4<f32>(bilinear(n, vec2<f32>(dot(draws[n].source_x, place), dot(draws[n].source_y, place))), 1.0);
    let mixed = vec3<f32>(dot(draws[n].red, v), dot(draws[n].green, v), dot(draws[n].blue, v));
    var tone = clamp(mixed, vec3<f32>(0.0), vec3<f32>(255.0));
    if draws[n].hue != 0.0 { tone = turned(tone, draws[n].hue); }
    if draws[n].grey > 0.5 { tone = vec3<f32>(dot(tone, vec3<f32>(0.299, 0.587, 0.114))); }
    let step = draws[n].step;
    if step > 1.0 { tone = floor(floor(tone + 0.5) / step) * step; }
    let threshold = draws[n].threshold;
    if threshold <= 255.0 {
        let byte = floor(tone + 0.5);
        tone = select(byte, 255.0 - byte, byte >= vec3<f32>(threshold));
    }
    return tone;
}

// An index mirrored about the first and the last of n.
fn mirrored_index(i: i32, n: u32) -> i32 {
    let last = i32(n) - 1;
    return last - abs(last - abs(i));
}

fn blurred(n: u32, row: i32, column: i32) -> vec3<f32> {
    let narrow = -0.5 / (draws[n].sigma * draws[n].sigma);
    var sum = vec3<f32>(0.0);
    var weights = 0.0;
    for (var dy = -RADIUS; dy <= RADIUS; dy++) {
        for (var dx = -RADIUS; dx <= RADIUS; dx++) {
            let weight = exp(narrow * f32(dx * dx + dy * dy));
            let h = mirrored_index(row + dy, params.out_height);
            let w = mirrored_index(column + dx, params.out_width);
            sum += weight * toned(n, h, w);
            weights += weight;
        }
    }
    return sum / weights;
}

fn sharpened(n: u32, row: i32, column: i32) -> vec3<f32> {
    let centre = toned(n, row, column);
    let inner = row > 0 && column > 0 && row + 1 < i32(params.out_height) && column + 1 < i32(params.out_width);
    if !inner { return centre; }
    var sum = 4.0 * centre;
    for (var dy = -1; dy <= 1; dy++) {
        for (var dx = -1; dx <= 1; dx++) {
            sum += toned(n, row + dy, column + dx);
        }
    }
    return clamp(centre + draws[n].sharpness * (centre - sum / 13.0), vec3<f32>(0.0), vec3<f32>(255.0));
}

fn within(rect: vec4<f32>, row: i32, column: i32) -> bool {
    let at = vec2<f32>(f32(column), f32(row));
    return all(at >= rect.xy) && all(at < rect.zw);
}

// A pixel of the augmented and normalised image n.
fn own_pixel(n: u32, row: i32, column: i32) -> vec3<f32> {
    if within(draws[n].erase, row, column) { return vec3<f32>(0.0); }
    var v: vec3<f32>;
    if draws[n].sigma > 0.0 {
        v = blurred(n, row, column);
    } else if draws[n].sharpness != 0.0 {
        v = sharpened(n, row, column);
    } else {
        v = toned(n, row, column);
    }
    return v * params.scale.xyz + params.shift.xyz;
}

@compute @workgroup_size(WORKGROUP)
fn augment(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let line = i / params.out_width;
    let n = line / params.out_height;
    if n >= params.batch { return; }
    let row = i32(line % params.out_height);
    let column = i32(i % params.out_width);
    var v = own_pixel(n, row, column);
    if within(draws[n].mix, row, column) {
        let partner = min(u32(max(draws[n].partner, 0.0)), params.batch - 1u);
        v = mix(own_pixel(partner, row, column), v, draws[n].own);
    }
    y[3u * i] = v.x;
    y[3u * i + 1u] = v.y;
    y[3u * i + 2u] = v.z;
}
