//! The benchmark as pictures: what each arm ends with, and how it went along the stream.

use std::path::Path;

use anyhow::Context;
use plotters::prelude::*;

use super::report::Report;

const SIZE: (u32, u32) = (960, 540);

/// Draws both into a folder, which is made.
///
/// # Errors
/// If it can't be written.
pub fn draw(report: &Report, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    later(report, &folder.join("later.svg")).map_err(failed)?;
    stream(report, &folder.join("stream.svg")).map_err(failed)
}

/// Bars of what is right in the end, with the interval of the gain.
fn later(report: &Report, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let lines = report.lines();
    let title = format!(
        "Later questions answered exactly: {} {}",
        report.about.data, report.about.domain
    );
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(14)
        .y_label_area_size(44)
        .x_label_area_size(24)
        .build_cartesian_2d(0.0..lines.len().max(1) as f64, 0.0..1.05)?;
    chart.configure_mesh().disable_x_mesh().x_labels(0).draw()?;
    for (at, line) in lines.iter().enumerate() {
        let left = at as f64;
        let [before, after] = line.right;
        let bar = |from: f64, height: f64, colour: RGBColor| {
            Rectangle::new([(left + from, 0.0), (left + from + 0.3, height)], colour.filled())
        };
        chart.draw_series([bar(0.1, before, RGBColor(154, 165, 177)), bar(0.45, after, BLUE)])?;
        let sure = [before + line.over_base.lower, before + line.over_base.upper];
        chart.draw_series([PathElement::new(
            vec![(left + 0.6, sure[0].max(0.0)), (left + 0.6, sure[1].min(1.0))],
            BLACK.stroke_width(2),
        )])?;
        let name = format!("{} {after:.2}", line.arm.name());
        let style = ("sans-serif", 15).into_font();
        chart.draw_series([Text::new(
            name,
            (left + 0.1, (sure[1].max(after) + 0.05).min(1.04)),
            style,
        )])?;
    }
    area.present()?;
    Ok(())
}

/// Right answers until each correction, on average over the seeds.
fn stream(report: &Report, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let length = report.about.corrections;
    let arms: Vec<_> = report.lines().into_iter().map(|line| line.arm).collect();
    let mut chart = ChartBuilder::on(&area)
        .caption("Right answers in the stream until then", ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(34)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..length.max(1) as f64, 0.0..length.max(1) as f64)?;
    chart.configure_mesh().x_desc("corrections").draw()?;
    for (number, arm) in arms.into_iter().enumerate() {
        let seeds: Vec<_> = report.of(arm).collect();
        let mut right = 0.0;
        let points = (0..length).map(|at| {
            let now = seeds.iter().filter(|lived| lived.stream.get(at) == Some(&true)).count();
            right += now as f64 / seeds.len().max(1) as f64;
            ((at + 1) as f64, right)
        });
        let points: Vec<(f64, f64)> = points.collect();
        let colour = Palette99::pick(number).to_rgba();
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(arm.name())
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

fn failed(error: Box<dyn std::error::Error>) -> anyhow::Error {
    anyhow::anyhow!("the plots could not be drawn: {error}")
}
