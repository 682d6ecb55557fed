//! The results of a bench, as they are printed, saved as JSON, and reported.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All results of one bench.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The bench's name; also that of its JSON file and of its markers in `docs/BENCHMARKS.md`.
    pub(crate) name: String,
    /// The machine and the date, in one line.
    pub(crate) machine: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
}

/// A table of figures. The first cell of a row is its heading.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Figure(Figure),
    Text(String),
}

/// The median over several rounds, with the 10th and 90th percentile.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A chart of figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chart {
    /// The file name without its extension.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) drawing: Drawing,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Drawing {
    /// Points with their spread over `x`, and a straight line that fits them.
    Growth { x: String, y: String, series: Vec<Series> },
    /// Stacked bars, one per row; `parts` names the parts.
    Bars { unit: String, parts: Vec<String>, bars: Vec<Bar> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Figure)>,
    /// Intercept and slope of the fitted line.
    pub(crate) line: (f64, f64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) parts: Vec<f64>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Figure(figure) => figure.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// As many decimals as three significant digits need, up to three; the spread only if there is one.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = *self;
        let magnitude = median.abs().max(1e-3).log10().floor() as i32;
        let decimals = (2 - magnitude).clamp(0, 3) as usize;
        let text = format!("{median:.decimals$}");
        if low < high {
            write!(f, "{text} ({low:.decimals$}–{high:.decimals$})")
        } else {
            f.write_str(&text)
        }
    }
}

/// The path of a bench's JSON file, below cargo's target directory.
pub(crate) fn path_of(name: &str) -> std::path::PathBuf {
    let tmp = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.with_file_name("bench").join(name).with_extension("json")
}
