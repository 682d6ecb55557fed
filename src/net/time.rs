//! Media time: the sender's clock, in microseconds since its session began.

use std::{
    ops::Sub,
    time::{Duration, Instant},
};

/// A time on a sender's clock, in microseconds since its media epoch.
///
/// It has 48 bits on the wire: nine years, so it does not wrap within a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MediaTime(u64);

impl MediaTime {
    /// The latest media time that the wire format can carry.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// `micros` after the epoch, saturating at [`MediaTime::MAX`].
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.min(Self::MAX.0))
    }

    /// Microseconds since the epoch.
    pub fn as_micros(self) -> u64 {
        self.0
    }

    /// Time since the epoch.
    pub fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// This time plus `later`, saturating at [`MediaTime::MAX`].
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(later.as_micros() as u64))
    }
}

impl Sub for MediaTime {
    type Output = Duration;

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A sender's media clock, given by its epoch on the local monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MediaClock {
    epoch: Instant,
}

impl MediaClock {
    /// Creates a clock that shows zero at `epoch`.
    pub fn starting(epoch: Instant) -> Self {
        Self { epoch }
    }

    /// The media time at `at`; zero before the epoch.
    pub fn media_time(&self, at: Instant) -> MediaTime {
        MediaTime::from_micros(at.saturating_duration_since(self.epoch).as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_clock_counts_microseconds_from_its_epoch() {
        let epoch = crate::clock::now();
        let clock = MediaClock::starting(epoch);
        let t = clock.media_time(epoch + Duration::from_millis(1500));
        assert_eq!(t.as_micros(), 1_500_000);
        assert_eq!(
            clock.media_time(epoch.checked_sub(Duration::from_secs(1)).unwrap()).as_micros(),
            0
        );
    }

    #[test]
    fn media_time_arithmetic_saturates() {
        let (early, late) = (MediaTime::from_micros(10), MediaTime::from_micros(35));
        assert_eq!(late - early, Duration::from_micros(25));
        assert_eq!(early - late, Duration::ZERO);
        assert_eq!(MediaTime::MAX.after(Duration::from_secs(9)), MediaTime::MAX);
    }
}
