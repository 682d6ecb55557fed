//! Pending callers: connected but not yet in a call. Limits their number, time and rate.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::net::{
    crypto::{keys::SharedSecret, seal::processor_has_aes},
    frame::SessionId,
    route::Inbound,
    session::{
        AskId, Event,
        control::ControlChannel,
        dial::{HELLO_DEADLINE, RINGING_SILENCE},
    },
    token_bucket::TokenBucket,
    wire::{
        control::{Hello, MediaOffer, Message, SecretPart},
        datagram::MAX_DATAGRAM_LEN,
    },
};

/// A pending caller.
#[derive(Debug)]
pub(super) struct PendingCaller {
    pub(super) control: ControlChannel,
    /// Our offer to it.
    pub(super) offer: MediaOffer,
    pub(super) addr: SocketAddr,
    pub(super) give_up_at: Instant,
    pub(super) asked: Option<Asked>,
    /// Datagrams that follow its hello.
    pub(super) early: EarlyDatagrams,
}

/// Datagrams of a session that may be about to begin. They are opened only then.
#[derive(Debug, Default)]
pub(super) struct EarlyDatagrams {
    datagrams: Vec<(Inbound, Vec<u8>)>,
    len: usize,
}

impl EarlyDatagrams {
    /// Keeps a datagram, if there is room.
    fn push(&mut self, from: Inbound, datagram: &[u8]) {
        if self.len + datagram.len() <= MAX_EARLY_LEN {
            self.len += datagram.len();
            self.datagrams.push((from, datagram.to_vec()));
        }
    }

    pub(super) fn into_datagrams(self) -> impl Iterator<Item = (Inbound, Vec<u8>)> {
        self.datagrams.into_iter()
    }
}

/// A pending caller whose trust decision is awaited.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: AskId,
    pub(super) hello: Hello,
    pub(super) session: SessionId,
    since: Instant,
    /// When to send it `Ringing`, if that has not been sent.
    ring_at: Option<Instant>,
}

impl PendingCaller {
    pub(super) fn new(now: Instant, addr: SocketAddr, control: ControlChannel) -> Self {
        let offer = MediaOffer {
            max_datagram_len: MAX_DATAGRAM_LEN as u16,
            secret: SecretPart::from_bytes(*SharedSecret::generate().as_bytes()),
            has_aes: processor_has_aes(),
        };
        let (give_up_at, early) = (now + HELLO_DEADLINE, EarlyDatagrams::default());
        Self { control, offer, addr, give_up_at, asked: None, early }
    }

    /// Records that the user is asked about the caller, as `ask`.
    pub(super) fn note_asked(
        &mut self,
        now: Instant,
        ask: AskId,
        hello: Hello,
        session: SessionId,
    ) {
        let ring_at = Some(now + RING_AFTER);
        self.asked = Some(Asked { ask, hello, session, since: now, ring_at });
        self.extend_deadline(now);
    }

    /// The session that its hello announces.
    pub(super) fn session(&self) -> Option<SessionId> {
        Some(self.asked.as_ref()?.session)
    }

    /// Keeps a datagram of its session from its host until it rings.
    pub(super) fn keep_early(&mut self, from: Inbound, datagram: &[u8]) {
        let rings = self.asked.as_ref().is_none_or(|asked| asked.ring_at.is_none());
        if !rings && from.route.peer.is_host(self.addr.ip()) {
            self.early.push(from, datagram);
        }
    }

    /// Extends the deadline of a caller whose trust decision is awaited, since it has sent
    /// something.
    pub(super) fn extend_deadline(&mut self, now: Instant) {
        self.give_up_at = now + RINGING_SILENCE;
    }

    pub(super) fn is_asked(&self, ask: AskId) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.ask == ask)
    }

    /// The event for the end of a pending question about it, if there is one.
    pub(super) fn ask_ended(&self) -> Option<Event> {
        self.asked.as_ref().map(|asked| Event::AskEnded { ask: asked.ask })
    }

    /// Sends `Ringing` and keep-alives to a caller whose trust decision is awaited.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let Some(asked) = &mut self.asked else { return };
        if asked.ring_at.take_if(|at| *at <= now).is_some() {
            self.control.push(&Message::Ringing);
            self.early = EarlyDatagrams::default();
        }
        self.control.handle_timeout(now);
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let Some(asked) = &self.asked else { return self.give_up_at };
        let keep_alive = self.control.poll_timeout().min(self.give_up_at);
        asked.ring_at.map_or(keep_alive, |at| at.min(keep_alive))
    }
}

