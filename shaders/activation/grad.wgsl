// grad_x = grad_y * activation'(.), elementwise, four elements a thread. `saved` is the output for
// activations whose derivative follows from it (relu, relu6, hard sigmoid, sigmoid), else the input.

// import lib/index.wgsl
// import lib/activation.wgsl

struct Params {
    quads: u32, // ceil(elements / 4)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> saved: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> grad_y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> grad_x: array<vec4<f32>>;

fn derivative(s: vec4<f32>) -> vec4<f32> {
    let zero = vec4<f32>(0.0);
    let one = vec4<f32>(1.0);
    switch ACTIVATION {
        case 1u: { return select(zero, one, s > zero); }
        case 2u: { return select(zero, one, (s > zero) & (s < vec4<f32>(6.0))); }
        // x (x + 3) / 6 between -3 and 3
        case 3u: {
            let middle = (2.0 * s + 3.0) / 6.0;
            return select(select(middle, one, s > vec4<f32>(3.0)), zero, s < vec4<f32>(-3.0));
        }
        case 4u: { return select(zero, one / 6.0, (s > zero) & (s < one)); }
        case 5u: {
            let sigmoid = 1.0 / (1.0 + exp(-s));
            return sigmoid * (1.0 + s * (1.0 - sigmoid));
        }
        case 6u: { return s * (1.0 - s); }
        default: { return one; }
    }
}

@compute @workgroup_size(WORKGROUP)
fn grad(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= params.quads { return; }
    grad_x[i] = grad_y[i] * derivative(saved[i]);
}
