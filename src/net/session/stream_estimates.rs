//! Running averages over the frames sent to one receiver.

use std::time::{Duration, Instant};

/// Smoothed properties of the stream's frames.
///
/// The pacer measures an interval of its own: clamped, and only between frames that begin to be
/// sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StreamEstimates {
    pushed: Option<Instant>,
    interval: Option<Duration>,
    /// Bytes sent for each byte of picture: headers, parity, retransmissions.
    overhead: Option<f64>,
    /// Bytes of a frame.
    frame_len: Option<f64>,
    bytes_before: u64,
}

impl StreamEstimates {
    /// Records that a frame was pushed.
    pub(super) fn record_pushed(&mut self, now: Instant) {
        let Some(before) = self.pushed.replace(now) else { return };
        let interval = now.saturating_duration_since(before).min(MAX_INTERVAL);
        self.interval = Some(self.interval.map_or(interval, |usual| (usual * 7 + interval) / 8));
    }

    /// Records that a frame of `len` bytes was sent; `bytes` is the total sent so far.
    pub(super) fn record_sent(&mut self, len: usize, bytes: u64) {
        let (len, sent) = (len.max(1) as f64, (bytes - self.bytes_before) as f64);
        self.bytes_before = bytes;
        for (usual, new) in [(&mut self.overhead, sent / len), (&mut self.frame_len, len)] {
            *usual = Some(usual.map_or(new, |usual| usual + (new - usual) / 8.0));
        }
    }

    /// The interval between frames; `None` before the second.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The part of `bps` bits a second that is left for pictures.
    pub(super) fn picture_share(&self, bps: u64) -> u64 {
        let overhead = self.overhead.unwrap_or(FIRST_OVERHEAD).min(MAX_OVERHEAD);
        (bps as f64 / overhead) as u64
    }

    /// The stream's rate in bytes a second, including all overhead.
    pub(super) fn bytes_a_second(&self) -> f64 {
        let frame = self.frame_len.unwrap_or(0.0) * self.overhead.unwrap_or(1.0);
        frame / self.interval.unwrap_or(FIRST_INTERVAL).as_secs_f64()
    }
}

/// Bytes sent for each byte of picture before the first frame was sent: only headers.
const FIRST_OVERHEAD: f64 = 1.05;

/// The most that counts as overhead, in bytes sent for each byte of picture; more is due to a flood
/// of repairs.
const MAX_OVERHEAD: f64 = 2.0;

/// The assumed frame interval before the second frame.
const FIRST_INTERVAL: Duration = Duration::from_millis(33);

/// The cap on the measured frame interval; longer pauses say nothing about the stream's rate.
const MAX_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_the_frames() {
        let (mut estimates, mut now) = (StreamEstimates::default(), crate::clock::now());
        assert_eq!((estimates.interval(), estimates.picture_share(105)), (None, 100));
        for i in 1..100 {
            estimates.record_pushed(now);
            now += Duration::from_millis(20);
            estimates.record_sent(1000, i * 1250);
        }
        assert_eq!(estimates.interval(), Some(Duration::from_millis(20)));
        assert_eq!(estimates.picture_share(1250), 1000);
        assert!((estimates.bytes_a_second() - 62_500.0).abs() < 1.0);
        estimates.record_pushed(now + 99 * MAX_INTERVAL);
        assert!(estimates.interval().is_some_and(|interval| interval < MAX_INTERVAL / 4));
    }
}
