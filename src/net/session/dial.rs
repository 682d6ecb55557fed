//! One target that is called until it answers, and again when the call has ended.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    AskId, CallId, ConnId, Event, Target, WaitReason, addresses::Addresses, control::ControlChannel,
};
use crate::net::{
    crypto::keys::PublicKey,
    wire::control::{Hello, MediaOffer, StreamParams},
};

/// A target and the state of our call to it.
#[derive(Debug)]
pub(super) struct DialState {
    target: Target,
    pub(super) addresses: Addresses,
    state: State,
    waiting_for: Option<WaitReason>,
    /// Whether the target did not accept our last call at once, after our hello.
    kept_us_waiting: bool,
}

#[derive(Debug)]
enum State {
    Idle {
        redial_at: Instant,
    },
    Connecting(Round),
    /// A connection is established; `rest` holds the round's unused addresses.
    Connected {
        addr: SocketAddr,
        rest: Round,
        control: Box<ControlChannel>,
        state: AttemptState,
        give_up_at: Instant,
    },
    InCall(CallId),
}

/// One attempt at each of a target's addresses. The next attempt does not wait for the last to fail
/// (RFC 8305).
#[derive(Debug, Default)]
struct Round {
    untried: VecDeque<SocketAddr>,
    attempts: Vec<Attempt>,
    next_at: Option<Instant>,
    /// The most informative failure.
    failure: Option<WaitReason>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    conn: ConnId,
    addr: SocketAddr,
    give_up_at: Instant,
}

/// The progress with a target that has accepted the connection.
#[derive(Debug)]
enum AttemptState {
    /// It has not proved its key.
    Unknown,
    /// The user is asked whether to trust it. It has made this offer.
    Asked(AskId, MediaOffer),
    /// Our hello was sent.
    HelloSent(SentHello),
    /// The same, and the target's user is being asked about us.
    Ringing(SentHello),
}

/// What our hello said, and its call.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentHello {
    /// The call, which is pending until the target accepts it.
    pub(super) call: CallId,
    pub(super) stream: Option<StreamParams>,
}

/// What the handshake with a target has produced, after our hello.
#[derive(Debug)]
pub(super) struct Introduction {
    pub(super) addr: SocketAddr,
    /// The target's key.
    pub(super) key: PublicKey,
    pub(super) handshake_hash: Vec<u8>,
}

/// The parts of a call that a target has accepted.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) control: ControlChannel,
    pub(super) hello: SentHello,
}

/// What is due for a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Dial,
    GiveUp(ConnId),
}

impl DialState {
    pub(super) fn new(now: Instant, target: Target) -> Self {
        let addresses = Addresses::new(now, &target, LOOKUP_INTERVAL);
        let state = State::Idle { redial_at: now };
        Self { target, addresses, state, waiting_for: None, kept_us_waiting: false }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn host(&self) -> &str {
        &self.target.host
    }

    /// The address of the established connection, before the call.
    pub(super) fn addr(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Connected { addr, .. } => Some(*addr),
            _ => None,
        }
    }

    pub(super) fn owns(&self, conn: ConnId) -> bool {
        self.conns().any(|own| own == conn)
    }

    /// Its connections, including those being established.
    pub(super) fn conns(&self) -> impl Iterator<Item = ConnId> {
        let (round, connected) = match &self.state {
            State::Connecting(round) => (Some(round), None),
            State::Connected { control, .. } => (None, Some(control.conn())),
            State::Idle { .. } | State::InCall(_) => (None, None),
        };
        round.into_iter().flat_map(|round| &round.attempts).map(|a| a.conn).chain(connected)
    }

    /// Whether its name should be looked up: not while there is a connection.
    pub(super) fn wants_lookup(&self, now: Instant) -> bool {
        self.is_seeking() && self.addresses.is_due(now)
    }

    fn is_seeking(&self) -> bool {
        matches!(self.state, State::Idle { .. } | State::Connecting(_))
    }

