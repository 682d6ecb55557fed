//! One target that we call until it answers, and again when the call has ended.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{AskId, CallId, ConnId, Event, Target, WaitReason, control::ControlChannel};
use crate::net::{
    frame::SessionId,
    wire::control::{Hello, SecretPart},
};

/// A target and how far we are with it.
#[derive(Debug)]
pub(super) struct Dialling {
    target: Target,
    next_addr: usize,
    state: State,
    waiting_for: Option<WaitReason>,
}

#[derive(Debug)]
enum State {
    Idle { redial_at: Instant },
    Connecting { conn: ConnId, give_up_at: Instant },
    Meeting { control: ControlChannel, stage: Stage, give_up_at: Instant },
    InCall(CallId),
}

/// How far we are with a target that has taken the connection.
#[derive(Debug)]
enum Stage {
    /// It has not said who it is.
    Unknown,
    /// Somebody is asked whether it is the right one.
    Asked(AskId),
    /// We have introduced ourselves, with our part of the secret, for this session.
    Introduced(SessionId, SecretPart),
    /// The same, and somebody there is asked about us.
    Ringing(SessionId, SecretPart),
}

/// What a call with a target that has answered is made of.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) control: ControlChannel,
    pub(super) session: SessionId,
    pub(super) secret: SecretPart,
}

/// What a target wants done at some moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Dial,
    GiveUp(ConnId),
}

impl Dialling {
    pub(super) fn new(now: Instant, target: Target) -> Self {
        Self { target, next_addr: 0, state: State::Idle { redial_at: now }, waiting_for: None }
    }

    pub(super) fn host(&self) -> &str {
        &self.target.host
    }

    /// The address that is tried now.
    pub(super) fn addr(&self) -> SocketAddr {
        self.target.addrs[self.next_addr % self.target.addrs.len()]
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match &self.state {
            State::Connecting { conn, .. } => Some(*conn),
            State::Meeting { control, .. } => Some(control.conn()),
            State::Idle { .. } | State::InCall(_) => None,
        }
    }

    pub(super) fn control_mut(&mut self) -> Option<&mut ControlChannel> {
        match &mut self.state {
            State::Meeting { control, .. } => Some(control),
            _ => None,
        }
    }

    /// What it means that the connection has ended.
    pub(super) fn lost_reason(&self) -> WaitReason {
        match self.state {
            State::Meeting { stage: Stage::Ringing(..), .. } => WaitReason::ConnectionLost,
            State::Meeting { .. } => WaitReason::HungUp,
            _ => WaitReason::NoAnswer,
        }
    }

    pub(super) fn is_in_call(&self, call: CallId) -> bool {
        matches!(self.state, State::InCall(id) if id == call)
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        match &self.state {
            State::Idle { redial_at } if *redial_at <= now => Due::Dial,
            State::Connecting { conn, give_up_at } if *give_up_at <= now => Due::GiveUp(*conn),
            State::Meeting { control, give_up_at, .. } if *give_up_at <= now => {
                Due::GiveUp(control.conn())
            }
            _ => Due::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Idle { redial_at } => Some(*redial_at),
            State::Meeting { control, stage: Stage::Ringing(..), give_up_at } => {
                Some(control.poll_timeout().min(*give_up_at))
            }
            State::Connecting { give_up_at, .. } | State::Meeting { give_up_at, .. } => {
                Some(*give_up_at)
            }
            State::InCall(_) => None,
        }
    }

    pub(super) fn connect(&mut self, now: Instant, conn: ConnId) {
        self.state = State::Connecting { conn, give_up_at: now + CONNECT_DEADLINE };
    }

    /// The connection stands: the two meet.
    pub(super) fn meet(&mut self, now: Instant, control: ControlChannel) {
        let give_up_at = now + HELLO_DEADLINE;
        self.state = State::Meeting { control, stage: Stage::Unknown, give_up_at };
    }

    /// Somebody is asked whether the target is the right one, as `ask`.
    pub(super) fn note_asked(&mut self, now: Instant, ask: AskId) {
        if let State::Meeting { stage, give_up_at, .. } = &mut self.state {
            *stage = Stage::Asked(ask);
            *give_up_at = now + ASK_DEADLINE;
        }
    }

    pub(super) fn asked(&self) -> Option<AskId> {
        match self.state {
            State::Meeting { stage: Stage::Asked(ask), .. } => Some(ask),
            _ => None,
        }
    }

    /// It is the right one: we introduce ourselves.
    pub(super) fn introduce(&mut self, now: Instant, hello: Hello) {
        let Some(session) = SessionId::new(hello.session) else { return };
        if let State::Meeting { control, stage, give_up_at } = &mut self.state {
            *stage = Stage::Introduced(session, hello.secret.clone());
            *give_up_at = now + HELLO_DEADLINE;
            control.introduce(hello);
        }
    }

