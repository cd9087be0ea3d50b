// u = G g G^T of 3x3 weights [3, 3, in_channels, out_channels], in panels of 16 columns [16][panel][k][16], zeros
// after the last. FLIPPED: for the gradient of the input, the taps are rotated by 180 degrees, k runs over
// out_channels and columns over in_channels. A thread an element of one point.

// import lib/index.wgsl

override FLIPPED: bool = false;

struct Params {
    depth: u32,
    columns: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> u: array<f32>;

fn weight(h: u32, tap: u32, k: u32, column: u32) -> f32 {
    if FLIPPED {
        return w[((2u - h) * 3u + 2u - tap) * params.depth * params.columns + column * params.depth + k];
    }
    return w[(h * 3u + tap) * params.depth * params.columns + k * params.columns + column];
}

fn spread(a: f32, b: f32, c: f32) -> vec4<f32> {
    return vec4<f32>(a, 0.5 * (a + b + c), 0.5 * (a - b + c), c);
}

fn row(h: u32, k: u32, column: u32) -> vec4<f32> {
    return spread(weight(h, 0u, k, column), weight(h, 1u, k, column), weight(h, 2u, k, column));
}

@compute @workgroup_size(WORKGROUP)
fn forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = linear_index(id, groups);
    let column = i % 16u + i / (16u * params.depth) * 16u;
    let k = i / 16u % params.depth;
    let stride = (params.columns + 15u) / 16u * 16u * params.depth;
    if i >= stride { return; }
    var r0 = vec4<f32>(0.0);
    var r1 = vec4<f32>(0.0);
    var r2 = vec4<f32>(0.0);
    if column < params.columns {
        r0 = row(0u, k, column);
        r1 = row(1u, k, column);
        r2 = row(2u, k, column);
    }
    for (var j = 0u; j < 4u; j++) {
        let s = spread(r0[j], r1[j], r2[j]);
        u[i + j * stride] = s[0];
        u[i + (4u + j) * stride] = s[1];
        u[i + (8u + j) * stride] = s[2];
        u[i + (12u + j) * stride] = s[3];
    }
}
