//! Measures the queue towards the peer with clock probes at scattered moments.
//!
//! The first datagram of a frame is always sent at the same moment of the frame interval. If
//! another camera's frames always arrive just before it, it waits behind them, although there is no
//! standing queue. Probes at other moments see the path between such bursts: their smallest delay
//! is the standing queue, which is the same for every stream on the link. A reply carries the
//! arrival time of its probe, so only the forward path is measured.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use crate::net::{time::MediaTime, windowed_max::WindowedMax};

/// The one-way delays of probes, and the queueing delay derived from them.
#[derive(Clone, Debug)]
pub struct QueueDelay {
    /// Zero of the local clock.
    zero: Instant,
    /// In µs, across two clocks without a common epoch.
    least: WindowedMax<Reverse<i64>>,
    /// The smallest since the last call of `take`.
    recent_least: Option<i64>,
}

impl QueueDelay {
    /// Creates an estimator without measurements.
    pub fn new(now: Instant) -> Self {
        Self { zero: now, least: WindowedMax::new(BASE_DELAY_WINDOW), recent_least: None }
    }

    /// Records a probe that was sent at `sent` and arrived at `received` on the peer's clock.
    pub fn record(&mut self, now: Instant, sent: Instant, received: MediaTime) {
        let sent = sent.saturating_duration_since(self.zero).as_micros() as i64;
        let delay = received.as_micros() as i64 - sent;
        self.least.record(now, Reverse(delay));
        self.recent_least = Some(self.recent_least.map_or(delay, |recent| recent.min(delay)));
    }

    /// The delay of the fastest probe since the last call, above that of the fastest of the last 30
    /// to 60 s; `None` without a probe.
    pub fn take(&mut self, now: Instant) -> Option<Duration> {
        let recent = self.recent_least.take()?;
        let least = self.least.max(now).map_or(recent, |least| least.0);
        Some(Duration::from_micros((recent - least).max(0) as u64))
    }
}

/// The same as for the delays of frames, and for the same reasons: clock drift, and cross traffic.
const BASE_DELAY_WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A probe every 10 ms with delays of `delays` ms, measured by clocks that are `apart` µs
    /// apart.
    fn queue(delays: &[u64], apart: u64) -> (QueueDelay, Instant) {
        let start = crate::clock::now();
        let mut queue = QueueDelay::new(start);
        let mut now = start;
        for delay in delays {
            let sent = now;
            now += 10 * MS;
            let received = (sent - start).as_micros() as u64 + delay * 1000 + apart;
            queue.record(now, sent, MediaTime::from_micros(received));
        }
        (queue, now)
    }

    #[test]
    fn the_minimum_delay_means_an_empty_queue_at_any_clock_offset() {
        for apart in [0, 7, 1 << 46] {
            let (mut queue, now) = queue(&[3, 2, 9], apart);
            assert_eq!(queue.take(now), Some(Duration::ZERO));
            assert_eq!(queue.take(now), None, "nothing since");
        }
    }

    #[test]
    fn the_fastest_probe_determines_the_queue_delay() {
        let (mut queue, now) = queue(&[2], 5_000_000);
        queue.take(now);
        let zero = queue.zero;
        for delay in [30, 14, 22] {
            let received = (now - zero) + delay * MS + Duration::from_secs(5);
            queue.record(now, now, MediaTime::from_micros(received.as_micros() as u64));
        }
        assert_eq!(queue.take(now), Some(12 * MS));
    }

    #[test]
    fn a_queue_standing_for_a_minute_becomes_the_base_delay() {
        let mut delays = vec![20; 6100];
        delays[0] = 2;
        let (mut queue, now) = queue(&delays, 0);
        queue.take(now);
        queue.record(
            now,
            now,
            MediaTime::from_micros((now - queue.zero).as_micros() as u64 + 20_000),
        );
        assert_eq!(queue.take(now), Some(Duration::ZERO));
    }
}
