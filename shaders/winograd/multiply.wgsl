// Winograd's second pass: for each of the 16 points a matrix product over channels, [tiles, in_channels] times
// [in_channels, out_channels], with a register tile of 8 rows x 16 columns a thread: a panel of the weights, whose
// quads are neighbours. Dispatch: a thread a register tile, panels fastest, then rows, then points.

// import lib/index.wgsl
// import lib/tile.wgsl
// import lib/winograd.wgsl

@group(0) @binding(1) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> m: array<vec4<f32>>;

fn store(value: vec4<f32>, point: u32, row: u32, quad: u32) {
    if row >= tiles() || quad >= params.out_quads { return; }
    m[(point * tiles() + row) * params.out_quads + quad] = value;
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let panels = (params.out_quads + 3u) / 4u;
    let rows = tiles();
    let blocks = (rows + 7u) / 8u;
    let panel = i % panels;
    let point = i / panels / blocks;
    if point >= 16u { return; }
    let row = i / panels % blocks * 8u;
    let depth = params.in_quads;
    let last = rows - 1u;
    let above = point * rows;
    let o0 = (above + min(row + 0u, last)) * depth;
    let o1 = (above + min(row + 1u, last)) * depth;
    let o2 = (above + min(row + 2u, last)) * depth;
    let o3 = (above + min(row + 3u, last)) * depth;
    let o4 = (above + min(row + 4u, last)) * depth;
    let o5 = (above + min(row + 5u, last)) * depth;
    let o6 = (above + min(row + 6u, last)) * depth;
    let o7 = (above + min(row + 7u, last)) * depth;
    var at = (point * panels + panel) * depth * 16u;
    var t: Tile;
    for (var k = 0u; k < depth; k++) {
        multiply(&t,
            Rows(v[o0 + k], v[o1 + k], v[o2 + k], v[o3 + k], v[o4 + k], v[o5 + k], v[o6 + k], v[o7 + k]),
            mat4x4<f32>(u[at], u[at + 4u], u[at + 8u], u[at + 12u]),
            mat4x4<f32>(u[at + 1u], u[at + 5u], u[at + 9u], u[at + 13u]),
            mat4x4<f32>(u[at + 2u], u[at + 6u], u[at + 10u], u[at + 14u]),
            mat4x4<f32>(u[at + 3u], u[at + 7u], u[at + 11u], u[at + 15u]));
        at += 16u;
    }
    store(t.c00, point, row + 0u, panel * 4u + 0u); store(t.c01, point, row + 0u, panel * 4u + 1u); store(t.c02, point, row + 0u, panel * 4u + 2u); store(t.c03, point, row + 0u, panel * 4u + 3u);
    store(t.c10, point, row + 1u, panel * 4u + 0u); store(t.c11, point, row + 1u, panel * 4u + 1u); store(t.c12, point, row + 1u, panel * 4u + 2u); store(t.c13, point, row + 1u, panel * 4u + 3u);
    store(t.c20, point, row + 2u, panel * 4u + 0u); store(t.c21, point, row + 2u, panel * 4u + 1u); store(t.c22, point, row + 2u, panel * 4u + 2u); store(t.c23, point, row + 2u, panel * 4u + 3u);
    store(t.c30, point, row + 3u, panel * 4u + 0u); store(t.c31, point, row + 3u, panel * 4u + 1u); store(t.c32, point, row + 3u, panel * 4u + 2u); store(t.c33, point, row + 3u, panel * 4u + 3u);
    store(t.c40, point, row + 4u, panel * 4u + 0u); store(t.c41, point, row + 4u, panel * 4u + 1u); store(t.c42, point, row + 4u, panel * 4u + 2u); store(t.c43, point, row + 4u, panel * 4u + 3u);
    store(t.c50, point, row + 5u, panel * 4u + 0u); store(t.c51, point, row + 5u, panel * 4u + 1u); store(t.c52, point, row + 5u, panel * 4u + 2u); store(t.c53, point, row + 5u, panel * 4u + 3u);
    store(t.c60, point, row + 6u, panel * 4u + 0u); store(t.c61, point, row + 6u, panel * 4u + 1u); store(t.c62, point, row + 6u, panel * 4u + 2u); store(t.c63, point, row + 6u, panel * 4u + 3u);
    store(t.c70, point, row + 7u, panel * 4u + 0u); store(t.c71, point, row + 7u, panel * 4u + 1u); store(t.c72, point, row + 7u, panel * 4u + 2u); store(t.c73, point, row + 7u, panel * 4u + 3u);
}
