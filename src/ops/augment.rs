//! Augmented images: from bytes to the network's input in one pass, with random numbers drawn by the host.
//!
//! The pass applies geometry, colour, levels, focus, normalisation, erasing and mixing, in this order. Values are
//! rounded to bytes only for the levels, which are defined on bytes. [`Draws`] has the formulas.

use bytemuck::{Pod, Zeroable};

use super::cpu::pieces;
use super::{Case, Fill, groups, require};
use crate::Result;
use crate::gpu::{Caps, Kernel};
use crate::shader;
use crate::tape::{Cost, CpuCall, DType, Io, Launch, Op, Real, Type, Variant};

/// Augments and normalises images. Inputs: bytes `[N, H, W, 3]`, and for each image a row of [`Draws`],
/// `[N, Draws::LEN]`. Output: floats `[N, height, width, 3]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AugmentInput {
    /// Factor of each channel, as in [`super::ImageInput`].
    pub scale: [f32; 3],
    /// Added to each channel afterwards.
    pub shift: [f32; 3],
    /// Height and width of the output, at least 4: the blur mirrors three pixels at an edge.
    pub size: [usize; 2],
}

/// The random draws of one image: `Draws` of `shaders/augment/images.wgsl`.
///
/// Positions are in pixels, column first; the centre of the first pixel lies at 1/2. Colours go from 0 to 255.
/// Rectangles are left, top, right, bottom; right and bottom are the first column and row outside of them.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
pub struct Draws {
    /// Column of the source under an output position: `source_x . (column, row, 1)`, sampled bilinearly.
    pub source_x: [f32; 3],
    /// 1: outside the source lies its mirror image. 0: the outside is black.
    pub reflect: f32,
    /// Row of the source.
    pub source_y: [f32; 3],
    /// Posterize: colours are rounded to bytes, then down to multiples of this. Up to 1: off.
    pub step: f32,
    /// Red becomes `red . (r, g, b, 1)`, clamped to 0..255.
    pub red: [f32; 4],
    /// Green.
    pub green: [f32; 4],
    /// Blue.
    pub blue: [f32; 4],
    /// Solarize: bytes from here up become 255 - byte. Above 255: off.
    pub threshold: f32,
    /// Standard deviation of a Gaussian blur in output pixels; its kernel has 7 x 7 taps, the image is mirrored about
    /// its outermost pixels. 0: off.
    pub sigma: f32,
    /// `v + sharpness * (v - s)`, s the mean under the kernel 1 1 1, 1 5 1, 1 1 1 over 13; the outermost pixels stay.
    /// -1 is that smoothing itself. 0, or where there is a blur: off.
    pub sharpness: f32,
    /// Weight of the image itself within `mix`, 0 to 1.
    pub own: f32,
    /// In this rectangle the normalised image is set to 0, the mean. Empty: off.
    pub erase: [f32; 4],
    /// In this rectangle the image becomes `own * image + (1 - own) * partner`. Empty: off.
    pub mix: [f32; 4],
    /// Row of the batch that is mixed in, augmented by its own draws but not mixed itself.
    pub partner: f32,
    /// Turn of the hue in HSV, a share of the full circle from red towards green, after the colour matrix.
    pub hue: f32,
    /// Above 1/2: all channels become the pixel's grey by ITU-R 601, after the turn of the hue.
    pub grey: f32,
    /// Fills the struct up to 16 bytes.
    pub padding: f32,
}

impl Draws {
    /// Floats of a row.
    pub const LEN: usize = size_of::<Draws>() / 4;

    /// Leaves the image unchanged, where output and source have the same size.
    pub const IDENTITY: Draws = Draws {
        source_x: [1.0, 0.0, 0.0],
        reflect: 1.0,
        source_y: [0.0, 1.0, 0.0],
        step: 1.0,
        red: [1.0, 0.0, 0.0, 0.0],
        green: [0.0, 1.0, 0.0, 0.0],
        blue: [0.0, 0.0, 1.0, 0.0],
        threshold: 256.0,
        sigma: 0.0,
        sharpness: 0.0,
        own: 1.0,
        erase: [0.0; 4],
        mix: [0.0; 4],
        partner: 0.0,
        hue: 0.0,
        grey: 0.0,
        padding: 0.0,
    };
}

// WGSL rounds a struct's size to 16 bytes.
const _: () = assert!(size_of::<Draws>().is_multiple_of(16));

/// Radius of the blur.
const RADIUS: usize = 3;

/// `Params` of `shaders/augment/images.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct Params {
    scale: [f32; 4],
    shift: [f32; 4],
    batch: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    padding: [u32; 3],
}

