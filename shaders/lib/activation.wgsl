// Activations of the six families, chosen by an id that the host specialises.
// The ids are those of `Activation` in src/ops/activation.rs.

override ACTIVATION: u32 = 0u;

fn activate1(x: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return max(x, 0.0); }                           // relu
        case 2u: { return clamp(x, 0.0, 6.0); }                    // relu6
        case 3u: { return x * clamp(x + 3.0, 0.0, 6.0) / 6.0; }    // hard swish
        case 4u: { return clamp(x + 3.0, 0.0, 6.0) / 6.0; }        // hard sigmoid
        case 5u: { return x / (1.0 + exp(-x)); }                   // silu
        case 6u: { return 1.0 / (1.0 + exp(-x)); }                 // sigmoid
        default: { return x; }
    }
}

fn activate4(x: vec4<f32>) -> vec4<f32> {
    switch ACTIVATION {
        case 1u: { return max(x, vec4<f32>(0.0)); }
        case 2u: { return clamp(x, vec4<f32>(0.0), vec4<f32>(6.0)); }
        case 3u: { return x * clamp(x + 3.0, vec4<f32>(0.0), vec4<f32>(6.0)) / 6.0; }
        case 4u: { return clamp(x + 3.0, vec4<f32>(0.0), vec4<f32>(6.0)) / 6.0; }
        case 5u: { return x / (1.0 + exp(-x)); }
        case 6u: { return 1.0 / (1.0 + exp(-x)); }
        default: { return x; }
    }
}
