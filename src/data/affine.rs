//! Affine maps of the plane: from positions in one image to positions in another.

use crate::ops::Draws;

/// From output positions to source positions: `(x, y) = M . (column, row, 1)`, as in [`Draws::source_x`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [[f64; 3]; 2]);

impl Affine {
    /// The identity map.
    pub const IDENTITY: Affine = Affine([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);

    /// A linear map about the fixed centre of a canvas of this height and width.
    pub fn about_centre(size: [f64; 2], [[a, b], [c, d]]: [[f64; 2]; 2]) -> Affine {
        let [y, x] = size.map(|side| side / 2.0);
        Affine([[a, b, x - (a * x + b * y)], [c, d, y - (c * x + d * y)]])
    }

    /// A rotation by an angle in degrees, counter-clockwise on the screen.
    pub fn rotation(size: [f64; 2], degrees: f64) -> Affine {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Affine::about_centre(size, [[cos, -sin], [sin, cos]])
    }

    /// The source position `[x, y]` of an output position.
    pub fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        self.0.map(|[a, b, c]| a * x + b * y + c)
    }

    /// The inverse, from source to output positions; none where the map has no inverse.
    pub fn inverse(&self) -> Option<Affine> {
        let Affine([[a, b, x], [c, d, y]]) = *self;
        let by = a * d - b * c;
        (by != 0.0 && by.is_finite()).then(|| {
            let (a, b, c, d) = (d / by, -b / by, -c / by, a / by);
            Affine([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])
        })
    }

    /// The map in an image's draws.
    pub fn of(draws: &Draws) -> Affine {
        Affine([draws.source_x, draws.source_y].map(|row| row.map(f64::from)))
    }

    /// Writes the map into an image's draws.
    pub fn enter(&self, draws: &mut Draws) {
        [draws.source_x, draws.source_y] = self.0.map(|row| row.map(|x| x as f32));
    }

    /// The composition: this transform first, then `next` on its result.
    #[must_use]
    pub fn then(self, next: Affine) -> Affine {
        let Affine(m) = self;
        let Affine([x, y]) = next;
        Affine(m.map(|[a, b, c]| std::array::from_fn(|i| a * x[i] + b * y[i] + if i == 2 { c } else { 0.0 })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_done_in_order() {
        // A step to the right, then a quarter turn counter-clockwise about the centre of a square of 10.
        let seen = Affine([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).then(Affine::rotation([10.0; 2], 90.0));
        // The point at (3, 5) moved to (4, 5), and from there to below the centre.
        let [x, y] = seen.apply([5.0, 6.0]);
        assert!((x - 3.0).abs() < 1e-12 && (y - 5.0).abs() < 1e-12, "{x} {y}");
    }

    #[test]
    fn an_inverse_leads_back() {
        let map = Affine([[0.5, 0.25, 3.0], [-1.0, 2.0, 1.0]]).then(Affine::rotation([8.0, 6.0], 30.0));
        let back = map.inverse().expect("it has one");
        let [x, y] = back.apply(map.apply([1.5, -2.0]));
        assert!((x - 1.5).abs() < 1e-12 && (y + 2.0).abs() < 1e-12, "{x} {y}");
        assert_eq!(Affine([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]]).inverse(), None);
    }
}