/// An index mirrored about the first and the last of `n`; it is outside by at most `n - 1`.
fn mirrored_index(i: usize, by: isize, n: usize) -> usize {
    let last = n as isize - 1;
    (last - (last - (i as isize + by).abs()).abs()) as usize
}

fn within(rect: [f32; 4], row: usize, column: usize) -> bool {
    let [left, top, right, bottom] = rect;
    let (x, y) = (column as f32, row as f32);
    left <= x && x < right && top <= y && y < bottom
}

/// Weights of red, green and blue in a grey: ITU-R 601, as in Pillow and torchvision.
pub(crate) const GREY: [f64; 3] = [0.299, 0.587, 0.114];

/// A colour with its hue in HSV turned, as in torchvision's `adjust_hue`; value and saturation stay.
fn turned<T: Real>([r, g, b]: [T; 3], turn: T) -> [T; 3] {
    let (zero, one, six) = (T::zero(), T::one(), T::of(6.0));
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if chroma == zero {
        return [r, g, b];
    }
    // Hue in sixths of the circle, from red.
    let hue = if value == r {
        (g - b) / chroma
    } else if value == g {
        T::of(2.0) + (b - r) / chroma
    } else {
        T::of(4.0) + (r - g) / chroma
    };
    [5.0, 3.0, 1.0].map(|channel| {
        let k = T::of(channel) + hue + six * turn;
        let k = k - six * (k / six).floor();
        value - chroma * k.min(T::of(4.0) - k).max(zero).min(one)
    })
}

/// One source image, and its draws.
struct View<'a> {
    bytes: &'a [u8],
    height: usize,
    width: usize,
    draws: &'a Draws,
}

impl View<'_> {
    /// The source's pixel, or black outside of it.
    fn source<T: Real>(&self, row: i64, column: i64) -> [T; 3] {
        if row < 0 || column < 0 || row >= self.height as i64 || column >= self.width as i64 {
            return [T::zero(); 3];
        }
        let i = (row as usize * self.width + column as usize) * 3;
        std::array::from_fn(|c| T::of(self.bytes[i + c].into()))
    }

    fn bilinear<T: Real>(&self, x: T, y: T) -> [T; 3] {
        let reflect = self.draws.reflect > 0.5;
        let half = T::of(0.5);
        // First and second index, and the share of the second.
        let taps = |at: T, size: usize| {
            let whole = T::of(size as f64);
            let at = if reflect {
                let period = whole + whole;
                let t = at - period * (at / period).floor();
                t.min(period - t)
            } else {
                at.max(-T::one()).min(whole + T::one())
            };
            let low = (at - half).floor();
            let first = low.f64() as i64;
            let inside = |i: i64| if reflect { i.clamp(0, size as i64 - 1) } else { i };
            (inside(first), inside(first + 1), at - half - low)
        };
        let (left, right, across) = taps(x, self.width);
        let (top, bottom, down) = taps(y, self.height);
        let row = |row| {
            let (a, b) = (self.source::<T>(row, left), self.source::<T>(row, right));
            [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * across)
        };
        let (a, b) = (row(top), row(bottom));
        [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * down)
    }

    /// Geometry, colour and levels.
    fn toned<T: Real>(&self, row: usize, column: usize) -> [T; 3] {
        let d = self.draws;
        let place = [column as f64 + 0.5, row as f64 + 0.5, 1.0].map(T::of);
        let dot = |a: &[f32; 3]| (0..3).fold(T::zero(), |sum, i| sum + T::of(a[i].into()) * place[i]);
        let [r, g, b] = self.bilinear(dot(&d.source_x), dot(&d.source_y));
        let (zero, white, half) = (T::zero(), T::of(255.0), T::of(0.5));
        let (step, threshold) = (T::of(d.step.into()), T::of(d.threshold.into()));
        let mut tone = [d.red, d.green, d.blue].map(|row| {
            let [a, b, c, one] = [(row[0], r), (row[1], g), (row[2], b), (row[3], T::one())]
                .map(|(factor, v)| T::of(factor.into()) * v);
            (a + b + c + one).max(zero).min(white)
        });
        if d.hue != 0.0 {
            tone = turned(tone, T::of(d.hue.into()));
        }
        if d.grey > 0.5 {
            tone = [(0..3).map(|c| T::of(GREY[c]) * tone[c]).sum(); 3];
        }
        tone.map(|mut v| {
            if step > T::one() {
                v = ((v + half).floor() / step).floor() * step;
            }
            if threshold <= white {
                v = (v + half).floor();
                if v >= threshold {
                    v = white - v;
                }
            }
            v
        })
    }
}

