// bias - mean * scale with one rounding, whether or not the device fuses multiply and add: both factors are split
// into halves of 12 bits, whose products are exact, and the largest product is subtracted first. So a channel whose
// input is constant keeps its sign, as in PyTorch, and with it the derivative of the relu after it. The importing
// file declares Elem and Word (vec4<f32> and vec4<u32>, or f32 and u32).

fn upper(x: Elem) -> Elem {
    return bitcast<Elem>(bitcast<Word>(x) & Word(0xfffff000u));
}

fn shift_of(bias: Elem, mean: Elem, scale: Elem) -> Elem {
    let m = upper(mean);
    let s = upper(scale);
    let m_rest = mean - m;
    let s_rest = scale - s;
    return (((bias - m * s) - m * s_rest) - m_rest * s) - m_rest * s_rest;
}