/// Limits the work done for strangers.
///
/// A handshake costs six elliptic curve multiplications, a few tenths of a millisecond on the thread
/// that also handles the stream.
#[derive(Debug)]
pub(super) struct HandshakeLimiter {
    all: TokenBucket,
    /// Recent use by network, as of `at`; networks without any are omitted.
    shares: Vec<Share>,
    wrong_codes: VecDeque<(Network, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    network: Network,
    had: f64,
    at: Instant,
}

/// The smallest block of addresses that an internet provider assigns to a customer: an IPv4
/// address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network(u64);

impl HandshakeLimiter {
    pub(super) fn new(now: Instant) -> Self {
        let all = TokenBucket::new(now, HANDSHAKES_PER_SECOND, HANDSHAKE_BURST);
        Self { all, shares: Vec::new(), wrong_codes: VecDeque::new() }
    }

    /// Whether somebody from `ip` may connect: not while its network must wait after a wrong code.
    pub(super) fn may_connect(&mut self, now: Instant, ip: IpAddr) -> bool {
        while self.wrong_codes.front().is_some_and(|(_, until)| *until <= now) {
            self.wrong_codes.pop_front();
        }
        let network = Network::of(ip);
        self.wrong_codes.iter().all(|(other, _)| *other != network)
    }

    /// Whether a connected caller from `ip` may try a code: not while its network must wait, and
    /// not while the list of waiting networks is full, since a wrong code could not be recorded.
    pub(super) fn may_guess(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.may_connect(now, ip) && self.wrong_codes.len() < MAX_WRONG_CODES
    }

    /// Whether a handshake with a caller from `ip` may be done. The whole cost is taken at the
    /// first message, so that a caller needs to succeed only once under load.
    ///
    /// A network is refused once its recent use reaches what is left, so that some always remains
    /// for others.
    pub(super) fn take(&mut self, now: Instant, ip: IpAddr) -> bool {
        for share in &mut self.shares {
            let elapsed = now.saturating_duration_since(share.at).as_secs_f64();
            share.had -= elapsed * SHARE_PER_SECOND;
            share.at = now;
        }
        self.shares.retain(|share| share.had > 0.0);
        let network = Network::of(ip);
        let share = self.shares.iter_mut().find(|share| share.network == network);
        let had = share.as_ref().map_or(0.0, |share| share.had);
        if had + 1.0 > self.all.left(now) || !self.all.take(now, 1.0) {
            return false;
        }
        match share {
            Some(share) => share.had += 1.0,
            // An entry lasts 80 ms for each handshake, so there are at most HANDSHAKE_BURST entries
            // plus those added in 80 ms.
            None => self.shares.push(Share { network, had: 1.0, at: now }),
        }
        true
    }

