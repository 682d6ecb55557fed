//! Roaming: follows a peer whose datagrams come from a new address.
//!
//! A NAT may have dropped the old mapping, or Wi-Fi may have replaced an unplugged cable. The new
//! address may also belong to an attacker who replays datagrams. So, as in RFC 9000 §8.2 and §9:
//!
//! - Only a datagram newer than any before can name a new address; replays have no effect.
//! - The old path stays in use until a challenge that was sent only to the new one is echoed.
//! - Until then, no more bytes go to the new address than came from it.
//!
//! The challenge is a clock probe with a random origin, and the echo is its reply. An on-path
//! attacker who forwards datagrams faster than the path does can still route the stream through
//! their own address, but could have read and dropped it anyway (RFC 9000 §9.3).

use std::time::{Duration, Instant};

use crate::net::route::Route;

/// Tracks the peer's address and validates a new one.
#[derive(Clone, Debug)]
pub struct PathValidation {
    /// `None` until the peer's address is validated.
    active: Option<Route>,
    newest: Option<u64>,
    candidate: Option<Candidate>,
}

/// A challenge to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The address to challenge, never the active one.
    pub to: Route,
    /// The number that the peer must echo.
    pub token: u64,
}

/// An address that the peer may have moved to, or another local address that it now sends to.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    addr: Route,
    /// Bytes received from it, less those sent to it.
    credit: usize,
    token: Option<u64>,
    began: Instant,
    due: Instant,
}

impl PathValidation {
    /// Starts with the peer at `active`.
    pub fn new(active: Route) -> Self {
        Self { active: Some(active), newest: None, candidate: None }
    }

    /// Starts without a peer address: the first address that echoes a challenge is the peer's.
    pub fn unknown() -> Self {
        Self { active: None, newest: None, candidate: None }
    }

    /// Where the session's datagrams are sent, once that is known.
    pub fn active(&self) -> Option<Route> {
        self.active
    }

    /// Handles a datagram of this session, with `len` bytes of UDP payload. It must be valid,
    /// authenticated as far as the session can, and not a duplicate; it may be reordered.
    pub fn handle_datagram(&mut self, now: Instant, from: Route, sequence: u64, len: usize) {
        let is_newest = self.newest.is_none_or(|newest| sequence > newest);
        if is_newest {
            self.newest = Some(sequence);
        }
        if Some(from) == self.active {
            // The peer is still at this address, or is back.
            self.candidate.take_if(|_| is_newest);
            return;
        }
        match &mut self.candidate {
            Some(candidate) if candidate.addr == from => {
                candidate.credit = candidate.credit.saturating_add(len);
            }
            _ if is_newest => {
                let candidate =
                    Candidate { addr: from, credit: len, token: None, began: now, due: now };
                self.candidate = Some(candidate);
            }
            _ => {}
        }
    }

    /// The challenge due at `now`, if any, in a datagram of `len` bytes. `draw` returns an
    /// unpredictable number and is called at most once per candidate address.
    pub fn poll_challenge(
        &mut self,
        now: Instant,
        len: usize,
        draw: impl FnOnce() -> u64,
    ) -> Option<Challenge> {
        self.candidate.take_if(|c| now.saturating_duration_since(c.began) >= CHALLENGE_TIMEOUT);
        let candidate = self.candidate.as_mut().filter(|c| c.due <= now)?;
        candidate.due = now + INTERVAL;
        candidate.credit = candidate.credit.checked_sub(len)?;
        let token = *candidate.token.get_or_insert_with(draw);
        Some(Challenge { to: candidate.addr, token })
    }

    /// When [`Self::poll_challenge`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.candidate.map(|c| c.due.min(c.began + CHALLENGE_TIMEOUT))
    }

    /// Handles a `token` echoed from any address. If it is the challenge's, returns the new active
    /// address. The path's MTU, rate and clock probes are then no longer valid (RFC 9000 §9.4).
    pub fn handle_probe_reply(&mut self, token: u64) -> Option<Route> {
        let validated = self.candidate.take_if(|c| c.token == Some(token))?;
        self.active = Some(validated.addr);
        Some(validated.addr)
    }
}

/// The interval of challenges, since a challenge or its echo may be lost.
const INTERVAL: Duration = Duration::from_millis(100);

