// For kernels that process four channels a thread or one: `Elem` is a knob, and everything below is valid for both.

// import lib/activation.wgsl

alias Elem = vec4<f32>;

// activate4 of lib/activation.wgsl, for an Elem.
fn relu(x: Elem) -> Elem { return select(x, Elem(0.0), x < Elem(0.0)); }
fn clip(x: Elem) -> Elem { return select(relu(x), Elem(6.0), x > Elem(6.0)); }

fn activate(x: Elem) -> Elem {
    switch ACTIVATION {
        case 1u: { return relu(x); }
        case 2u: { return clip(x); }
        case 3u: { return x * clip(x + 3.0) / 6.0; }
        case 4u: { return clip(x + 3.0) / 6.0; }
        case 5u: { return x / (1.0 + exp(-x)); }
        case 6u: { return 1.0 / (1.0 + exp(-x)); }
        default: { return x; }
    }
}
