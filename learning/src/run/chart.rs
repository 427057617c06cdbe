//! Pictures of a report: two bars a line, as SVG. Few enough shapes to be written by hand.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 180.0;
const LINE: f64 = 56.0;
const TOP: f64 = 44.0;
const BAR: f64 = 18.0;

/// What is served and what was trained, side by side.
pub(super) struct Bar {
    name: &'static str,
    before: f64,
    after: f64,
}

impl Bar {
    pub(super) fn new(name: &'static str, before: f64, after: f64) -> Self {
        Self { name, before, after }
    }

    pub(super) fn most(&self) -> f64 {
        self.before.max(self.after)
    }
}

/// Draws bars from 0 to `most`.
pub(super) fn bars(title: &str, most: f64, lines: &[Bar]) -> String {
    let height = TOP + LINE * lines.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"13\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"12\" y=\"24\" \
         font-size=\"16\">{title}</text>"
    );
    let room = WIDTH - LEFT - 90.0;
    for (at, line) in lines.iter().enumerate() {
        let top = TOP + LINE * at as f64;
        // Writing to a string can't fail.
        let _ = write!(svg, "<text x=\"12\" y=\"{}\">{}</text>", top + 24.0, line.name);
        for (row, (label, value, colour)) in [("before", line.before, "#9aa5b1"), ("after", line.after, "#2563eb")]
            .into_iter()
            .enumerate()
        {
            let length = (value / most).clamp(0.0, 1.0) * room;
            let y = top + BAR * row as f64 + 2.0 * row as f64;
            let _ = write!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{colour}\"/><text x=\"{:.1}\" \
                 y=\"{}\">{value:.3} {label}</text>",
                LEFT + length + 6.0,
                y + 13.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