    /// Records that a caller from `ip` had a wrong code.
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

/// Selects the pending caller to evict for a new one: the oldest of those without a pending trust
/// decision, from the network with the most callers. `None` while there is room.
pub(super) fn caller_to_evict(callers: &[PendingCaller]) -> Option<usize> {
    if callers.len() < MAX_PENDING_CALLERS {
        return None;
    }
    let of_network = |addr: SocketAddr| {
        callers.iter().filter(|c| Network::of(c.addr.ip()) == Network::of(addr.ip())).count()
    };
    let strangers = callers.iter().enumerate().filter(|(_, c)| c.asked.is_none());
    let crowd =
        strangers.max_by_key(|(_, c)| (of_network(c.addr), std::cmp::Reverse(c.give_up_at)));
    crowd.map(|(index, _)| index)
}

/// Selects the caller to evict so that the user may be asked about the one at `new`. Candidates are
/// the callers that the user is being asked about. The first choice is the newest of the network
/// with the most of them, if that has at least two more than the new caller's network. Otherwise it
/// is the oldest, once it has rung for its minimum time. `None`: the new caller has to try again.
pub(super) fn asked_caller_to_evict(
    now: Instant,
    callers: &[PendingCaller],
    new: usize,
) -> Option<usize> {
    let asked = || {
        let asked = callers.iter().enumerate().filter(|(i, _)| *i != new);
        asked.filter_map(|(i, c)| Some((i, Network::of(c.addr.ip()), c.asked.as_ref()?.since)))
    };
    let of_network = |wanted: Network| asked().filter(|(_, network, _)| *network == wanted).count();
    let fair = of_network(Network::of(callers[new].addr.ip())) + 1;
    let crowd = asked()
        .filter(|(_, network, _)| of_network(*network) > fair)
        .max_by_key(|(_, network, since)| (of_network(*network), *since));
    let oldest = || asked().min_by_key(|(_, _, since)| *since);
    let had_its_turn =
        |(_, _, since): &(usize, Network, Instant)| now.duration_since(*since) >= ASK_TURN;
    crowd.or_else(|| oldest().filter(had_its_turn)).map(|(index, ..)| index)
}

/// The maximum number of callers that the user is asked about at a time. Each may ring
/// indefinitely; when one more comes, see [`asked_caller_to_evict`].
pub(super) const MAX_ASKED: usize = 4;

/// How long a caller may ring before another may evict it.
const ASK_TURN: Duration = Duration::from_secs(30);

/// Unread bytes that a pending caller may accumulate.
pub(super) const MAX_UNREAD: usize = 16 << 10;

/// The maximum number of pending callers. For one more, the oldest of the network with the most of
/// them is closed: a flood of a thousand a second leaves each 64 ms, and an honest caller needs two
/// round trips.
const MAX_PENDING_CALLERS: usize = 64;

/// The rate of handshakes: 4 % of a core at most.
const HANDSHAKES_PER_SECOND: f64 = 100.0;
const HANDSHAKE_BURST: f64 = 32.0;

/// One network's share of that rate in the long run. It exceeds the need of a dialler that is
/// rejected as busy ten times a second, and it takes eight networks to use up the rate.
const SHARE_PER_SECOND: f64 = 12.5;

/// How long a network must wait after a wrong code.
const WRONG_CODE_PAUSE: Duration = Duration::from_secs(1);
/// With the pause above, limits guesses to 64 a second from all networks together.
const MAX_WRONG_CODES: usize = 64;

/// In bytes: a large frame. Each of the few callers that are asked about may send so much.
const MAX_EARLY_LEN: usize = 256 << 10;

/// How long a trust decision may take before the caller is sent `Ringing`.
const RING_AFTER: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        session::ConnId,
        wire::{
            control::{Cipher, Epoch, Purpose},
            text::Name,
        },
    };

    fn caller(now: Instant, conn: u64, addr: &str) -> PendingCaller {
        let control = ControlChannel::accept(now, ConnId(conn));
        PendingCaller::new(now, addr.parse().unwrap(), control)
    }

    #[test]
    fn the_oldest_caller_of_the_busiest_network_is_evicted() {
        let now = crate::clock::now();
        let mut callers = vec![caller(now, 0, "10.0.0.1:1")];
        for conn in 1..MAX_PENDING_CALLERS as u64 {
            assert_eq!(caller_to_evict(&callers), None);
            let later = now + Duration::from_millis(conn);
            callers.push(caller(later, conn, "10.0.0.2:1"));
        }
        assert_eq!(caller_to_evict(&callers), Some(1));
    }

    fn asked(now: Instant, conn: u64, addr: &str) -> PendingCaller {
        let mut caller = caller(now, conn, addr);
        let hello = Hello {
            session: conn as u32,
            name: Name::new("eve"),
            purpose: Purpose::Chat,
            stream: None,
            epoch: Epoch { boot: 0, monotonic_us: 0 },
            max_datagram_len: 1200,
            secret: SecretPart::from_bytes([1; 32]),
            cipher: Cipher::ChaCha20Poly1305,
        };
        let session = SessionId::new(hello.session).unwrap();
        caller.note_asked(now, AskId(conn), hello, session);
        caller
    }

