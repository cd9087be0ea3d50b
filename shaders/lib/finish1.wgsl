// The epilogue on one element: channel `c` of `channels`, element `i` of the output.
// The importing file declares bias, affine (scale, then shift) and residual as array<f32>.

// import lib/epilogue.wgsl

fn finish1(value: f32, c: u32, channels: u32, i: u32) -> f32 {
    var v = value;
    if HAS_BIAS { v += bias[c]; }
    if HAS_AFFINE { v = v * affine[c] + affine[channels + c]; }
    if HAS_RESIDUAL { v += residual[i]; }
    return activate1(v);
}
