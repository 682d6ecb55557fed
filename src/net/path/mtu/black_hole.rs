//! Detects a black hole: full-length datagrams are lost while shorter ones arrive (RFC 8899 §4.3).

use std::time::{Duration, Instant};

/// What a receiver reports about the datagrams since its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The highest sequence number that has arrived.
    pub highest_sequence: u64,
    /// The length of the longest datagram that arrived, in bytes of UDP payload; 0 if none did.
    pub longest: usize,
    /// Datagrams that arrived.
    pub received: usize,
    /// Datagrams that were lost.
    pub lost: usize,
}

/// What a report shows about the length in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// A full-length datagram arrived.
    Passes,
    /// None arrived for so long that the path must be dropping them.
    BlackHole,
    /// Not enough for either.
    Undecided,
}

/// Compares what was sent at the length in use with what the peer reports.
#[derive(Clone, Debug, Default)]
pub(super) struct BlackHoleDetector {
    missing: Missing,
    /// The sequence number of the last datagram sent.
    last_sent: u64,
    /// That of the last datagram sent that was longer than the length in use.
    last_longer: Option<u64>,
    /// The highest sequence numbers of the last reports, oldest first.
    reported: [u64; 2],
}

/// What happened since a full-length datagram last arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// The sequence number that ended the first burst of full-length datagrams sent since.
    first_sent: Option<u64>,
    /// When a report first showed that they are missing although a later datagram has arrived.
    since: Option<Instant>,
    lost: usize,
    received: usize,
    /// When the peer first replied to something other than a chunk since the last report.
    answered: Option<Instant>,
}

impl BlackHoleDetector {
    /// Starts anew: the length in use has just been confirmed, or has changed.
    pub(super) fn restart(&mut self) {
        self.missing = Missing::default();
    }

    /// Records that shorter datagrams are sent from now on.
    pub(super) fn record_shortening(&mut self) {
        self.last_longer = Some(self.last_sent);
    }

    /// Records that datagrams of `len` bytes were sent, the last with this sequence number, while
    /// `in_use` is the length in use.
    pub(super) fn record_sent(&mut self, len: usize, last_sequence: u64, in_use: usize) {
        self.last_sent = last_sequence;
        if len > in_use {
            // The rest of a frame that began before the length in use was shortened.
            self.last_longer = Some(last_sequence);
        } else if is_full(len, in_use) {
            self.missing.first_sent.get_or_insert(last_sequence);
        }
    }

    /// Records that the peer replied to something other than a chunk. Returns whether no report has
    /// come for so long that the path must be dropping all full-length datagrams.
    pub(super) fn handle_answer(&mut self, now: Instant) -> bool {
        if self.missing.first_sent.is_none() {
            return false;
        }
        let since = *self.missing.answered.get_or_insert(now);
        let is_overdue = now.saturating_duration_since(since) >= UNREPORTED_TIME;
        if is_overdue {
            self.missing.answered = None;
        }
        is_overdue
    }

    /// Handles a report. If even one full-length datagram arrived, the others were lost for a reason
    /// other than their length.
    pub(super) fn handle_delivery(
        &mut self,
        now: Instant,
        delivery: Delivery,
        in_use: usize,
    ) -> Finding {
        self.missing.answered = None;
        self.reported = [self.reported[1], delivery.highest_sequence];
        if is_full(delivery.longest, in_use) {
            self.restart();
            return Finding::Passes;
        }
        let missing = &mut self.missing;
        if missing.first_sent.is_none_or(|first| delivery.highest_sequence <= first) {
            return Finding::Undecided;
        }
        let since = *missing.since.get_or_insert(now);
        missing.lost += delivery.lost;
        missing.received += delivery.received;
        let lasts = now.saturating_duration_since(since) >= BLACK_HOLE_TIME;
        let is_lossy = missing.lost >= BLACK_HOLE_LOSSES && missing.received > 0;
        if lasts && is_lossy { Finding::BlackHole } else { Finding::Undecided }
    }

    /// How long reports have shown that full-length datagrams are missing.
    pub(super) fn missing_for(&self, now: Instant) -> Option<Duration> {
        self.missing.since.map(|since| now.saturating_duration_since(since))
    }

    /// Whether the next report may still count datagrams that were longer than the length in use.
    ///
    /// A loss is reported once a later datagram has arrived and the reorder grace has passed, so
    /// the report may be the next but one.
    pub(super) fn may_report_longer(&self) -> bool {
        self.last_longer.is_some_and(|longer| self.reported[0] <= longer)
    }
}

/// Whether `len` counts as full length. It may be one byte below the length in use, since chunks
/// have even lengths.
fn is_full(len: usize, in_use: usize) -> bool {
    len + 1 >= in_use
}

/// If this many datagrams were lost and some arrived, but none of full length, for this long, the
/// path has a black hole. A burst of loss would take the short ones too.
const BLACK_HOLE_LOSSES: usize = 32;
const BLACK_HOLE_TIME: Duration = Duration::from_millis(150);

/// If the peer answers probes for this long without a report, the path has a black hole too. Reports
/// come every 50 ms while any chunk arrives.
const UNREPORTED_TIME: Duration = Duration::from_millis(400);
