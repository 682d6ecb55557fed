//! The smoothed interval between the frames of a stream.

use std::time::{Duration, Instant};

/// Estimates the interval between frames: an exponentially weighted moving average.
///
/// Each user gives its own [`Smoothing`], since a pacer must follow a changed rate within a few
/// frames, and a quality control must not follow jitter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameInterval {
    smoothing: Smoothing,
    last: Option<Instant>,
    /// In seconds.
    mean: Option<f64>,
}

/// How the interval follows the frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Smoothing {
    /// The weight of the newest interval, from 0 to 1.
    pub(crate) weight: f64,
    /// A shorter interval counts as this long.
    pub(crate) min: Duration,
    /// A longer interval counts as this long.
    pub(crate) max: Duration,
    /// An interval longer than this many means counts as that long: the frame was delayed.
    pub(crate) max_ratio: f64,
}

impl Smoothing {
    /// Follows a changed rate within some eight frames. Pauses of over a second do not show the
    /// stream's rate.
    pub(crate) const QUICK: Self = Self {
        weight: 0.125,
        min: Duration::ZERO,
        max: Duration::from_secs(1),
        max_ratio: f64::INFINITY,
    };
}

impl FrameInterval {
    /// The interval is unknown until the second frame.
    pub(crate) fn new(smoothing: Smoothing) -> Self {
        Self { smoothing, last: None, mean: None }
    }

    /// Starts with a mean of `interval`, which the measured intervals then adjust.
    pub(crate) fn with_initial(smoothing: Smoothing, interval: Duration) -> Self {
        Self { mean: Some(interval.as_secs_f64()), ..Self::new(smoothing) }
    }

    /// Records a frame at `now`.
    pub(crate) fn record(&mut self, now: Instant) {
        let Some(last) = self.last.replace(now) else { return };
        let Smoothing { weight, min, max, max_ratio } = self.smoothing;
        let interval = now.saturating_duration_since(last).clamp(min, max).as_secs_f64();
        let Some(mean) = &mut self.mean else {
            self.mean = Some(interval);
            return;
        };
        let longest = max_ratio * mean.max(SHORTEST_MEAN);
        *mean += weight * (interval.min(longest) - *mean);
    }

    /// The mean interval, if known.
    pub(crate) fn get(&self) -> Option<Duration> {
        self.mean.map(Duration::from_secs_f64)
    }

    /// The mean interval in seconds, if known.
    pub(crate) fn seconds(&self) -> Option<f64> {
        self.mean
    }
}

/// The least mean that limits the next interval, in seconds, so that a mean of 0 can grow again.
const SHORTEST_MEAN: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The mean, in milliseconds, after `frames` more frames of `interval`.
    fn after(
        estimate: &mut FrameInterval,
        now: &mut Instant,
        frames: u32,
        interval: Duration,
    ) -> f64 {
        for _ in 0..frames {
            *now += interval;
            estimate.record(*now);
        }
        estimate.seconds().unwrap() * 1e3
    }

    #[test]
    fn the_interval_is_unknown_before_the_second_frame() {
        let now = crate::clock::now();
        let mut interval = FrameInterval::new(Smoothing::QUICK);
        interval.record(now);
        assert_eq!(interval.get(), None);
        interval.record(now + 20 * MS);
        assert_eq!(interval.get(), Some(20 * MS));
        let assumed = FrameInterval::with_initial(Smoothing::QUICK, 33 * MS);
        assert_eq!(assumed.get(), Some(33 * MS));
    }

    #[test]
    fn a_changed_rate_is_followed_gradually() {
        let mut now = crate::clock::now();
        let mut interval = FrameInterval::new(Smoothing::QUICK);
        assert!((after(&mut interval, &mut now, 20, 20 * MS) - 20.0).abs() < 1e-9);
        assert!((after(&mut interval, &mut now, 1, 100 * MS) - 30.0).abs() < 1e-9);
        assert!(after(&mut interval, &mut now, 40, 100 * MS) > 99.0);
    }

    #[test]
    fn outliers_are_limited() {
        let limits = Smoothing { min: 4 * MS, max: 100 * MS, ..Smoothing::QUICK };
        let (mut interval, mut now) = (FrameInterval::new(limits), crate::clock::now());
        assert!((after(&mut interval, &mut now, 20, Duration::ZERO) - 4.0).abs() < 1e-9);
        assert!((after(&mut interval, &mut now, 1, 9999 * MS) - 16.0).abs() < 1e-9);

        let limits = Smoothing { max_ratio: 2.0, ..Smoothing::QUICK };
        let mut interval = FrameInterval::with_initial(limits, 40 * MS);
        interval.record(now);
        assert!((after(&mut interval, &mut now, 1, 9999 * MS) - 45.0).abs() < 1e-9);
    }

    #[test]
    fn a_mean_of_zero_can_grow_again() {
        let limits = Smoothing { max_ratio: 2.0, ..Smoothing::QUICK };
        let (mut interval, mut now) = (FrameInterval::new(limits), crate::clock::now());
        assert!(after(&mut interval, &mut now, 300, Duration::ZERO) < 1e-9);
        assert!(after(&mut interval, &mut now, 300, 20 * MS) > 19.0);
    }
}