/// The pixels `[height, width, 3]` of an image, blurred or sharpened.
fn focus<T: Real>(v: &mut [T], [height, width]: [usize; 2], draws: &Draws) {
    let (sigma, sharpness) = (T::of(draws.sigma.into()), T::of(draws.sharpness.into()));
    let before = v.to_vec();
    let pixel = |row: usize, column: usize| &before[(row * width + column) * 3..][..3];
    let blur = sigma > T::zero();
    let narrow = -T::of(0.5) / (sigma * sigma);
    let radius = if blur { RADIUS as isize } else { 1 };
    let weight = |dy: isize, dx: isize| {
        if blur {
            (narrow * T::of((dx * dx + dy * dy) as f64)).exp()
        } else {
            T::of(if (dy, dx) == (0, 0) { 5.0 } else { 1.0 })
        }
    };
    let reach = || (-radius..=radius).flat_map(move |dy| (-radius..=radius).map(move |dx| (dy, dx)));
    let taps: Vec<(isize, isize, T)> = reach().map(|(dy, dx)| (dy, dx, weight(dy, dx))).collect();
    let whole: T = taps.iter().map(|&(.., weight)| weight).sum();
    for row in 0..height {
        for column in 0..width {
            let edge = row == 0 || column == 0 || row + 1 == height || column + 1 == width;
            if edge && !blur {
                continue;
            }
            let mut sum = [T::zero(); 3];
            for &(dy, dx, weight) in &taps {
                let tap = pixel(mirrored_index(row, dy, height), mirrored_index(column, dx, width));
                (0..3).for_each(|c| sum[c] += weight * tap[c]);
            }
            let out = &mut v[(row * width + column) * 3..][..3];
            for c in 0..3 {
                let smooth = sum[c] / whole;
                let sharp = out[c] + sharpness * (out[c] - smooth);
                out[c] = if blur { smooth } else { sharp.max(T::zero()).min(T::of(255.0)) };
            }
        }
    }
}

impl AugmentInput {
    /// Writes an image, except the mixing.
    fn image<T: Real>(&self, view: &View<'_>, out: &mut [T]) {
        let [height, width] = self.size;
        for (i, v) in out.chunks_exact_mut(3).enumerate() {
            v.copy_from_slice(&view.toned::<T>(i / width, i % width));
        }
        if view.draws.sigma > 0.0 || view.draws.sharpness != 0.0 {
            focus(out, [height, width], view.draws);
        }
        let [scale, shift] = [self.scale, self.shift].map(|numbers| numbers.map(|x| T::of(x.into())));
        for (i, v) in out.chunks_exact_mut(3).enumerate() {
            let erased = within(view.draws.erase, i / width, i % width);
            for c in 0..3 {
                v[c] = if erased { T::zero() } else { v[c] * scale[c] + shift[c] };
            }
        }
    }

    fn cpu<T: Real>(&self, call: &mut CpuCall<'_, T>) {
        let source = call.io.input(0);
        let (batch, height, width) = (source[0], source[1], source[2]);
        let bytes = call.bytes(0);
        let rows = call.real(1).chunks_exact(Draws::LEN).map(|row| {
            let floats: Vec<f32> = row.iter().map(|x| x.f64() as f32).collect();
            bytemuck::pod_read_unaligned(bytemuck::cast_slice(&floats))
        });
        let draws: Vec<Draws> = rows.collect();
        let one = height * width * 3;
        let view = |n: usize| View { bytes: &bytes[n * one..][..one], height, width, draws: &draws[n] };
        let [_, out_width] = self.size;
        let len = self.size[0] * out_width * 3;
        pieces(call.output(0), len, |at, y| {
            let n = at / len;
            self.image(&view(n), y);
            let Draws { mix, own, partner, .. } = draws[n];
            if !(mix[0] < mix[2] && mix[1] < mix[3]) {
                return;
            }
            let mut other = vec![T::zero(); len];
            self.image(&view((partner.max(0.0) as usize).min(batch - 1)), &mut other);
            let own = T::of(own.into());
            for (i, (v, other)) in y.chunks_exact_mut(3).zip(other.chunks_exact(3)).enumerate() {
                if within(mix, i / out_width, i % out_width) {
                    (0..3).for_each(|c| v[c] = other[c] * (T::one() - own) + v[c] * own);
                }
            }
        });
    }
}

impl Op for AugmentInput {
    op_boilerplate!();

