// Second pass of the batch statistics: the chunks' moments merged in a fixed order by Chan's formula
//   mean = mean_a + delta * n_b / n        squares = squares_a + squares_b + delta^2 * n_a * n_b / n
// with delta = mean_b - mean_a, n = n_a + n_b; then var = squares / rows, biased.
//   plain: one thread an Elem of channels, chunks one by one
//   tree:  one workgroup an Elem of channels: each thread merges every 64th chunk, then a tree joins the threads.
//          For GPUs, where 1024 chunks in a row would wait for memory 1024 times.

// import lib/index.wgsl

alias Elem = vec4<f32>;

override STORE_MEAN: bool = true;
override STORE_VAR: bool = true;

struct Params {
    rows: u32,
    channels: u32, // Elems
    chunks: u32,
    chunk_rows: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<Elem>; // [chunks, 2, channels]
@group(0) @binding(2) var<storage, read_write> mean: array<Elem>;
@group(0) @binding(3) var<storage, read_write> variance: array<Elem>;

struct Moments {
    count: f32,
    mean: Elem,
    squares: Elem,
}

var<workgroup> shared_moments: array<Moments, WORKGROUP>;

// Either may be empty: no rows, all zero.
fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let delta = b.mean - a.mean;
    return Moments(count, a.mean + delta * share, a.squares + b.squares + delta * delta * (a.count * share));
}

fn chunk_moments(chunk: u32, c: u32) -> Moments {
    let count = min(params.chunk_rows, params.rows - chunk * params.chunk_rows);
    let at = chunk * 2u * params.channels + c;
    return Moments(f32(count), partials[at], partials[at + params.channels]);
}

fn store(c: u32, all: Moments) {
    if STORE_MEAN { mean[c] = all.mean; }
    if STORE_VAR { variance[c] = all.squares / f32(params.rows); }
}

@compute @workgroup_size(WORKGROUP)
fn plain(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = linear_index(id, groups);
    if c >= params.channels { return; }
    var all = chunk_moments(0u, c);
    for (var chunk = 1u; chunk < params.chunks; chunk++) {
        all = merge(all, chunk_moments(chunk, c));
    }
    store(c, all);
}

@compute @workgroup_size(WORKGROUP)
fn tree(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let c = group.x + group.y * groups.x;
    if c >= params.channels { return; }
    var own = Moments(0.0, Elem(0.0), Elem(0.0));
    for (var chunk = lane; chunk < params.chunks; chunk += WORKGROUP) {
        own = merge(own, chunk_moments(chunk, c));
    }
    shared_moments[lane] = own;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            own = merge(own, shared_moments[lane + half]);
            shared_moments[lane] = own;
        }
    }
    if lane == 0u { store(c, own); }
}