/// After this time without an echo, the address is dropped. The peer's next datagram from there
/// starts again.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const PROBE: usize = 40;

    fn addr(host: u8) -> Route {
        SocketAddr::from(([10, 0, 0, host], 7722)).into()
    }

    fn path() -> (PathValidation, Instant) {
        let (mut path, now) = (PathValidation::new(addr(1)), crate::clock::now());
        path.handle_datagram(now, addr(1), 100, 1200);
        (path, now)
    }

    #[test]
    fn the_path_changes_only_after_a_matching_echo() {
        let (mut path, now) = path();
        assert_eq!(path.poll_challenge(now, PROBE, || 7), None);
        path.handle_datagram(now, addr(2), 101, 1200);
        let challenge = path.poll_challenge(now, PROBE, || 7);
        assert_eq!(challenge, Some(Challenge { to: addr(2), token: 7 }));
        assert_eq!(path.active(), Some(addr(1)), "the old path until then");
        assert_eq!(path.handle_probe_reply(8), None);
        assert_eq!(path.active(), Some(addr(1)));
        assert_eq!(path.handle_probe_reply(7), Some(addr(2)));
        assert_eq!((path.active(), path.poll_timeout()), (Some(addr(2)), None));
        assert_eq!(path.handle_probe_reply(7), None, "once");
    }

    #[test]
    fn eight_challenges_are_sent_within_a_second() {
        let (mut path, mut now) = path();
        let began = now;
        path.handle_datagram(now, addr(2), 101, 1200);
        for _ in 0..8 {
            now = path.poll_timeout().unwrap();
            assert!(path.poll_challenge(now, PROBE, || 7).is_some());
            assert_eq!(path.poll_challenge(now, PROBE, || 9), None, "not twice at once");
            assert!(path.poll_timeout().unwrap() > now);
        }
        assert!(path.handle_probe_reply(7).is_some() && now - began < 1000 * MS);
    }

    #[test]
    fn old_datagrams_never_change_the_path() {
        let (mut path, now) = path();
        for sequence in [0, 50, 99, 100] {
            path.handle_datagram(now, addr(3), sequence, 1200);
            assert_eq!((path.poll_challenge(now, PROBE, || 7), path.poll_timeout()), (None, None));
        }
    }

    #[test]
    fn late_datagrams_from_the_old_address_do_not_cancel_validation() {
        let (mut path, now) = path();
        path.handle_datagram(now, addr(2), 105, 1200);
        for late in 101..105 {
            path.handle_datagram(now, addr(1), late, 1200);
        }
        assert!(path.poll_challenge(now, PROBE, || 7).is_some());
        path.handle_datagram(now, addr(1), 106, 1200);
        assert_eq!(path.handle_probe_reply(7), None, "but newer ones show that it never left");
    }

    #[test]
    fn an_address_without_an_echo_is_abandoned() {
        let (mut path, now) = path();
        path.handle_datagram(now, addr(2), 101, 1200);
        path.poll_challenge(now, PROBE, || 7);
        assert_eq!(path.poll_challenge(now + CHALLENGE_TIMEOUT, PROBE, || 7), None);
        assert_eq!((path.poll_timeout(), path.handle_probe_reply(7)), (None, None));
        path.handle_datagram(now + CHALLENGE_TIMEOUT, addr(2), 102, 1200);
        assert!(path.poll_challenge(now + CHALLENGE_TIMEOUT, PROBE, || 8).is_some());
    }

    #[test]
    fn a_third_address_replaces_the_second() {
        let (mut path, now) = path();
        path.handle_datagram(now, addr(2), 101, 1200);
        path.poll_challenge(now, PROBE, || 7);
        path.handle_datagram(now, addr(3), 102, 1200);
        let challenge = path.poll_challenge(now, PROBE, || 8);
        assert_eq!(challenge, Some(Challenge { to: addr(3), token: 8 }));
        assert_eq!(path.handle_probe_reply(7), None);
        assert_eq!(path.handle_probe_reply(8), Some(addr(3)));
    }

    proptest! {
        #[test]
        fn no_address_is_sent_more_bytes_than_it_sent(
            steps in proptest::collection::vec((0_u8..4, 0_u64..200, 16_usize..200, 0_u64..300), 1..200),
        ) {
            let (mut path, mut now) = path();
            let mut given = [0_i64; 4];
            for (host, sequence, len, ms) in steps {
                now += Duration::from_millis(ms);
                path.handle_datagram(now, addr(host), sequence, len);
                given[usize::from(host)] += len as i64;
                if let Some(challenge) = path.poll_challenge(now, PROBE, || 7) {
                    prop_assert_ne!(Some(challenge.to), path.active());
                    let SocketAddr::V4(to) = challenge.to.peer.socket_addr() else { unreachable!() };
                    let credit = &mut given[usize::from(to.ip().octets()[3])];
                    *credit -= PROBE as i64;
                    prop_assert!(*credit >= 0);
                }
                prop_assert!(path.poll_timeout().is_none_or(|at| at > now));
                prop_assert_eq!(path.active(), Some(addr(1)), "nobody has echoed anything");
            }
        }
    }
}
