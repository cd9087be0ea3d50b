// Winograd's first pass: v = B^T d B of the 4x4 source pixels of each tile. A thread a tile and quad of channels,
// quads fastest.

// import lib/index.wgsl
// import lib/winograd.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> v: array<vec4<f32>>;

// The source pixel in row h, column w; zero in the padding, where h or w wrapped to a large number.
fn load_x(image: u32, h: u32, w: u32, quad: u32) -> vec4<f32> {
    let inside = h < params.in_height && w < params.in_width;
    let i = ((image * params.in_height + h) * params.in_width + w) * params.in_quads + quad;
    return select(vec4<f32>(0.0), x[select(0u, i, inside)], inside);
}

// A column of the tile, transformed.
fn column(image: u32, h: u32, w: u32, quad: u32) -> Four {
    return spread(Four(load_x(image, h, w, quad), load_x(image, h + 1u, w, quad),
                       load_x(image, h + 2u, w, quad), load_x(image, h + 3u, w, quad)));
}

// Row `row` of the tile's points.
fn store(row: u32, tile: u32, quad: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    let stride = tiles() * params.in_quads;
    let i = row * 4u * stride + tile * params.in_quads + quad;
    let s = spread(Four(a, b, c, d));
    v[i] = s.a;
    v[i + stride] = s.b;
    v[i + 2u * stride] = s.c;
    v[i + 3u * stride] = s.d;
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let tile = i / params.in_quads;
    let quad = i % params.in_quads;
    if tile >= tiles() { return; }
    let line = tile / params.tile_columns;
    let image = params.first_image + line / params.tile_rows;
    let h = line % params.tile_rows * 2u - params.pad_top;
    let w = tile % params.tile_columns * 2u - params.pad_left;
    let c0 = column(image, h, w, quad);
    let c1 = column(image, h, w + 1u, quad);
    let c2 = column(image, h, w + 2u, quad);
    let c3 = column(image, h, w + 3u, quad);
    store(0u, tile, quad, c0.a, c1.a, c2.a, c3.a);
    store(1u, tile, quad, c0.b, c1.b, c2.b, c3.b);
    store(2u, tile, quad, c0.c, c1.c, c2.c, c3.c);
    store(3u, tile, quad, c0.d, c1.d, c2.d, c3.d);
}
