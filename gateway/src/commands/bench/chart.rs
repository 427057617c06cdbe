//! The added time of each way as a picture: percentiles side by side.

use std::path::Path;

use plotters::prelude::*;

use super::report::{Percentiles, Report, Round};

const SIZE: (u32, u32) = (960, 720);

/// Draws whole replies above and first tokens below, for the smallest body, and writes an SVG.
pub fn draw(report: &Report, path: &Path) -> anyhow::Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let panels = area.split_evenly((2, 1));
    let whole: fn(&Round) -> Percentiles = |round| round.added_whole;
    let first: fn(&Round) -> Percentiles = |round| round.added_first;
    let smallest = report.latency.iter().map(|line| line.bytes).min().unwrap_or_default();
    for (panel, (stream, title, of)) in panels.iter().zip([
        (false, "Whole replies: added time", whole),
        (true, "Streams: added time to the first token", first),
    ]) {
        let lines: Vec<(&str, Percentiles)> = report
            .latency
            .iter()
            .filter(|line| line.stream == stream && line.bytes == smallest && line.arm != super::proxy::DIRECT)
            .map(|line| (line.arm.as_str(), line.middle(of)))
            .collect();
        let top = lines.iter().map(|(_, added)| added.p99).fold(100.0, f64::max);
        let mut chart = ChartBuilder::on(panel)
            .caption(
                format!("{title}, {smallest} bytes, microseconds (log)"),
                ("sans-serif", 18),
            )
            .margin(12)
            .x_label_area_size(28)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..lines.len().max(1) as f64, (10.0..top * 1.5).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(0)
            .draw()
            .map_err(failed)?;
        let bars = [("p50", BLUE, 0.1), ("p95", CYAN, 0.35), ("p99", RED, 0.6)];
        for (name, colour, left) in bars {
            let of = |added: &Percentiles| match name {
                "p50" => added.p50,
                "p95" => added.p95,
                _ => added.p99,
            };
            let series = lines.iter().enumerate().map(|(at, (_, added))| {
                let left = at as f64 + left;
                Rectangle::new([(left, 10.0), (left + 0.22, of(added).max(10.0))], colour.filled())
            });
            chart
                .draw_series(series)
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        }
        let names = lines.iter().enumerate().map(|(at, (arm, added))| {
            let style = ("sans-serif", 14).into_font();
            Text::new(
                (*arm).to_owned(),
                (at as f64 + 0.1, (added.p99 * 1.25).max(14.0)),
                style,
            )
        });
        chart.draw_series(names).map_err(failed)?;
        chart
            .configure_series_labels()
            .border_style(BLACK)
            .draw()
            .map_err(failed)?;
    }
    area.present().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("the chart could not be drawn: {error}")
}
