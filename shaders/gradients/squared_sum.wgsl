// Sums of squares of a flat page: each thread takes every `threads`-th quad; matmul/reduce.wgsl adds the sums.

// import lib/index.wgsl

struct Params {
    quads: u32,
    threads: u32,
    max: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> page: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn squared_sum(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let thread = linear_index(id, groups);
    if thread >= params.threads { return; }
    var sum = vec4<f32>();
    for (var i = thread; i < params.quads; i += params.threads) {
        sum += page[i] * page[i];
    }
    sums[thread] = dot(sum, vec4(1.0));
}
