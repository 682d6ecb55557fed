//! Timing, and statistics of repeated measurements.

use udpchat::clock;

use crate::results::{Cell, Figure};

/// One measurement per round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// The median, and the 10th and 90th percentile. Panics if there are no samples.
    pub(crate) fn figure(&self) -> Figure {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        Figure { median: at(0.5), low: at(0.1), high: at(0.9) }
    }

    pub(crate) fn cell(&self) -> Cell {
        Cell::Figure(self.figure())
    }

    /// Each sample divided by the floor of the same round, because the machine's speed may change
    /// within a second.
    pub(crate) fn ratios_to(&self, floor: &Self) -> Self {
        Self(self.0.iter().zip(&floor.0).map(|(sample, floor)| sample / floor).collect())
    }
}

/// The elapsed time of `run`, in ms.
pub(crate) fn timed(run: impl FnOnce()) -> f64 {
    let began = clock::now();
    run();
    (clock::now() - began).as_secs_f64() * 1e3
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Samples {
    type Item = &'a f64;
    type IntoIter = std::slice::Iter<'a, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
