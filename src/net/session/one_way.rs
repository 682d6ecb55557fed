//! A target without a control channel. It never replies, so only lookups and failures to send show
//! that its address has changed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{CallId, Event, Target, WaitReason, addresses::Addresses, dial::LOOKUP_INTERVAL};

/// A target of a sender without a control channel.
#[derive(Debug)]
pub(super) struct OneWayTarget {
    pub(super) target: Target,
    pub(super) addresses: Addresses,
    /// The call and the address in use, once an address is known.
    pub(super) call: Option<(CallId, SocketAddr)>,
    /// When the address was last changed after a failure.
    moved: Option<Instant>,
    /// The reason that was reported to the user, until datagrams are sent again.
    told: Option<WaitReason>,
    /// The last failure, until sending counts as restored.
    failed: Option<Instant>,
}

impl OneWayTarget {
    pub(super) fn new(now: Instant, target: Target) -> Self {
        let addresses = Addresses::new(now, &target, LOOKUP_INTERVAL);
        Self { target, addresses, call: None, moved: None, told: None, failed: None }
    }

    /// The address to switch to, if the one in use is no longer among the addresses of the target.
    pub(super) fn moved(&self) -> Option<SocketAddr> {
        let (_, addr) = self.call?;
        let known = self.addresses.known();
        known.first().filter(|_| !known.contains(&addr)).copied()
    }

    /// Records why datagrams are not sent or are refused. Returns an event, unless an equal or more
    /// important reason was reported before.
    pub(super) fn wait_for(&mut self, reason: WaitReason) -> Option<Event> {
        if self.told.as_ref().is_some_and(|told| told.weight() >= reason.weight()) {
            return None;
        }
        self.told = Some(reason.clone());
        let Target { host, port, .. } = &self.target;
        Some(Event::Waiting { host: host.clone(), port: *port, reason })
    }

    /// Records a report from the network that a datagram was not delivered.
    pub(super) fn note_failure(&mut self, now: Instant) {
        self.failed = Some(now);
    }

    /// Records that a datagram was sent. Returns an event if the user was told of a failure and
    /// none has occurred recently.
    pub(super) fn note_sent(&mut self, now: Instant) -> Option<Event> {
        if self.failed.is_some_and(|at| now < at + RECOVERY) {
            return None;
        }
        self.failed = None;
        self.told.take()?;
        Some(Event::Sending { host: self.target.host.clone() })
    }

    /// Handles a local failure to send to the address in use. Returns the next address, if there is
    /// another, at most once a second.
    pub(super) fn next_after_failure(&mut self, now: Instant) -> Option<SocketAddr> {
        self.addresses.expedite(now);
        self.failed = Some(now);
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

/// The minimum time between changes of address after failures.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long sending must go without a failure before it counts as restored. A kernel tries to
/// resolve a neighbour for three seconds before it reports the host unreachable.
const RECOVERY: Duration = Duration::from_secs(5);
