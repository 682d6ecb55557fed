//! Running averages over the frames sent to one receiver.

use std::time::{Duration, Instant};

use crate::net::{
    frame_interval::{FrameInterval, Smoothing},
    units::{BITS_PER_BYTE, Bitrate},
};

/// Smoothed properties of the stream's frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamEstimates {
    /// Between pushed frames, including skipped ones. The pacer's interval is between frames that
    /// begin to be sent.
    interval: FrameInterval,
    /// Bytes sent for each byte of picture: headers, parity, retransmissions.
    overhead: Option<f64>,
    /// Bytes of a frame.
    frame_len: Option<f64>,
    bytes_before: u64,
}

impl StreamEstimates {
    pub(super) fn new() -> Self {
        let interval = FrameInterval::new(Smoothing::QUICK);
        Self { interval, overhead: None, frame_len: None, bytes_before: 0 }
    }

    /// Records that a frame was pushed.
    pub(super) fn record_pushed(&mut self, now: Instant) {
        self.interval.record(now);
    }

    /// Records that a frame of `len` bytes was sent; `bytes` is the total sent so far.
    pub(super) fn record_sent(&mut self, len: usize, bytes: u64) {
        let (len, sent) = (len.max(1) as f64, (bytes - self.bytes_before) as f64);
        self.bytes_before = bytes;
        for (average, new) in [(&mut self.overhead, sent / len), (&mut self.frame_len, len)] {
            *average = Some(average.map_or(new, |old| old + (new - old) / 8.0));
        }
    }

    /// The interval between frames; `None` before the second.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval.get()
    }

    /// The part of `rate` that is left for pictures.
    pub(super) fn picture_share(&self, rate: Bitrate) -> Bitrate {
        rate / self.overhead.unwrap_or(FIRST_OVERHEAD).min(MAX_OVERHEAD)
    }

    /// The stream's rate, including all overhead.
    pub(super) fn rate(&self) -> Bitrate {
        let frame = self.frame_len.unwrap_or(0.0) * self.overhead.unwrap_or(1.0);
        let interval = self.interval.seconds().unwrap_or(FIRST_INTERVAL);
        Bitrate::from_f64(frame * BITS_PER_BYTE / interval)
    }
}

/// Bytes sent for each byte of picture before the first frame was sent: only headers.
const FIRST_OVERHEAD: f64 = 1.05;

/// The most that counts as overhead, in bytes sent for each byte of picture; more is due to a burst
/// of retransmissions.
const MAX_OVERHEAD: f64 = 2.0;

/// The assumed frame interval before the second frame, in seconds.
const FIRST_INTERVAL: f64 = 0.033;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_the_frames() {
        let (mut estimates, mut now) = (StreamEstimates::new(), crate::clock::now());
        let rate = Bitrate::from_bps;
        assert_eq!((estimates.interval(), estimates.picture_share(rate(105))), (None, rate(100)));
        for i in 1..100 {
            estimates.record_pushed(now);
            now += Duration::from_millis(20);
            estimates.record_sent(1000, i * 1250);
        }
        assert_eq!(estimates.interval(), Some(Duration::from_millis(20)));
        assert_eq!(estimates.picture_share(rate(1250)), rate(1000));
        assert!(estimates.rate().bps().abs_diff(8 * 62_500) < 8);
        estimates.record_pushed(now + Duration::from_secs(99));
        assert!(estimates.interval().is_some_and(|interval| interval < Duration::from_millis(250)));
    }
}
