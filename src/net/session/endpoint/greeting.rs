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
        budget::Budget,
        control::ControlChannel,
        dialling::{HELLO_DEADLINE, RINGING_SILENCE},
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
    since: Instant,
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
        self.asked = Some(Asked { ask, hello, session, since: now, ring_at });
        self.note_heard(now);
    }

    /// Something has come from a caller about whom somebody is asked: it is still there.
    pub(super) fn note_heard(&mut self, now: Instant) {
        self.give_up_at = now + RINGING_SILENCE;
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
/// Meeting one costs six products on a curve, some tenths of a millisecond of the thread that the
/// stream runs on.
#[derive(Debug)]
pub(super) struct MeetingBudget {
    all: Budget,
    /// What networks have had of it lately, and when that was reckoned; none that has had nothing.
    shares: Vec<Share>,
    wrong_codes: VecDeque<(Network, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    network: Network,
    had: f64,
    at: Instant,
}

/// What one customer of an internet provider has at least: an IPv4 address, or 2⁶⁴ of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network(u64);

impl MeetingBudget {
    pub(super) fn new(now: Instant) -> Self {
        let all = Budget::new(now, MEETINGS_A_SECOND, MEETING_BURST);
        Self { all, shares: Vec::new(), wrong_codes: VecDeque::new() }
    }

    /// Whether somebody from `ip` may connect.
    pub(super) fn may_come(&mut self, now: Instant, ip: IpAddr) -> bool {
        while self.wrong_codes.front().is_some_and(|(_, until)| *until <= now) {
            self.wrong_codes.pop_front();
        }
        let network = Network::of(ip);
        self.wrong_codes.iter().all(|(other, _)| *other != network)
    }

    /// Whether somebody from `ip`, who has come, may try a code: not while its network waits, and
    /// not while so many networks wait that a wrong one could not be remembered.
    pub(super) fn may_guess(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.may_come(now, ip) && self.wrong_codes.len() < MAX_WRONG_CODES
    }

    /// Whether there is time to meet somebody from `ip`. It is all taken at the first message, so that in a crowd
    /// nobody needs to be lucky twice.
    ///
    /// A network that has had as much lately as is left gets nothing, so that there is always some left for
    /// another one.
    pub(super) fn take(&mut self, now: Instant, ip: IpAddr) -> bool {
        for share in &mut self.shares {
            let elapsed = now.saturating_duration_since(share.at).as_secs_f64();
            share.had -= elapsed * SHARE_A_SECOND;
            share.at = now;
        }
        self.shares.retain(|share| share.had > 0.0);
        let network = Network::of(ip);
        let share = self.shares.iter_mut().find(|share| share.network == network);
        let had = share.as_ref().map_or(0.0, |share| share.had);
        if had + 1.0 > self.all.left(now) || !self.all.take(now) {
            return false;
        }
        match share {
            Some(share) => share.had += 1.0,
            // Each lasts 80 ms for each meeting, so that there are never more than MEETING_BURST
            // and what comes in 80 ms.
            None => self.shares.push(Share { network, had: 1.0, at: now }),
        }
        true
    }

    /// Somebody from `ip` had another code than ours.
    pub(super) fn note_wrong_code(&mut self, now: Instant, ip: IpAddr) {
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

/// Selects the caller to evict so that somebody may be asked about the one at `new`. Among those about
/// whom somebody is asked, this is the newest one of the network with the most of them, if that has two
/// more than the new caller's. Otherwise it is the oldest one, once it has had its turn. `None`: the
/// new caller has to try again.
pub(super) fn asked_to_make_way(now: Instant, greeting: &[Greeting], new: usize) -> Option<usize> {
    let asked = || {
        let asked = greeting.iter().enumerate().filter(|(i, _)| *i != new);
        asked.filter_map(|(i, g)| Some((i, Network::of(g.addr.ip()), g.asked.as_ref()?.since)))
    };
    let of_network = |wanted: Network| asked().filter(|(_, network, _)| *network == wanted).count();
    let fair = of_network(Network::of(greeting[new].addr.ip())) + 1;
    let crowd = asked()
        .filter(|(_, network, _)| of_network(*network) > fair)
        .max_by_key(|(_, network, since)| (of_network(*network), *since));
    let oldest = || asked().min_by_key(|(_, _, since)| *since);
    let had_its_turn =
        |(_, _, since): &(usize, Network, Instant)| now.duration_since(*since) >= ASK_TURN;
    crowd.or_else(|| oldest().filter(had_its_turn)).map(|(index, ..)| index)
}

/// Callers about whom somebody is asked at a time. Each rings for as long as it likes; when one more
/// comes, see [`asked_to_make_way`].
pub(super) const MAX_ASKED: usize = 4;

/// How long a caller rings at least before another one may take its place.
const ASK_TURN: Duration = Duration::from_secs(30);

/// Bytes that a caller may send before it is in a call.
pub(super) const MAX_UNREAD: usize = 16 << 10;

/// Connections that are in no call. One more, and the oldest of the address with the most of them is closed:
/// a flood of a thousand a second leaves each 64 ms, and an honest caller needs two round trips.
const MAX_GREETING: usize = 64;

/// Callers who are met: 4 % of a core at most.
const MEETINGS_A_SECOND: f64 = 100.0;
const MEETING_BURST: f64 = 32.0;

/// Of these, what one network gets in the long run: more than a dialler that is busy-signalled ten times a second
/// needs, and eight networks are needed to use up all.
const SHARE_A_SECOND: f64 = 12.5;

/// How long an address that had a wrong code must wait.
const WRONG_CODE_PAUSE: Duration = Duration::from_secs(1);
/// With these, 64 guesses a second from wherever.
const MAX_WRONG_CODES: usize = 64;

/// A caller is told that somebody is being asked when that has taken so long.
const RING_AFTER: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        session::ConnId,
        wire::{
            control::{Epoch, Purpose, SecretPart},
            text::Name,
        },
    };

    fn greeting(now: Instant, conn: u64, addr: &str) -> Greeting {
        let control = ControlChannel::answering(now, ConnId(conn));
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

    fn asked(now: Instant, conn: u64, addr: &str) -> Greeting {
        let mut greeting = greeting(now, conn, addr);
        let hello = Hello {
            session: conn as u32,
            name: Name::new("eve"),
            purpose: Purpose::Chat,
            stream: None,
            epoch: Epoch { boot: 0, monotonic_us: 0 },
            max_datagram_len: 1200,
            secret: SecretPart::from_bytes([1; 32]),
            has_aes: true,
        };
        let session = SessionId::new(hello.session).unwrap();
        greeting.note_asked(now, AskId(conn), hello, session);
        greeting
    }

    #[test]
    fn no_network_takes_all_the_time_of_whom_is_asked() {
        let now = crate::clock::now();
        let at = |ms| now + Duration::from_millis(ms);
        let (ann, eve) = ("10.0.0.1:1", "10.0.0.2:1");
        let mut greetings: Vec<Greeting> =
            (1..=MAX_ASKED as u64).map(|conn| asked(at(conn), conn, eve)).collect();
        let newest = MAX_ASKED - 1;
        greetings.push(asked(at(5), 5, ann));
        assert_eq!(asked_to_make_way(at(5), &greetings, MAX_ASKED), Some(newest));
        greetings[newest] = asked(at(6), 6, eve);
        greetings.swap(newest, MAX_ASKED);
        assert_eq!(
            asked_to_make_way(at(6), &greetings, MAX_ASKED),
            None,
            "it does not get it back"
        );
    }

    #[test]
    fn callers_from_everywhere_take_turns() {
        let now = crate::clock::now();
        let from = |n: usize| format!("10.0.0.{n}:1");
        let greetings: Vec<Greeting> = (1..=MAX_ASKED + 1)
            .map(|n| asked(now + Duration::from_millis(n as u64), n as u64, &from(n)))
            .collect();
        assert_eq!(asked_to_make_way(now + ASK_TURN, &greetings, MAX_ASKED), None);
        let later = now + ASK_TURN + Duration::from_millis(1);
        assert_eq!(asked_to_make_way(later, &greetings, MAX_ASKED), Some(0));
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
    fn wrong_codes_of_many_networks_do_not_end_the_pause_of_one() {
        let now = crate::clock::now();
        let mut budget = MeetingBudget::new(now);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let guessed = (0..200).filter(|&n| {
            let may = budget.may_guess(now, ip(n));
            if may {
                budget.note_wrong_code(now, ip(n));
            }
            may
        });
        assert_eq!(guessed.count(), MAX_WRONG_CODES);
        assert!(!budget.may_guess(now, ip(0)) && !budget.may_come(now, ip(0)));
        assert!(budget.may_come(now, ip(100)), "who has not guessed may connect");
        assert!(budget.may_guess(now + WRONG_CODE_PAUSE, ip(100)));
    }

    #[test]
    fn strangers_get_only_so_much_time() {
        let now = crate::clock::now();
        let mut budget = MeetingBudget::new(now);
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        let at_once = (0..1000).filter(|&n| budget.take(now, ip(n))).count();
        assert_eq!(at_once, MEETING_BURST as usize);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..1000).filter(|&n| budget.take(later, ip(n))).count(), 10);
        assert!(budget.shares.len() <= 42, "{}", budget.shares.len());
    }

    #[test]
    fn some_networks_alone_do_not_use_up_the_time_for_others() {
        let mut now = crate::clock::now();
        let mut budget = MeetingBudget::new(now);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        for turn in 0..3000 {
            now += Duration::from_millis(1);
            for eve in 0..4 {
                (0..5).for_each(|_| _ = budget.take(now, ip(eve)));
            }
            if turn % 100 == 0 {
                assert!(budget.take(now, ip(100)), "{turn}");
            }
        }
    }
}
