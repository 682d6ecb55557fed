//! The peer's text lines, and when the user sees each of them.

use std::{collections::VecDeque, time::Instant};

use crate::net::{token_bucket::TokenBucket, wire::text::Line};

/// Lines from the peer that are not shown yet. Those beyond the rate limit wait: after a stall of
/// the control channel, lines that were sent one by one arrive together.
#[derive(Debug)]
pub(super) struct PeerTexts {
    waiting: VecDeque<Line>,
    /// The lines that may still arrive. It begins with a burst, and grows while none arrive, since
    /// they may be stalled.
    arrivals: TokenBucket,
    /// The lines that may be shown at once.
    shown: TokenBucket,
}

impl PeerTexts {
    /// `per_second`: the mean rate of lines. `burst`: the lines that may be shown at once.
    pub(super) fn new(now: Instant, per_second: f64, burst: f64) -> Self {
        let shown = TokenBucket::new(now, per_second, burst);
        let mut arrivals = shown;
        arrivals.set_limits(per_second, MAX_STALLED);
        Self { waiting: VecDeque::new(), arrivals, shown }
    }

    /// Adds a line. Returns false if the peer has sent too many; then it is dropped.
    pub(super) fn push(&mut self, now: Instant, line: Line) -> bool {
        let is_allowed = self.arrivals.take(now, 1.0);
        if is_allowed {
            self.waiting.push_back(line);
        }
        is_allowed
    }

    /// The next line to show at `now`, if there is one and the rate limit allows it.
    pub(super) fn poll_line(&mut self, now: Instant) -> Option<Line> {
        let is_due = !self.waiting.is_empty() && self.shown.take(now, 1.0);
        if is_due { self.waiting.pop_front() } else { None }
    }

    /// When [`poll_line`](Self::poll_line) returns the next line.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.shown.next_at(1.0))
    }

    /// Takes all waiting lines, to be shown when the call ends.
    pub(super) fn take_all(&mut self) -> VecDeque<Line> {
        std::mem::take(&mut self.waiting)
    }
}

/// The lines that may arrive at once after a stall. udpchat sends at most eight a second, and a
/// call survives a stall of 15 s.
const MAX_STALLED: f64 = 150.0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn push(texts: &mut PeerTexts, now: Instant, count: usize) -> usize {
        let line = |n: usize| Line::new(&n.to_string()).unwrap();
        (0..count).filter(|&n| texts.push(now, line(n))).count()
    }

    #[test]
    fn lines_that_arrive_together_after_a_stall_are_shown_one_by_one() {
        let mut now = crate::clock::now();
        let mut texts = PeerTexts::new(now, 10.0, 20.0);
        now += Duration::from_secs(8);
        assert_eq!(push(&mut texts, now, 80), 80);
        for n in 0..70 {
            if n >= 20 {
                assert_eq!(texts.poll_line(now), None);
                now = texts.poll_timeout().unwrap();
            }
            assert_eq!(texts.poll_line(now), Line::new(&n.to_string()));
        }
        assert_eq!(texts.take_all().len(), 10);
        assert_eq!((texts.poll_timeout(), texts.poll_line(now)), (None, None));
    }

    #[test]
    fn a_flood_is_dropped() {
        let now = crate::clock::now();
        let mut texts = PeerTexts::new(now, 10.0, 20.0);
        assert_eq!(push(&mut texts, now, 1000), 20);
        assert_eq!(push(&mut texts, now + Duration::from_secs(1), 1000), 10);
        assert_eq!(push(&mut texts, now + Duration::from_secs(3600), 1000), 150);
    }
}