    /// Handles the result of a lookup. Returns an event for a new failure if no address is known.
    pub(super) fn handle_found(
        &mut self,
        now: Instant,
        found: &[SocketAddr],
        failure: Option<WaitReason>,
    ) -> Option<Event> {
        self.addresses.handle_found(now, found);
        self.wait_for(failure.filter(|_| self.addresses.known().is_empty())?)
    }

    /// Returns an event if a lookup has had no answer for a while and no address is known.
    pub(super) fn check_lookup(&mut self, now: Instant) -> Option<Event> {
        if self.lookup_report_at()? > now {
            return None;
        }
        self.wait_for(WaitReason::Unresolved { error: "the name servers do not answer".into() })
    }

    pub(super) fn control_mut(&mut self) -> Option<&mut ControlChannel> {
        match &mut self.state {
            State::Connected { control, .. } => Some(control.as_mut()),
            _ => None,
        }
    }

    /// Why the call fails if the connection closes now.
    pub(super) fn lost_reason(&self) -> WaitReason {
        match self.state {
            State::Connected { state: AttemptState::Ringing(..), .. } => WaitReason::ConnectionLost,
            State::Connected { .. } => WaitReason::HungUp,
            _ => WaitReason::NoAnswer,
        }
    }

    pub(super) fn is_in_call(&self, call: CallId) -> bool {
        matches!(self.state, State::InCall(id) if id == call)
    }

    /// When a lookup without an answer is reported, unless it has been.
    fn lookup_report_at(&self) -> Option<Instant> {
        let is_told = matches!(
            self.waiting_for,
            Some(WaitReason::Unresolved { .. } | WaitReason::Uncallable { .. })
        );
        Some(self.addresses.waits_since().filter(|_| !is_told)? + LOOKUP_REPORT_DELAY)
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        match &self.state {
            State::Idle { redial_at } if *redial_at <= now && self.has_address() => Due::Dial,
            State::Connecting(round) => round.due(now),
            State::Connected { control, give_up_at, .. } if *give_up_at <= now => {
                Due::GiveUp(control.conn())
            }
            _ => Due::Nothing,
        }
    }

    fn has_address(&self) -> bool {
        !self.addresses.known().is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let lookup = self.addresses.poll_timeout().filter(|_| self.is_seeking());
        let state = match &self.state {
            State::Idle { redial_at } => Some(*redial_at).filter(|_| self.has_address()),
            State::Connected { control, state: AttemptState::Ringing(..), give_up_at, .. } => {
                Some(control.poll_timeout().min(*give_up_at))
            }
            State::Connecting(round) => round.poll_timeout(),
            State::Connected { give_up_at, .. } => Some(*give_up_at),
            State::InCall(_) => None,
        };
        [lookup, self.lookup_report_at(), state].into_iter().flatten().min()
    }

    /// Begins attempt `conn`, at the next address of this round or the first of a new round.
    pub(super) fn connect(&mut self, now: Instant, conn: ConnId) -> Option<SocketAddr> {
        if let State::Idle { .. } = self.state {
            let untried = self.addresses.known().iter().copied().collect();
            self.state = State::Connecting(Round { untried, ..Round::default() });
        }
        let State::Connecting(round) = &mut self.state else { return None };
        let addr = round.untried.pop_front()?;
        round.attempts.push(Attempt { conn, addr, give_up_at: now + CONNECT_DEADLINE });
        round.next_at = Some(now + CONNECTION_ATTEMPT_DELAY);
        Some(addr)
    }

    /// Handles the establishment of connection `conn`. Returns the attempts no longer needed.
    pub(super) fn handle_connected(
        &mut self,
        now: Instant,
        conn: ConnId,
        control: ControlChannel,
    ) -> Vec<ConnId> {
        let State::Connecting(round) = &mut self.state else { return Vec::new() };
        let mut rest = std::mem::take(round);
        let Some(index) = rest.attempts.iter().position(|a| a.conn == conn) else {
            return Vec::new();
        };
        let addr = rest.attempts.swap_remove(index).addr;
        let others: Vec<_> = rest.attempts.drain(..).collect();
        // Their addresses are tried again if the call fails at this one.
        others.iter().rev().for_each(|other| rest.untried.push_front(other.addr));
        let (state, give_up_at) = (AttemptState::Unknown, now + HELLO_DEADLINE);
        let control = Box::new(control);
        self.state = State::Connected { addr, rest, control, state, give_up_at };
        others.iter().map(|other| other.conn).collect()
    }

