//! The subjects: signs, which are one outline each, and things, which have parts.

use super::outline::{Outline, Point};

/// A part of a thing: its outline, and the index of its paint.
pub(super) type Part = (Outline, usize);

fn polygon(points: &[Point]) -> Outline {
    Outline::polygon(points)
}

fn rect(a: Point, b: Point) -> Outline {
    Outline::rect(a, b)
}

fn ellipse(centre: Point, radii: Point) -> Outline {
    Outline::ellipse(centre, radii)
}

/// A ring or part of one, of radii `outer` and `inner`, from one turn to another, clockwise from the right.
fn band(centre: Point, outer: f32, inner: f32, turns: [f32; 2]) -> Outline {
    const STEPS: usize = 24;
    let at = |i: usize, radius: f32| {
        let turn = turns[0] + (turns[1] - turns[0]) * i as f32 / STEPS as f32;
        let (sin, cos) = (std::f32::consts::TAU * turn).sin_cos();
        [centre[0] + radius * cos, centre[1] + radius * sin]
    };
    let there = (0..=STEPS).map(|i| at(i, outer));
    let back = (0..=STEPS).rev().map(|i| at(i, inner));
    polygon(&there.chain(back).collect::<Vec<_>>())
}

/// Names and outlines of the signs.
#[rustfmt::skip]
pub(super) fn signs() -> Vec<(&'static str, Outline)> {
    vec![
        ("arch", polygon(&[[-0.9, 0.9], [-0.9, -0.1], [-0.6, -0.7], [0.0, -0.95], [0.6, -0.7], [0.9, -0.1], [0.9, 0.9],
            [0.4, 0.9], [0.4, 0.1], [0.0, -0.35], [-0.4, 0.1], [-0.4, 0.9]])),
        ("arrow", polygon(&[[0.0, -1.0], [0.8, -0.1], [0.3, -0.1], [0.3, 1.0], [-0.3, 1.0], [-0.3, -0.1], [-0.8, -0.1]])),
        ("bar", rect([-1.0, -0.35], [1.0, 0.35])),
        ("bolt", polygon(&[[0.25, -1.0], [-0.65, 0.15], [-0.05, 0.15], [-0.25, 1.0], [0.65, -0.2], [0.05, -0.2]])),
        ("chevron", polygon(&[[0.0, -0.75], [0.95, 0.2], [0.95, 0.8], [0.0, -0.1], [-0.95, 0.8], [-0.95, 0.2]])),
        ("crescent", Outline::curve(|t| {
            // Out along one circle, back along another that is moved to the right.
            let (turn, centre, radius) = if t < 0.5 { (0.12 + 1.52 * t, 0.0, 0.95) } else { (0.8 - 1.2 * (t - 0.5), 0.45, 0.76) };
            let (sin, cos) = (std::f32::consts::TAU * turn).sin_cos();
            [centre + radius * cos + 0.15, radius * sin]
        })),
        ("cross", polygon(&[[-0.3, -1.0], [0.3, -1.0], [0.3, -0.3], [1.0, -0.3], [1.0, 0.3], [0.3, 0.3], [0.3, 1.0],
            [-0.3, 1.0], [-0.3, 0.3], [-1.0, 0.3], [-1.0, -0.3], [-0.3, -0.3]])),
        ("disc", ellipse([0.0; 2], [0.9; 2])),
        ("drop", Outline::polar(|a| 0.55 + 0.45 * (0.5 + 0.5 * a.cos()).powi(6)).map(|[x, y]| [x, y + 0.1])),
        ("ellipse", ellipse([0.0; 2], [1.0, 0.55])),
        ("flower", Outline::polar(|a| 0.7 + 0.28 * (5.0 * a).cos())),
        ("frame", rect([-0.85, -0.85], [0.85, 0.85]).without(rect([-0.45, -0.45], [0.45, 0.45]))),
        ("gear", Outline::polar(|a| if (9.0 * a).cos() > 0.0 { 0.95 } else { 0.7 }).without(ellipse([0.0; 2], [0.3; 2]))),
        ("half disc", Outline::sector([0.0, 0.4], [0.95; 2], [0.5, 1.0])),
        ("heart", Outline::curve(|t| {
            let a = std::f32::consts::TAU * t;
            let height = 13.0 * a.cos() - 5.0 * (2.0 * a).cos() - 2.0 * (3.0 * a).cos() - (4.0 * a).cos();
            [0.95 * a.sin().powi(3), -0.06 * height - 0.1]
        })),
        ("hexagon", Outline::regular(6)),
        ("hourglass", polygon(&[[-0.7, -0.95], [0.7, -0.95], [0.12, 0.0], [0.7, 0.95], [-0.7, 0.95], [-0.12, 0.0]])),
        ("letter E", polygon(&[[-0.7, -0.95], [0.7, -0.95], [0.7, -0.55], [-0.25, -0.55], [-0.25, -0.2], [0.5, -0.2],
            [0.5, 0.2], [-0.25, 0.2], [-0.25, 0.55], [0.7, 0.55], [0.7, 0.95], [-0.7, 0.95]])),
        ("letter H", polygon(&[[-0.8, -0.95], [-0.35, -0.95], [-0.35, -0.22], [0.35, -0.22], [0.35, -0.95], [0.8, -0.95],
            [0.8, 0.95], [0.35, 0.95], [0.35, 0.22], [-0.35, 0.22], [-0.35, 0.95], [-0.8, 0.95]])),
        ("letter L", polygon(&[[-0.7, -0.95], [-0.2, -0.95], [-0.2, 0.45], [0.75, 0.45], [0.75, 0.95], [-0.7, 0.95]])),
        ("letter T", polygon(&[[-0.85, -0.95], [0.85, -0.95], [0.85, -0.45], [0.25, -0.45], [0.25, 0.95], [-0.25, 0.95],
            [-0.25, -0.45], [-0.85, -0.45]])),
        ("letter U", polygon(&[[-0.8, -0.95], [-0.35, -0.95], [-0.35, 0.5], [0.35, 0.5], [0.35, -0.95], [0.8, -0.95],
            [0.8, 0.95], [-0.8, 0.95]])),
        ("letter Z", polygon(&[[-0.75, -0.95], [0.75, -0.95], [0.75, -0.5], [-0.1, 0.5], [0.75, 0.5], [0.75, 0.95],
            [-0.75, 0.95], [-0.75, 0.5], [0.1, -0.5], [-0.75, -0.5]])),
        ("parallelogram", polygon(&[[-0.35, -0.6], [1.0, -0.6], [0.35, 0.6], [-1.0, 0.6]])),
        ("pentagon", Outline::regular(5)),
        ("quarter disc", Outline::sector([-0.65, 0.65], [1.4; 2], [0.75, 1.0])),
        ("rhomb", polygon(&[[0.0, -1.0], [0.6, 0.0], [0.0, 1.0], [-0.6, 0.0]])),
        ("ring", ellipse([0.0; 2], [0.92; 2]).without(ellipse([0.0; 2], [0.5; 2]))),
        ("saltire", Outline::star(4, 0.35).map(|[x, y]| [0.75 * (x + y), 0.75 * (y - x)])),
        ("square", rect([-0.8, -0.8], [0.8, 0.8])),
        ("star of eight", Outline::star(8, 0.6)),
        ("star of five", Outline::star(5, 0.45)),
        ("steps", polygon(&[[-0.9, 0.9], [-0.9, 0.3], [-0.3, 0.3], [-0.3, -0.3], [0.3, -0.3], [0.3, -0.9], [0.9, -0.9], [0.9, 0.9]])),
        ("trapezoid", polygon(&[[-0.45, -0.65], [0.45, -0.65], [0.95, 0.65], [-0.95, 0.65]])),
        ("triangle", Outline::regular(3)),
        ("wave", polygon(&[[-1.0, -0.1], [-0.5, -0.6], [0.0, -0.1], [0.5, -0.6], [1.0, -0.1], [1.0, 0.4], [0.5, -0.1], [0.0, 0.4],
            [-0.5, -0.1], [-1.0, 0.4]])),
    ]
}

