//! Targets without a control channel. They never reply, so only lookups and failures to send show
//! that an address has changed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    CallId, Event, LookupId, Target, WaitReason, addresses::Addresses, dial::LOOKUP_INTERVAL,
};
use crate::net::link::PeerAddr;

/// The targets of a sender without a control channel.
#[derive(Debug)]
pub(super) struct OneWayTargets(Vec<OneWayTarget>);

/// A target of a sender without a control channel.
#[derive(Debug)]
pub(super) struct OneWayTarget {
    target: Target,
    addresses: Addresses,
    /// The call and the address in use, once an address is known.
    call: Option<(CallId, SocketAddr)>,
    /// When the address was last changed after a failure.
    moved: Option<Instant>,
    /// The reason that was reported to the user, until datagrams are sent again.
    told: Option<WaitReason>,
    /// The last failure, until sending counts as restored.
    failed: Option<Instant>,
}

/// What the endpoint has to do for a target.
#[derive(Debug, PartialEq)]
pub(super) enum OneWayAction {
    /// Begin a call to this address: see [`OneWayTarget::note_call`].
    Begin(SocketAddr),
    /// Send the datagrams of this call to this address from now on.
    Redirect(CallId, SocketAddr),
    /// Report this event to the user.
    Report(Event),
}

impl OneWayTargets {
    pub(super) fn new(now: Instant, targets: impl IntoIterator<Item = Target>) -> Self {
        Self(targets.into_iter().map(|target| OneWayTarget::new(now, target)).collect())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The target at an index below [`len`](Self::len).
    pub(super) fn at(&mut self, index: usize) -> &mut OneWayTarget {
        &mut self.0[index]
    }

    /// The index of the target that awaits the result of `lookup`.
    pub(super) fn awaiting(&self, lookup: LookupId) -> Option<usize> {
        self.0.iter().position(|target| target.addresses.is_asked(lookup))
    }

    /// When to look up a name next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().filter_map(|target| target.addresses.poll_timeout()).min()
    }

    /// Whether any target has no call, since its address is not known yet.
    #[cfg(any(test, feature = "internals"))]
    pub(super) fn is_any_unresolved(&self) -> bool {
        self.0.iter().any(|target| target.call.is_none())
    }

    /// Handles a local failure to send to the address `to`. Returns what to do for each target by
    /// its index. `None`: no target has that address.
    pub(super) fn handle_unsendable(
        &mut self,
        now: Instant,
        to: PeerAddr,
        reason: &WaitReason,
    ) -> Option<Vec<(usize, OneWayAction)>> {
        let targets = self.0.iter_mut().enumerate();
        let mut targets = targets.filter(|(_, target)| target.is_at(to)).peekable();
        targets.peek()?;
        let actions = targets.filter_map(|(index, target)| {
            target.handle_unsendable(now, reason).map(|action| (index, action))
        });
        Some(actions.collect())
    }

    /// Records a report from the network that a datagram to `to` was not delivered. Returns the
    /// events, without those for which an equal or more important reason was reported before.
    pub(super) fn handle_unreachable(
        &mut self,
        now: Instant,
        to: PeerAddr,
        reason: WaitReason,
    ) -> impl Iterator<Item = Event> {
        self.targets_at(to).filter_map(move |target| {
            target.failed = Some(now);
            target.wait_for(reason.clone())
        })
    }

    /// Records that datagrams to `to` were passed to the network. Returns the events for the user.
    pub(super) fn handle_sent(
        &mut self,
        now: Instant,
        to: PeerAddr,
    ) -> impl Iterator<Item = Event> {
        self.targets_at(to).filter_map(move |target| target.handle_sent(now))
    }

    /// The targets whose datagrams go to `addr`.
    fn targets_at(&mut self, addr: PeerAddr) -> impl Iterator<Item = &mut OneWayTarget> {
        self.0.iter_mut().filter(move |target| target.is_at(addr))
    }
}

impl OneWayTarget {
    fn new(now: Instant, target: Target) -> Self {
        let addresses = Addresses::new(now, &target, LOOKUP_INTERVAL);
        Self { target, addresses, call: None, moved: None, told: None, failed: None }
    }

    /// Whether its name should be looked up now.
    pub(super) fn wants_lookup(&self, now: Instant) -> bool {
        self.addresses.is_due(now)
    }

    /// Records that lookup `id` has started. Returns the name and the port to look up.
    pub(super) fn note_lookup(&mut self, now: Instant, id: LookupId) -> (String, u16) {
        self.addresses.note_asked(now, id);
        (self.target.host.clone(), self.target.port)
    }