    /// Records that the user is asked about the target, as `ask`. The target has made this `offer`.
    pub(super) fn note_asked(&mut self, now: Instant, ask: AskId, offer: MediaOffer) {
        if let State::Connected { state, give_up_at, .. } = &mut self.state {
            *state = AttemptState::Asked(ask, offer);
            *give_up_at = now + ASK_DEADLINE;
        }
    }

    pub(super) fn asked(&self) -> Option<AskId> {
        match self.state {
            State::Connected { state: AttemptState::Asked(ask, _), .. } => Some(ask),
            _ => None,
        }
    }

    /// Ends the question about the target. Returns the target's offer.
    pub(super) fn take_offer(&mut self) -> Option<MediaOffer> {
        let State::Connected { state, .. } = &mut self.state else { return None };
        match std::mem::replace(state, AttemptState::Unknown) {
            AttemptState::Asked(_, offer) => Some(offer),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Sends our hello, since the target is trusted. Then call [`note_hello`](Self::note_hello).
    pub(super) fn send_hello(&mut self, now: Instant, hello: Hello) -> Option<Introduction> {
        let State::Connected { addr, control, give_up_at, .. } = &mut self.state else {
            return None;
        };
        *give_up_at = now + HELLO_DEADLINE;
        control.send_hello(hello);
        let handshake_hash = control.handshake_hash()?.to_vec();
        Some(Introduction { addr: *addr, key: control.peer_key()?, handshake_hash })
    }

    /// Records that our hello was sent.
    pub(super) fn note_hello(&mut self, hello: SentHello) {
        if let State::Connected { state, .. } = &mut self.state {
            *state = AttemptState::HelloSent(hello);
        }
    }

    /// Whether a call may send before the target accepts it: not if the target has kept us waiting,
    /// as it may do so again.
    pub(super) fn may_send_early(&self) -> bool {
        !self.kept_us_waiting
    }

    /// The call of our hello, while it is pending.
    pub(super) fn pending_call(&self) -> Option<CallId> {
        match &self.state {
            State::Connected {
                state: AttemptState::HelloSent(hello) | AttemptState::Ringing(hello),
                ..
            } => Some(hello.call),
            _ => None,
        }
    }

    /// Records that the target's user is asked about us, which may take any time. Returns an event
    /// if that is new.
    pub(super) fn ring(&mut self, now: Instant) -> Option<Event> {
        self.kept_us_waiting = true;
        let State::Connected { state, .. } = &mut self.state else { return None };
        *state = match std::mem::replace(state, AttemptState::Unknown) {
            AttemptState::HelloSent(hello) => AttemptState::Ringing(hello),
            other => other,
        };
        self.extend_deadline(now);
        self.wait_for(WaitReason::Ringing)
    }

    /// Extends the deadline while the target rings, since something has been received.
    pub(super) fn extend_deadline(&mut self, now: Instant) {
        if let State::Connected { state: AttemptState::Ringing(..), give_up_at, .. } =
            &mut self.state
        {
            *give_up_at = now + RINGING_SILENCE;
        }
    }

    /// Sends keep-alives while the target rings.
    pub(super) fn keep_ringing(&mut self, now: Instant) {
        if let State::Connected { control, state: AttemptState::Ringing(..), .. } = &mut self.state
        {
            control.handle_timeout(now);
        }
    }

    /// Handles the target's acceptance. Returns the parts of the call; `None` if we have not sent a
    /// hello.
    pub(super) fn answered(&mut self) -> Option<Answered> {
        let call = self.pending_call()?;
        self.waiting_for = None;
        match std::mem::replace(&mut self.state, State::InCall(call)) {
            State::Connected { control, state: AttemptState::Ringing(hello), .. } => {
                Some(Answered { control: *control, hello })
            }
            State::Connected { control, state: AttemptState::HelloSent(hello), .. } => {
                self.kept_us_waiting = false;
                Some(Answered { control: *control, hello })
            }
            _ => None,
        }
    }

    /// Handles the failure of attempt `conn`: the next address is tried at once. When all have been
    /// tried, there is a pause, and an event if the reason is new.
    pub(super) fn fail(&mut self, now: Instant, conn: ConnId, reason: WaitReason) -> Option<Event> {
        self.kept_us_waiting |= self.pending_call().is_some();
        let mut round = match &mut self.state {
            State::Connecting(round) => std::mem::take(round),
            State::Connected { rest, .. } => std::mem::take(rest),
            State::Idle { .. } | State::InCall(_) => return None,
        };
        round.attempts.retain(|attempt| attempt.conn != conn);
        round.next_at = Some(now);
        let is_more_telling = round.failure.as_ref().is_none_or(|f| f.weight() < reason.weight());
        if is_more_telling {
            round.failure = Some(reason);
        }
        if !(round.untried.is_empty() && round.attempts.is_empty()) {
            self.state = State::Connecting(round);
            return None;
        }
        self.state = State::Idle { redial_at: now + REDIAL_INTERVAL };
        self.wait_for(round.failure?)
    }

    fn wait_for(&mut self, reason: WaitReason) -> Option<Event> {
        if self.waiting_for.as_ref() == Some(&reason) {
            return None;
        }
        self.waiting_for = Some(reason.clone());
        let (host, port) = (self.target.host.clone(), self.target.port);
        Some(Event::Waiting { host, port, reason })
    }

    /// Schedules the next call, since this one has ended.
    pub(super) fn handle_call_ended(&mut self, now: Instant) {
        self.state = State::Idle { redial_at: now + REDIAL_INTERVAL };
        self.waiting_for = None;
    }
}

impl Round {
    fn due(&self, now: Instant) -> Due {
        if let Some(late) = self.attempts.iter().find(|a| a.give_up_at <= now) {
            return Due::GiveUp(late.conn);
        }
        if self.next().is_some_and(|at| at <= now) { Due::Dial } else { Due::Nothing }
    }

    /// When the next address should be tried, if there is one.
    fn next(&self) -> Option<Instant> {
        self.next_at.filter(|_| !self.untried.is_empty())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.attempts.iter().map(|a| a.give_up_at).chain(self.next()).min()
    }
}

/// The pause between rounds. A receiver is found at most this pause and a round trip after it
/// starts.
const REDIAL_INTERVAL: Duration = Duration::from_millis(100);

/// The delay between connection attempts (RFC 8305: `Connection Attempt Delay`).
const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The interval between lookups of a name whose known addresses do not answer.
pub(super) const LOOKUP_INTERVAL: Duration = Duration::from_secs(2);

/// How long a lookup may take before that is reported.
const LOOKUP_REPORT_DELAY: Duration = Duration::from_secs(5);

/// How long a connection may take to be established. The kernel retransmits a lost SYN after 1 s
/// (RFC 6298), so waiting longer is no better than a new attempt.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may stay without a hello, or a hello without an answer.
pub(super) const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// How long our user may take to decide whether to trust a target.
const ASK_DEADLINE: Duration = Duration::from_secs(35);

/// How long the other side may be silent while a user is asked about the caller. Both sides send
/// keep-alives, so a longer silence means that the other side is gone.
pub(super) const RINGING_SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::session::LookupId;

    fn dialling(addrs: &[&str]) -> (DialState, Instant) {
        let now = crate::clock::now();
        let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
        (DialState::new(now, Target { host: "desk".into(), port: 7, addrs }), now)
    }

    #[test]
    fn every_address_is_dialled_before_a_pause() {
        let (mut d, now) = dialling(&["[::1]:7", "127.0.0.1:7"]);
        assert_eq!(d.due(now), Due::Dial);
        assert_eq!(d.connect(now, ConnId(1)), Some("[::1]:7".parse().unwrap()));
        assert_eq!(d.fail(now, ConnId(1), WaitReason::NobodyListens), None);
        assert_eq!(d.due(now), Due::Dial);
        assert_eq!(d.connect(now, ConnId(2)), Some("127.0.0.1:7".parse().unwrap()));
        assert!(d.fail(now, ConnId(2), WaitReason::NoAnswer).is_some());
        assert_eq!(d.waiting_for, Some(WaitReason::NobodyListens), "the more specific reason");
        assert_eq!(d.due(now), Due::Nothing);
        assert_eq!(d.poll_timeout(), Some(now + REDIAL_INTERVAL));
    }

    #[test]
    fn a_silent_address_delays_the_next_by_the_attempt_delay() {
        let (mut d, now) = dialling(&["[::1]:7", "127.0.0.1:7"]);
        d.connect(now, ConnId(1));
        assert_eq!(
            (d.due(now), d.poll_timeout()),
            (Due::Nothing, Some(now + CONNECTION_ATTEMPT_DELAY))
        );
        let later = now + CONNECTION_ATTEMPT_DELAY;
        assert_eq!(d.due(later), Due::Dial);
        d.connect(later, ConnId(2));
        assert!(d.owns(ConnId(1)) && d.owns(ConnId(2)));
        let identity = crate::net::crypto::keys::Identity::from_bytes([1; 32]);
        let control = ControlChannel::dial(later, ConnId(2), &identity, None);
        assert_eq!(d.handle_connected(later, ConnId(2), control), [ConnId(1)]);
        assert_eq!(d.addr(), Some("127.0.0.1:7".parse().unwrap()));
        assert!(!d.owns(ConnId(1)));
        assert_eq!(d.fail(later, ConnId(2), WaitReason::HungUp), None);
        assert_eq!(d.connect(later, ConnId(3)), Some("[::1]:7".parse().unwrap()), "once more");
    }

    #[test]
    fn names_are_looked_up_while_dialling_but_not_in_a_call() {
        let (mut d, now) = dialling(&[]);
        assert!(d.wants_lookup(now));
        assert_eq!(d.due(now), Due::Nothing);
        d.addresses.note_asked(now, LookupId(1));
        assert_eq!(d.poll_timeout(), Some(now + LOOKUP_REPORT_DELAY));
        assert_eq!(d.check_lookup(now), None);
        assert!(d.check_lookup(now + LOOKUP_REPORT_DELAY).is_some());
        assert_eq!(d.poll_timeout(), None);
        let unknown = || Some(WaitReason::Unresolved { error: "unknown".into() });
        assert!(d.handle_found(now, &[], unknown()).is_some());
        d.addresses.note_asked(now, LookupId(2));
        assert_eq!(d.handle_found(now, &[], unknown()), None, "reported once");
        d.handle_found(now, &["127.0.0.1:7".parse().unwrap()], None);
        assert_eq!(d.due(now), Due::Dial);
        let later = now + LOOKUP_INTERVAL;
        assert!(d.wants_lookup(later));
        d.state = State::InCall(CallId(1));
        assert!(!d.wants_lookup(later));
        d.handle_call_ended(later);
        assert!(d.wants_lookup(later));
    }

    #[test]
    fn each_wait_reason_is_reported_once() {
        let (mut d, now) = dialling(&["127.0.0.1:7"]);
        let mut fail = |reason| {
            d.connect(now, ConnId(1));
            d.fail(now, ConnId(1), reason)
        };
        assert!(fail(WaitReason::NobodyListens).is_some());
        assert!(fail(WaitReason::NobodyListens).is_none());
        assert!(fail(WaitReason::NoAnswer).is_some());
    }

    #[test]
    fn an_attempt_without_an_answer_is_given_up() {
        let (mut d, now) = dialling(&["127.0.0.1:7"]);
        d.connect(now, ConnId(1));
        assert_eq!(d.due(now), Due::Nothing);
        assert_eq!(d.due(now + CONNECT_DEADLINE), Due::GiveUp(ConnId(1)));
    }
}
