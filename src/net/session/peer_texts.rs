//! The peer's text lines, and when the user sees each of them.

use std::{collections::VecDeque, time::Instant};

use crate::net::{token_bucket::TokenBucket, wire::text::Line};

/// Lines from the peer that are not shown yet. Those beyond the rate limit wait: after a stall of
/// the control channel, lines that were sent one by one arrive together.
#[derive(Debug)]
pub(super) struct PeerTexts {
    waiting: VecDeque<Line>,
    limit: TokenBucket,
}

impl PeerTexts {
    /// `limit`: on the lines that are shown.
    pub(super) fn new(limit: TokenBucket) -> Self {
        Self { waiting: VecDeque::new(), limit }
    }

    /// Adds a line. Returns false if too many wait; then it is dropped.
    pub(super) fn push(&mut self, line: Line) -> bool {
        let fits = self.waiting.len() < MAX_WAITING_LINES;
        if fits {
            self.waiting.push_back(line);
        }
        fits
    }

    /// The next line to show at `now`, if there is one and the rate limit allows it.
    pub(super) fn poll_line(&mut self, now: Instant) -> Option<Line> {
        let is_due = !self.waiting.is_empty() && self.limit.take(now, 1.0);
        if is_due { self.waiting.pop_front() } else { None }
    }

    /// When [`poll_line`](Self::poll_line) returns the next line.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| self.limit.next_at(1.0))
    }

    /// Takes all waiting lines, to be shown when the call ends.
    pub(super) fn take_all(&mut self) -> VecDeque<Line> {
        std::mem::take(&mut self.waiting)
    }
}

/// The maximum number of lines that wait. udpchat sends at most eight a second, and a call survives
/// a stall of 15 s.
pub(super) const MAX_WAITING_LINES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_wait_in_order() {
        let mut now = crate::clock::now();
        let mut texts = PeerTexts::new(TokenBucket::new(now, 10.0, 2.0));
        let line = |n: usize| Line::new(&format!("line {n}")).unwrap();
        for n in 0..MAX_WAITING_LINES {
            assert!(texts.push(line(n)));
        }
        assert!(!texts.push(line(0)), "too many wait");
        for n in 0..10 {
            if n >= 2 {
                assert_eq!(texts.poll_line(now), None);
                now = texts.poll_timeout().unwrap();
            }
            assert_eq!(texts.poll_line(now), Some(line(n)));
        }
        assert_eq!(texts.take_all().len(), MAX_WAITING_LINES - 10);
        assert_eq!((texts.poll_timeout(), texts.poll_line(now)), (None, None));
    }
}
