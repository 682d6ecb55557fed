//! The network path to the peer: its route and its maximum datagram length.

use std::time::{Duration, Instant};

use rand::Rng;

use super::{
    outbound::{Burst, Outbound},
    reports::ReportDelta,
};
use crate::net::{
    link::PeerAddr,
    path::{
        mtu::{Delivery, PathMtu},
        validation::PathValidation,
    },
    route::Route,
    wire::{
        datagram::Kind,
        path_probe::{ACK_LEN, PathProbe, PathProbeAck},
        probe::{PROBE_LEN, Probe},
        report::Report,
    },
};

/// The path to one peer.
#[derive(Debug)]
pub(super) struct Path {
    /// Follows the peer's address if the peer replies; otherwise the address is fixed.
    validation: PathValidation,
    replies_to_probes: bool,
    /// Present if we send and no datagram length was configured.
    mtu: Option<PathMtu>,
    ack: Option<PathProbeAck>,
    /// Path MTU probes that were sent and are neither acknowledged nor known to be lost.
    probes_unacked: u64,
    probes_lost: u64,
    /// Whether the speed of our interface is to be looked up now, and when again.
    wants_link_speed: bool,
    next_lookup: Instant,
}

impl Path {
    /// A path along `route`, which is validated first unless it `is_known` or the peer does not
    /// reply to probes. `probe_limit` is the longest datagram that path MTU discovery may use;
    /// `None` if we do not send or the datagram length is configured.
    pub(super) fn new(
        now: Instant,
        route: Route,
        is_known: bool,
        replies_to_probes: bool,
        probe_limit: Option<usize>,
    ) -> Self {
        let mtu = |limit| {
            let begin = if replies_to_probes { PathMtu::new } else { PathMtu::unprobed };
            begin(now, route.peer.link(), limit)
        };
        Self {
            validation: if is_known || !replies_to_probes {
                PathValidation::new(route)
            } else {
                PathValidation::unknown()
            },
            replies_to_probes,
            mtu: probe_limit.map(mtu),
            ack: None,
            probes_unacked: 0,
            probes_lost: 0,
            wants_link_speed: true,
            next_lookup: now + LOOKUP_INTERVAL,
        }
    }

    /// The validated route, if there is one.
    pub(super) fn route(&self) -> Option<Route> {
        self.validation.active()
    }

    /// The current maximum datagram length; `None` if we do not send or it is configured.
    pub(super) fn max_datagram_len(&self) -> Option<usize> {
        self.mtu.as_ref().map(PathMtu::max_datagram_len)
    }