    /// Handles the result of a lookup. `failure` is the reason if no address is usable.
    pub(super) fn handle_found(
        &mut self,
        now: Instant,
        found: &[SocketAddr],
        failure: Option<WaitReason>,
    ) -> Option<OneWayAction> {
        self.addresses.handle_found(now, found);
        self.aim().or_else(|| {
            let failure = failure.filter(|_| self.call.is_none())?;
            self.wait_for(failure).map(OneWayAction::Report)
        })
    }

    /// Aims at a known address, unless the one in use is still known.
    pub(super) fn aim(&mut self) -> Option<OneWayAction> {
        let known = self.addresses.known();
        let &first = known.first()?;
        match self.call {
            None => Some(OneWayAction::Begin(first)),
            Some((_, addr)) if known.contains(&addr) => None,
            Some((call, _)) => Some(self.redirect(call, first)),
        }
    }

    /// Records that `call` sends to `addr`.
    pub(super) fn note_call(&mut self, call: CallId, addr: SocketAddr) {
        self.call = Some((call, addr));
    }

    /// Handles a local failure to send to the address in use: tries the next address, if there is
    /// another, at most once a second.
    fn handle_unsendable(&mut self, now: Instant, reason: &WaitReason) -> Option<OneWayAction> {
        self.addresses.expedite(now);
        self.failed = Some(now);
        match self.next_address(now) {
            Some((call, next)) => {
                self.moved = Some(now);
                Some(self.redirect(call, next))
            }
            None => self.wait_for(reason.clone()).map(OneWayAction::Report),
        }
    }

    /// Records that a datagram was sent. Returns an event if the user was told of a failure and
    /// none has occurred recently.
    fn handle_sent(&mut self, now: Instant) -> Option<Event> {
        if self.failed.is_some_and(|at| now < at + RECOVERY) {
            return None;
        }
        self.failed = None;
        self.told.take()?;
        Some(Event::Sending { host: self.target.host.clone() })
    }

    /// The address after the one in use, unless it was changed within the last second.
    fn next_address(&self, now: Instant) -> Option<(CallId, SocketAddr)> {
        let (call, addr) = self.call?;
        let known = self.addresses.known();
        let is_early = self.moved.is_some_and(|at| now < at + MOVE_INTERVAL);
        let index = known.iter().position(|known| *known == addr)?;
        let next = known[(index + 1) % known.len()];
        (!is_early && next != addr).then_some((call, next))
    }

    fn redirect(&mut self, call: CallId, addr: SocketAddr) -> OneWayAction {
        self.call = Some((call, addr));
        OneWayAction::Redirect(call, addr)
    }

    fn is_at(&self, addr: PeerAddr) -> bool {
        self.call.is_some_and(|(_, own)| PeerAddr::from(own) == addr)
    }

    /// Records why datagrams are not sent or are refused. Returns an event, unless an equal or more
    /// important reason was reported before.
    fn wait_for(&mut self, reason: WaitReason) -> Option<Event> {
        if self.told.as_ref().is_some_and(|told| told.weight() >= reason.weight()) {
            return None;
        }
        self.told = Some(reason.clone());
        let Target { host, port, .. } = &self.target;
        Some(Event::Waiting { host: host.clone(), port: *port, reason })
    }
}

/// The minimum time between changes of address after failures.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);

