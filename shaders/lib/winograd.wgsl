// Winograd's F(2x2, 3x3): tiles of 2x2 results from 4x4 source pixels, in three passes over some images of a batch.
// Activations NHWC; transformed pixels [16][tile][in_quads], products [16][tile][out_quads], transformed weights
// [16][panel][in_channels][16 columns].

struct Params {
    images: u32,      // of this dispatch
    first_image: u32,
    in_height: u32,
    in_width: u32,
    in_quads: u32,      // channels in vec4
    out_height: u32,
    out_width: u32,
    out_quads: u32,
    pad_top: u32,
    pad_left: u32,
    tile_rows: u32,     // of one image
    tile_columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

fn tiles() -> u32 {
    return params.images * params.tile_rows * params.tile_columns;
}

// Transforms a row or column of a tile: one of its four sums or differences.
struct Four {
    a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>,
}

fn spread(s: Four) -> Four {
    return Four(s.a - s.c, s.b + s.c, s.c - s.b, s.b - s.d);
}
