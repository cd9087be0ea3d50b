// Counter-based random numbers: a draw is a pure function of a key and a counter. PCG-RXS-M-XS (O'Neill 2014;
// Jarzynski and Olano 2020), applied twice, so that neighbouring counters and neighbouring keys are unrelated. `pcg`
// in src/ops/dropout.rs is the same function.

fn pcg(input: u32) -> u32 {
    let state = input * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

// 24 uniform bits.
fn draw24(key: u32, counter: u32) -> u32 {
    return pcg(pcg(counter) ^ key) >> 8u;
}
