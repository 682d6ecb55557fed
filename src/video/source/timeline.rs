//! Paces a video by its timestamps.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::playback_clock::{wait_until, wake_exactly};
use crate::clock;

/// Paces a video of constant or variable frame rate.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The interval to the next picture if the timestamps do not give one: the last interval, or at
    /// first the nominal one.
    step: Duration,
    before: Option<Shown>,
}

/// A picture that has been shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    at: Instant,
    stamp: Duration,
}

impl Timeline {
    /// `fps` is the nominal rate, used if the video has no timestamps.
    pub(super) fn new(fps: f64) -> Self {
        Self { step: Duration::from_secs_f64(1.0 / fps), before: None }
    }

    /// Waits until the picture with this timestamp is due, and returns that time; `None` if `stop`
    /// was set first.
    pub(super) fn wait(&mut self, stamp: Duration, stop: &AtomicBool) -> Option<Instant> {
        if self.before.is_none() {
            wake_exactly();
        }
        let at = self.due(stamp, clock::now());
        wait_until(at, stop).then(|| self.show(stamp, at))
    }

    /// When the picture with this timestamp is due. If it is late by more than a step, the video
    /// continues from now: no picture is skipped and none is hurried.
    fn due(&self, stamp: Duration, now: Instant) -> Instant {
        let Some(before) = self.before else { return now };
        let step = self.step_to(stamp);
        let due = before.at + step;
        if now > due + step { now } else { due }
    }

    fn show(&mut self, stamp: Duration, at: Instant) -> Instant {
        self.step = self.step_to(stamp);
        self.before = Some(Shown { at, stamp });
        at
    }

    /// The time from the previous picture to this one. Without a later timestamp, the last step is
    /// used: the video has no timestamps, starts again, or has reached its last pictures, for which
    /// `OpenCV` has none.
    fn step_to(&self, stamp: Duration) -> Duration {
        let since = self.before.and_then(|before| stamp.checked_sub(before.stamp));
        since.filter(|step| !step.is_zero()).map_or(self.step, |step| step.min(LONGEST_STEP))
    }
}

/// A longer step is a gap in the timestamps, as in joined recordings, not a still picture.
const LONGEST_STEP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// When pictures with these timestamps are due, in ms after the first. Each is requested
    /// `asked_after` ms after the previous one was due.
    fn dues(fps: f64, stamps: &[u64], asked_after: u64) -> Vec<u128> {
        let mut timeline = Timeline::new(fps);
        let first = clock::now();
        let mut now = first;
        let due = |&stamp: &u64| {
            let stamp = Duration::from_millis(stamp);
            let at = timeline.due(stamp, now);
            now = timeline.show(stamp, at) + Duration::from_millis(asked_after);
            (at - first).as_millis()
        };
        stamps.iter().map(due).collect()
    }

    #[test]
    fn a_varying_rate_is_kept() {
        assert_eq!(dues(30.0, &[0, 33, 67, 567, 600, 1600], 5), [0, 33, 67, 567, 600, 1600]);
        assert_eq!(dues(30.0, &[500, 600, 900], 5), [0, 100, 400], "from the first on");
    }

    #[test]
    fn without_timestamps_the_nominal_rate_applies() {
        assert_eq!(dues(20.0, &[0, 0, 0, 0], 5), [0, 50, 100, 150]);
    }

    #[test]
    fn loops_and_missing_timestamps_repeat_the_last_interval() {
        assert_eq!(dues(25.0, &[0, 500, 1000, 0, 500, 1000], 5), [0, 500, 1000, 1500, 2000, 2500]);
        assert_eq!(dues(25.0, &[0, 500, 0, 0, 0, 100], 5), [0, 500, 1000, 1500, 2000, 2100]);
    }

    #[test]
    fn a_timestamp_jump_is_bounded() {
        assert_eq!(dues(25.0, &[0, 40, 90_000_000, 90_000_040], 5), [0, 40, 10_040, 10_080]);
    }

    #[test]
    fn a_late_reader_continues_without_catching_up() {
        assert_eq!(dues(25.0, &[0, 40, 80], 60), [0, 40, 80], "a little late");
        assert_eq!(dues(25.0, &[0, 40, 80, 580], 100), [0, 100, 200, 700]);
    }
}
