//! Pacing of sources without their own clock.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// Due times at a steady rate, computed from the first one, so that errors do not accumulate.
#[derive(Debug)]
pub(super) struct PlaybackClock {
    /// `None`: each picture is due when requested.
    fps: Option<f64>,
    start: Option<Instant>,
    /// The number of the next due time, in intervals since `start`.
    next: u64,
}

impl PlaybackClock {
    pub(super) fn new(fps: f64) -> Self {
        assert!(fps > 0.0 && fps.is_finite(), "{fps} frames/s");
        Self { fps: Some(fps), start: None, next: 0 }
    }

    /// Each picture is due when requested.
    pub(super) fn unpaced() -> Self {
        Self { fps: None, start: None, next: 0 }
    }

    /// Whether there is a frame rate.
    pub(super) fn is_paced(&self) -> bool {
        self.fps.is_some()
    }

    /// Waits until the next picture is due, and returns its due time; `None` if `stop` was set
    /// first.
    ///
    /// If the caller is late by more than an interval, all due times that have passed except the
    /// latest are skipped, so that there is never a burst.
    pub(super) fn wait(&mut self, stop: &AtomicBool) -> Option<Due> {
        let now = clock::now();
        let Some(fps) = self.fps else {
            let due = Due { at: now, number: self.next, skipped: 0 };
            self.next += 1;
            return (!stop.load(Ordering::Relaxed)).then_some(due);
        };
        let start = *self.start.get_or_insert_with(|| {
            wake_exactly();
            now
        });
        let passed = (now.saturating_duration_since(start).as_secs_f64() * fps) as u64;
        let number = self.next.max(passed);
        let at = start + Duration::from_secs_f64(number as f64 / fps);
        let skipped = number - self.next;
        self.next = number + 1;
        wait_until(at, stop).then_some(Due { at, number, skipped })
    }
}

/// One due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// The due time.
    pub at: Instant,
    /// Its number from 0, including skipped ones.
    pub number: u64,
    /// The number of due times skipped just before it.
    pub skipped: u64,
}

/// Waits until `deadline`; returns false if `stop` was set first.
pub(super) fn wait_until(deadline: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = deadline.saturating_duration_since(clock::now());
        if left.is_zero() {
            return true;
        }
        thread::park_timeout(left.min(STOP_CHECK_INTERVAL));
    }
}

/// Makes this thread's waits end on time. By default Linux may delay them by 50 µs to wake several
/// threads at once, which would delay each picture by that much.
pub(super) fn wake_exactly() {
    // A failure costs only those microseconds.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// How often a wait checks the stop flag. People do not notice a delay of 50 ms.
pub(super) const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A picture that waits for less than this is not worth replacing.
pub const FRESH: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    static NEVER_STOP: AtomicBool = AtomicBool::new(false);

    #[test]
    fn due_times_are_multiples_of_the_interval_and_never_early() {
        let mut playback_clock = PlaybackClock::new(200.0);
        let first = playback_clock.wait(&NEVER_STOP).expect("not stopped");
        for _ in 0..10 {
            let due = playback_clock.wait(&NEVER_STOP).expect("not stopped");
            assert_eq!(due.at - first.at, Duration::from_secs_f64(due.number as f64 / 200.0));
            assert!(clock::now() >= due.at);
        }
    }

    #[test]
    fn a_late_reader_skips_ahead_instead_of_bursting() {
        let mut playback_clock = PlaybackClock::new(100.0);
        let first = playback_clock.wait(&NEVER_STOP).expect("not stopped");
        assert!(wait_until(first.at + Duration::from_millis(55), &NEVER_STOP));
        let late = playback_clock.wait(&NEVER_STOP).expect("not stopped");
        assert!(late.number >= 5 && late.skipped == late.number - 1, "{late:?}");
        let next = playback_clock.wait(&NEVER_STOP).expect("not stopped");
        assert!(next.at - late.at >= Duration::from_millis(10));
    }

    #[test]
    fn unpaced_pictures_are_due_when_requested() {
        let mut playback_clock = PlaybackClock::unpaced();
        let (first, second) = (playback_clock.wait(&NEVER_STOP), playback_clock.wait(&NEVER_STOP));
        let (first, second) = (first.expect("not stopped"), second.expect("not stopped"));
        assert_eq!((first.number, second.number, second.skipped), (0, 1, 0));
        assert!(first.at <= second.at && second.at <= clock::now());
        assert_eq!(playback_clock.wait(&AtomicBool::new(true)), None);
    }

    #[test]
    fn stopping_ends_the_wait_soon() {
        let began = clock::now();
        assert!(!wait_until(began + Duration::from_secs(60), &AtomicBool::new(true)));
        assert!(clock::now() - began < Duration::from_secs(5));
    }
}
