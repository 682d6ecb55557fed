//! The first frames of a stream, before the path is known.
//!
//! A start rate from which a stream over a LAN reaches its best quality within half a second would
//! flood a narrow link: ten frames at that rate take seconds at 300 kbit/s. So once 32 KB have been
//! sent, no frame and no answer to a NACK begins until a report shows that at least half of them
//! have arrived, or that data arrives at half the target rate or more. The first report comes
//! 10 ms and a round trip later. If reports do not show that, the path has fallen behind, and its
//! capacity is the rate of arrival.

use std::time::{Duration, Instant};

use crate::net::units::{Bitrate, DataSize};

/// Tracks the first frames of one stream to one receiver.
#[derive(Clone, Debug, Default)]
pub struct StartupProbe {
    /// UDP payload sent, and what the receiver has reported of it.
    sent: DataSize,
    received: DataSize,
    /// The time that the reports cover.
    time: Duration,
    /// When something was last sent.
    last_sent: Option<Instant>,
    /// When the last report came.
    reported: Option<Instant>,
}

/// The verdict on a path that fell behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// What the path carries.
    Capacity(Bitrate),
    /// Hardly anything is reported to have arrived. The path is probably not slow, but lossy, or
    /// passes only shorter datagrams.
    Unclear,
}

impl StartupProbe {
    /// Whether another frame, or the answer to a NACK, may begin.
    pub fn has_room(&self) -> bool {
        self.sent < STARTUP_LEN
    }

    /// Records that `size` of UDP payload was sent at `now`.
    pub fn record_sent(&mut self, now: Instant, size: DataSize) {
        self.sent += size;
        self.last_sent = Some(now);
    }

    /// Handles a report at `now` that `received` more arrived within `interval`. Returns true when
    /// the startup probe is over: its room is used up, and either at least half of what was sent has
    /// arrived, or data arrives at half of `target` or more.
    pub fn handle_report(
        &mut self,
        now: Instant,
        received: DataSize,
        interval: Duration,
        target: Bitrate,
    ) -> bool {
        self.received += received;
        self.time += interval;
        self.reported = Some(now);
        let missing = self.sent.saturating_sub(self.received);
        let is_taken = missing <= self.received || self.capacity() * 2.0 >= target;
        !self.has_room() && is_taken
    }

    /// Judges a path that has fallen behind, once reports have stopped. `None` before
    /// [`poll_timeout`](Self::poll_timeout).
    pub fn judge(&self, now: Instant) -> Option<ProbeResult> {
        self.poll_timeout().filter(|&due| due <= now)?;
        let is_rate = self.received >= MIN_RECEIVED;
        Some(if is_rate { ProbeResult::Capacity(self.capacity()) } else { ProbeResult::Unclear })
    }

    /// The rate of arrival. Time counts from the arrival of the first datagram, so that datagram is
    /// excluded.
    fn capacity(&self) -> Bitrate {
        self.received.saturating_sub(FIRST_DATAGRAM) / self.time.max(SHORTEST_TIME)
    }

    /// When [`judge`](Self::judge) returns a verdict; `None` while there is room. Without any report
    /// nothing would end the wait, so it ends after 300 ms.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let last_sent = self.last_sent.filter(|_| !self.has_room())?;
        let due = self.reported.map(|reported| reported.max(last_sent) + REPORT_TIMEOUT);
        Some(due.unwrap_or(last_sent + UNREPORTED_TIME))
    }
}

/// The UDP payload after which no other frame begins. The first frame of 720p is longer, so the
/// second waits for the first report.
const STARTUP_LEN: DataSize = DataSize::from_bytes(32_000);

/// Assumed UDP payload of the first datagram.
const FIRST_DATAGRAM: DataSize = DataSize::from_bytes(1200);

/// Without any report for this long after the last datagram, nothing is known of the path. Six
/// report intervals.
const UNREPORTED_TIME: Duration = Duration::from_millis(300);

/// How long to wait for another report. Reports come every 50 ms while anything arrives.
const REPORT_TIMEOUT: Duration = Duration::from_millis(120);

/// Less than two datagrams does not show a rate.
const MIN_RECEIVED: DataSize = DataSize::from_bytes(2400);

/// A shorter time does not show a rate, and counts as this.
const SHORTEST_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TARGET: Bitrate = Bitrate::from_mbps(10);

    const fn bytes(bytes: u64) -> DataSize {
        DataSize::from_bytes(bytes)
    }

    #[test]
    fn a_path_that_carries_half_the_flight_ends_the_probe() {
        let now = crate::clock::now();
        let mut probe = StartupProbe::default();
        probe.record_sent(now, bytes(20_000));
        assert!(probe.has_room());
        assert!(
            !probe.handle_report(now, bytes(20_000), 20 * MS, TARGET),
            "too little was sent to tell"
        );
        probe.record_sent(now, bytes(20_000));
        assert!(!probe.has_room() && probe.poll_timeout().is_some());
        assert!(
            probe.handle_report(now + 50 * MS, bytes(1000), 50 * MS, TARGET),
            "half of it is enough"
        );
    }

    #[test]
    fn a_path_that_falls_behind_reveals_its_capacity() {
        let now = crate::clock::now();
        let mut probe = StartupProbe::default();
        probe.record_sent(now, bytes(40_000));
        assert_eq!(probe.poll_timeout(), Some(now + UNREPORTED_TIME), "nothing is reported yet");
        assert!(!probe.handle_report(now, bytes(1950), 20 * MS, TARGET));
        assert!(!probe.handle_report(now + 50 * MS, bytes(3000), 50 * MS, TARGET));
        let due = probe.poll_timeout().expect("it is behind");
        assert_eq!(probe.judge(now + 50 * MS), None);
        assert_eq!(probe.judge(due), Some(ProbeResult::Capacity(Bitrate::from_bps(428_571))));
    }

    #[test]
    fn a_path_without_reports_is_unclear_and_not_slow() {
        let now = crate::clock::now();
        let mut probe = StartupProbe::default();
        probe.record_sent(now, bytes(20_000));
        assert_eq!(probe.poll_timeout(), None, "another frame may begin");
        probe.record_sent(now + 9 * MS, bytes(20_000));
        let due = now + 9 * MS + UNREPORTED_TIME;
        assert_eq!(probe.judge(now + UNREPORTED_TIME), None);
        assert_eq!(probe.judge(due), Some(ProbeResult::Unclear));
    }

    #[test]
    fn delivery_of_only_the_short_last_datagram_is_unclear() {
        let now = crate::clock::now();
        let mut probe = StartupProbe::default();
        probe.record_sent(now, bytes(40_000));
        assert!(!probe.handle_report(now, bytes(400), 10 * MS, TARGET));
        let due = probe.poll_timeout().expect("it is missing");
        assert_eq!(probe.judge(due), Some(ProbeResult::Unclear));
    }
}
