// Only multiply-adds: eight independent chains of an Elem. The importing file declares Elem, four numbers of the
// measured type.

// import lib/index.wgsl

struct Params {
    rounds: u32, // of 64 multiply-adds of an Elem
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn multiply_add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    if i >= arrayLength(&y) { return; }
    let b = Elem(vec4<f32>(params.factor));
    let c = Elem(vec4<f32>(f32(i & 63u) * 0.01));
    var s0 = c;
    var s1 = c + b;
    var s2 = s1 + b;
    var s3 = s2 + b;
    var s4 = s3 + b;
    var s5 = s4 + b;
    var s6 = s5 + b;
    var s7 = s6 + b;
    for (var round = 0u; round < params.rounds; round++) {
        for (var k = 0u; k < 8u; k++) {
            s0 = s0 * b + c;
            s1 = s1 * b + c;
            s2 = s2 * b + c;
            s3 = s3 * b + c;
            s4 = s4 * b + c;
            s5 = s5 * b + c;
            s6 = s6 * b + c;
            s7 = s7 * b + c;
        }
    }
    y[i] = vec4<f32>(((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)));
}
