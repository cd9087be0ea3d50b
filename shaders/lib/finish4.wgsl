// The epilogue on four channels: quad `c` of `channel_quads`, quad `i` of the output.
// The importing file declares bias, affine (scale, then shift) and residual as array<vec4<f32>>.

// import lib/epilogue.wgsl

fn finish4(value: vec4<f32>, c: u32, channel_quads: u32, i: u32) -> vec4<f32> {
    var v = value;
    if HAS_BIAS { v += bias[c]; }
    if HAS_AFFINE { v = v * affine[c] + affine[channel_quads + c]; }
    if HAS_RESIDUAL { v += residual[i]; }
    return activate4(v);
}
