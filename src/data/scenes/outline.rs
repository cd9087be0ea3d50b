//! Outlines: closed loops of points, and how much of each pixel they cover.

/// A point, or a vector.
pub(super) type Point = [f32; 2];

/// Closed loops with the even-odd rule: a point inside an odd number of loops is inside. When built, the outline lies
/// in the square `[-1, 1]^2`, with y pointing down.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outline(Vec<Vec<Point>>);

/// Placement of an outline in an image, in pixels: rotation, scale, mirror, position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pose {
    /// Images of the unit vectors.
    pub(super) axes: [Point; 2],
    /// Image of the origin.
    pub(super) centre: Point,
}

/// Sub-scanlines of a pixel row; along a row coverage is exact.
const LINES: usize = 4;

impl Outline {
    /// One loop.
    pub(super) fn polygon(points: &[Point]) -> Self {
        Outline(vec![points.to_vec()])
    }

    /// Corners on a circle: `corners` of them, at radius 1 and `inner` in turn, the first on top.
    pub(super) fn star(corners: usize, inner: f32) -> Self {
        let count = 2 * corners;
        let corner = |i: usize| {
            let angle = std::f32::consts::TAU * i as f32 / count as f32;
            let radius = if i.is_multiple_of(2) { 1.0 } else { inner };
            [radius * angle.sin(), -radius * angle.cos()]
        };
        Outline(vec![(0..count).map(corner).collect()])
    }

    /// A regular polygon, a corner on top.
    pub(super) fn regular(corners: usize) -> Self {
        let inner = (std::f32::consts::PI / corners as f32).cos();
        Self::star(corners, inner)
    }

    /// Part of an ellipse, from one angle to another, in turns, clockwise from the right.
    pub(super) fn sector(centre: Point, radii: Point, turns: [f32; 2]) -> Self {
        const STEPS: usize = 40;
        let whole = turns[1] - turns[0] >= 1.0;
        let point = |i: usize| {
            let turn = turns[0] + (turns[1] - turns[0]) * i as f32 / STEPS as f32;
            let (sin, cos) = (std::f32::consts::TAU * turn).sin_cos();
            [centre[0] + radii[0] * cos, centre[1] + radii[1] * sin]
        };
        let mut points: Vec<Point> = (0..STEPS + usize::from(!whole)).map(point).collect();
        if !whole {
            points.push(centre);
        }
        Outline(vec![points])
    }

    /// An ellipse.
    pub(super) fn ellipse(centre: Point, radii: Point) -> Self {
        Self::sector(centre, radii, [0.0, 1.0])
    }

    /// A rectangle by two corners.
    pub(super) fn rect([x0, y0]: Point, [x1, y1]: Point) -> Self {
        Self::polygon(&[[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    }

    /// The points of a closed curve over `[0, 1)`.
    pub(super) fn curve(point: impl Fn(f32) -> Point) -> Self {
        const STEPS: usize = 72;
        Outline(vec![(0..STEPS).map(|i| point(i as f32 / STEPS as f32)).collect()])
    }

    /// Points at a radius that is a function of the angle in radians, clockwise from the top.
    pub(super) fn polar(radius: impl Fn(f32) -> f32) -> Self {
        Self::curve(|t| {
            let angle = std::f32::consts::TAU * t;
            [radius(angle) * angle.sin(), -radius(angle) * angle.cos()]
        })
    }

    /// This outline minus `hole`, which lies inside it.
    pub(super) fn without(mut self, hole: Outline) -> Self {
        self.0.extend(hole.0);
        self
    }

    /// Each point put through `map`.
    pub(super) fn map(&self, map: impl Fn(Point) -> Point) -> Self {
        Outline(self.0.iter().map(|points| points.iter().map(|&p| map(p)).collect()).collect())
    }

    /// The outline placed in an image.
    pub(super) fn placed(&self, pose: &Pose) -> Self {
        let Pose { axes: [u, v], centre } = pose;
        self.map(|[x, y]| [centre[0] + x * u[0] + y * v[0], centre[1] + x * u[1] + y * v[1]])
    }

    /// Calls `paint(x, y, share)` for the covered pixels of an image of `side`, with the share of the pixel that is
    /// covered.
    pub(super) fn cover(&self, side: usize, mut paint: impl FnMut(usize, usize, f32)) {
        let edges: Vec<(Point, Point)> = self.0.iter().flat_map(|points| edges(points)).collect();
        let (mut row, mut crossings) = (vec![0.0_f32; side], Vec::new());
        for y in 0..side {
            let mut touched = false;
            for line in 0..LINES {
                let level = y as f32 + (line as f32 + 0.5) / LINES as f32;
                crossings.clear();
                crossings.extend(edges.iter().filter_map(|&edge| crossing(edge, level)));
                crossings.sort_by(f32::total_cmp);
                for span in crossings.chunks_exact(2) {
                    let (from, to) = (span[0].max(0.0), span[1].min(side as f32));
                    for x in from as usize..(to.max(0.0).ceil() as usize).min(side) {
                        let covered = to.min(x as f32 + 1.0) - from.max(x as f32);
                        row[x] += covered.max(0.0) / LINES as f32;
                        touched = true;
                    }
                }
            }
            if touched {
                for (x, share) in row.iter_mut().enumerate().filter(|(_, share)| **share > 0.0) {
                    paint(x, y, share.min(1.0));
                    *share = 0.0;
                }
            }
        }
    }
}

/// The sides of a loop.
fn edges(points: &[Point]) -> impl Iterator<Item = (Point, Point)> {
    points.iter().copied().zip(points.iter().copied().cycle().skip(1))
}

/// Where a side crosses a level, if it does.
fn crossing((a, b): (Point, Point), level: f32) -> Option<f32> {
    let crosses = (a[1] <= level) != (b[1] <= level);
    crosses.then(|| a[0] + (level - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(outline: &Outline, side: usize) -> f32 {
        let mut sum = 0.0;
        outline.cover(side, |_, _, share| sum += share);
        sum
    }

    #[test]
    fn coverage_adds_up_to_the_area() {
        let pose = Pose { axes: [[20.0, 5.0], [-5.0, 20.0]], centre: [32.0, 32.0] };
        let square = Outline::rect([-1.0, -1.0], [1.0, 1.0]).placed(&pose);
        assert!((area(&square, 64) - 4.0 * 425.0).abs() < 4.0);
        let ring = Outline::ellipse([0.0; 2], [1.0; 2]).without(Outline::ellipse([0.0; 2], [0.5; 2]));
        let wanted = std::f32::consts::PI * 0.75 * 425.0;
        assert!((area(&ring.placed(&pose), 64) - wanted).abs() < 0.01 * wanted);
    }

    #[test]
    fn what_lies_outside_the_image_is_cut_off() {
        let pose = Pose { axes: [[100.0, 0.0], [0.0, 100.0]], centre: [0.0, 0.0] };
        let square = Outline::rect([-1.0, -1.0], [1.0, 1.0]).placed(&pose);
        assert_eq!(area(&square, 16), 256.0);
    }
}
