//! SVG plots.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::ranged1d::{IntoSegmentedCoord as _, SegmentValue},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::report::{Plot, Table};

const FONT: (&str, u32) = ("sans-serif", 14);
const CAPTION: (&str, u32) = ("sans-serif", 18);
const WIDTH: u32 = 900;

type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Draws `plot` from its section's `tables`.
pub(crate) fn draw(file: &Path, plot: &Plot, tables: &[Table]) -> Result<()> {
    let mut shown = plot.tables.iter().filter_map(|index| tables.get(*index));
    let drawn = match &plot.over {
        Some(over) => curves(file, &plot.caption, over, &shown.collect::<Vec<_>>()),
        None => shown
            .next()
            .map_or(Ok(()), |table| bars(file, &plot.caption, table)),
    };
    drawn.map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

/// Row names as x, median ratios as y; rows whose name is not a number are skipped.
fn points(table: &Table) -> Vec<(f64, f64)> {
    let rows = table.rows.iter();
    rows.filter_map(|row| Some((row.name.parse().ok()?, row.ratio?.median)))
        .collect()
}

/// One curve per table, with a logarithmic x axis.
fn curves(file: &Path, caption: &str, over: &str, tables: &[&Table]) -> Drawn {
    let all: Vec<_> = tables.iter().flat_map(|table| points(table)).collect();
    let right = all.iter().map(|(x, _)| *x).fold(1.0, f64::max);
    let top = all.iter().map(|(_, y)| *y).fold(1.0, f64::max) * 1.4;
    let area = SVGBackend::new(file, (WIDTH, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, CAPTION)
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(55)
        .build_cartesian_2d((1.0..right).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(over)
        .y_desc("ratio to an empty program")
        .label_style(FONT)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, table) in tables.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let line = LineSeries::new(points(table), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)?
            .label(&table.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart
        .configure_series_labels()
        .label_font(FONT)
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// Ratios of a table: bar and number for the median, line from minimum to maximum.
fn bars(file: &Path, caption: &str, table: &Table) -> Drawn {
    let rows: Vec<_> = table
        .rows
        .iter()
        .filter_map(|row| Some((row.name.clone(), row.ratio?)))
        .collect();
    let right = rows.iter().map(|(_, ratio)| ratio.most).fold(1.0, f64::max) * 1.1;
    let height = 90 + 22 * rows.len() as u32;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, CAPTION)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(290)
        .build_cartesian_2d(0.0..right, (0..rows.len()).into_segmented())?;
    // The first row is at the top.
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) | SegmentValue::Exact(at) => rows
            .iter()
            .rev()
            .nth(*at)
            .map_or(String::new(), |(name, _)| name.clone()),
        SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(format!(
            "ratio to: {}; lines show minimum and maximum of all rounds",
            table.yardstick.as_deref().unwrap_or_default()
        ))
        .y_labels(rows.len())
        .label_style(FONT)
        .y_label_formatter(&name)
        .draw()?;
    let ends = [0, rows.len()].map(|row| (1.0, SegmentValue::Exact(row)));
    chart.draw_series([PathElement::new(ends, BLACK.mix(0.5))])?;
    let number = TextStyle::from(FONT.into_font()).pos(Pos::new(HPos::Left, VPos::Center));
    for (index, (_, ratio)) in rows.iter().rev().enumerate() {
        let [low, high] = [index, index + 1].map(SegmentValue::Exact);
        let mut bar = Rectangle::new([(0.0, low), (ratio.median, high)], BLUE.mix(0.4).filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(index);
        let behind = (ratio.median.max(ratio.most) + 0.005 * right, middle.clone());
        let text = format!("{:.2}", ratio.median);
        chart.draw_series([Text::new(text, behind, number.clone())])?;
        let ends = [(ratio.least, middle.clone()), (ratio.most, middle)];
        chart.draw_series([PathElement::new(ends, BLACK.stroke_width(2))])?;
    }
    area.present()?;
    Ok(())
}
