// The work on a result before it is stored; parts that are not used are specialised away:
//   v = (v + bias[c]) * scale[c] + shift[c];  v = v + residual;  v = activation(v)
// finish4.wgsl and finish1.wgsl apply it to four channels or one.

// import lib/activation.wgsl

override HAS_BIAS: bool = false;
override HAS_AFFINE: bool = false;
override HAS_RESIDUAL: bool = false;