    /// Handles a verified datagram of this session that was not received before.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: Route, sequence: u64, len: usize) {
        if self.replies_to_probes {
            self.validation.handle_datagram(now, from, sequence, len);
        }
    }

    /// Handles a probe origin echoed by the peer. Returns the new route if this validates one.
    pub(super) fn handle_probe_reply(&mut self, now: Instant, origin: u64) -> Option<Route> {
        let moved = self.validation.handle_probe_reply(origin)?;
        if let Some(mtu) = &mut self.mtu {
            mtu.reset(now);
        }
        self.wants_link_speed = true;
        Some(moved)
    }

    /// Takes the pending lookup, if there is one: the peer to which the speed of our interface is to
    /// be looked up.
    pub(super) fn take_lookup(&mut self) -> Option<PeerAddr> {
        let route = self.route().filter(|_| self.wants_link_speed)?;
        self.wants_link_speed = false;
        Some(route.peer)
    }

    /// When the speed of our interface is to be looked up again.
    pub(super) fn next_lookup(&self) -> Instant {
        self.next_lookup
    }

    /// Does what is due by `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.next_lookup <= now {
            self.wants_link_speed = true;
            self.next_lookup = now + LOOKUP_INTERVAL;
        }
    }

    /// Whether the path seems to pass only datagrams that are too short for the protocol.
    pub(super) fn is_too_narrow(&self) -> bool {
        self.mtu.as_ref().is_some_and(PathMtu::is_too_narrow)
    }

    /// Handles the peer's path MTU probe, which came in a datagram of `len` bytes.
    pub(super) fn handle_probe(&mut self, probe: PathProbe, len: usize) {
        self.ack = Some(PathProbeAck { id: probe.id, datagram_len: len as u16 });
    }

    /// Handles the acknowledgement of one of our path MTU probes.
    pub(super) fn handle_ack(&mut self, now: Instant, ack: PathProbeAck) {
        if let Some(mtu) = &mut self.mtu {
            self.probes_unacked = self.probes_unacked.saturating_sub(1);
            mtu.handle_ack(now, ack.id, ack.datagram_len.into());
        }
    }

    /// Handles the local refusal to send a datagram of `len` bytes; the interface takes up to
    /// `fits` bytes, if known. Returns whether shorter datagrams can be sent instead.
    pub(super) fn handle_refused(&mut self, now: Instant, len: usize, fits: Option<usize>) -> bool {
        self.mtu.as_mut().is_some_and(|mtu| mtu.handle_refused(now, len, fits))
    }

    /// Records that the peer has replied to a datagram of ours.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        if let Some(mtu) = &mut self.mtu {
            mtu.handle_answer(now);
        }
    }

    /// Handles an ICMP message, which may be forged, saying that a router forwards only datagrams
    /// of up to `len` bytes.
    pub(super) fn handle_too_big(&mut self, now: Instant, len: usize) {
        if let Some(mtu) = &mut self.mtu {
            mtu.handle_too_big(now, len);
        }
    }

    /// Records that a burst was sent on this path, ending with this sequence number.
    pub(super) fn record_sent(&mut self, burst: &Burst, last_sequence: u64) {
        if let Some(mtu) = &mut self.mtu {
            mtu.record_sent(burst.segment_len, last_sequence);
        }
    }

    /// Handles the peer's report and its change since the previous one, and subtracts lost path MTU
    /// probes from both: their loss is not a sign of congestion (RFC 8899 §3). Returns whether
    /// other losses are attributed to the datagram length.
    pub(super) fn handle_report(
        &mut self,
        now: Instant,
        report: &mut Report,
        delta: &mut ReportDelta,
    ) -> bool {
        let Some(mtu) = &mut self.mtu else { return false };
        let probes_lost = delta.lost.min(self.probes_unacked);
        self.probes_unacked -= probes_lost;
        self.probes_lost += probes_lost;
        delta.lost -= probes_lost;
        report.lost = report.lost.saturating_sub(self.probes_lost);
        mtu.handle_delivery(
            now,
            Delivery {
                highest_sequence: report.highest_sequence,
                longest: report.longest_datagram.into(),
                received: delta.received as usize,
                lost: delta.lost as usize,
            },
        );
        mtu.is_suspect(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let mtu = self.mtu.as_ref().filter(|_| self.route().is_some());
        let mtu = mtu.and_then(PathMtu::poll_timeout);
        mtu.into_iter().chain(self.validation.poll_timeout()).min()
    }

    /// Writes the next probe or acknowledgement for path validation or path MTU discovery. Returns
    /// it with its route.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        outbound: &mut Outbound,
        buf: &mut [u8],
        rng: &mut impl Rng,
    ) -> Option<(Route, Burst)> {
        if let Some((to, ack)) = self.route().and_then(|to| Some((to, self.ack.take()?))) {
            let burst = outbound.emit(Kind::PathProbeAck, ACK_LEN, buf, |body| ack.emit(body));
            return Some((to, burst));
        }
        let overhead = outbound.form().overhead();
        let challenge =
            self.validation.poll_challenge(now, overhead + PROBE_LEN, || rng.next_u64());
        if let Some(challenge) = challenge {
            let probe = Probe { origin: challenge.token };
            let burst = outbound.emit(Kind::Probe, PROBE_LEN, buf, |body| probe.emit(body));
            return Some((challenge.to, burst));
        }
        let to = self.route()?;
        let due = self.mtu.as_mut()?.poll_probe(now)?;
        self.probes_unacked += 1;
        let probe = PathProbe { id: due.id };
        let body_len = due.datagram_len - overhead;
        let burst = outbound.emit(Kind::PathProbe, body_len, buf, |body| probe.emit(body));
        Some((to, burst))
    }
}

/// The route may begin to use another interface at any time, and a cable may be replaced.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{super::reports::Reports, *};
    use crate::net::{frame::SessionId, wire::datagram::Direction};

    #[test]
    fn the_speed_of_the_interface_is_looked_up_at_once_and_again_later() {
        let now = crate::clock::now();
        let addr = SocketAddr::from(([192, 0, 2, 1], 7722));
        let mut path = Path::new(now, addr.into(), true, true, None);
        assert_eq!((path.take_lookup(), path.take_lookup()), (Some(addr.into()), None));
        path.handle_timeout(now + Duration::from_secs(9));
        assert_eq!(path.take_lookup(), None);
        path.handle_timeout(path.next_lookup());
        assert_eq!((path.take_lookup(), path.take_lookup()), (Some(addr.into()), None));
        let mut unknown = Path::new(now, addr.into(), false, true, None);
        assert_eq!(unknown.take_lookup(), None, "the address is not validated");
    }

    #[test]
    fn lost_path_mtu_probes_are_not_counted_as_losses() {
        let mut now = crate::clock::now();
        let route = SocketAddr::from(([192, 0, 2, 1], 7722)).into();
        let mut path = Path::new(now, route, true, true, Some(65_507));
        let mut outbound =
            Outbound::clear(SessionId::new(1).expect("not zero"), Direction::FromDialler);
        let (mut buf, mut rng) = (vec![0; 65_507], rand::rng());
        let mut report = Report { received: 100, lost: 7, ..Report::default() };
        let (mut reports, mut probes, mut lost) = (Reports::default(), 0, 0);
        for _ in 0..100 {
            now += Duration::from_millis(50);
            while path.poll_transmit(now, &mut outbound, &mut buf, &mut rng).is_some() {
                probes += 1;
                report.lost += 1;
            }
            report.received += 10;
            let (mut seen, mut delta) = (report, reports.take(report).unwrap());
            path.handle_report(now, &mut seen, &mut delta);
            assert_eq!((seen.received, seen.lost), (report.received, 7));
            lost += delta.lost;
        }
        assert!(probes >= 5, "{probes}");
        report.lost += 3;
        let mut delta = reports.take(report).unwrap();
        path.handle_report(now, &mut report, &mut delta);
        assert_eq!((report.lost, delta.lost, lost), (10, 3, 7), "other losses are counted");
    }
}