/// How long sending must go without a failure before it counts as restored. A kernel tries to
/// resolve a neighbour for three seconds before it reports the host unreachable.
const RECOVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallId = CallId(1);

    fn addr(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 7).into()
    }

    fn target(addrs: &[SocketAddr]) -> Target {
        Target { host: "desk".into(), port: 7, addrs: addrs.to_vec() }
    }

    /// One target with these addresses, and a call to the first of them.
    fn in_call(now: Instant, addrs: &[SocketAddr]) -> OneWayTargets {
        let mut targets = OneWayTargets::new(now, [target(addrs)]);
        assert_eq!(targets.at(0).aim(), Some(OneWayAction::Begin(addrs[0])));
        targets.at(0).note_call(CALL, addrs[0]);
        assert_eq!(targets.at(0).aim(), None);
        targets
    }

    fn waiting(reason: WaitReason) -> Event {
        Event::Waiting { host: "desk".into(), port: 7, reason }
    }

    fn sending() -> Event {
        Event::Sending { host: "desk".into() }
    }

    #[test]
    fn a_name_is_looked_up_and_followed_when_it_moves() {
        let now = crate::clock::now();
        let mut targets = OneWayTargets::new(now, [target(&[addr(9)]), target(&[])]);
        assert!(!targets.at(0).wants_lookup(now) && targets.at(1).wants_lookup(now));
        assert_eq!(targets.at(1).note_lookup(now, LookupId(3)), ("desk".to_owned(), 7));
        assert_eq!((targets.awaiting(LookupId(3)), targets.awaiting(LookupId(4))), (Some(1), None));
        let desk = targets.at(1);
        let found = |desk: &mut OneWayTarget, addrs: &[SocketAddr]| {
            desk.note_lookup(now, LookupId(3));
            desk.handle_found(now, addrs, None)
        };
        assert_eq!(found(desk, &[addr(1)]), Some(OneWayAction::Begin(addr(1))));
        desk.note_call(CALL, addr(1));
        assert_eq!(found(desk, &[addr(2), addr(1)]), None, "it is still there");
        assert_eq!(found(desk, &[addr(3)]), Some(OneWayAction::Redirect(CALL, addr(3))));
        assert_eq!(found(desk, &[]), None, "no answer is no move");
        assert!(targets.is_any_unresolved(), "the other one");
        assert!(targets.poll_timeout() > Some(now));
    }

    #[test]
    fn a_failed_lookup_is_reported_while_no_address_is_known() {
        let now = crate::clock::now();
        let mut targets = OneWayTargets::new(now, [target(&[])]);
        let unknown = || WaitReason::Unresolved { error: "unknown".into() };
        let fail = |targets: &mut OneWayTargets| {
            targets.at(0).note_lookup(now, LookupId(1));
            targets.at(0).handle_found(now, &[], Some(unknown()))
        };
        assert_eq!(fail(&mut targets), Some(OneWayAction::Report(waiting(unknown()))));
        assert_eq!(fail(&mut targets), None, "reported once");
        targets.at(0).note_lookup(now, LookupId(1));
        targets.at(0).handle_found(now, &[addr(1)], None);
        targets.at(0).note_call(CALL, addr(1));
        assert_eq!(fail(&mut targets), None, "its address is known");
    }

    #[test]
    fn a_failure_to_send_tries_the_next_address_once_a_second() {
        let now = crate::clock::now();
        let mut targets = in_call(now, &[addr(1), addr(2)]);
        let mut fail = |now, to: u8| {
            targets.handle_unsendable(now, addr(to).into(), &WaitReason::NobodyListens)
        };
        let redirect = |to| Some(vec![(0, OneWayAction::Redirect(CALL, addr(to)))]);
        assert_eq!(fail(now, 2), None, "no target is there");
        assert_eq!(fail(now, 1), redirect(2));
        assert_eq!(fail(now, 1), None, "it is not there any more");
        let report = OneWayAction::Report(waiting(WaitReason::NobodyListens));
        assert_eq!(fail(now, 2), Some(vec![(0, report)]), "it is too early");
        assert_eq!(fail(now, 2), Some(vec![]), "reported once");
        assert_eq!(fail(now + MOVE_INTERVAL, 2), redirect(1));
    }

    #[test]
    fn recovery_is_reported_once_nothing_has_failed_for_a_while() {
        let now = crate::clock::now();
        let mut targets = in_call(now, &[addr(1)]);
        let to = PeerAddr::from(addr(1));
        let sent =
            |targets: &mut OneWayTargets, now| -> Vec<_> { targets.handle_sent(now, to).collect() };
        assert_eq!(sent(&mut targets, now), [], "the user was told of no failure");
        let reason = WaitReason::NobodyListens;
        let told: Vec<_> = targets.handle_unreachable(now, to, reason.clone()).collect();
        assert_eq!(told, [waiting(reason.clone())]);
        assert_eq!(targets.handle_unreachable(now, addr(2).into(), reason).count(), 0);
        assert_eq!(sent(&mut targets, now + Duration::from_millis(4999)), []);
        assert_eq!(sent(&mut targets, now + RECOVERY), [sending()]);
        assert_eq!(sent(&mut targets, now + RECOVERY), []);
    }

    #[test]
    fn datagrams_concern_every_target_at_their_address() {
        let now = crate::clock::now();
        let at_addresses = || {
            let mut targets = OneWayTargets::new(now, [1, 2, 1].map(|last| target(&[addr(last)])));
            for (index, last) in [1, 2, 1].into_iter().enumerate() {
                targets.at(index).note_call(CallId(index as u64), addr(last));
            }
            targets
        };
        let (mut targets, reason) = (at_addresses(), WaitReason::NobodyListens);
        let told = targets.handle_unreachable(now, addr(1).into(), reason.clone());
        assert_eq!(told.count(), 2);
        let mut targets = at_addresses();
        let actions = targets.handle_unsendable(now, addr(1).into(), &reason);
        let indices = actions.unwrap().into_iter().map(|(index, _)| index);
        assert_eq!(indices.collect::<Vec<_>>(), [0, 2]);
        let later = now + RECOVERY;
        assert_eq!(targets.handle_sent(later, addr(2).into()).count(), 0);
        assert_eq!(targets.handle_sent(later, addr(1).into()).count(), 2);
    }
}
