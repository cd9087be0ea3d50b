// The derivatives of the activations, for an Elem.

// import lib/elementwise.wgsl

// From the output for activations whose derivative follows from it (relu, relu6, hard sigmoid, sigmoid), else
// from the input: `Activation::derivative_from_output`.
fn derivative(s: Elem) -> Elem {
    let zero = Elem(0.0);
    let one = Elem(1.0);
    switch ACTIVATION {
        case 1u: { return select(zero, one, s > zero); }
        case 2u: { return select(zero, one, (s > zero) & (s < Elem(6.0))); }
        // x (x + 3) / 6 between -3 and 3
        case 3u: {
            let middle = (2.0 * s + 3.0) / 6.0;
            return select(select(middle, one, s > Elem(3.0)), zero, s < Elem(-3.0));
        }
        case 4u: { return select(zero, one / 6.0, (s > zero) & (s < one)); }
        case 5u: {
            let sigmoid = 1.0 / (1.0 + exp(-s));
            return sigmoid * (1.0 + s * (1.0 - sigmoid));
        }
        case 6u: { return s * (1.0 - s); }
        default: { return one; }
    }
}

// From the input.
fn derivative_at(x: Elem) -> Elem {
    if ACTIVATION == 3u || ACTIVATION == 5u { return derivative(x); }
    return derivative(activate(x));
}
