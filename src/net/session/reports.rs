//! The peer's reports in their order, and what changes from one to the next.

use crate::net::{units::DataSize, wire::report::Report};

/// The reports received from the peer.
#[derive(Debug, Default)]
pub(super) struct Reports {
    newest: Option<Report>,
}

/// What a report adds to the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReportDelta {
    /// Datagrams that arrived.
    pub(super) received: u64,
    /// Datagrams that were lost.
    pub(super) lost: u64,
    /// UDP payload that arrived.
    pub(super) size: DataSize,
}

impl Reports {
    /// Takes `report` and returns what it adds. Ignores a report older than the newest, and one whose
    /// count of received datagrams has decreased.
    pub(super) fn take(&mut self, report: Report) -> Option<ReportDelta> {
        let before = self.newest.unwrap_or_default();
        if report.highest_sequence < before.highest_sequence {
            return None;
        }
        let received = report.received.checked_sub(before.received)?;
        self.newest = Some(report);
        Some(ReportDelta {
            received,
            lost: report.lost.saturating_sub(before.lost),
            size: DataSize::from_bytes(report.received_bytes.saturating_sub(before.received_bytes)),
        })
    }

    /// The newest report, as it was received.
    pub(super) fn newest(&self) -> Option<&Report> {
        self.newest.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_what_is_new_and_an_older_one_nothing() {
        let report = |highest_sequence, received, lost| Report {
            highest_sequence,
            received,
            lost,
            received_bytes: 1000 * received,
            ..Report::default()
        };
        let mut reports = Reports::default();
        let first = ReportDelta { received: 90, lost: 10, size: DataSize::from_bytes(90_000) };
        assert_eq!(reports.take(report(100, 90, 10)), Some(first));
        assert_eq!(reports.take(report(99, 95, 4)), None);
        assert_eq!(reports.take(report(101, 89, 12)), None);
        assert_eq!(reports.newest(), Some(&report(100, 90, 10)));

        let late = ReportDelta { received: 15, lost: 0, size: DataSize::from_bytes(15_000) };
        assert_eq!(reports.take(report(110, 105, 5)), Some(late), "late datagrams are not lost");
    }
}
