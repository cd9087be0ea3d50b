// grad_x[n, h, w, c] = sum over the windows of adaptive.wgsl that cover (h, w) of grad_y / their size.
// Row h lies in the windows floor(h * out / in) .. ceil((h + 1) * out / in): the window rule with in
// and out exchanged. NHWC; one thread an Elem of grad_x: four channels, or one.

// import lib/index.wgsl

alias Elem = vec4<f32>;

struct Params {
    count: u32,    // Elems of grad_x
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32, // Elems of a pixel
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<Elem>;
@group(0) @binding(2) var<storage, read_write> grad_x: array<Elem>;

// Where the window of `i` among `outer` begins (at i) and ends (at i + 1, rounded up) among `inner`.
fn begin(i: u32, outer: u32, inner: u32) -> u32 { return i * inner / outer; }
fn end(i: u32, outer: u32, inner: u32) -> u32 { return ((i + 1u) * inner + outer - 1u) / outer; }

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.count { return; }
    let c = i % params.channels;
    let pixel = i / params.channels;
    let w = pixel % params.in_width;
    let row = pixel / params.in_width;
    let h = row % params.in_height;
    let plane = row / params.in_height * params.out_height * params.out_width;

    let end_h = end(h, params.in_height, params.out_height);
    let end_w = end(w, params.in_width, params.out_width);
    let first_w = begin(w, params.in_width, params.out_width);
    var sum = Elem(0.0);
    for (var oh = begin(h, params.in_height, params.out_height); oh < end_h; oh++) {
        let tall = end(oh, params.out_height, params.in_height) - begin(oh, params.out_height, params.in_height);
        for (var ow = first_w; ow < end_w; ow++) {
            let wide = end(ow, params.out_width, params.in_width) - begin(ow, params.out_width, params.in_width);
            sum += grad_y[(plane + oh * params.out_width + ow) * params.channels + c] / f32(tall * wide);
        }
    }
    grad_x[i] = sum;
}
