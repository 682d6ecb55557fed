//! The first frames of a stream, before the path is known.
//!
//! A rate that a LAN should reach within half a second would flood a narrow link: ten such frames
//! take seconds at 300 kbit/s. So new frames begin only while little is unreported, until the
//! receiver's first report, 10 ms and a round trip later, shows that most of it has arrived. On a
//! path that falls behind, the rate of arrival is what it carries.

use std::time::{Duration, Instant};

/// Tracks the first frames of one stream to one receiver.
#[derive(Clone, Debug, Default)]
pub struct StartupProbe {
    /// Bytes of UDP payload sent, and bytes that the receiver has reported.
    sent: usize,
    received: usize,
    /// The time that the reports cover.
    time: Duration,
    /// When something was last sent.
    left: Option<Instant>,
    /// When the last report came.
    reported: Option<Instant>,
}

/// The verdict on a path that fell behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The path carries this many bits per second.
    Capacity(u64),
    /// Hardly anything arrived: the path is not slow, but lossy, or passes only shorter datagrams.
    Unclear,
}

impl StartupProbe {
    /// Whether another frame may begin.
    pub fn has_room(&self) -> bool {
        self.sent < MAX_UNREPORTED
    }

    /// Records that `bytes` of UDP payload were sent at `now`.
    pub fn record_sent(&mut self, now: Instant, bytes: usize) {
        self.sent += bytes;
        self.left = Some(now);
    }

    /// Handles a report at `now` that `bytes` more arrived within `interval`. Returns true when the
    /// startup probe is over: its room is used up, and at least half of what was sent has arrived,
    /// or half of `target_bps` arrives.
    pub fn handle_report(
        &mut self,
        now: Instant,
        bytes: usize,
        interval: Duration,
        target_bps: u64,
    ) -> bool {
        self.received += bytes;
        self.time += interval;
        self.reported = Some(now);
        let is_taken = self.received * 2 >= self.sent || self.bps() * 2 >= target_bps;
        !self.has_room() && is_taken
    }

    /// Judges a path that has fallen behind, once nothing more arrives by `now`.
    pub fn judge(&self, now: Instant) -> Option<ProbeResult> {
        self.poll_timeout().filter(|&due| due <= now)?;
        let is_rate = self.received >= MIN_RECEIVED;
        Some(if is_rate { ProbeResult::Capacity(self.bps()) } else { ProbeResult::Unclear })
    }

    /// The rate of arrival in bits per second. Time counts from the arrival of the first datagram,
    /// so that datagram is excluded.
    fn bps(&self) -> u64 {
        let received = self.received.saturating_sub(FIRST_DATAGRAM) as f64;
        let time = self.time.max(SHORTEST_TIME).as_secs_f64();
        (received * 8.0 / time) as u64
    }

    /// When [`judge`](Self::judge) returns a verdict. Without any report nothing would end the wait
    /// for room, so it ends after 300 ms.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let left = self.left.filter(|_| !self.has_room())?;
        let due = self.reported.map(|reported| reported.max(left) + PATIENCE);
        Some(due.unwrap_or(left + UNREPORTED_TIME))
    }
}

/// Bytes of UDP payload. The first frame of 720p is longer, so the second waits for the first
/// report.
const MAX_UNREPORTED: usize = 32_000;

/// Assumed length of the first datagram, in bytes of UDP payload.
const FIRST_DATAGRAM: usize = 1200;

/// Without a report for this long after the first datagrams, nothing is known of the path. Six
/// reports.
const UNREPORTED_TIME: Duration = Duration::from_millis(300);

/// How long to wait for another report. Reports come every 50 ms while anything arrives.
const PATIENCE: Duration = Duration::from_millis(120);

/// Fewer bytes than two datagrams do not show a rate.
const MIN_RECEIVED: usize = 2400;

/// A shorter time does not show a rate.
const SHORTEST_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TARGET: u64 = 10_000_000;

    #[test]
    fn a_path_that_carries_half_the_flight_ends_the_probe() {
        let now = crate::clock::now();
        let mut flight = StartupProbe::default();
        flight.record_sent(now, 20_000);
        assert!(flight.has_room());
        assert!(!flight.handle_report(now, 20_000, 20 * MS, TARGET), "too little was sent to tell");
        flight.record_sent(now, 20_000);
        assert!(!flight.has_room() && flight.poll_timeout().is_some());
        assert!(flight.handle_report(now + 50 * MS, 1000, 50 * MS, TARGET), "half of it is enough");
    }

    #[test]
    fn a_path_that_falls_behind_reveals_its_capacity() {
        let now = crate::clock::now();
        let mut flight = StartupProbe::default();
        flight.record_sent(now, 40_000);
        assert_eq!(flight.poll_timeout(), Some(now + UNREPORTED_TIME), "nothing is reported yet");
        assert!(!flight.handle_report(now, 1950, 20 * MS, TARGET));
        assert!(!flight.handle_report(now + 50 * MS, 3000, 50 * MS, TARGET));
        let due = flight.poll_timeout().expect("it is behind");
        assert_eq!(flight.judge(now + 50 * MS), None);
        assert_eq!(flight.judge(due), Some(ProbeResult::Capacity(428_571)));
    }

    #[test]
    fn a_path_without_reports_is_unclear_and_not_slow() {
        let now = crate::clock::now();
        let mut flight = StartupProbe::default();
        flight.record_sent(now, 20_000);
        assert_eq!(flight.poll_timeout(), None, "another frame may begin");
        flight.record_sent(now + 9 * MS, 20_000);
        let due = now + 9 * MS + UNREPORTED_TIME;
        assert_eq!(flight.judge(now + UNREPORTED_TIME), None);
        assert_eq!(flight.judge(due), Some(ProbeResult::Unclear));
    }

    #[test]
    fn delivery_of_only_the_short_last_datagram_is_unclear() {
        let now = crate::clock::now();
        let mut flight = StartupProbe::default();
        flight.record_sent(now, 40_000);
        assert!(!flight.handle_report(now, 400, 10 * MS, TARGET));
        let due = flight.poll_timeout().expect("it is missing");
        assert_eq!(flight.judge(due), Some(ProbeResult::Unclear));
    }
}
