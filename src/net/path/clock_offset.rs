//! Estimates a peer's media clock on the local clock, with four-timestamp probes.
//!
//! A probe leaves at t1 (ours), arrives at t2 (the peer's), is answered at t3 (the peer's), and the
//! reply arrives at t4 (ours). If both directions take the same time, the peer's clock showed (t2 +
//! t3) / 2 when ours showed (t1 + t4) / 2; otherwise the error is at most half the round trip
//! (RFC 5905 §8). Queues only add delay, so the probe with the shortest round trip is the most
//! accurate, until drift makes it less accurate than a newer one.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::time::MediaTime;

/// An estimate of a peer's media epoch on the local monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset {
    exact: Option<Instant>,
    samples: VecDeque<Sample>,
}

/// A time of the peer's, on the local clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The estimated time.
    pub at: Instant,
    /// The maximum error; zero when both sides read the same clock.
    pub error: Duration,
}

impl ClockOffset {
    /// For a peer that reads the same clock, and whose media time began at `epoch`.
    pub fn exact(epoch: Instant) -> Self {
        Self { exact: Some(epoch), samples: VecDeque::new() }
    }

    /// Records the four timestamps of one probe. `sent` and `received` are local. Inconsistent
    /// timestamps are ignored.
    pub fn record(
        &mut self,
        sent: Instant,
        peer_received: MediaTime,
        peer_sent: MediaTime,
        received: Instant,
    ) {
        let Some(total) = received.checked_duration_since(sent) else { return };
        let Some(rtt) = total.checked_sub(peer_sent - peer_received) else { return };
        let midpoint = sent + total / 2;
        let peer_midpoint = peer_received.after((peer_sent - peer_received) / 2);
        let Some(epoch) = midpoint.checked_sub(peer_midpoint.as_duration()) else { return };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at: received, epoch, rtt });
    }

    /// Converts the peer's `media_time` to the local clock, with the most accurate probe at `now`;
    /// `None` before the first reply.
    pub fn local(&self, now: Instant, media_time: MediaTime) -> Option<LocalTime> {
        let (epoch, error) = match self.exact {
            Some(epoch) => (epoch, Duration::ZERO),
            None => self.best(now).map(|s| (s.epoch, s.error(now)))?,
        };
        Some(LocalTime { at: epoch + media_time.as_duration(), error })
    }

    /// The shortest round trip among the recent probes.
    pub fn rtt(&self) -> Option<Duration> {
        self.samples.iter().map(|s| s.rtt).min()
    }

    fn best(&self, now: Instant) -> Option<&Sample> {
        self.samples.iter().min_by_key(|s| s.error(now))
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    epoch: Instant,
    rtt: Duration,
}

impl Sample {
    /// Half the round trip, plus the possible drift of two crystals since.
    fn error(&self, now: Instant) -> Duration {
        self.rtt / 2 + now.saturating_duration_since(self.at).mul_f64(DRIFT)
    }
}

/// Probes kept: the last 16 s at one per second, less while the queue is probed.
const SAMPLES: usize = 16;

/// Maximum drift between two clocks: two crystals of 50 ppm each.
const DRIFT: f64 = 100e-6;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Probes a peer whose epoch is `lead` after `start`; the directions take `there` and `back`.
    fn probe(
        offset: &mut ClockOffset,
        start: Instant,
        lead: Duration,
        at: Duration,
        there: Duration,
        back: Duration,
    ) {
        let media = |d: Duration| MediaTime::from_micros(d.saturating_sub(lead).as_micros() as u64);
        let (t2, t3) = (at + there, at + there + MS);
        offset.record(start + at, media(t2), media(t3), start + t3 + back);
    }

    #[test]
    fn a_symmetric_path_gives_the_exact_epoch() {
        let start = crate::clock::now();
        let mut offset = ClockOffset::default();
        assert_eq!(offset.local(start, MediaTime::default()), None);
        probe(&mut offset, start, 10 * MS, 100 * MS, 4 * MS, 4 * MS);
        let local = offset.local(start + 109 * MS, MediaTime::default()).unwrap();
        assert_eq!(local, LocalTime { at: start + 10 * MS, error: 4 * MS });
        assert_eq!(offset.rtt(), Some(8 * MS));
    }

    #[test]
    fn the_shortest_round_trip_wins_and_its_error_bound_holds() {
        let start = crate::clock::now();
        let mut offset = ClockOffset::default();
        for (i, (there, back)) in [(20, 1), (1, 3), (1, 40)].into_iter().enumerate() {
            probe(&mut offset, start, 10 * MS, MS * (100 + 100 * i as u32), there * MS, back * MS);
        }
        let local = offset.local(start + 400 * MS, MediaTime::default()).unwrap();
        let truth = start + 10 * MS;
        assert!(local.at.max(truth) - local.at.min(truth) <= local.error);
        assert!(local.error < 3 * MS, "{:?}", local.error);
    }

    #[test]
    fn an_old_probe_is_replaced_once_drift_exceeds_its_advantage() {
        let start = crate::clock::now();
        let mut offset = ClockOffset::default();
        probe(&mut offset, start, MS, 2 * MS, MS, MS);
        probe(&mut offset, start, 5 * MS, 60_000 * MS, 2 * MS, 2 * MS);
        let local = offset.local(start + 60_010 * MS, MediaTime::default()).unwrap();
        assert_eq!(local.at, start + 5 * MS);
    }

    #[test]
    fn a_shared_clock_is_exact() {
        let epoch = crate::clock::now();
        let local = ClockOffset::exact(epoch).local(epoch, MediaTime::from_micros(7)).unwrap();
        assert_eq!(
            local,
            LocalTime { at: epoch + Duration::from_micros(7), error: Duration::ZERO }
        );
    }

    #[test]
    fn impossible_times_are_ignored() {
        let start = crate::clock::now();
        let mut offset = ClockOffset::default();
        offset.record(start + MS, MediaTime::default(), MediaTime::default(), start);
        offset.record(start, MediaTime::default(), MediaTime::from_micros(9000), start + MS);
        assert_eq!(offset.rtt(), None);
    }
}
