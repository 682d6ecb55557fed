//! The emulated network between the endpoint and the socket (`--netem`).

use std::time::Instant;

use super::{socket_errors::SendFailure, udp::SendError};
use crate::net::{
    link::PeerAddr,
    netem::{Netem, NetemCounters, NetemSpec},
    route::Route,
};

/// An emulated network in one direction, in both or in none.
#[derive(Debug)]
pub(super) struct EmulatedNetwork {
    egress: Option<Netem<Route>>,
    ingress: Option<Netem<Route>>,
    /// An outgoing datagram that was due and that the socket has not accepted yet. It leaves before
    /// any later one.
    held: Option<(Vec<u8>, Route)>,
}

impl EmulatedNetwork {
    /// `None` in a direction: the network has no effect there.
    pub(super) fn new(egress: Option<NetemSpec>, ingress: Option<NetemSpec>) -> Self {
        Self { egress: egress.map(Netem::new), ingress: ingress.map(Netem::new), held: None }
    }

    /// Whether the outgoing direction is emulated.
    pub(super) fn has_egress(&self) -> bool {
        self.egress.is_some()
    }

    /// Takes outgoing datagrams of `segment_len` bytes; the last may be shorter. Returns false, and
    /// takes none, if the outgoing direction is not emulated.
    pub(super) fn push_outgoing(
        &mut self,
        now: Instant,
        to: Route,
        contents: &[u8],
        segment_len: usize,
    ) -> bool {
        let Some(egress) = &mut self.egress else { return false };
        for datagram in contents.chunks(segment_len) {
            egress.push(now, datagram, to);
        }
        true
    }

    /// Calls `send` with the next outgoing datagram that is due. Returns the peer that it was sent
    /// to, or why that failed; a datagram that fails is dropped. `None`: none is due, or the socket
    /// is blocked.
    pub(super) fn send_due(
        &mut self,
        now: Instant,
        send: impl FnOnce(Route, &[u8]) -> Result<(), SendError>,
    ) -> Option<Result<PeerAddr, SendFailure>> {
        let due = self.held.take().or_else(|| self.egress.as_mut()?.poll(now));
        let (datagram, to) = due?;
        match send(to, &datagram) {
            Ok(()) => Some(Ok(to.peer)),
            Err(error) if error.is_blocked() => {
                self.held = Some((datagram, to));
                None
            }
            Err(SendError { error, .. }) => {
                Some(Err(SendFailure { to: to.peer, len: datagram.len(), error }))
            }
        }
    }

    /// Whether a datagram waits until the socket is writable.
    pub(super) fn is_blocked(&self) -> bool {
        self.held.is_some()
    }

    /// Whether any outgoing datagram has not reached the socket yet.
    pub(super) fn is_sending(&self) -> bool {
        self.held.is_some() || self.egress.as_ref().and_then(Netem::poll_timeout).is_some()
    }

    /// Takes a received datagram. Returns false, and does not take it, if the incoming direction is
    /// not emulated.
    pub(super) fn push_incoming(&mut self, now: Instant, from: Route, datagram: &[u8]) -> bool {
        let Some(ingress) = &mut self.ingress else { return false };
        ingress.push(now, datagram, from);
        true
    }

    /// The next received datagram that is due, and where it came from.
    pub(super) fn poll_incoming(&mut self, now: Instant) -> Option<(Vec<u8>, Route)> {
        self.ingress.as_mut()?.poll(now)
    }

