// grad_x = grad_y * activation'(.), elementwise, four elements a thread; with SUM, (grad_y + more) in place of
// grad_y. `saved` is the output for activations whose derivative is a function of it (relu, relu6, hard sigmoid,
// sigmoid), else the input.

// import lib/index.wgsl
// import lib/derivative.wgsl

override SUM: bool = false;

struct Params {
    quads: u32, // ceil(elements / 4)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> more: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> saved: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> grad_x: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.quads { return; }
    var dy = grad_y[i];
    if SUM { dy += more[i]; }
    grad_x[i] = dy * derivative(saved[i]);
}
