// The rate of multiply-adds in f16.

enable f16;

alias Elem = vec4<f16>;

// import lib/multiply_add.wgsl
