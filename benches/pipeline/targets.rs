//! Targets, compared with the measurements.

use crate::{
    measure::Samples,
    results::{Cell, Table},
};

/// The targets judged so far.
#[derive(Default)]
pub(crate) struct Targets(Vec<Vec<Cell>>);

/// Whether the target is an upper or a lower bound.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    AtMost,
    AtLeast,
}

impl Targets {
    /// Judges the median, over the rounds, of `measured` divided by `allowed`. `rule` describes how
    /// the allowed value is derived.
    pub(crate) fn judge(
        &mut self,
        what: &str,
        measured: &Samples,
        bound: Bound,
        allowed: &Samples,
        rule: &str,
    ) {
        let share = measured.ratios_to(allowed);
        let (sign, met) = match bound {
            Bound::AtMost => ("≤", share.figure().median <= 1.0),
            Bound::AtLeast => ("≥", share.figure().median >= 1.0),
        };
        self.0.push(vec![
            Cell::Text(what.to_owned()),
            measured.cell(),
            Cell::Text(format!("{sign} {rule}")),
            allowed.cell(),
            share.cell(),
            Cell::Text(if met { "met" } else { "not met" }.to_owned()),
        ]);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_table(self) -> Table {
        let columns = ["", "measured", "target", "target value", "measured / target", "result"];
        Table {
            title: "Targets".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: self.0,
        }
    }
}
