//! Curves as SVG that inherit their colours from the page around them.

use plotters::prelude::*;

use crate::{Error, Result};

/// Colours of the training and validation curves: readable on white and on black.
pub(super) const COLOURS: [RGBColor; 2] = [RGBColor(224, 122, 31), RGBColor(46, 134, 222)];
const SIZE: (u32, u32) = (400, 270);

/// A colour as the page writes it.
pub(super) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The content of one chart.
pub(super) struct Chart<'a> {
    /// Below and beside.
    pub(super) labels: [&'a str; 2],
    pub(super) x: [f64; 2],
    pub(super) y: [f64; 2],
    /// Points of each curve, in the order of the colours.
    pub(super) curves: Vec<Vec<(f64, f64)>>,
    /// The position of a vertical dashed line.
    pub(super) mark: Option<f64>,
    /// Whether the diagonal is drawn.
    pub(super) diagonal: bool,
}

impl Chart<'_> {
    /// The chart as SVG, to be embedded into a page.
    pub(super) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg)
            .map_err(|e| Error::Data(format!("the chart of {} cannot be drawn: {e}", self.labels[1])))?;
        // Ink and paper are those of the page; the size adapts to the page.
        let fixed = format!("width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1);
        Ok(svg.replace("#000000", "currentColor").replacen(
            &fixed,
            &format!("role=\"img\" aria-label=\"{} by {}\"", self.labels[1], self.labels[0]),
            1,
        ))
    }

    fn draw(&self, svg: &mut String) -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(38)
            .y_label_area_size(50)
            .build_cartesian_2d(self.x[0]..self.x[1], self.y[0]..self.y[1])?;
        // Epochs are whole numbers; shares are not.
        let label = |x: &f64| match self.diagonal {
            true => format!("{x:.1}"),
            false if (x - x.round()).abs() < 1e-6 => format!("{x:.0}"),
            false => String::new(),
        };
        chart
            .configure_mesh()
            .x_desc(self.labels[0])
            .y_desc(self.labels[1])
            .bold_line_style(BLACK.mix(0.12))
            .light_line_style(BLACK.mix(0.0))
            .x_labels(7)
            .y_labels(6)
            .x_label_formatter(&label)
            .label_style(("sans-serif", 13))
            .axis_desc_style(("sans-serif", 13))
            .draw()?;
        if self.diagonal {
            let ends = [(self.x[0], self.y[0]), (self.x[1], self.y[1])];
            chart.draw_series(LineSeries::new(ends, BLACK.mix(0.4)))?;
        }
        if let Some(at) = self.mark {
            let height = self.y[1] - self.y[0];
            let dash = |i: i32| {
                let from = self.y[0] + height * f64::from(i) / 20.0;
                PathElement::new(vec![(at, from), (at, from + height / 40.0)], BLACK.mix(0.6))
            };
            chart.draw_series((0..20).map(dash))?;
        }
        for (points, colour) in self.curves.iter().zip(COLOURS) {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            if points.len() <= 60 {
                chart.draw_series(points.iter().map(|&at| Circle::new(at, 2, colour.filled())))?;
            }
        }
        root.present()?;
        Ok(())
    }
}

/// The range of the values, with a small margin.
pub(super) fn around(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    values.filter(|v| v.is_finite()).for_each(|v| (low, high) = (low.min(v), high.max(v)));
    if low > high {
        return [0.0, 1.0];
    }
    let room = (0.06 * (high - low)).max(1e-3 * high.abs()).max(1e-6);
    [low - room, high + room]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_have_the_pages_ink() {
        let chart = Chart {
            labels: ["epoch", "loss"],
            x: [1.0, 3.0],
            y: around([0.5, 0.2].into_iter()),
            curves: vec![vec![(1.0, 0.5), (2.0, 0.2)], vec![(1.0, 0.4), (2.0, 0.3)]],
            mark: Some(2.0),
            diagonal: false,
        };
        let svg = chart.svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("currentColor") && !svg.contains("#000000"), "{svg}");
        assert!(svg.matches("<polyline").count() >= 2, "{svg}");
        assert!(!svg.contains("http://") || svg.matches("http").count() == 1, "only the name space: {svg}");
    }

    #[test]
    fn a_constant_has_room_around_it() {
        let [low, high] = around([2.0, 2.0].into_iter());
        assert!(low < 2.0 && high > 2.0);
        assert_eq!(around(std::iter::empty()), [0.0, 1.0]);
    }
}
