// For kernels that are written once for four channels a thread and for one: `Elem` is a knob, and
// everything below is spelled so that it holds for both.

// import lib/activation.wgsl

alias Elem = vec4<f32>;

// activate4 of lib/activation.wgsl, for an Elem.
fn activate(x: Elem) -> Elem {
    let gate = clamp(x + 3.0, Elem(0.0), Elem(6.0)) / 6.0;
    switch ACTIVATION {
        case 1u: { return max(x, Elem(0.0)); }
        case 2u: { return clamp(x, Elem(0.0), Elem(6.0)); }
        case 3u: { return x * gate; }
        case 4u: { return gate; }
        case 5u: { return x / (1.0 + exp(-x)); }
        case 6u: { return 1.0 / (1.0 + exp(-x)); }
        default: { return x; }
    }
}