/// Names and parts of the things, from the back to the front.
#[rustfmt::skip]
pub(super) fn things() -> Vec<(&'static str, Vec<Part>)> {
    vec![
        ("boat", vec![
            (rect([-0.05, -0.95], [0.05, 0.4]), 1),
            (polygon(&[[0.1, -0.9], [0.75, 0.25], [0.1, 0.25]]), 2),
            (polygon(&[[-0.1, -0.7], [-0.1, 0.25], [-0.6, 0.25]]), 2),
            (polygon(&[[-0.95, 0.4], [0.95, 0.4], [0.6, 0.9], [-0.6, 0.9]]), 0),
        ]),
        ("cup", vec![
            (band([0.5, 0.0], 0.45, 0.25, [0.7, 1.3]), 1),
            (polygon(&[[-0.75, -0.6], [0.55, -0.6], [0.42, 0.75], [-0.62, 0.75]]), 0),
            (ellipse([-0.1, -0.6], [0.65, 0.15]), 2),
        ]),
        ("fish", vec![
            (polygon(&[[0.4, 0.0], [0.98, -0.5], [0.85, 0.0], [0.98, 0.5]]), 1),
            (polygon(&[[-0.2, -0.3], [0.1, -0.7], [0.3, -0.2]]), 1),
            (ellipse([-0.2, 0.0], [0.75, 0.42]), 0),
            (ellipse([-0.62, -0.1], [0.1, 0.1]), 2),
        ]),
        ("house", vec![
            (rect([0.35, -0.9], [0.6, -0.3]), 1),
            (rect([-0.7, -0.2], [0.7, 0.9]), 0),
            (polygon(&[[0.0, -0.95], [0.95, -0.15], [-0.95, -0.15]]), 1),
            (rect([-0.45, 0.3], [-0.1, 0.9]), 2),
            (rect([0.15, 0.1], [0.5, 0.45]), 2),
        ]),
        ("key", vec![
            (rect([-0.2, -0.12], [0.95, 0.12]), 0),
            (rect([0.5, 0.1], [0.65, 0.45]), 0),
            (rect([0.75, 0.1], [0.92, 0.5]), 0),
            (ellipse([-0.5, 0.0], [0.48, 0.48]).without(ellipse([-0.5, 0.0], [0.22, 0.22])), 0),
        ]),
        ("mushroom", vec![
            (polygon(&[[-0.2, -0.1], [0.2, -0.1], [0.32, 0.9], [-0.32, 0.9]]), 1),
            (Outline::sector([0.0, 0.05], [0.95, 0.95], [0.5, 1.0]), 0),
            (ellipse([-0.45, -0.3], [0.15, 0.13]), 2),
            (ellipse([0.1, -0.55], [0.17, 0.14]), 2),
            (ellipse([0.5, -0.2], [0.14, 0.12]), 2),
        ]),
        ("tree", vec![
            (rect([-0.15, 0.3], [0.15, 0.95]), 1),
            (polygon(&[[0.0, -0.98], [0.5, -0.35], [-0.5, -0.35]]), 0),
            (polygon(&[[0.0, -0.65], [0.65, 0.05], [-0.65, 0.05]]), 0),
            (polygon(&[[0.0, -0.3], [0.8, 0.5], [-0.8, 0.5]]), 0),
        ]),
        ("umbrella", vec![
            (rect([-0.05, -0.95], [0.05, 0.7]), 1),
            (band([0.18, 0.7], 0.23, 0.12, [0.0, 0.5]), 1),
            (polygon(&[[-0.95, 0.05], [-0.85, -0.35], [-0.55, -0.7], [0.0, -0.85], [0.55, -0.7], [0.85, -0.35], [0.95, 0.05],
                [0.63, -0.1], [0.32, 0.05], [0.0, -0.1], [-0.32, 0.05], [-0.63, -0.1]]), 0),
        ]),
    ]
}
