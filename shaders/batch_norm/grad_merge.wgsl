// Second pass of the gradients of weight and bias: the chunks' sums added in a fixed order,
//   grad_bias = sum(g)        grad_weight = sum(g * (x - mean)) / sqrt(var + eps)
// and the means that grad_x.wgsl needs, in one buffer of [2, channels]:
//   grad_bias / rows            grad_weight / sqrt(var + eps) / rows
//   plain: one thread an Elem of channels, chunks one by one
//   tree:  one workgroup an Elem of channels: each thread adds every 64th chunk, then a tree adds the sums

// import lib/index.wgsl

alias Elem = vec4<f32>;

override STORE_WEIGHT: bool = true;
override STORE_BIAS: bool = true;
override STORE_MEANS: bool = true;

struct Params {
    rows: u32,
    channels: u32, // Elems
    chunks: u32,
    chunk_rows: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> variance: array<Elem>;
@group(0) @binding(2) var<storage, read> partials: array<Elem>; // [chunks, 2, channels]
@group(0) @binding(3) var<storage, read_write> grad_weight: array<Elem>;
@group(0) @binding(4) var<storage, read_write> grad_bias: array<Elem>;
@group(0) @binding(5) var<storage, read_write> means: array<Elem>;

var<workgroup> shared_sums: array<Elem, WORKGROUP>;
var<workgroup> shared_products: array<Elem, WORKGROUP>;

fn store(c: u32, sum: Elem, product: Elem) {
    let inverse = inverseSqrt(variance[c] + params.eps);
    if STORE_WEIGHT { grad_weight[c] = product * inverse; }
    if STORE_BIAS { grad_bias[c] = sum; }
    if STORE_MEANS {
        means[c] = sum / f32(params.rows);
        means[c + params.channels] = product * inverse * inverse / f32(params.rows);
    }
}

@compute @workgroup_size(WORKGROUP)
fn plain(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let c = linear_index(id, groups);
    if c >= params.channels { return; }
    var sum = Elem(0.0);
    var product = Elem(0.0);
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        let at = chunk * 2u * params.channels + c;
        sum += partials[at];
        product += partials[at + params.channels];
    }
    store(c, sum, product);
}

@compute @workgroup_size(WORKGROUP)
fn tree(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let c = group.x + group.y * groups.x;
    if c >= params.channels { return; }
    var sum = Elem(0.0);
    var product = Elem(0.0);
    for (var chunk = lane; chunk < params.chunks; chunk += WORKGROUP) {
        let at = chunk * 2u * params.channels + c;
        sum += partials[at];
        product += partials[at + params.channels];
    }
    shared_sums[lane] = sum;
    shared_products[lane] = product;
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sum += shared_sums[lane + half];
            product += shared_products[lane + half];
            shared_sums[lane] = sum;
            shared_products[lane] = product;
        }
    }
    if lane == 0u { store(c, sum, product); }
}
