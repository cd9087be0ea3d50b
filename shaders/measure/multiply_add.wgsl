// The rate of multiply-adds in f32.

alias Elem = vec4<f32>;

// import lib/multiply_add.wgsl
