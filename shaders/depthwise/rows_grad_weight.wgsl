// The weight gradient for the maps of rows.wgsl: a thread walks down all rows of four channels of `split_rows` images
// in order, and loads each pixel of x and dy once. Each split of the images has partial sums of its own, which
// matmul/reduce.wgsl adds in order. Dispatch: channels fastest, then splits.

// import lib/index.wgsl
// import lib/row.wgsl
// import lib/window.wgsl

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_w: array<vec4<f32>>;

fn upstream(at: u32, quads: u32) -> Row {
    var r: Row;
    r.x0 = grad_y[at];
    if WIDTH > 1u { r.x1 = grad_y[at + quads]; }
    if WIDTH > 2u { r.x2 = grad_y[at + 2u * quads]; }
    if WIDTH > 3u { r.x3 = grad_y[at + 3u * quads]; }
    if WIDTH > 4u { r.x4 = grad_y[at + 4u * quads]; }
    if WIDTH > 5u { r.x5 = grad_y[at + 5u * quads]; }
    if WIDTH > 6u { r.x6 = grad_y[at + 6u * quads]; }
    if WIDTH > 7u { r.x7 = grad_y[at + 7u * quads]; }
    return r;
}

@compute @workgroup_size(WORKGROUP)
fn grad_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let quads = params.in_channels / 4u;
    let split = i / quads;
    if split >= params.splits { return; }
    let c = i % quads;
    let begin = split * params.split_rows;
    let end = min(begin + params.split_rows, params.batch);
    let pitch = WIDTH * quads;
    var w0 = vec4<f32>(0.0); var w1 = vec4<f32>(0.0); var w2 = vec4<f32>(0.0);
    var w3 = vec4<f32>(0.0); var w4 = vec4<f32>(0.0); var w5 = vec4<f32>(0.0);
    var w6 = vec4<f32>(0.0); var w7 = vec4<f32>(0.0); var w8 = vec4<f32>(0.0);
    var at = begin * params.in_height * pitch + c;
    for (var n = begin; n < end; n++) {
        // The rows above.
        var above: Row;
        var before: Row;
        for (var h = 0u; h < params.in_height; h++) {
            let row = load_x(at, quads);
            let d = upstream(at, quads);
            w0 += meet_left(d, above); w1 += meet(d, above); w2 += meet_right(d, above);
            w3 += meet_left(d, row); w4 += meet(d, row); w5 += meet_right(d, row);
            w6 += meet_left(before, row); w7 += meet(before, row); w8 += meet_right(before, row);
            above = row;
            before = d;
            at += pitch;
        }
    }
    let first = split * 9u * quads + c;
    grad_w[first] = w0;
    grad_w[first + quads] = w1;
    grad_w[first + 2u * quads] = w2;
    grad_w[first + 3u * quads] = w3;
    grad_w[first + 4u * quads] = w4;
    grad_w[first + 5u * quads] = w5;
    grad_w[first + 6u * quads] = w6;
    grad_w[first + 7u * quads] = w7;
    grad_w[first + 8u * quads] = w8;
}
