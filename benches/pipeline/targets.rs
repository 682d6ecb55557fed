//! What is to be reached, beside what was measured.

use crate::{
    measure::Samples,
    results::{Cell, Table},
};

/// The targets looked at so far.
#[derive(Default)]
pub(crate) struct Targets(Vec<Vec<Cell>>);

/// On which side of its allowance a figure is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    AtMost,
    AtLeast,
}

impl Targets {
    /// Judges the median of the rounds' ratios of what was measured to what is allowed; `rule`
    /// says how much that is.
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

    pub(crate) fn into_table(self) -> Table {
        let columns = ["", "measured", "target", "that is", "measured / target", "target is"];
        Table {
            title: "Targets".to_owned(),
            columns: columns.map(str::to_owned).to_vec(),
            rows: self.0,
        }
    }
}