    /// When the next datagram is due, in either direction.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let directions = [&self.egress, &self.ingress].into_iter().flatten();
        directions.filter_map(Netem::poll_timeout).min()
    }

    /// The counters of the outgoing direction if there is one, else of the incoming one.
    pub(super) fn counters(&self) -> Option<NetemCounters> {
        self.egress.as_ref().or(self.ingress.as_ref()).map(Netem::counters)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, time::Duration};

    use super::*;

    const DELAY: Duration = Duration::from_millis(20);

    fn delayed() -> NetemSpec {
        NetemSpec { delay: DELAY, ..NetemSpec::default() }
    }

    fn peer() -> Route {
        SocketAddr::from(([192, 0, 2, 1], 7)).into()
    }

    fn failed(kind: io::ErrorKind) -> Result<(), SendError> {
        Err(SendError { taken: 0, error: kind.into() })
    }

    #[test]
    fn outgoing_datagrams_leave_singly_and_in_order_when_due() {
        let now = crate::clock::now();
        let mut network = EmulatedNetwork::new(Some(delayed()), None);
        assert!(network.push_outgoing(now, peer(), b"onetwothr", 3));
        assert!(network.is_sending());
        assert_eq!(network.poll_timeout(), Some(now + DELAY));
        assert!(network.send_due(now, |_, _| panic!("none is due")).is_none());
        for expected in [b"one", b"two", b"thr"] {
            let sent = network.send_due(now + DELAY, |to, datagram| {
                assert_eq!((to, datagram), (peer(), &expected[..]));
                Ok(())
            });
            assert_eq!(sent.unwrap().unwrap(), peer().peer);
        }
        assert!(network.send_due(now + DELAY, |_, _| panic!("all are sent")).is_none());
        assert!(!network.is_sending() && network.poll_timeout().is_none());
    }

    #[test]
    fn a_datagram_held_for_a_blocked_socket_leaves_first() {
        let now = crate::clock::now();
        let mut network = EmulatedNetwork::new(Some(delayed()), None);
        network.push_outgoing(now, peer(), b"onetwo", 3);
        for _ in 0..2 {
            let blocked = network.send_due(now + DELAY, |_, datagram| {
                assert_eq!(datagram, b"one");
                failed(io::ErrorKind::WouldBlock)
            });
            assert!(blocked.is_none() && network.is_blocked());
        }
        for expected in [b"one", b"two"] {
            assert!(network.is_sending());
            let sent = network.send_due(now + DELAY, |_, datagram| {
                assert_eq!(datagram, expected);
                Ok(())
            });
            assert!(sent.unwrap().is_ok() && !network.is_blocked());
        }
    }

    #[test]
    fn a_datagram_that_fails_is_dropped() {
        let now = crate::clock::now();
        let mut network = EmulatedNetwork::new(Some(delayed()), None);
        network.push_outgoing(now, peer(), b"one", 3);
        let result = network
            .send_due(now + DELAY, |_, _| failed(io::ErrorKind::NetworkUnreachable))
            .unwrap();
        let failure = result.unwrap_err();
        assert_eq!((failure.to, failure.len), (peer().peer, 3));
        assert!(!network.is_blocked() && !network.is_sending());
    }

    #[test]
    fn each_direction_is_emulated_only_if_configured() {
        let now = crate::clock::now();
        let mut none = EmulatedNetwork::new(None, None);
        assert!(!none.has_egress() && none.counters().is_none());
        assert!(!none.push_outgoing(now, peer(), b"one", 3));
        assert!(!none.push_incoming(now, peer(), b"one"));
        assert!(none.poll_timeout().is_none());

        let mut ingress = EmulatedNetwork::new(None, Some(delayed()));
        assert!(!ingress.push_outgoing(now, peer(), b"one", 3));
        assert!(ingress.push_incoming(now, peer(), b"one"));
        assert!(!ingress.is_sending());
        assert_eq!(ingress.poll_timeout(), Some(now + DELAY));
        assert_eq!(ingress.poll_incoming(now), None);
        assert_eq!(ingress.poll_incoming(now + DELAY), Some((b"one".to_vec(), peer())));
        assert_eq!(ingress.counters().unwrap().seen, 1);

        let mut both = EmulatedNetwork::new(Some(delayed()), Some(delayed()));
        both.push_incoming(now, peer(), b"one");
        assert_eq!(both.counters().unwrap().seen, 0, "the outgoing direction is counted");
    }
}
