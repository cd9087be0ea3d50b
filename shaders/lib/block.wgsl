// A tile of a matrix product by one workgroup, for devices whose workgroup memory is fast: 4 SIDE_QUADS rows by as
// many columns, of which a thread holds 8 x 8 in registers. The summed dimension is processed in steps of DEPTH. Half
// of the threads load the step's part of the left operand, the other half that of the right one, 4 x 4 numbers each,
// into registers, while all threads multiply the previous step from workgroup memory. (The shape of CUTLASS' SIMT
// kernels: 128 x 128 x 16 by 256 threads, 64 x 64 x 8 by 64.)
//
// The importing file defines `Place` and `place(quad)`, a thread's data on the four rows of a quad. It defines the
// operands as blocks of four steps k, .., k + 3: `left(place, k, end)` of four rows, `right(quad, k, end)` of four
// columns; a matrix column is a step. At and after `end` the left one is zero, and the right one any number.
// LEFT_ALONG and RIGHT_ALONG say whether neighbours in memory lie along the sum; threads then go along it, too.
// `store(value, part, row, quad)` writes four columns of a row and checks the edges.

// import lib/index.wgsl

override SIDE_QUADS: u32 = 32u;
override DEPTH: u32 = 16u;
override TILE_QUADS: u32 = 512u; // SIDE_QUADS * DEPTH

// Row k has the step's quads. They are permuted by k / 4, so that neither writing a block nor reading a row accesses
// the same memory bank twice.
var<workgroup> left_tile: array<vec4<f32>, TILE_QUADS>;
var<workgroup> right_tile: array<vec4<f32>, TILE_QUADS>;

struct Block {
    c00: vec4<f32>, c01: vec4<f32>, c10: vec4<f32>, c11: vec4<f32>,
    c20: vec4<f32>, c21: vec4<f32>, c30: vec4<f32>, c31: vec4<f32>,
    c40: vec4<f32>, c41: vec4<f32>, c50: vec4<f32>, c51: vec4<f32>,
    c60: vec4<f32>, c61: vec4<f32>, c70: vec4<f32>, c71: vec4<f32>,
}

fn multiply(t: ptr<function, Block>, a0: vec4<f32>, a1: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>) {
    (*t).c00 += a0.x * b0; (*t).c01 += a0.x * b1;
    (*t).c10 += a0.y * b0; (*t).c11 += a0.y * b1;
    (*t).c20 += a0.z * b0; (*t).c21 += a0.z * b1;
    (*t).c30 += a0.w * b0; (*t).c31 += a0.w * b1;
    (*t).c40 += a1.x * b0; (*t).c41 += a1.x * b1;
    (*t).c50 += a1.y * b0; (*t).c51 += a1.y * b1;
    (*t).c60 += a1.z * b0; (*t).c61 += a1.z * b1;
    (*t).c70 += a1.w * b0; (*t).c71 += a1.w * b1;
}

// The tile of this workgroup: number of the dispatch's workgroup, the same in all threads.
fn square(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// The tile whose first quads are `row` and `column`: its sum over begin .. end, stored as `part`. `l` is the thread.
fn multiply_square(l: u32, part: u32, row: u32, column: u32, begin: u32, end: u32) {
    let half = WORKGROUP / 2u;
    let fetches_left = l < half;
    let b = l % half;
    // The block of a step that this thread loads: quad of rows or columns, quad of steps.
    let along = select(RIGHT_ALONG, LEFT_ALONG, fetches_left);
    let step = select(b / SIDE_QUADS, b % (DEPTH / 4u), along);
    let quad = select(b % SIDE_QUADS, b / (DEPTH / 4u), along);
    let to = step * 4u * SIDE_QUADS + (quad ^ (step * 2u));
    var here: Place;
    if fetches_left { here = place(row + quad); }
    // 32 neighbouring threads hold 4 x 8 blocks of results, so that they read few different quads.
    let wide = SIDE_QUADS / 16u;
    let x = l % 8u + l / 32u % wide * 8u;
    let y = l / 8u % 4u + l / (32u * wide) * 4u;
    var t: Block;
    var fetched: mat4x4<f32>;
    if begin < end {
        if fetches_left { fetched = left(here, begin + step * 4u, end); }
        else { fetched = right(column + quad, begin + step * 4u, end); }
    }
    for (var k = begin; k < end; k += DEPTH) {
        workgroupBarrier();
        if fetches_left {
            left_tile[to] = fetched[0];
            left_tile[to + SIDE_QUADS] = fetched[1];
            left_tile[to + 2u * SIDE_QUADS] = fetched[2];
            left_tile[to + 3u * SIDE_QUADS] = fetched[3];
        } else {
            right_tile[to] = fetched[0];
            right_tile[to + SIDE_QUADS] = fetched[1];
            right_tile[to + 2u * SIDE_QUADS] = fetched[2];
            right_tile[to + 3u * SIDE_QUADS] = fetched[3];
        }
        workgroupBarrier();
        let ahead = k + DEPTH;
        if ahead < end {
            if fetches_left { fetched = left(here, ahead + step * 4u, end); }
            else { fetched = right(column + quad, ahead + step * 4u, end); }
        }
        for (var q = 0u; q < DEPTH / 4u; q++) {
            let at = q * 4u * SIDE_QUADS;
            let a = at + (y ^ (q * 2u));
            let c = at + (x ^ (q * 2u));
            let h = SIDE_QUADS / 2u;
            multiply(&t, left_tile[a], left_tile[a + h], right_tile[c], right_tile[c + h]);
            multiply(&t, left_tile[a + SIDE_QUADS], left_tile[a + SIDE_QUADS + h],
                right_tile[c + SIDE_QUADS], right_tile[c + SIDE_QUADS + h]);
            multiply(&t, left_tile[a + 2u * SIDE_QUADS], left_tile[a + 2u * SIDE_QUADS + h],
                right_tile[c + 2u * SIDE_QUADS], right_tile[c + 2u * SIDE_QUADS + h]);
            multiply(&t, left_tile[a + 3u * SIDE_QUADS], left_tile[a + 3u * SIDE_QUADS + h],
                right_tile[c + 3u * SIDE_QUADS], right_tile[c + 3u * SIDE_QUADS + h]);
        }
    }
    let r0 = (row + y) * 4u;
    let r1 = r0 + SIDE_QUADS * 2u;
    let q0 = column + x;
    let q1 = q0 + SIDE_QUADS / 2u;
    store(t.c00, part, r0, q0); store(t.c01, part, r0, q1);
    store(t.c10, part, r0 + 1u, q0); store(t.c11, part, r0 + 1u, q1);
    store(t.c20, part, r0 + 2u, q0); store(t.c21, part, r0 + 2u, q1);
    store(t.c30, part, r0 + 3u, q0); store(t.c31, part, r0 + 3u, q1);
    store(t.c40, part, r1, q0); store(t.c41, part, r1, q1);
    store(t.c50, part, r1 + 1u, q0); store(t.c51, part, r1 + 1u, q1);
    store(t.c60, part, r1 + 2u, q0); store(t.c61, part, r1 + 2u, q1);
    store(t.c70, part, r1 + 3u, q0); store(t.c71, part, r1 + 3u, q1);
}
