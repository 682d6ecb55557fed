//! The parameters of the peer's stream, and when the user is told of a change.

use std::time::Instant;

use crate::net::{token_bucket::TokenBucket, wire::control::StreamParams};

/// The parameters of the peer's stream, as the peer announces them.
#[derive(Debug)]
pub(super) struct PeerStream {
    params: Option<StreamParams>,
    /// The newest parameters, if they have not been reported.
    unreported: Option<StreamParams>,
    limit: TokenBucket,
}

impl PeerStream {
    /// `params`: those announced so far. `limit`: on the changes that are reported.
    pub(super) fn new(params: Option<StreamParams>, limit: TokenBucket) -> Self {
        Self { params, unreported: None, limit }
    }

    /// The newest parameters, if any were announced.
    pub(super) fn params(&self) -> Option<StreamParams> {
        self.params
    }

    /// Handles new parameters. Returns whether they replace others that were not reported.
    pub(super) fn handle_change(&mut self, params: StreamParams) -> bool {
        self.params = Some(params);
        self.unreported.replace(params).is_some()
    }

    /// The change to report at `now`, if there is one and the rate limit allows it.
    pub(super) fn poll_change(&mut self, now: Instant) -> Option<StreamParams> {
        self.unreported.take_if(|_| self.limit.take(now, 1.0))
    }

    /// When [`poll_change`](Self::poll_change) returns the next change.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.unreported.map(|_| self.limit.next_at(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_beyond_the_limit_wait_and_the_newest_is_reported() {
        let now = crate::clock::now();
        let params = |width| StreamParams { width, height: 720, millifps: 30_000, quality: None };
        let mut stream = PeerStream::new(Some(params(1)), TokenBucket::new(now, 10.0, 1.0));
        assert_eq!((stream.params(), stream.poll_change(now)), (Some(params(1)), None));
        assert!(!stream.handle_change(params(2)));
        assert_eq!(stream.poll_change(now), Some(params(2)));
        assert_eq!(stream.poll_timeout(), None);

        assert!(!stream.handle_change(params(3)));
        assert_eq!(stream.poll_change(now), None);
        assert!(stream.handle_change(params(4)), "3 is never reported");
        assert_eq!(stream.params(), Some(params(4)));
        let due = stream.poll_timeout().unwrap();
        assert!(due > now);
        assert_eq!(stream.poll_change(due), Some(params(4)));
    }
}
