//! Callers who have connected and are not in a call yet: how many, for how long, how often.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::net::{
    frame::SessionId,
    session::{
        AskId, Event,
        control::ControlChannel,
        dialling::{ASK_DEADLINE, HELLO_DEADLINE},
    },
    wire::control::{Hello, Message},
};

/// A caller who has connected.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) control: ControlChannel,
    pub(super) addr: SocketAddr,
    pub(super) give_up_at: Instant,
    pub(super) asked: Option<Asked>,
}

/// A caller about whom somebody is asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: AskId,
    pub(super) hello: Hello,
    pub(super) session: SessionId,
    /// When to tell the caller that it takes a while; not again.
    ring_at: Option<Instant>,
}

impl Greeting {
    pub(super) fn new(now: Instant, addr: SocketAddr, control: ControlChannel) -> Self {
        Self { control, addr, give_up_at: now + HELLO_DEADLINE, asked: None }
    }

    /// Somebody is asked about it, as `ask`.
    pub(super) fn note_asked(
        &mut self,
        now: Instant,
        ask: AskId,
        hello: Hello,
        session: SessionId,
    ) {
        let ring_at = Some(now + RING_AFTER);
        self.asked = Some(Asked { ask, hello, session, ring_at });
        self.give_up_at = now + ASK_DEADLINE;
    }

    pub(super) fn is_asked(&self, ask: AskId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.ask == ask)
    }

    /// What is to be told of it when it has gone.
    pub(super) fn ask_ended(&self) -> Option<Event> {
        self.asked.as_ref().map(|asked| Event::AskEnded { ask: asked.ask })
    }

    /// Keeps a caller who waits for an answer waiting.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(asked) = &mut self.asked else { return };
        if asked.ring_at.take_if(|at| *at <= now).is_some() {
            self.control.push(&Message::Ringing);
        }
        self.control.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let Some(asked) = &self.asked else { return self.give_up_at };
        let keep_alive = self.control.poll_timeout().min(self.give_up_at);
        asked.ring_at.map_or(keep_alive, |at| at.min(keep_alive))
    }
}

/// How much is done for strangers.
///
/// Meeting one costs four products on a curve, some tenths of a millisecond of the thread that the
/// stream runs on.
#[derive(Debug)]
pub(super) struct MeetingBudget {
    tokens: f64,
    filled: Instant,
    wrong_codes: VecDeque<(Network, Instant)>,
}

/// What one customer of an internet provider has at least: an IPv4 address, or 2⁶⁴ of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network(u64);

impl MeetingBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: MEETING_BURST, filled: now, wrong_codes: VecDeque::new() }
    }

    /// Whether somebody from `ip` may connect.
    pub(super) fn may_come(&mut self, now: Instant, ip: IpAddr) -> bool {
        while self.wrong_codes.front().is_some_and(|(_, until)| *until <= now) {
            self.wrong_codes.pop_front();
        }
        let network = Network::of(ip);
        self.wrong_codes.iter().all(|(other, _)| *other != network)
    }

    /// Whether there is time for a message of a handshake.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * MEETINGS_A_SECOND).min(MEETING_BURST);
        self.filled = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// Somebody from `ip` had another code than ours.
    pub(super) fn note_wrong_code(&mut self, now: Instant, ip: IpAddr) {
        if self.wrong_codes.len() == MAX_WRONG_CODES {
            self.wrong_codes.pop_front();
        }
        self.wrong_codes.push_back((Network::of(ip), now + WRONG_CODE_PAUSE));
    }
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_bits().into()),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) as u64),
        }
    }
}

/// The one to send away so that another may come: the oldest one of whom nobody is asked about, of
/// the address with the most of them; `None` as long as there is room.
pub(super) fn to_make_way(greeting: &[Greeting]) -> Option<usize> {
    if greeting.len() < MAX_GREETING {
        return None;
    }
    let of_network = |addr: SocketAddr| {
        greeting.iter().filter(|g| Network::of(g.addr.ip()) == Network::of(addr.ip())).count()
    };
    let strangers = greeting.iter().enumerate().filter(|(_, g)| g.asked.is_none());
    let crowd =
        strangers.max_by_key(|(_, g)| (of_network(g.addr), std::cmp::Reverse(g.give_up_at)));
    crowd.map(|(index, _)| index)
}

/// Callers about whom somebody is asked at a time; more are told that we are busy.
pub(super) const MAX_ASKED: usize = 4;

/// Bytes that a caller may send before it is in a call.
pub(super) const MAX_UNREAD: usize = 16 << 10;

/// Connections that are in no call. One more, and the oldest of the address with the most of them is closed:
/// a flood of a thousand a second leaves each 64 ms, and an honest caller needs two round trips.
const MAX_GREETING: usize = 64;

/// Handshake messages that are worked on, two for each meeting: 4 % of a core at most.
const MEETINGS_A_SECOND: f64 = 200.0;
const MEETING_BURST: f64 = 64.0;

/// How long an address that had a wrong code must wait.
const WRONG_CODE_PAUSE: Duration = Duration::from_secs(1);
const MAX_WRONG_CODES: usize = 64;

/// A caller is told that somebody is being asked when that has taken so long.
const RING_AFTER: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        crypto::keys::{Identity, KEY_LEN},
        session::ConnId,
    };

    fn greeting(now: Instant, conn: u64, addr: &str) -> Greeting {
        let identity = Identity::from_bytes([1; KEY_LEN]);
        let control = ControlChannel::answering(now, ConnId(conn), &identity, None);
        Greeting::new(now, addr.parse().unwrap(), control)
    }

    #[test]
    fn the_oldest_of_the_crowd_makes_way() {
        let now = crate::clock::now();
        let mut greetings = vec![greeting(now, 0, "10.0.0.1:1")];
        for conn in 1..MAX_GREETING as u64 {
            assert_eq!(to_make_way(&greetings), None);
            let later = now + Duration::from_millis(conn);
            greetings.push(greeting(later, conn, "10.0.0.2:1"));
        }
        assert_eq!(to_make_way(&greetings), Some(1));
    }

    #[test]
    fn a_wrong_code_costs_its_network_a_second() {
        let now = crate::clock::now();
        let mut budget = MeetingBudget::new(now);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        budget.note_wrong_code(now, ip("2001:db8::1"));
        assert!(!budget.may_come(now, ip("2001:db8::2")));
        assert!(budget.may_come(now, ip("2001:db8:0:1::2")));
        assert!(budget.may_come(now, ip("10.0.0.1")));
        assert!(budget.may_come(now + WRONG_CODE_PAUSE, ip("2001:db8::1")));
    }

    #[test]
    fn strangers_get_only_so_much_time() {
        let now = crate::clock::now();
        let mut budget = MeetingBudget::new(now);
        let at_once = (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(at_once, MEETING_BURST as usize);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), 20);
    }
}
