//! Arrival times of datagrams. The kernel stamps them with the wall clock, which may be set at any
//! time.

use std::time::{Duration, Instant};

use crate::clock;

/// The monotonic clock and the wall clock at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrivalClock {
    now: Instant,
    wall: Duration,
}

impl ArrivalClock {
    pub(super) fn read() -> Self {
        Self { now: clock::now(), wall: clock::wall() }
    }

    /// The instant at which the wall clock showed `at`; `None` if that is not in the last second.
    pub(super) fn instant_of(self, at: Duration) -> Option<Instant> {
        let age = self.wall.checked_sub(at).filter(|&age| age < OLDEST_STAMP)?;
        self.now.checked_sub(age)
    }
}

/// A stamp of this age or older means that the wall clock was set, or that this thread did not run
/// for a while.
const OLDEST_STAMP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_the_last_second_is_converted_and_any_other_is_ignored() {
        let (now, stamp, ms) = (clock::now(), Duration::from_secs(1000), Duration::from_millis(1));
        let after = |age| ArrivalClock { now, wall: stamp + age }.instant_of(stamp);
        assert_eq!(after(Duration::ZERO), Some(now));
        assert_eq!(after(ms), now.checked_sub(ms));
        assert_eq!(after(OLDEST_STAMP), None);
        let ahead = ArrivalClock { now, wall: stamp }.instant_of(stamp + ms);
        assert_eq!(ahead, None);
    }
}
