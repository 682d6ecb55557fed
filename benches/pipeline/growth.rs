//! How latency and processor time grow with the picture size.

use crate::{
    cases::{Case, P480, P720, P1080, P2160, QUALITY},
    floor::Floor,
    measure::Samples,
    program,
    results::{Cell, Chart, Drawing, Figure, Series, Table},
    targets::{Bound, Targets},
};

/// One quantity at all sizes.
struct Curve {
    name: &'static str,
    points: Vec<(f64, Figure)>,
    /// Intercept, and slope per megapixel, in ms.
    line: (f64, f64),
}

/// Returns the table and the chart, and judges the deviations from a line.
pub(crate) fn measure(targets: &mut Targets) -> (Table, Chart) {
    let mut found = NAMES.map(|_| CASES.map(|_| Vec::new()));
    let mut floors = CASES.map(|case| Floor::new(case.size, QUALITY));
    for round in 1..=ROUNDS {
        println!("growth: round {round} of {ROUNDS}");
        for (i, case) in CASES.into_iter().enumerate() {
            let report = program::demo(case, program::Mode::Auto, RATE, SECONDS);
            let floor = floors[i].paced(RATE.parse().expect("a number"), FLOOR_FRAMES);
            let all =
                [report.percentile("end_to_end", "p50"), report.cpu(), floor.both.figure().median];
            found.iter_mut().zip(all).for_each(|(curve, ms)| curve[i].push(ms));
        }
    }
    let curves: Vec<Curve> =
        NAMES.into_iter().zip(found).map(|(name, all)| Curve::new(name, all)).collect();
    for curve in &curves[..2] {
        let measured: Samples = [curve.worst()].into_iter().collect();
        let what = format!("growth of {} 480p to 2160p: worst deviation from a line", curve.name);
        let allowed = [0.15].into_iter().collect();
        targets.judge(&what, &measured, Bound::AtMost, &allowed, "0.15");
    }
    (table(&curves), chart(curves))
}

impl Curve {
    fn new(name: &'static str, all: [Vec<f64>; CASES.len()]) -> Self {
        let medians = all.map(|rounds| rounds.into_iter().collect::<Samples>().figure());
        let points: Vec<_> = CASES.map(Case::megapixels).into_iter().zip(medians).collect();
        let line = fit(&points);
        Self { name, points, line }
    }

    /// The relative deviation of the point `index` from the line.
    fn deviation(&self, index: usize) -> f64 {
        let (megapixels, figure) = self.points[index];
        figure.median / (self.line.0 + self.line.1 * megapixels) - 1.0
    }

    fn worst(&self) -> f64 {
        (0..self.points.len()).map(|i| self.deviation(i).abs()).fold(0.0, f64::max)
    }
}

/// Fits a line by least squares of relative deviations, so that small pictures weigh as much as
/// large ones.
fn fit(points: &[(f64, Figure)]) -> (f64, f64) {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &(x, Figure { median: y, .. }) in points {
        let weight = 1.0 / (y * y);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    let slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
    ((wy - slope * wx) / w, slope)
}

fn table(curves: &[Curve]) -> Table {
    let mut columns = vec!["picture".to_owned(), "megapixels".to_owned()];
    for curve in curves {
        columns.extend([
            format!("{}, ms", curve.name),
            "per megapixel".to_owned(),
            "deviation".to_owned(),
        ]);
    }
    let row = |(i, case): (usize, Case)| {
        let number = |value: f64| Cell::Figure(Figure { median: value, low: value, high: value });
        let mut row = vec![Cell::Text(case.name.to_owned()), number(case.megapixels())];
        for curve in curves {
            let (megapixels, figure) = curve.points[i];
            row.push(Cell::Figure(figure));
            row.push(number(figure.median / megapixels));
            row.push(Cell::Text(format!("{:+.0} %", 100.0 * curve.deviation(i))));
        }
        row
    };
    let title = format!(
        "Growth: quality {QUALITY}, {RATE} frames/s, {ROUNDS} alternating rounds of {SECONDS} s; \
         the line is the least-squares fit of the relative deviations"
    );
    Table { title, columns, rows: CASES.into_iter().enumerate().map(row).collect() }
}

fn chart(curves: Vec<Curve>) -> Chart {
    let series = |curve: Curve| Series {
        name: curve.name.to_owned(),
        points: curve.points,
        line: curve.line,
    };
    Chart {
        file: "growth".to_owned(),
        title: "480p to 2160p: what a frame costs".to_owned(),
        drawing: Drawing::Growth {
            x: "megapixels".to_owned(),
            y: "milliseconds a frame".to_owned(),
            series: curves.into_iter().map(series).collect(),
        },
    }
}

const CASES: [Case; 4] = [P480, P720, P1080, P2160];
const NAMES: [&str; 3] = ["latency p50", "processor time, both sides", "encode + decode, one core"];

/// A frame rate that all sizes sustain.
const RATE: &str = "10";
const ROUNDS: usize = 5;
const SECONDS: &str = "3";
const FLOOR_FRAMES: usize = 15;
