// Pixels of an input whose row and column have the remainders PHASE_H and PHASE_W by the stride: they lie under the same
// taps of a window.

// import lib/window.wgsl

override PHASE_H: u32 = 0u;
override PHASE_W: u32 = 0u;

// Number of pixels of the phase in an image.
fn phase_height() -> u32 { return (params.in_height + STRIDE_H - 1u - PHASE_H) / STRIDE_H; }
fn phase_width() -> u32 { return (params.in_width + STRIDE_W - 1u - PHASE_W) / STRIDE_W; }

// A pixel of the phase, at its position in the image.
fn placed(p: Pixel) -> Pixel {
    return Pixel(p.n, p.h * STRIDE_H + PHASE_H, p.w * STRIDE_W + PHASE_W);
}
