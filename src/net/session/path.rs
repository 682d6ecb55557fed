//! The way to the peer: where the peer is, and how long a datagram on the way may be.

use std::time::Instant;

use rand::Rng;

use super::outbound::{Burst, Outbound};
use crate::net::{
    path_mtu::{Delivery, PathMtu},
    path_validation::PathValidation,
    route::Route,
    wire::{
        datagram::Kind,
        path_probe::{ACK_LEN, PathProbe, PathProbeAck},
        probe::{PROBE_LEN, Probe},
        report::Report,
    },
};

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Path {
    /// Follows the peer, if it answers; else the peer is where it was.
    validation: PathValidation,
    can_ask: bool,
    /// If we send, and nobody has said how long datagrams are to be.
    mtu: Option<PathMtu>,
    ack: Option<PathProbeAck>,
    /// Probes of the length that have left and are neither acknowledged nor known to be lost.
    probes_unacked: u64,
    probes_lost: u64,
    /// The last report, as it came.
    reported: Report,
}

impl Path {
    /// A way along `route`, which must first prove to be the peer's unless it `is_known`. `can_ask`: the
    /// peer answers probes. `probed`: how long a datagram may be is to be found out, up to so many bytes.
    pub(super) fn new(
        now: Instant,
        route: Route,
        is_known: bool,
        can_ask: bool,
        probed: Option<usize>,
    ) -> Self {
        let mtu = |limit| {
            let begin = if can_ask { PathMtu::new } else { PathMtu::unprobed };
            begin(now, route.peer.is_ipv6(), limit)
        };
        Self {
            validation: if is_known || !can_ask {
                PathValidation::new(route)
            } else {
                PathValidation::unknown()
            },
            can_ask,
            mtu: probed.map(mtu),
            ack: None,
            probes_unacked: 0,
            probes_lost: 0,
            reported: Report::default(),
        }
    }

    /// Where datagrams go, once that is known.
    pub(super) fn route(&self) -> Option<Route> {
        self.validation.active()
    }

    /// How long a datagram may be, if that is being found out.
    pub(super) fn max_datagram_len(&self) -> Option<usize> {
        self.mtu.as_ref().map(PathMtu::max_datagram_len)
    }

    /// A whole datagram of this session that had not come before.
    pub(super) fn handle_datagram(&mut self, now: Instant, from: Route, sequence: u64, len: usize) {
        if self.can_ask {
            self.validation.handle_datagram(now, from, sequence, len);
        }
    }

    /// The origin of a probe has come back; where the peer has proved to have moved, if it has.
    pub(super) fn handle_echo(&mut self, now: Instant, origin: u64) -> Option<Route> {
        let moved = self.validation.handle_echo(origin)?;
        if let Some(mtu) = &mut self.mtu {
            mtu.reset(now);
        }
        Some(moved)
    }

    /// A probe of the peer's has arrived, in a datagram of `len` bytes.
    pub(super) fn handle_probe(&mut self, probe: PathProbe, len: usize) {
        self.ack = Some(PathProbeAck { id: probe.id, datagram_len: len as u16 });
    }

    /// A probe of ours has arrived.
    pub(super) fn handle_ack(&mut self, now: Instant, ack: PathProbeAck) {
        if let Some(mtu) = &mut self.mtu {
            self.probes_unacked = self.probes_unacked.saturating_sub(1);
            mtu.handle_ack(now, ack.id, ack.datagram_len.into());
        }
    }

    /// This machine has refused to send a datagram of `len` bytes; its interface takes `fits`, if it says.
    /// True: that changes how long they are.
    pub(super) fn handle_refused(&mut self, now: Instant, len: usize, fits: Option<usize>) -> bool {
        self.mtu.as_mut().is_some_and(|mtu| mtu.handle_refused(now, len, fits))
    }

    /// The peer has answered a datagram of ours.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        if let Some(mtu) = &mut self.mtu {
            mtu.handle_answer(now);
        }
    }

    /// A router, or somebody who says to be one, passes datagrams of up to `len` bytes only.
    pub(super) fn handle_too_big(&mut self, now: Instant, len: usize) {
        if let Some(mtu) = &mut self.mtu {
            mtu.handle_too_big(now, len);
        }
    }

    /// A burst has left on this path; its last datagram has this sequence number.
    pub(super) fn record_sent(&mut self, burst: &Burst, last_sequence: u64) {
        if let Some(mtu) = &mut self.mtu {
            mtu.record_sent(burst.segment_len, last_sequence);
        }
    }

    /// Takes a report of the peer, and takes the probes out of its losses: to be lost is what they are for
    /// (RFC 8899 §3). True: what else is lost is put down to the length of datagrams.
    pub(super) fn handle_report(&mut self, now: Instant, report: &mut Report) -> bool {
        let Some(mtu) = &mut self.mtu else { return false };
        let before = self.reported;
        if report.received >= before.received {
            let lost = report.lost.saturating_sub(before.lost);
            let probes_lost = lost.min(self.probes_unacked);
            self.probes_unacked -= probes_lost;
            self.probes_lost += probes_lost;
            self.reported = *report;
            mtu.handle_delivery(
                now,
                Delivery {
                    highest_sequence: report.highest_sequence,
                    longest: report.longest_datagram.into(),
                    received: (report.received - before.received) as usize,
                    lost: (lost - probes_lost) as usize,
                },
            );
        }
        report.lost = report.lost.saturating_sub(self.probes_lost);
        mtu.is_suspect(now)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let mtu = self.mtu.as_ref().filter(|_| self.route().is_some());
        let mtu = mtu.and_then(PathMtu::poll_timeout);
        mtu.into_iter().chain(self.validation.poll_timeout()).min()
    }

    /// Writes what is to be sent to find out about the way, and says where it goes.
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
