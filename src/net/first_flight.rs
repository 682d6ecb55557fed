//! The first frames of a stream, before anything is known of the path.
//!
//! A rate that a LAN needs within half a second would bury a narrow link: ten frames for it are
//! seconds of 300 kbit/s. So frames begin only while little is unreported, until the receiver's first
//! report, 10 ms and a round trip later, says that most of it has arrived. A path that stays behind
//! has shown what it carries.

use std::time::{Duration, Instant};

/// Watches the first frames of one stream to one receiver.
#[derive(Clone, Debug, Default)]
pub struct FirstFlight {
    /// Bytes of UDP payload that have left, and that the receiver has reported.
    sent: usize,
    received: usize,
    /// What the reports are about.
    time: Duration,
    /// When something last left.
    left: Option<Instant>,
    /// When something was last reported.
    reported: Option<Instant>,
}

/// What became of a first flight that the path has not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The path carries so many bits a second.
    Behind(u64),
    /// Hardly anything arrived: that is no slow path, but one that loses, or takes shorter datagrams only.
    Unclear,
}

impl FirstFlight {
    /// Whether one more frame may begin.
    pub fn has_room(&self) -> bool {
        self.sent < MOST_UNREPORTED
    }

    /// `bytes` have left at `now`.
    pub fn record_sent(&mut self, now: Instant, bytes: usize) {
        self.sent += bytes;
        self.left = Some(now);
    }

    /// The receiver reports at `now` that `bytes` more arrived within `interval`. True: the path takes
    /// what is sent, `target_bps` or nearly, and the first flight is over.
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

    /// Judges by `now` a path that has not taken what was sent, when nothing more of it arrives.
    pub fn judge(&self, now: Instant) -> Option<Verdict> {
        self.poll_timeout().filter(|&due| due <= now)?;
        let is_rate = self.received >= LEAST_RECEIVED;
        Some(if is_rate { Verdict::Behind(self.bps()) } else { Verdict::Unclear })
    }

    /// What has arrived, in bits a second. The time begins when the first datagram has arrived, so
    /// that one does not count.
    fn bps(&self) -> u64 {
        let received = self.received.saturating_sub(FIRST_DATAGRAM) as f64;
        let time = self.time.max(SHORTEST_TIME).as_secs_f64();
        (received * 8.0 / time) as u64
    }

    /// When [`judge`](Self::judge) has an answer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let reported = self.reported.filter(|_| !self.has_room())?;
        self.left.max(Some(reported)).map(|at| at + PATIENCE)
    }
}

/// Bytes of UDP payload: less than the first frame of 720p, so the second waits for the first report.
const MOST_UNREPORTED: usize = 32_000;

/// Bytes of UDP payload.
const FIRST_DATAGRAM: usize = 1200;

/// Reports come every 50 ms as long as anything arrives.
const PATIENCE: Duration = Duration::from_millis(120);

/// Fewer bytes than two datagrams say nothing of a rate.
const LEAST_RECEIVED: usize = 2400;

/// Over less time nothing can be told of a rate.
const SHORTEST_TIME: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const TARGET: u64 = 10_000_000;

    #[test]
    fn a_path_that_takes_the_first_frame_ends_the_first_flight() {
        let now = crate::clock::now();
        let mut flight = FirstFlight::default();
        flight.record_sent(now, 20_000);
        assert!(flight.has_room());
        assert!(!flight.handle_report(now, 20_000, 20 * MS, TARGET), "too little was sent to tell");
        flight.record_sent(now, 20_000);
        assert!(!flight.has_room() && flight.poll_timeout().is_some());
        assert!(flight.handle_report(now + 50 * MS, 1000, 50 * MS, TARGET), "half of it is enough");
    }

    #[test]
    fn a_path_that_falls_behind_tells_what_it_carries() {
        let now = crate::clock::now();
        let mut flight = FirstFlight::default();
        flight.record_sent(now, 40_000);
        assert_eq!(flight.poll_timeout(), None, "a blocked path is silent, not slow");
        assert!(!flight.handle_report(now, 1950, 20 * MS, TARGET));
        assert!(!flight.handle_report(now + 50 * MS, 3000, 50 * MS, TARGET));
        let due = flight.poll_timeout().expect("it is behind");
        assert_eq!(flight.judge(now + 50 * MS), None);
        assert_eq!(flight.judge(due), Some(Verdict::Behind(428_571)));
    }

    #[test]
    fn a_path_that_takes_only_the_short_last_datagram_is_not_slow() {
        let now = crate::clock::now();
        let mut flight = FirstFlight::default();
        flight.record_sent(now, 40_000);
        assert!(!flight.handle_report(now, 400, 10 * MS, TARGET));
        let due = flight.poll_timeout().expect("it is missing");
        assert_eq!(flight.judge(due), Some(Verdict::Unclear));
    }
}
