// A batch norm's result before its epilogue, v = (x - center) * scale + shift. The kernel that stores it and the
// gradients that recompute it from x share this code, so that both have the same bits. Batch statistics: (x - mean) *
// scale + bias, which loses no digits where |mean| is far larger than the deviation. Running statistics: x * scale +
// shift, as in PyTorch and as in the folded form; see lib/shift.wgsl.

// import lib/elementwise.wgsl
// import lib/shift.wgsl

alias Word = vec4<u32>;

override RUNNING: bool = false;

struct Norm {
    center: Elem,
    scale: Elem,
    shift: Elem,
}

fn norm_of(mean: Elem, variance: Elem, weight: Elem, bias: Elem, eps: f32) -> Norm {
    let scale = weight / sqrt(variance + eps);
    return Norm(
        select(mean, Elem(), RUNNING),
        scale,
        select(bias, shift_of(bias, mean, scale), RUNNING),
    );
}

fn normalise(n: Norm, x: Elem) -> Elem {
    return (x - n.center) * n.scale + n.shift;
}
