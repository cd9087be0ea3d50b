// Activations of the CNN families, chosen by an id that the host specialises. The ids are those of `Activation` in
// src/ops/activation.rs. `max` and `clamp` would turn a NaN into a number; `select` keeps it, so that errors stay
// visible, as on the CPU and in PyTorch.

override ACTIVATION: u32 = 0u;

fn relu1(x: f32) -> f32 { return select(x, 0.0, x < 0.0); }
fn relu4(x: vec4<f32>) -> vec4<f32> { return select(x, vec4<f32>(0.0), x < vec4<f32>(0.0)); }

fn clip1(x: f32) -> f32 { return select(relu1(x), 6.0, x > 6.0); }
fn clip4(x: vec4<f32>) -> vec4<f32> { return select(relu4(x), vec4<f32>(6.0), x > vec4<f32>(6.0)); }

fn activate1(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return relu1(x); }                     // relu
        case 2u: { return clip1(x); }                     // relu6
        case 3u: { return x * clip1(x + 3.0) / 6.0; }     // hard swish
        case 4u: { return clip1(x + 3.0) / 6.0; }         // hard sigmoid
        case 5u: { return x / (1.0 + exp(-x)); }          // silu
        case 6u: { return 1.0 / (1.0 + exp(-x)); }        // sigmoid
        default: { return x; }
    }
}

fn activate4(x: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: { return relu4(x); }
        case 2u: { return clip4(x); }
        case 3u: { return x * clip4(x + 3.0) / 6.0; }
        case 4u: { return clip4(x + 3.0) / 6.0; }
        case 5u: { return x / (1.0 + exp(-x)); }
        case 6u: { return 1.0 / (1.0 + exp(-x)); }
        default: { return x; }
    }
}