    /// The other side asks somebody about us, which may take as long as it likes; a word about it if
    /// that is new.
    pub(super) fn ring(&mut self, now: Instant) -> Option<Event> {
        let State::Meeting { stage, .. } = &mut self.state else { return None };
        *stage = match std::mem::replace(stage, Stage::Unknown) {
            Stage::Introduced(session, secret) => Stage::Ringing(session, secret),
            other => other,
        };
        self.note_heard(now);
        self.wait_for(WaitReason::Ringing)
    }

    /// Something has come from the target: while it rings, the other side is still there.
    pub(super) fn note_heard(&mut self, now: Instant) {
        if let State::Meeting { stage: Stage::Ringing(..), give_up_at, .. } = &mut self.state {
            *give_up_at = now + RINGING_SILENCE;
        }
    }

    /// While it rings, we are still there as well.
    pub(super) fn keep_ringing(&mut self, now: Instant) {
        if let State::Meeting { control, stage: Stage::Ringing(..), .. } = &mut self.state {
            control.handle_timeout(now);
        }
    }

    /// The introduction was answered: hands out what the call is made of.
    pub(super) fn answered(&mut self, call: CallId) -> Option<Answered> {
        self.waiting_for = None;
        match std::mem::replace(&mut self.state, State::InCall(call)) {
            State::Meeting {
                control,
                stage: Stage::Introduced(session, secret) | Stage::Ringing(session, secret),
                ..
            } => Some(Answered { control, session, secret }),
            _ => None,
        }
    }

    /// The attempt has failed: the target's next address at once, or, when all have been tried,
    /// a pause, and a word about it if the reason is new.
    pub(super) fn fail(&mut self, now: Instant, reason: WaitReason) -> Option<Event> {
        self.next_addr += 1;
        let round_over = self.next_addr.is_multiple_of(self.target.addrs.len());
        let pause = if round_over { REDIAL_INTERVAL } else { Duration::ZERO };
        self.state = State::Idle { redial_at: now + pause };
        if round_over { self.wait_for(reason) } else { None }
    }

    fn wait_for(&mut self, reason: WaitReason) -> Option<Event> {
        if self.waiting_for.as_ref() == Some(&reason) {
            return None;
        }
        self.waiting_for = Some(reason.clone());
        let (host, port) = (self.target.host.clone(), self.addr().port());
        Some(Event::Waiting { host, port, reason })
    }

    /// The call is over: call again.
    pub(super) fn call_over(&mut self, now: Instant) {
        self.state = State::Idle { redial_at: now + REDIAL_INTERVAL };
        self.waiting_for = None;
    }
}

/// Between two rounds of attempts. A receiver that starts is found within this and a round trip.
const REDIAL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a connection may take to stand before the next attempt. A lost SYN is repeated by
/// the kernel after 1 s (RFC 6298), so waiting longer is no better than asking anew.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// How long a connection may stay without a hello, or a hello without its answer.
pub(super) const HELLO_DEADLINE: Duration = Duration::from_secs(5);

/// How long our own user may take to say whether a target is the right one.
const ASK_DEADLINE: Duration = Duration::from_secs(35);

/// How long the other side may be unheard while somebody there is asked about the caller. Both send
/// keep-alives, so a longer silence means that the other side is gone.
pub(super) const RINGING_SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    fn dialling(addrs: &[&str]) -> (Dialling, Instant) {
        let now = crate::clock::now();
        let addrs = addrs.iter().map(|a| a.parse().unwrap()).collect();
        (Dialling::new(now, Target { host: "desk".into(), addrs }), now)
    }

    #[test]
    fn every_address_is_tried_before_a_pause() {
        let (mut d, now) = dialling(&["[::1]:7", "127.0.0.1:7"]);
        assert_eq!(d.due(now), Due::Dial);
        d.connect(now, ConnId(1));
        assert_eq!(d.fail(now, WaitReason::NobodyListens), None);
        assert_eq!((d.due(now), d.addr()), (Due::Dial, "127.0.0.1:7".parse().unwrap()));
        d.connect(now, ConnId(2));
        assert!(d.fail(now, WaitReason::NobodyListens).is_some());
        assert_eq!(d.due(now), Due::Nothing);
        assert_eq!(d.poll_timeout(), Some(now + REDIAL_INTERVAL));
    }

    #[test]
    fn a_reason_is_told_once() {
        let (mut d, now) = dialling(&["127.0.0.1:7"]);
        assert!(d.fail(now, WaitReason::NobodyListens).is_some());
        assert!(d.fail(now, WaitReason::NobodyListens).is_none());
        assert!(d.fail(now, WaitReason::NoAnswer).is_some());
    }

    #[test]
    fn an_attempt_without_an_answer_is_given_up() {
        let (mut d, now) = dialling(&["127.0.0.1:7"]);
        d.connect(now, ConnId(1));
        assert_eq!(d.due(now), Due::Nothing);
        assert_eq!(d.due(now + CONNECT_DEADLINE), Due::GiveUp(ConnId(1)));
    }
}
