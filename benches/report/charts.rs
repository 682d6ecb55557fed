//! SVG charts, dark on a white background, so that they are legible on any page.

use std::error::Error;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::results::{Bar, Chart, Drawing, Series};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Renders a chart as the text of an SVG file.
pub(crate) fn draw(chart: &Chart) -> Outcome<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let area = area.titled(&chart.title, (FONT, 20))?;
        match &chart.drawing {
            Drawing::Growth { x, y, series } => growth(&area, x, y, series)?,
            Drawing::Bars { unit, parts, bars } => stacked(&area, unit, parts, bars)?,
        }
        area.present()?;
    }
    Ok(svg)
}

/// Draws points with their spread, and the fitted lines.
fn growth(area: &Area<'_>, x: &str, y: &str, all: &[Series]) -> Outcome {
    let points = || all.iter().flat_map(|series| &series.points);
    let right = points().map(|(x, _)| *x).fold(0.0, f64::max) * HEADROOM;
    let top = points().map(|(_, figure)| figure.high).fold(0.0, f64::max) * HEADROOM;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .draw()?;
    for (series, colour) in all.iter().zip(COLOURS) {
        let (at_zero, slope) = series.line;
        let line = vec![(0.0, at_zero), (right, at_zero + slope * right)];
        chart
            .draw_series([PathElement::new(line, colour.stroke_width(1))])?
            .label(&series.name)
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        chart.draw_series(series.points.iter().map(|(x, figure)| {
            PathElement::new(vec![(*x, figure.low), (*x, figure.high)], colour.stroke_width(2))
        }))?;
        let dots = series.points.iter().map(|(x, figure)| (*x, figure.median));
        chart.draw_series(dots.map(|at| Circle::new(at, 4, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font((FONT, 15))
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    Ok(())
}

/// Draws stacked horizontal bars, one per row, from the top down.
fn stacked(area: &Area<'_>, unit: &str, parts: &[String], bars: &[Bar]) -> Outcome {
    let longest = bars.iter().map(|bar| bar.parts.iter().sum()).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .margin_left(NAMES_WIDTH)
        .x_label_area_size(48)
        .build_cartesian_2d(0.0..longest * HEADROOM, (bars.len() as f64 + 1.0)..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc(unit)
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 16))
        .light_line_style(WHITE)
        .draw()?;
    for (i, (part, colour)) in parts.iter().zip(COLOURS).enumerate() {
        let boxes = bars.iter().enumerate().map(|(row, bar)| {
            let (row, left) = (row as f64 + 1.0, bar.parts[..i].iter().sum::<f64>());
            Rectangle::new([(left, row - 0.35), (left + bar.parts[i], row + 0.1)], colour.filled())
        });
        chart
            .draw_series(boxes)?
            .label(part)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    let style = TextStyle::from((FONT, 15)).pos(Pos::new(HPos::Right, VPos::Center));
    for (row, bar) in bars.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(0.0, row as f64 + 0.875));
        area.draw(&Text::new(bar.name.clone(), area_position(area, x - 8, y), style.clone()))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font((FONT, 15))
        .background_style(WHITE)
        .border_style(GREY)
        .draw()?;
    Ok(())
}

/// Converts a position on the page to one within `area`, which begins below the title.
fn area_position(area: &Area<'_>, x: i32, y: i32) -> (i32, i32) {
    let (left, top) = area.get_base_pixel();
    (x - left, y - top)
}

const SIZE: (u32, u32) = (760, 440);
const FONT: &str = "sans-serif";

/// Length of an axis relative to its largest value.
const HEADROOM: f64 = 1.08;

/// Width of the column of bar names, in pixels.
const NAMES_WIDTH: i32 = 200;

const GREY: RGBColor = RGBColor(170, 170, 170);

/// Colours suited to colour-blind readers: six of Okabe and Ito's palette, then two greys.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(40, 40, 40),
];
