//! A roofline as SVG: the rate of each kernel over its arithmetic intensity, below the limits of memory and
//! arithmetic (Williams, Waterman, Patterson 2009).

use std::fmt::Write;
use std::path::Path;

use super::Report;
use crate::plan::measure::Limits;
use crate::{Error, Result};

const SIZE: [f64; 2] = [960.0, 600.0];
/// Left, top, right, bottom.
const MARGIN: [f64; 4] = [80.0, 60.0, 220.0, 60.0];

/// Kinds of kernels by the end of their op's name, with their colours.
const KINDS: [(&str, &str); 4] =
    [("forward", "#1f77b4"), ("grad_input", "#d62728"), ("grad_weight", "#2ca02c"), ("other", "#7f7f7f")];

fn kind(op: &str) -> usize {
    let last = op.rsplit('.').next().unwrap_or_default();
    KINDS.iter().position(|(name, _)| *name == last).unwrap_or(KINDS.len() - 1)
}

/// A logarithmic axis from `from` to `to`, both powers of ten, on pixels.
struct Axis {
    from: f64,
    to: f64,
    pixels: [f64; 2],
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - self.from.log10()) / (self.to.log10() - self.from.log10());
        self.pixels[0] + share.clamp(-0.02, 1.02) * (self.pixels[1] - self.pixels[0])
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        let (first, last) = (self.from.log10().round() as i32, self.to.log10().round() as i32);
        (first..=last).map(|e| 10_f64.powi(e))
    }
}

fn decade(value: f64, up: bool) -> f64 {
    let log = value.max(1e-6).log10();
    10_f64.powf(if up { log.ceil() } else { log.floor() })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Draws all kernels of all networks.
pub(super) fn write(path: &Path, device: &str, limits: &Limits, reports: &[Report]) -> Result<()> {
    std::fs::write(path, draw(device, limits, reports)).map_err(|e| Error::io(path, "write", e))
}

fn draw(device: &str, limits: &Limits, reports: &[Report]) -> String {
    let (peak, bandwidth) = (limits.flops / 1e9, limits.bytes / 1e9);
    let rows: Vec<_> = reports
        .iter()
        .flat_map(|report| report.whole().into_iter().flat_map(|m| &m.rows).map(|row| (report.model, row)))
        .filter(|(_, row)| row.cost.flops > 0.0 && row.seconds > 0.0)
        .collect();
    let points: Vec<[f64; 2]> = rows
        .iter()
        .map(|(_, row)| [row.cost.flops / row.cost.bytes, row.cost.flops / row.seconds / 1e9])
        .collect();
    let over =
        |axis: usize, start: f64, f: fn(f64, f64) -> f64| points.iter().map(|p| p[axis]).fold(start, f);
    let ridge = peak / bandwidth;
    let x = Axis {
        from: decade(over(0, ridge, f64::min), false),
        to: decade(over(0, ridge * 2.0, f64::max), true),
        pixels: [MARGIN[0], SIZE[0] - MARGIN[2]],
    };
    let y = Axis {
        from: decade(over(1, peak, f64::min), false),
        to: decade(over(1, peak, f64::max), true),
        pixels: [SIZE[1] - MARGIN[3], MARGIN[1]],
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE[0], SIZE[1]
    );
    let mut add = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    let text = |x: f64, y: f64, anchor: &str, text: &str| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text))
    };
    let line = |a: [f64; 2], b: [f64; 2], style: &str| {
        format!("<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>", a[0], a[1], b[0], b[1])
    };
    let grid = "stroke=\"#dddddd\"";
    for value in x.decades() {
        add(line([x.at(value), y.pixels[0]], [x.at(value), y.pixels[1]], grid));
        add(text(x.at(value), y.pixels[0] + 18.0, "middle", &value.to_string()));
    }
    for value in y.decades() {
        add(line([x.pixels[0], y.at(value)], [x.pixels[1], y.at(value)], grid));
        add(text(x.pixels[0] - 8.0, y.at(value) + 4.0, "end", &value.to_string()));
    }
    add(text(
        (x.pixels[0] + x.pixels[1]) / 2.0,
        SIZE[1] - 18.0,
        "middle",
        "floating-point operations a byte moved",
    ));
    let middle = (y.pixels[0] + y.pixels[1]) / 2.0;
    add(format!(
        "<text transform=\"translate(22 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>"
    ));
    add(format!("<text x=\"{}\" y=\"28\" font-size=\"16\">{}</text>", MARGIN[0], escape(device)));
    let limit = "stroke=\"black\" stroke-width=\"1.5\"";
    // The slope begins where it enters the drawing.
    let start = x.from.max(y.from / bandwidth);
    add(line([x.at(start), y.at(start * bandwidth)], [x.at(ridge), y.at(peak)], limit));
    add(line([x.at(ridge), y.at(peak)], [x.pixels[1], y.at(peak)], limit));
    add(text(x.pixels[1] + 6.0, y.at(peak) + 4.0, "start", &format!("{peak:.0} GFLOP/s")));
    add(text(x.pixels[1] + 6.0, y.at(peak) + 20.0, "start", &format!("{bandwidth:.0} GB/s (slope)")));
    for ((model, row), [intensity, rate]) in rows.iter().zip(&points) {
        let radius = 2.5 + 2.0 * (row.seconds * row.count as f64 * 1e3).max(1e-3).sqrt().min(5.0);
        let (_, colour) = KINDS[kind(row.op)];
        let mut title = String::new();
        let _ = write!(
            title,
            "{model} {}: {} {} ({}), {} times {:.3} ms, {rate:.1} GFLOP/s",
            row.layer,
            row.what,
            row.types,
            row.variant,
            row.count,
            row.seconds * 1e3
        );
        add(format!(
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"{colour}\" fill-opacity=\"0.6\">\
             <title>{}</title></circle>",
            x.at(*intensity),
            y.at(*rate),
            escape(&title)
        ));
    }
    for (i, (name, colour)) in KINDS.iter().enumerate() {
        let at = y.pixels[0] - 20.0 * (KINDS.len() - i) as f64;
        add(format!(
            "<circle cx=\"{:.1}\" cy=\"{at:.1}\" r=\"5\" fill=\"{colour}\" fill-opacity=\"0.6\"/>",
            x.pixels[1] + 16.0
        ));
        add(text(x.pixels[1] + 28.0, at + 4.0, "start", name));
    }
    svg.push_str("</svg>\n");
    svg
}
