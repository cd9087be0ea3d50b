// A whole row of at most eight pixels of four channels: WIDTH of them, the others zero.

override WIDTH: u32 = 8u;

struct Row {
    x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>,
    x4: vec4<f32>, x5: vec4<f32>, x6: vec4<f32>, x7: vec4<f32>,
}

// The row of `x`, which the shader binds, whose first pixel lies at `at`.
fn load_x(at: u32, quads: u32) -> Row {
    var r: Row;
    r.x0 = x[at];
    if WIDTH > 1u { r.x1 = x[at + quads]; }
    if WIDTH > 2u { r.x2 = x[at + 2u * quads]; }
    if WIDTH > 3u { r.x3 = x[at + 3u * quads]; }
    if WIDTH > 4u { r.x4 = x[at + 4u * quads]; }
    if WIDTH > 5u { r.x5 = x[at + 5u * quads]; }
    if WIDTH > 6u { r.x6 = x[at + 6u * quads]; }
    if WIDTH > 7u { r.x7 = x[at + 7u * quads]; }
    return r;
}

fn add(a: Row, b: Row) -> Row {
    return Row(a.x0 + b.x0, a.x1 + b.x1, a.x2 + b.x2, a.x3 + b.x3, a.x4 + b.x4, a.x5 + b.x5, a.x6 + b.x6, a.x7 + b.x7);
}

// Each pixel times `m`, its left neighbour times `l`, its right one times `r`.
fn across(x: Row, l: vec4<f32>, m: vec4<f32>, r: vec4<f32>) -> Row {
    return Row(
        x.x0 * m + x.x1 * r, x.x0 * l + x.x1 * m + x.x2 * r, x.x1 * l + x.x2 * m + x.x3 * r,
        x.x2 * l + x.x3 * m + x.x4 * r, x.x3 * l + x.x4 * m + x.x5 * r, x.x4 * l + x.x5 * m + x.x6 * r,
        x.x5 * l + x.x6 * m + x.x7 * r, x.x6 * l + x.x7 * m);
}

// Sums of d times the left neighbours in x, the pixels of x, their right neighbours.
fn meet_left(d: Row, x: Row) -> vec4<f32> {
    return d.x1 * x.x0 + d.x2 * x.x1 + d.x3 * x.x2 + d.x4 * x.x3 + d.x5 * x.x4 + d.x6 * x.x5 + d.x7 * x.x6;
}

fn meet(d: Row, x: Row) -> vec4<f32> {
    return d.x0 * x.x0 + d.x1 * x.x1 + d.x2 * x.x2 + d.x3 * x.x3 + d.x4 * x.x4 + d.x5 * x.x5 + d.x6 * x.x6 + d.x7 * x.x7;
}

fn meet_right(d: Row, x: Row) -> vec4<f32> {
    return meet_left(x, d);
}
