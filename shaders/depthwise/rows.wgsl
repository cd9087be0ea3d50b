// Depthwise 3x3 with stride 1, one pixel of padding and at most eight columns: a thread walks down all rows of four
// channels of an image. It loads each pixel once, and none of the padding. FLIPPED: the gradient of the input.
// Dispatch: one thread for an image and four channels, channels fastest.

// import lib/index.wgsl
// import lib/finish4.wgsl
// import lib/row.wgsl
// import lib/window.wgsl

override FLIPPED: bool = false;

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;

fn weight(tap: u32, c: u32) -> vec4<f32> {
    return w[select(tap, 8u - tap, FLIPPED) * (params.in_channels / 4u) + c];
}

fn store(r: Row, at: u32, quads: u32, c: u32) {
    y[at] = finish4(r.x0, c, quads, at);
    if WIDTH > 1u { y[at + quads] = finish4(r.x1, c, quads, at + quads); }
    if WIDTH > 2u { y[at + 2u * quads] = finish4(r.x2, c, quads, at + 2u * quads); }
    if WIDTH > 3u { y[at + 3u * quads] = finish4(r.x3, c, quads, at + 3u * quads); }
    if WIDTH > 4u { y[at + 4u * quads] = finish4(r.x4, c, quads, at + 4u * quads); }
    if WIDTH > 5u { y[at + 5u * quads] = finish4(r.x5, c, quads, at + 5u * quads); }
    if WIDTH > 6u { y[at + 6u * quads] = finish4(r.x6, c, quads, at + 6u * quads); }
    if WIDTH > 7u { y[at + 7u * quads] = finish4(r.x7, c, quads, at + 7u * quads); }
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let n = i / quads;
    if n >= params.batch { return; }
    let c = i % quads;
    let w0 = weight(0u, c); let w1 = weight(1u, c); let w2 = weight(2u, c);
    let w3 = weight(3u, c); let w4 = weight(4u, c); let w5 = weight(5u, c);
    let w6 = weight(6u, c); let w7 = weight(7u, c); let w8 = weight(8u, c);
    let pitch = WIDTH * quads;
    var at = n * params.in_height * pitch + c;
    // The sums of the rows so far for the row above the next one (a) and for the next one (b).
    let first = load_x(at, quads);
    var a = across(first, w3, w4, w5);
    var b = across(first, w0, w1, w2);
    for (var h = 1u; h < params.in_height; h++) {
        at += pitch;
        let row = load_x(at, quads);
        store(add(a, across(row, w6, w7, w8)), at - pitch, quads, c);
        a = add(b, across(row, w3, w4, w5));
        b = across(row, w0, w1, w2);
    }
    store(a, at, quads, c);
}
