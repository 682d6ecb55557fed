//! What a bench has found, as it is printed, kept as JSON, and written up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// All that one bench has found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The bench; also the name of its JSON file and of its place in `docs/BENCHMARKS.md`.
    pub(crate) name: String,
    /// What it ran on and when, in one line.
    pub(crate) machine: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) charts: Vec<Chart>,
}

/// Figures side by side. The first cell of a row says what the others are of.
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

/// A median of several rounds, with the tenth and the ninetieth percentile of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Figures over a quantity, to be drawn.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chart {
    /// The file's name, without its ending.
    pub(crate) file: String,
    pub(crate) title: String,
    pub(crate) drawing: Drawing,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Drawing {
    /// Points with their spread over `x`, and a straight line that fits them.
    Growth { x: String, y: String, series: Vec<Series> },
    /// A bar a row, its parts one after another; `parts` names them.
    Bars { unit: String, parts: Vec<String>, bars: Vec<Bar> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, Figure)>,
    /// The line: at zero, and its slope.
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

/// Three digits that matter; the spread only where there is one.
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

/// Where `results` are kept as JSON, below cargo's target folder.
pub(crate) fn path_of(name: &str) -> std::path::PathBuf {
    let tmp = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.with_file_name("bench").join(name).with_extension("json")
}
