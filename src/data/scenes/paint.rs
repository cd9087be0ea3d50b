//! Appearance of surfaces: colours and patterns, as functions of a position in the image.

use super::outline::Point;
use crate::rng::{Stream, unit};

/// Red, green, blue, 0 to 1.
pub(super) type Colour = [f32; 3];

/// A pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// One colour.
    Plain,
    /// Two colours in bands.
    Striped,
    /// Discs of one colour on another.
    Dotted,
    /// A smooth change from one colour to another.
    Shaded,
    /// Clouds of one colour in another.
    Mottled,
}

/// A pattern with its colours, in an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pattern: Pattern,
    colours: [Colour; 2],
    /// Period of the pattern, pixels.
    pitch: f32,
    /// Its direction, a unit vector, and how far it is moved, in periods.
    along: Point,
    phase: Point,
    key: u64,
}

/// How different two colours look, about 0 to 1.
pub(super) fn contrast(a: Colour, b: Colour) -> f32 {
    // Green counts most, as in luma.
    let weights = [0.3, 0.5, 0.2];
    (0..3).map(|c| weights[c] * (a[c] - b[c]) * (a[c] - b[c])).sum::<f32>().sqrt()
}

/// A colour that differs from all of `others` by `least`, or nearly.
pub(super) fn colour(random: &mut Stream, others: &[Colour], mut least: f32) -> Colour {
    loop {
        let drawn: Colour = std::array::from_fn(|_| random.range(0.03, 0.97) as f32);
        if others.iter().all(|&other| contrast(drawn, other) >= least) {
            return drawn;
        }
        least *= 0.95;
    }
}

impl Paint {
    /// A pattern in two colours, its scale about `pitch` pixels.
    pub(super) fn new(random: &mut Stream, pattern: Pattern, colours: [Colour; 2], pitch: f32) -> Self {
        let (sin, cos) = (random.range(0.0, std::f64::consts::TAU) as f32).sin_cos();
        Paint {
            pattern,
            colours,
            pitch: pitch * random.range(0.8, 1.25) as f32,
            along: [cos, sin],
            phase: [random.unit() as f32, random.unit() as f32],
            key: random.next_u64(),
        }
    }

    /// The colour at a pixel.
    pub(super) fn at(&self, x: usize, y: usize) -> Colour {
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let u = (x * self.along[0] + y * self.along[1]) / self.pitch + self.phase[0];
        let v = (y * self.along[0] - x * self.along[1]) / self.pitch + self.phase[1];
        let share = match self.pattern {
            Pattern::Plain => 0.0,
            // A soft edge of about a pixel.
            Pattern::Striped => soften(((u - u.floor()) - 0.5).abs() - 0.25, self.pitch),
            Pattern::Dotted => {
                let (a, b) = (u - u.floor() - 0.5, v - v.floor() - 0.5);
                soften(0.33 - (a * a + b * b).sqrt(), self.pitch)
            }
            Pattern::Shaded => (0.5 + 0.25 * u).clamp(0.0, 1.0),
            Pattern::Mottled => {
                (0.65 * noise(self.key, u, v) + 0.35 * noise(!self.key, 2.3 * u, 2.3 * v)).clamp(0.0, 1.0)
            }
        };
        mixed(self.colours[0], self.colours[1], share)
    }
}

/// A step at 0 of a distance in periods.
fn soften(distance: f32, pitch: f32) -> f32 {
    (0.5 + distance * pitch).clamp(0.0, 1.0)
}

/// From one colour to another.
pub(super) fn mixed(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|c| a[c] + share * (b[c] - a[c]))
}

/// Value noise: random numbers on the integer lattice, smoothly joined.
fn noise(key: u64, x: f32, y: f32) -> f32 {
    let (i, j) = (x.floor(), y.floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (s, t) = (smooth(x - i), smooth(y - j));
    let corner = |di: i64, dj: i64| {
        let (i, j) = (i as i64 + di, j as i64 + dj);
        unit(key, (i as u64).wrapping_mul(0x9E37_79B9).wrapping_add(j as u64))
    };
    let top = corner(0, 0) + s * (corner(1, 0) - corner(0, 0));
    let bottom = corner(0, 1) + s * (corner(1, 1) - corner(0, 1));
    top + t * (bottom - top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_hold_both_colours_in_their_shares() {
        let mut random = Stream::new(&[7]);
        let shares = [
            (Pattern::Plain, 0.0),
            (Pattern::Striped, 0.5),
            (Pattern::Dotted, 0.34),
            (Pattern::Mottled, 0.5),
        ];
        for (pattern, wanted) in shares {
            let paint = Paint::new(&mut random, pattern, [[0.0; 3], [1.0; 3]], 8.0);
            let sum: f32 = (0..200 * 200).map(|i| paint.at(i % 200, i / 200)[0]).sum();
            assert!((sum / 4e4 - wanted).abs() < 0.05, "{pattern:?}: {}", sum / 4e4);
        }
    }

    #[test]
    fn colours_keep_their_distance() {
        let mut random = Stream::new(&[1]);
        for _ in 0..50 {
            let first = colour(&mut random, &[], 0.0);
            assert!(contrast(first, colour(&mut random, &[first], 0.3)) > 0.15);
        }
    }
}
