//! What a run found, drawn: throughput and latency against load, or what an event cost against how
//! many were there.

use std::path::Path;

use plotters::{
    chart::{ChartBuilder, ChartContext, SeriesLabelPosition},
    coord::{
        Shift,
        cartesian::Cartesian2d,
        combinators::IntoLogRange as _,
        ranged1d::{Ranged, ValueFormatter},
    },
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::{Circle, PathElement},
    prelude::SVGBackend,
    series::LineSeries,
    style::{BLACK, BLUE, Color as _, RGBColor, WHITE},
};

use super::{
    Scene,
    history::Part,
    results::{Case, Results},
    stage::failed,
};
use crate::cli::error::CliError;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const PANEL: u32 = 400;
const COLOURS: [RGBColor; 5] = [
    BLUE,
    RGBColor(200, 60, 30),
    RGBColor(20, 140, 70),
    RGBColor(130, 130, 130),
    RGBColor(180, 120, 190),
];

/// One line: a name, and points from left to right.
struct Line {
    name: String,
    points: Vec<(u64, u64)>,
}

/// Draws throughput and latency against calls in flight, of so many accounts.
pub(super) fn load(
    path: &Path,
    results: &Results,
    in_flight: &[usize],
    accounts: usize,
) -> Result<(), CliError> {
    let scenes =
        [Scene::EchoAuthorize, Scene::Authorize, Scene::EchoRecord, Scene::Record, Scene::Cycle];
    let lines = |value: &dyn Fn(Case) -> Option<u64>| -> Vec<Line> {
        let line = |scene: Scene| {
            let point = |in_flight: usize| {
                let case = Case { scene, in_flight, accounts };
                Some((in_flight as u64, value(case)?))
            };
            let points = in_flight.iter().copied().filter_map(point).collect();
            Line { name: scene.name().to_owned(), points }
        };
        scenes.into_iter().map(line).collect()
    };
    let area = SVGBackend::new(path, (WIDTH, 2 * PANEL)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let (above, below) = area.split_vertically(PANEL);
    let title = format!("Calls a second, {accounts} accounts");
    let rates = lines(&|case| results.per_second(case));
    panel(&above, &title, SeriesLabelPosition::LowerRight, &rates)?;
    let title = "99th percentile of the latency, in microseconds";
    let latencies = lines(&|case| results.latency(case, 0.99));
    panel(&below, title, SeriesLabelPosition::UpperLeft, &latencies)?;
    area.present().map_err(failed)
}

/// Draws what posting an event cost as history grew.
pub(super) fn history(path: &Path, parts: &[Part]) -> Result<(), CliError> {
    let points = parts.iter().map(|part| (part.events, part.nanoseconds_each())).collect();
    let lines = [Line { name: "batch transaction".to_owned(), points }];
    let area = SVGBackend::new(path, (WIDTH, PANEL)).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let title = "Nanoseconds for each event posted";
    linear_panel(&area, title, &lines)?;
    area.present().map_err(failed)
}

/// Both axes by powers.
fn panel(
    area: &Area<'_>,
    title: &str,
    legend: SeriesLabelPosition,
    lines: &[Line],
) -> Result<(), CliError> {
    let (left, right) = extent(lines, |point| point.0);
    let (least, most) = extent(lines, |point| point.1);
    let chart = framed(area, title)
        .build_cartesian_2d(
            (float(left)..float(right)).log_scale(),
            (float((least / 2).max(1))..float(most * 2)).log_scale(),
        )
        .map_err(failed)?;
    draw(chart, "calls in flight", legend, lines)
}

/// Both axes from nothing.
fn linear_panel(area: &Area<'_>, title: &str, lines: &[Line]) -> Result<(), CliError> {
    let (_, right) = extent(lines, |point| point.0);
    let (_, most) = extent(lines, |point| point.1);
    let chart = framed(area, title)
        .build_cartesian_2d(0.0..float(right), 0.0..float(most + most / 5))
        .map_err(failed)?;
    draw(chart, "events in the database", SeriesLabelPosition::LowerRight, lines)
}

fn framed<'area, 'path>(
    area: &'area Area<'path>,
    title: &str,
) -> ChartBuilder<'area, 'area, SVGBackend<'path>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(80);
    builder
}

fn draw<'area, 'path: 'area, X, Y>(
    mut chart: ChartContext<'area, SVGBackend<'path>, Cartesian2d<X, Y>>,
    along: &str,
    legend: SeriesLabelPosition,
    lines: &[Line],
) -> Result<(), CliError>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let whole = |value: &f64| format!("{value:.0}");
    chart
        .configure_mesh()
        .x_desc(along)
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (line, colour) in lines.iter().zip(COLOURS) {
        let points = line.points.iter().map(|(x, y)| (float(*x), float(*y)));
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        chart
            .draw_series(points.map(|point| Circle::new(point, 3, colour.filled())))
            .map_err(failed)?;
    }
    chart
        .configure_series_labels()
        .position(legend)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()
        .map_err(failed)
}

/// The least and the most of all points on one axis.
fn extent(lines: &[Line], axis: impl Fn(&(u64, u64)) -> u64) -> (u64, u64) {
    let values = || lines.iter().flat_map(|line| &line.points).map(&axis);
    (values().min().unwrap_or(0).max(1), values().max().unwrap_or(0).max(1))
}

/// Exact for what a chart can show.
fn float(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::from(u32::MAX), f64::from)
}
