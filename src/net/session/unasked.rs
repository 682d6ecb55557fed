//! A target that is sent to unasked: nobody there says where it is, or that it has gone elsewhere.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{CallId, Target, addresses::Addresses};

/// A target of a sender without a control channel.
#[derive(Debug)]
pub(super) struct Unasked {
    pub(super) target: Target,
    pub(super) addresses: Addresses,
    /// The call, once there is an address, and the address in use.
    pub(super) call: Option<(CallId, SocketAddr)>,
    /// Whether its user has been told that it has no address.
    pub(super) is_told: bool,
    moved: Option<Instant>,
}

impl Unasked {
    pub(super) fn new(now: Instant, target: Target) -> Self {
        let addresses = Addresses::new(now, &target, LOOKUP_INTERVAL);
        Self { target, addresses, call: None, is_told: false, moved: None }
    }

    /// The address to switch to, if the one in use is no longer among the addresses of the target.
    pub(super) fn moved(&self) -> Option<SocketAddr> {
        let (_, addr) = self.call?;
        let known = self.addresses.known();
        known.first().filter(|_| !known.contains(&addr)).copied()
    }

    /// This machine cannot send to the address in use: the next one, if there is another, and at most
    /// one a second.
    pub(super) fn next_after_failure(&mut self, now: Instant) -> Option<SocketAddr> {
        self.addresses.hurry(now);
        let (_, addr) = self.call?;
        let known = self.addresses.known();
        let is_early = self.moved.is_some_and(|at| now < at + MOVE_INTERVAL);
        let index = known.iter().position(|known| *known == addr)?;
        let next = known[(index + 1) % known.len()];
        if is_early || next == addr {
            return None;
        }
        self.moved = Some(now);
        Some(next)
    }
}

/// Between two lookups of a name that has an address.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

const MOVE_INTERVAL: Duration = Duration::from_secs(1);
