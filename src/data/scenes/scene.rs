//! One image: a ground, clutter, shadow, the subject, light, noise.

use super::outline::{Outline, Pose};
use super::paint::{Colour, Paint, Pattern, colour, mixed};
use super::things::Part;
use crate::data::Image;
use crate::rng::Stream;

/// Colours while an image is drawn.
struct Canvas {
    side: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// Lays `paint` over what `outline` covers.
    fn lay(&mut self, outline: &Outline, opacity: f32, paint: impl Fn(usize, usize) -> Colour) {
        let Canvas { side, pixels } = self;
        outline.cover(*side, |x, y, share| {
            let pixel = &mut pixels[y * *side + x];
            *pixel = mixed(*pixel, paint(x, y), share * opacity);
        });
    }
}

/// Draws a subject made of `parts`, the first of its paints in `pattern`, into an image of `side` pixels. Everything
/// except the subject's shape and pattern is drawn from `random`: position, size, rotation, mirror, colours, ground,
/// clutter behind and before it, shadow, light and noise.
pub(super) fn scene(random: &mut Stream, parts: &[Part], pattern: Pattern, side: usize) -> Image {
    let extent = side as f32;
    let grounds = [
        Pattern::Plain,
        Pattern::Shaded,
        Pattern::Mottled,
        Pattern::Mottled,
        Pattern::Striped,
        Pattern::Dotted,
    ];
    let ground = colour(random, &[], 0.0);
    // Strong grounds hide small objects: the ground's second colour is close to the first.
    let kind = grounds[random.below(grounds.len())];
    let reach = if matches!(kind, Pattern::Striped | Pattern::Dotted) { 0.12 } else { 0.35 };
    let second = near(random, ground, reach);
    let pitch = random.range(0.1, 0.4) as f32 * extent;
    let below = Paint::new(random, kind, [ground, second], pitch);
    let pixels = (0..side * side).map(|i| below.at(i % side, i / side)).collect();
    let mut canvas = Canvas { side, pixels };
    for _ in 0..random.below(6) {
        clutter(random, &mut canvas, 0.04..0.13);
    }
    let pose = pose(random, extent);
    let outlines: Vec<(Outline, usize)> =
        parts.iter().map(|(outline, paint)| (outline.placed(&pose), *paint)).collect();
    let shadow = random.unit() < 0.5;
    let by = random.range(0.02, 0.06) as f32 * extent;
    let to = if random.unit() < 0.5 { by } else { -by };
    if shadow {
        let moved = |outline: &Outline| outline.map(|[x, y]| [x + to, y + by]);
        outlines.iter().for_each(|(outline, _)| canvas.lay(&moved(outline), 0.35, |_, _| [0.0; 3]));
    }
    let paints = paints(random, pattern, &[ground, second], extent);
    for (outline, paint) in &outlines {
        canvas.lay(outline, 1.0, |x, y| paints[*paint].at(x, y));
    }
    for _ in 0..random.below(3) {
        clutter(random, &mut canvas, 0.02..0.05);
    }
    develop(random, &canvas)
}

/// A colour at most `reach` from another in each channel.
fn near(random: &mut Stream, from: Colour, reach: f64) -> Colour {
    from.map(|c| (c + random.range(-reach, reach) as f32).clamp(0.0, 1.0))
}

/// The subject's paints: the first in its pattern, the others plain. All contrast with the ground and with one
/// another.
fn paints(random: &mut Stream, pattern: Pattern, grounds: &[Colour], extent: f32) -> [Paint; 3] {
    let first = colour(random, grounds, 0.28);
    let against: Vec<Colour> = grounds.iter().copied().chain([first]).collect();
    let others = [colour(random, &against, 0.2), colour(random, &against, 0.2)];
    let within = match pattern {
        Pattern::Striped | Pattern::Dotted => colour(random, &[first], 0.3),
        _ => near(random, first, 0.15),
    };
    let pitch = random.range(0.09, 0.14) as f32 * extent;
    let first = Paint::new(random, pattern, [first, within], pitch);
    let [second, third] = others.map(|other| {
        let within = near(random, other, 0.1);
        Paint::new(random, Pattern::Shaded, [other, within], 0.2 * extent)
    });
    [first, second, third]
}

/// Pose of the subject: it fills half to nine tenths of the image and is rotated by up to 25 degrees.
fn pose(random: &mut Stream, extent: f32) -> Pose {
    let mut draw = |low: f64, high: f64| random.range(low, high) as f32;
    let size = draw(0.26, 0.44) * extent;
    let stretch = draw(0.85, 1.18);
    let (sin, cos) = draw(-0.44, 0.44).sin_cos();
    let shear = draw(-0.15, 0.15);
    let room = (0.5 * extent - 0.95 * size).max(0.0);
    let centre = [0, 1].map(|_| 0.5 * extent + room * draw(-1.0, 1.0));
    let mirror = if draw(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
    let (width, height) = (mirror * size * stretch, size / stretch);
    let axes = [[width * cos, width * sin], [height * (shear * cos - sin), height * (cos + shear * sin)]];
    Pose { axes, centre }
}

/// A small shape that belongs to no object.
fn clutter(random: &mut Stream, canvas: &mut Canvas, size: std::ops::Range<f64>) {
    let extent = canvas.side as f32;
    let outline = match random.below(4) {
        0 => Outline::regular(3 + random.below(4)),
        1 => Outline::ellipse([0.0; 2], [1.0, 0.6]),
        2 => Outline::rect([-2.5, -0.15], [2.5, 0.15]),
        _ => Outline::star(3 + random.below(5), 0.4),
    };
    let size = random.range(size.start, size.end) as f32 * extent;
    let (sin, cos) = (random.range(0.0, std::f64::consts::TAU) as f32).sin_cos();
    let axes = [[size * cos, size * sin], [-size * sin, size * cos]];
    let centre = [random.range(0.0, 1.0) as f32 * extent, random.range(0.0, 1.0) as f32 * extent];
    let ink = colour(random, &[], 0.0);
    let opacity = random.range(0.4, 1.0) as f32;
    canvas.lay(&outline.placed(&Pose { axes, centre }), opacity, |_, _| ink);
}

/// Light from one side, exposure, noise; then bytes.
fn develop(random: &mut Stream, canvas: &Canvas) -> Image {
    let side = canvas.side;
    let (sin, cos) = (random.range(0.0, std::f64::consts::TAU) as f32).sin_cos();
    let slope = random.range(0.0, 0.35) as f32;
    let exposure = random.range(0.75, 1.15) as f32;
    let tint: Colour = std::array::from_fn(|_| random.range(0.92, 1.08) as f32);
    let noise = random.range(0.0, 0.05) as f32;
    let mut rgb = Vec::with_capacity(side * side * 3);
    for (i, pixel) in canvas.pixels.iter().enumerate() {
        let (x, y) = ((i % side) as f32 / side as f32 - 0.5, (i / side) as f32 / side as f32 - 0.5);
        let light = exposure * (1.0 + 2.0 * slope * (x * cos + y * sin));
        // The sum of four uniform numbers is close enough to a normal distribution, and needs no logarithm.
        let bits = random.next_u64();
        let sum: u64 = (0..4).map(|k| (bits >> (16 * k)) & 0xFFFF).sum();
        let grain = noise * (sum as f32 / 65535.0 - 2.0) * 1.73;
        rgb.extend(
            (0..3).map(|c| (255.0 * (pixel[c] * light * tint[c] + grain)).clamp(0.0, 255.0).round() as u8),
        );
    }
    Image { width: side, height: side, rgb }
}
