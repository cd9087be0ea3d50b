// Winograd's third pass: y = A^T m A of each tile, then the epilogue. A thread a tile and quad of channels, quads
// fastest.

// import lib/index.wgsl
// import lib/finish4.wgsl
// import lib/winograd.wgsl

@group(0) @binding(1) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> affine: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

// Row `row` of the tile's points, reduced to two.
struct Two {
    a: vec4<f32>, b: vec4<f32>,
}

fn fold(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Two {
    return Two(a + b + c, b - c - d);
}

fn points(row: u32, tile: u32, quad: u32) -> Two {
    let stride = tiles() * params.out_quads;
    let i = row * 4u * stride + tile * params.out_quads + quad;
    return fold(m[i], m[i + stride], m[i + 2u * stride], m[i + 3u * stride]);
}

fn store(value: vec4<f32>, image: u32, h: u32, w: u32, quad: u32) {
    if h >= params.out_height || w >= params.out_width { return; }
    let i = ((image * params.out_height + h) * params.out_width + w) * params.out_quads + quad;
    y[i] = finish4(value, quad, params.out_quads, i);
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let tile = i / params.out_quads;
    let quad = i % params.out_quads;
    if tile >= tiles() { return; }
    let line = tile / params.tile_columns;
    let image = params.first_image + line / params.tile_rows;
    let h = line % params.tile_rows * 2u;
    let w = tile % params.tile_columns * 2u;
    let r0 = points(0u, tile, quad);
    let r1 = points(1u, tile, quad);
    let r2 = points(2u, tile, quad);
    let r3 = points(3u, tile, quad);
    let left = fold(r0.a, r1.a, r2.a, r3.a);
    let right = fold(r0.b, r1.b, r2.b, r3.b);
    store(left.a, image, h, w, quad);
    store(right.a, image, h, w + 1u, quad);
    store(left.b, image, h + 1u, w, quad);
    store(right.b, image, h + 1u, w + 1u, quad);
}
