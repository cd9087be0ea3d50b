// The register tile of every matrix kernel: 8 rows x 16 columns of a product, held by one thread as 32 vec4. It is
// unrolled by hand, because WGSL has no unroll hint: on software Vulkan this form runs at 30-35 GFLOP/s, the same
// loops over arrays at 10-12.

struct Tile {
    c00: vec4<f32>, c01: vec4<f32>, c02: vec4<f32>, c03: vec4<f32>,
    c10: vec4<f32>, c11: vec4<f32>, c12: vec4<f32>, c13: vec4<f32>,
    c20: vec4<f32>, c21: vec4<f32>, c22: vec4<f32>, c23: vec4<f32>,
    c30: vec4<f32>, c31: vec4<f32>, c32: vec4<f32>, c33: vec4<f32>,
    c40: vec4<f32>, c41: vec4<f32>, c42: vec4<f32>, c43: vec4<f32>,
    c50: vec4<f32>, c51: vec4<f32>, c52: vec4<f32>, c53: vec4<f32>,
    c60: vec4<f32>, c61: vec4<f32>, c62: vec4<f32>, c63: vec4<f32>,
    c70: vec4<f32>, c71: vec4<f32>, c72: vec4<f32>, c73: vec4<f32>,
}

// One vec4 of each of the 8 rows, along the summed dimension.
struct Rows {
    a0: vec4<f32>, a1: vec4<f32>, a2: vec4<f32>, a3: vec4<f32>,
    a4: vec4<f32>, a5: vec4<f32>, a6: vec4<f32>, a7: vec4<f32>,
}

// tile[r][4 columns of j] += sum over k in 0..4 of a_r[k] * b_j[k]: column k of b_j holds the four
// columns of row k of the right-hand matrix.
fn multiply(t: ptr<function, Tile>, a: Rows, b0: mat4x4<f32>, b1: mat4x4<f32>, b2: mat4x4<f32>, b3: mat4x4<f32>) {
    (*t).c00 += b0 * a.a0; (*t).c01 += b1 * a.a0; (*t).c02 += b2 * a.a0; (*t).c03 += b3 * a.a0;
    (*t).c10 += b0 * a.a1; (*t).c11 += b1 * a.a1; (*t).c12 += b2 * a.a1; (*t).c13 += b3 * a.a1;
    (*t).c20 += b0 * a.a2; (*t).c21 += b1 * a.a2; (*t).c22 += b2 * a.a2; (*t).c23 += b3 * a.a2;
    (*t).c30 += b0 * a.a3; (*t).c31 += b1 * a.a3; (*t).c32 += b2 * a.a3; (*t).c33 += b3 * a.a3;
    (*t).c40 += b0 * a.a4; (*t).c41 += b1 * a.a4; (*t).c42 += b2 * a.a4; (*t).c43 += b3 * a.a4;
    (*t).c50 += b0 * a.a5; (*t).c51 += b1 * a.a5; (*t).c52 += b2 * a.a5; (*t).c53 += b3 * a.a5;
    (*t).c60 += b0 * a.a6; (*t).c61 += b1 * a.a6; (*t).c62 += b2 * a.a6; (*t).c63 += b3 * a.a6;
    (*t).c70 += b0 * a.a7; (*t).c71 += b1 * a.a7; (*t).c72 += b2 * a.a7; (*t).c73 += b3 * a.a7;
}

// The same with the right-hand matrix transposed: column n of b_j holds four k of its row n.
fn multiply_transposed(t: ptr<function, Tile>, a: Rows, b0: mat4x4<f32>, b1: mat4x4<f32>, b2: mat4x4<f32>, b3: mat4x4<f32>) {
    (*t).c00 += a.a0 * b0; (*t).c01 += a.a0 * b1; (*t).c02 += a.a0 * b2; (*t).c03 += a.a0 * b3;
    (*t).c10 += a.a1 * b0; (*t).c11 += a.a1 * b1; (*t).c12 += a.a1 * b2; (*t).c13 += a.a1 * b3;
    (*t).c20 += a.a2 * b0; (*t).c21 += a.a2 * b1; (*t).c22 += a.a2 * b2; (*t).c23 += a.a2 * b3;
    (*t).c30 += a.a3 * b0; (*t).c31 += a.a3 * b1; (*t).c32 += a.a3 * b2; (*t).c33 += a.a3 * b3;
    (*t).c40 += a.a4 * b0; (*t).c41 += a.a4 * b1; (*t).c42 += a.a4 * b2; (*t).c43 += a.a4 * b3;
    (*t).c50 += a.a5 * b0; (*t).c51 += a.a5 * b1; (*t).c52 += a.a5 * b2; (*t).c53 += a.a5 * b3;
    (*t).c60 += a.a6 * b0; (*t).c61 += a.a6 * b1; (*t).c62 += a.a6 * b2; (*t).c63 += a.a6 * b3;
    (*t).c70 += a.a7 * b0; (*t).c71 += a.a7 * b1; (*t).c72 += a.a7 * b2; (*t).c73 += a.a7 * b3;
}

// One scalar of each of the 8 rows: for a summed dimension that is no multiple of 4.
struct Scalars {
    a0: f32, a1: f32, a2: f32, a3: f32, a4: f32, a5: f32, a6: f32, a7: f32,
}

// tile[r][j] += a_r * b_j: one step of the summed dimension.
fn multiply_one(t: ptr<function, Tile>, a: Scalars, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>) {
    (*t).c00 += a.a0 * b0; (*t).c01 += a.a0 * b1; (*t).c02 += a.a0 * b2; (*t).c03 += a.a0 * b3;
    (*t).c10 += a.a1 * b0; (*t).c11 += a.a1 * b1; (*t).c12 += a.a1 * b2; (*t).c13 += a.a1 * b3;
    (*t).c20 += a.a2 * b0; (*t).c21 += a.a2 * b1; (*t).c22 += a.a2 * b2; (*t).c23 += a.a2 * b3;
    (*t).c30 += a.a3 * b0; (*t).c31 += a.a3 * b1; (*t).c32 += a.a3 * b2; (*t).c33 += a.a3 * b3;
    (*t).c40 += a.a4 * b0; (*t).c41 += a.a4 * b1; (*t).c42 += a.a4 * b2; (*t).c43 += a.a4 * b3;
    (*t).c50 += a.a5 * b0; (*t).c51 += a.a5 * b1; (*t).c52 += a.a5 * b2; (*t).c53 += a.a5 * b3;
    (*t).c60 += a.a6 * b0; (*t).c61 += a.a6 * b1; (*t).c62 += a.a6 * b2; (*t).c63 += a.a6 * b3;
    (*t).c70 += a.a7 * b0; (*t).c71 += a.a7 * b1; (*t).c72 += a.a7 * b2; (*t).c73 += a.a7 * b3;
}
