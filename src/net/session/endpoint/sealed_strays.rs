//! Sealed video of sessions that have not begun.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::frame::SessionId;

/// Tells a stream that cannot be opened from the first frame of a caller, which may come before its
/// hello is read, or after it was rejected.
#[derive(Debug, Default)]
pub(super) struct SealedStrays {
    /// When video of unknown sessions came first and last, without a long pause between.
    coming: Option<(Instant, Instant)>,
    /// The sessions of the last callers that were not admitted.
    rejected: VecDeque<SessionId>,
}

impl SealedStrays {
    /// Ignores the session of a caller that is not admitted.
    pub(super) fn ignore(&mut self, session: Option<SessionId>) {
        self.rejected.extend(session);
        if self.rejected.len() > REJECTED_REMEMBERED {
            self.rejected.pop_front();
        }
    }

    /// Handles a datagram of `session`. Returns whether it belongs to a stream.
    pub(super) fn is_stream(&mut self, now: Instant, session: SessionId) -> bool {
        if self.rejected.contains(&session) {
            return false;
        }
        let (first, last) = self.coming.unwrap_or((now, now));
        let first = if last + HELLO_DELAY < now { now } else { first };
        self.coming = Some((first, now));
        first + HELLO_DELAY <= now
    }
}

/// A hello that TCP must send again usually arrives within this time (RFC 6298: after 200 ms to 1 s).
const HELLO_DELAY: Duration = Duration::from_secs(1);

/// More callers are not rejected within the time that a frame takes.
const REJECTED_REMEMBERED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_video_that_goes_on_is_a_stream() {
        let (now, ms) = (crate::clock::now(), Duration::from_millis(1));
        let session = |id| SessionId::new(id).unwrap();
        let mut strays = SealedStrays::default();
        strays.ignore(Some(session(3)));
        for at in [0, 10, 20] {
            assert!(!strays.is_stream(now + at * ms, session(1)), "the first frame of a caller");
        }
        let later = now + 5000 * ms;
        let told = (0..110).map(|n| strays.is_stream(later + 10 * n * ms, session(1 + n % 2)));
        assert_eq!(told.filter(|told| *told).count(), 10, "two streams, after a second");
        assert!(!strays.is_stream(later + 1100 * ms, session(3)), "a rejected caller");
    }
}