    #[test]
    fn a_crowding_network_yields_to_a_new_one() {
        let now = crate::clock::now();
        let at = |ms| now + Duration::from_millis(ms);
        let (ann, eve) = ("10.0.0.1:1", "10.0.0.2:1");
        let mut callers: Vec<PendingCaller> =
            (1..=MAX_ASKED as u64).map(|conn| asked(at(conn), conn, eve)).collect();
        let newest = MAX_ASKED - 1;
        callers.push(asked(at(5), 5, ann));
        assert_eq!(asked_caller_to_evict(at(5), &callers, MAX_ASKED), Some(newest));
        callers[newest] = asked(at(6), 6, eve);
        callers.swap(newest, MAX_ASKED);
        assert_eq!(
            asked_caller_to_evict(at(6), &callers, MAX_ASKED),
            None,
            "the network does not get its place back"
        );
    }

    #[test]
    fn callers_from_many_networks_take_turns() {
        let now = crate::clock::now();
        let from = |n: usize| format!("10.0.0.{n}:1");
        let callers: Vec<PendingCaller> = (1..=MAX_ASKED + 1)
            .map(|n| asked(now + Duration::from_millis(n as u64), n as u64, &from(n)))
            .collect();
        assert_eq!(asked_caller_to_evict(now + ASK_TURN, &callers, MAX_ASKED), None);
        let later = now + ASK_TURN + Duration::from_millis(1);
        assert_eq!(asked_caller_to_evict(later, &callers, MAX_ASKED), Some(0));
    }

    #[test]
    fn a_wrong_code_blocks_its_network_for_a_second() {
        let now = crate::clock::now();
        let mut limiter = HandshakeLimiter::new(now);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        limiter.note_wrong_code(now, ip("2001:db8::1"));
        assert!(!limiter.may_connect(now, ip("2001:db8::2")));
        assert!(limiter.may_connect(now, ip("2001:db8:0:1::2")));
        assert!(limiter.may_connect(now, ip("10.0.0.1")));
        assert!(limiter.may_connect(now + WRONG_CODE_PAUSE, ip("2001:db8::1")));
    }

    #[test]
    fn wrong_codes_from_many_networks_do_not_end_one_networks_pause() {
        let now = crate::clock::now();
        let mut limiter = HandshakeLimiter::new(now);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let guessed = (0..200).filter(|&n| {
            let may = limiter.may_guess(now, ip(n));
            if may {
                limiter.note_wrong_code(now, ip(n));
            }
            may
        });
        assert_eq!(guessed.count(), MAX_WRONG_CODES);
        assert!(!limiter.may_guess(now, ip(0)) && !limiter.may_connect(now, ip(0)));
        assert!(limiter.may_connect(now, ip(100)), "it has not guessed");
        assert!(limiter.may_guess(now + WRONG_CODE_PAUSE, ip(100)));
    }

    #[test]
    fn handshakes_with_strangers_are_rate_limited() {
        let now = crate::clock::now();
        let mut limiter = HandshakeLimiter::new(now);
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        let at_once = (0..1000).filter(|&n| limiter.take(now, ip(n))).count();
        assert_eq!(at_once, HANDSHAKE_BURST as usize);
        let later = now + Duration::from_millis(100);
        assert_eq!((0..1000).filter(|&n| limiter.take(later, ip(n))).count(), 10);
        assert!(limiter.shares.len() <= 42, "{}", limiter.shares.len());
    }

    #[test]
    fn busy_networks_do_not_exhaust_the_handshake_limit_of_others() {
        let mut now = crate::clock::now();
        let mut limiter = HandshakeLimiter::new(now);
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        for turn in 0..3000 {
            now += Duration::from_millis(1);
            for eve in 0..4 {
                (0..5).for_each(|_| _ = limiter.take(now, ip(eve)));
            }
            if turn % 100 == 0 {
                assert!(limiter.take(now, ip(100)), "{turn}");
            }
        }
    }
}
