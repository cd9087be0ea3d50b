//! From bytes to the network's input: `y = u8 * scale[c] + shift[c]`, with scale = 1 / (255 std) and shift = -mean /
//! std. Images are uploaded as bytes, a quarter of the size of floats.

use bytemuck::{Pod, Zeroable};

use super::cpu::{PIECE, pieces};
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, DType, Io, Launch, Op, Real, Type, Variant};

/// Normalises images; input bytes `[N, H, W, 3]`, output floats of the same shape.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageInput {
    /// Factor of each channel.
    pub scale: [f32; 3],
    /// Added to each channel afterwards.
    pub shift: [f32; 3],
}

/// `Params` of `shaders/image/normalize.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    scale: [f32; 4],
    shift: [f32; 4],
    words: u32,
    padding: [u32; 3],
}

impl ImageInput {
    /// The normalisation `(u8 / 255 - mean) / std` of each channel.
    pub fn normalize(mean: [f32; 3], std: [f32; 3]) -> Self {
        let each = |f: &dyn Fn(usize) -> f64| [f(0) as f32, f(1) as f32, f(2) as f32];
        let (m, s) = (mean.map(f64::from), std.map(f64::from));
        ImageInput { scale: each(&|c| 1.0 / (255.0 * s[c])), shift: each(&|c| -m[c] / s[c]) }
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        // A whole number of pixels and of vectors.
        const BLOCK: usize = 192;
        let block = |c: [f32; 3]| -> [T; BLOCK] { std::array::from_fn(|i| T::of(c[i % 3].into())) };
        let (bytes, scale, shift) = (call.bytes(0), block(self.scale), block(self.shift));
        pieces(
            call.output(0),
            PIECE.next_multiple_of(BLOCK),
            #[inline(always)]
            |at, y| {
                for (y, bytes) in y.chunks_mut(BLOCK).zip(bytes[at..].chunks(BLOCK)) {
                    for (((y, &byte), &scale), &shift) in y.iter_mut().zip(bytes).zip(&scale).zip(&shift) {
                        *y = T::of(byte.into()) * scale + shift;
                    }
                }
            },
        );
    }
}

impl Op for ImageInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "image.normalize"
    }

    fn attributes(&self) -> String {
        format!("scale {:?} shift {:?}", self.scale, self.shift)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        require(inputs[0].dtype == DType::U8 && inputs[0].shape.nhwc()?[3] == 3, || {
            format!("images must be bytes [batch, height, width, 3], found {}", inputs[0])
        })?;
        Ok(vec![Type::f32(&inputs[0].shape)])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let words = io.output(0).numel().div_ceil(4);
        let wide = |c: [f32; 3]| [c[0], c[1], c[2], 0.0];
        let params =
            Params { scale: wide(self.scale), shift: wide(self.shift), words: words as u32, padding: [0; 3] };
        let kernel = Kernel::new(shader!("image/normalize.wgsl"), "normalize");
        let launch = Launch::new(kernel, &params, groups(words, caps));
        vec![Variant::single("pointwise", launch.inputs([0]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        Cost::streaming(io, 2.0 * io.output(0).numel() as f64)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let op = ImageInput::normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let case = |shape: &[usize]| Case::new(op, &[]).with(Type::u8(shape), Fill::Below(256));
    vec![case(&[1, 3, 5, 3]), case(&[3, 4, 8, 3]), case(&[1, 75, 75, 3])]
}
