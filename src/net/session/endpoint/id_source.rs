//! New handles and session ids.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::net::{
    frame::SessionId,
    session::{AskId, CallId, ConnId, LookupId},
};

/// Creates handles, each unique within the endpoint, and random session ids and seeds. The same
/// seed gives the same ones. A peer that sees the ids cannot predict the seeds, from which its path
/// challenges come.
#[derive(Debug)]
pub(super) struct IdSource {
    rng: StdRng,
    conns: u64,
    calls: u64,
    asks: u64,
    lookups: u64,
}

impl IdSource {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), conns: 0, calls: 0, asks: 0, lookups: 0 }
    }

    pub(super) fn new_conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    pub(super) fn new_call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    pub(super) fn new_ask(&mut self) -> AskId {
        self.asks += 1;
        AskId(self.asks)
    }

    pub(super) fn new_lookup(&mut self) -> LookupId {
        self.lookups += 1;
        LookupId(self.lookups)
    }

    pub(super) fn new_session(&mut self) -> SessionId {
        loop {
            if let Some(session) = SessionId::new(self.rng.random()) {
                return session;
            }
        }
    }

    /// The seed of a call's own random number generator.
    pub(super) fn new_seed(&mut self) -> u64 {
        self.rng.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_counted_by_kind() {
        let mut ids = IdSource::new(1);
        assert_eq!((ids.new_conn(), ids.new_conn()), (ConnId(1), ConnId(2)));
        assert_eq!((ids.new_call(), ids.new_call()), (CallId(1), CallId(2)));
        assert_eq!((ids.new_ask(), ids.new_ask()), (AskId(1), AskId(2)));
        assert_eq!((ids.new_lookup(), ids.new_lookup()), (LookupId(1), LookupId(2)));
    }

    #[test]
    fn sessions_and_seeds_depend_only_on_the_seed() {
        let drawn = |seed| {
            let mut ids = IdSource::new(seed);
            (ids.new_session(), ids.new_seed(), ids.new_session())
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        let (first, _, second) = drawn(1);
        assert_ne!(first, second);
    }
}