    fn name(&self) -> &'static str {
        "augment.images"
    }

    fn attributes(&self) -> String {
        let [height, width] = self.size;
        format!("{height}x{width} scale {:?} shift {:?}", self.scale, self.shift)
    }

    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>> {
        let [height, width] = self.size;
        require(inputs[0].dtype == DType::U8 && inputs[0].shape.nhwc()?[3] == 3, || {
            format!("images must be bytes [batch, height, width, 3], found {}", inputs[0])
        })?;
        let batch = inputs[0].shape[0];
        require(*inputs[1] == Type::f32(&[batch, Draws::LEN]), || {
            format!("draws must be f32[{batch}, {}], found {}", Draws::LEN, inputs[1])
        })?;
        require(height > RADIUS && width > RADIUS, || {
            format!(
                "an image of {height} x {width} pixels is smaller than the blur, which takes {}",
                RADIUS + 1
            )
        })?;
        Ok(vec![Type::f32(&[batch, height, width, 3])])
    }

    fn kernels(&self, io: &Io<'_>, caps: &Caps) -> Vec<Variant> {
        let wide = |c: [f32; 3]| [c[0], c[1], c[2], 0.0];
        let (x, y) = (io.input(0), io.output(0));
        let params = Params {
            scale: wide(self.scale),
            shift: wide(self.shift),
            batch: x[0] as u32,
            in_height: x[1] as u32,
            in_width: x[2] as u32,
            out_height: y[1] as u32,
            out_width: y[2] as u32,
            padding: [0; 3],
        };
        let kernel = Kernel::new(shader!("augment/images.wgsl"), "augment");
        let launch = Launch::new(kernel, &params, groups(y.rows(), caps));
        vec![Variant::single("plain", launch.inputs([0, 1]).output(0))]
    }

    fn cost(&self, io: &Io<'_>) -> Cost {
        // The position takes two products; then bilinear sampling, the matrix, normalisation. The number of blurred
        // images is not known here.
        Cost::streaming(io, (10 + 3 * (6 + 7 + 2)) as f64 * io.output(0).rows() as f64)
    }
}

/// One kind of augmentation a row.
static CASES: [Draws; 16] = {
    const NONE: Draws = Draws::IDENTITY;
    // A turn by about 17 degrees, and enlarged.
    const TURNED: Draws = Draws { source_x: [0.8, 0.25, -0.7], source_y: [-0.25, 0.8, 1.3], ..NONE };
    // As in a strong change of saturation and contrast.
    const TINTED: Draws = Draws {
        red: [0.9, 0.4, -0.2, 11.0],
        green: [-0.1, 0.7, 0.3, -20.0],
        blue: [0.2, 0.1, 1.5, 3.5],
        ..TURNED
    };
    [
        NONE,
        Draws { source_x: [-1.0, 0.0, 9.0], ..NONE },
        TURNED,
        Draws { reflect: 0.0, source_x: [1.7, 0.4, -3.1], source_y: [0.3, -1.9, 14.2], ..NONE },
        // The source several times over, and farther away than any index.
        Draws { source_x: [9.5, -3.0, -40.0], source_y: [1.5, 7.25, -33.0], ..TINTED },
        Draws { reflect: 0.0, source_x: [1e9, 0.0, 0.0], source_y: [0.0, -1e10, 0.0], ..NONE },
        Draws { hue: 0.07, ..NONE },
        Draws { hue: -0.4, ..TINTED },
        Draws { grey: 1.0, ..TINTED },
        Draws { hue: 0.5, grey: 1.0, step: 16.0, ..NONE },
        Draws { step: 32.0, ..NONE },
        Draws { threshold: 100.0, ..NONE },
        Draws { sigma: 1.3, ..TINTED },
        Draws { sharpness: 0.9, erase: [1.0, 2.0, 4.0, 20.0], ..TURNED },
        Draws { sharpness: -0.5, mix: [0.0, 0.0, 99.0, 99.0], own: 0.3, partner: 8.0, ..TINTED },
        Draws { mix: [2.0, 1.0, 5.0, 4.0], own: 0.0, partner: 9.0, ..TURNED },
    ]
};

pub(super) fn cases() -> Vec<Case> {
    let super::ImageInput { scale, shift } =
        super::ImageInput::normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let case = |x: [usize; 4], size| {
        let rows: &'static [f32] = bytemuck::cast_slice(&CASES);
        let draws = Type::f32(&[x[0], Draws::LEN]);
        let case = Case::new(AugmentInput { scale, shift, size }, &[]);
        case.with(Type::u8(&x), Fill::Below(256)).with(draws, Fill::These(rows))
    };
    vec![case([16, 9, 9, 3], [9, 9]), case([16, 7, 12, 3], [5, 9]), case([3, 75, 61, 3], [33, 64])]
}
