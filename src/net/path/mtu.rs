//! Path MTU discovery for datagrams (DPLPMTUD, RFC 8899): how long a datagram may be.
//!
//! Longer datagrams are fewer: a frame of 117 KB is 98 at 1200 bytes, 80 at 1472, 13 at 8972.
//! Probes of the usual lengths are sent with don't-fragment set, and a length is used once the peer
//! acknowledges it. A router's "too big" message shortens datagrams at once to a length that passes
//! almost everywhere, and after that is only a hint for the next probe, since anyone can forge one.
//! A forged one costs two round trips of shorter datagrams, at most once in ten seconds.
//!
//! ```text
//!             acked: longer
//!            ┌────────────┐            nothing left
//! 1200 ──► searching ─────┴───────────────────────────────────────────────────► settled
//!  │ ▲       ▲   after 600 s; or black hole or router's error: back to 1200 first │
//!  │ │       └────────────────────────────────────────────────────────────────────┘
//!  │ └─ acked
//!  └──► 508, then search from there: 1200 is not acked, or reported too long
//!       └──► 200, likewise
//! ```
//!
//! 1200 bytes pass every path that carries IPv6 (RFC 8200 §5) and nearly every other, so they are
//! used before they are confirmed. A tunnel within a tunnel may carry less. If the first probe is
//! not acknowledged, the length in use is probed itself. If that fails too, datagrams of 508 bytes,
//! which nearly every path with IPv4 carries, are used until longer ones are acknowledged. If even
//! they fail while something else is answered, 200 bytes are used, the least with which the
//! protocol works. Failed probes prove nothing about their length while nothing else arrives
//! either.

mod black_hole;
mod search;

use std::time::{Duration, Instant};

pub use self::black_hole::Delivery;
use self::{
    black_hole::{BlackHoleDetector, Finding},
    search::Search,
};
use crate::net::link::{LinkInfo, MIN_DATAGRAM_LEN};

/// Finds the longest datagram that a path carries. Lengths are in bytes of UDP payload.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// The datagram length to begin with on this link.
    base: usize,
    search: Search,
    black_hole: BlackHoleDetector,
    /// The length in use; see `proof`.
    in_use: usize,
    proof: Proof,
    /// Whether the peer acknowledges probes.
    probes: bool,
    /// When the peer last answered anything.
    answered: Option<Instant>,
    /// Messages from routers are ignored until then.
    ignore_icmp_until: Option<Instant>,
    /// Until then there is nothing to probe; afterwards the path may have become wider.
    settled_until: Option<Instant>,
    probe: Option<ProbeInFlight>,
    next_id: u32,
    due: Option<Instant>,
    /// Whether not even the shortest datagrams pass.
    is_too_narrow: bool,
}

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueProbe {
    /// Identifies the probe in [`PathMtu::handle_ack`].
    pub id: u32,
    /// The length of the whole datagram, in bytes of UDP payload.
    pub datagram_len: usize,
}

/// What is known about the length in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It is assumed to pass. The first probe is longer and would prove it too.
    Assumed,
    /// Unproven for a while: the length itself is being probed.
    OnTrial,
    /// A probe of this length or more was acknowledged, or such a datagram arrived.
    Proven,
}

#[derive(Clone, Copy, Debug)]
struct ProbeInFlight {
    first_id: u32,
    len: usize,
    tries: u32,
    began: Instant,
}

impl PathMtu {
    /// A path to a peer that takes datagrams of up to `peer_limit` bytes and acknowledges probes.
    /// The first probe is due at once.
    pub fn new(now: Instant, link: LinkInfo, peer_limit: usize) -> Self {
        let search = Search::new(link, peer_limit);
        let mut mtu = Self {
            base: link.base_datagram_len,
            in_use: link.base_datagram_len.min(search.cap()),
            search,
            black_hole: BlackHoleDetector::default(),
            proof: Proof::Assumed,
            probes: true,
            answered: None,
            ignore_icmp_until: None,
            settled_until: None,
            probe: None,
            next_id: 0,
            due: None,
            is_too_narrow: false,
        };
        mtu.reset(now);
        mtu
    }

    /// A path to a peer that never answers. Only errors from this host and from routers shorten its
    /// datagrams, for ten minutes.
    pub fn unprobed(now: Instant, link: LinkInfo, peer_limit: usize) -> Self {
        let mtu = Self::new(now, link, peer_limit.min(link.base_datagram_len));
        Self { probes: false, due: None, ..mtu }
    }

    /// Discards everything known, after a change of path.
    pub fn reset(&mut self, now: Instant) {
        self.search.reset();
        self.assume(now, self.base);
    }

    /// Uses datagrams of at most `len` bytes at once, and probes whether they and longer ones pass.
    fn assume(&mut self, now: Instant, len: usize) {
        let before = std::mem::replace(&mut self.in_use, len.min(self.search.cap()));
        if self.in_use < before {
            self.black_hole.record_shortening();
        }
        self.proof = Proof::Assumed;
        self.probe = None;
        self.black_hole.restart();
        self.settled_until = None;
        self.due = Some(if self.probes { now } else { now + RAISE_TIMER });
    }

    /// Whether not even datagrams of [`MIN_DATAGRAM_LEN`] bytes seem to pass, though shorter ones
    /// do.
    pub fn is_too_narrow(&self) -> bool {
        self.is_too_narrow
    }

    /// The maximum length of datagrams to send now, in bytes of UDP payload.
    pub fn max_datagram_len(&self) -> usize {
        self.in_use
    }

    /// The probe to send at `now`, if one is due.
    pub fn poll_probe(&mut self, now: Instant) -> Option<DueProbe> {
        if self.due? > now {
            return None;
        }
        if !self.probes {
            self.reset(now);
            self.due = None;
            return None;
        }
        match &mut self.probe {
            // While the length in use is only assumed, a longer probe is not repeated: that length
            // is probed instead.
            Some(probe) if probe.tries < MAX_PROBES && self.proof != Proof::Assumed => {
                probe.tries += 1;
            }
            Some(probe) => {
                let failed = *probe;
                self.probe = None;
                self.give_up(now, failed);
                self.start_probe(now)?;
            }
            None => self.start_probe(now)?,
        }
        let (id, len) = (self.next_id, self.probe?.len);
        self.next_id = self.next_id.wrapping_add(1);
        let is_proven = self.proof == Proof::Proven;
        self.due = Some(now + if is_proven { PROBE_TIMER } else { PROOF_TIMER });
        Some(DueProbe { id, datagram_len: len })
    }

    /// Handles the failure of a probe.
    fn give_up(&mut self, now: Instant, failed: ProbeInFlight) {
        let is_answered = self.answered.is_some_and(|at| at >= failed.began);
        match self.proof {
            Proof::Assumed => self.proof = Proof::OnTrial,
            // While nothing arrives at all, the length is not the cause.
            Proof::Proven | Proof::OnTrial if is_answered => {
                self.search.exclude(failed.len);
            }
            Proof::Proven | Proof::OnTrial => {}
        }
        if failed.len > self.in_use || self.proof != Proof::OnTrial {
            return;
        }
        if self.in_use > FLOOR_LEN {
            self.assume(now, FLOOR_LEN);
        } else if is_answered && self.in_use > MIN_DATAGRAM_LEN {
            self.assume(now, MIN_DATAGRAM_LEN);
        } else if is_answered {
            self.is_too_narrow = true;
        }
    }

    /// When [`Self::poll_probe`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Handles the acknowledgement of a probe, which arrived with `datagram_len` bytes.
    pub fn handle_ack(&mut self, now: Instant, id: u32, datagram_len: usize) {
        let is_of =
            |p: &ProbeInFlight| id.wrapping_sub(p.first_id) < p.tries && p.len == datagram_len;
        self.handle_answer(now);
        if self.probe.take_if(|p| is_of(p)).is_some() {
            self.in_use = self.in_use.max(datagram_len);
            self.proof = Proof::Proven;
            self.record_widening();
            self.black_hole.restart();
            self.due = Some(now);
        }
    }

    /// Records that the peer answered a datagram other than a chunk, so some datagrams reach it.
    ///
    /// If answers keep arriving without a report, no chunk reaches the peer: all of them may be too
    /// long.
    pub fn handle_answer(&mut self, now: Instant) {
        self.answered = Some(now);
        if self.black_hole.handle_answer(now) {
            self.leave_black_hole(now);
        }
    }

    /// Handles a router's message that only datagrams of up to `len` bytes of UDP payload pass
    /// (RFC 8899 §4.6). If that is less than the length in use, it is believed at once, since
    /// frames are lost until then; later, the router's length and the previous one are probed. If
    /// it is more, it is probed in turn.
    pub fn handle_too_big(&mut self, now: Instant, len: usize) {
        let is_ignored = self.ignore_icmp_until.is_some_and(|until| now < until);
        if len < MIN_DATAGRAM_LEN || self.search.is_excluded(len) || is_ignored {
            return;
        }
        self.search.hint(len);
        if len < self.in_use {
            self.search.hint_passed(self.in_use);
            self.ignore_icmp_until = Some(now + ICMP_HOLD_OFF);
            self.assume(now, len.min(self.base));
        }
    }

    /// Handles this host's refusal to send a datagram of `len` bytes, which proves it too long.
    /// `fits` is the interface's limit, if known. Returns false if there is nothing shorter to
    /// send.
    pub fn handle_refused(&mut self, now: Instant, len: usize, fits: Option<usize>) -> bool {
        if len <= MIN_DATAGRAM_LEN || fits.is_some_and(|fits| fits < MIN_DATAGRAM_LEN) {
            return false;
        }
        self.search.exclude(len);
        self.probe.take_if(|p| p.len >= len);
        let fits = fits.filter(|fits| (MIN_DATAGRAM_LEN..len).contains(fits));
        if len <= self.in_use {
            let shorter = [self.base, FLOOR_LEN].into_iter().find(|&shorter| shorter < len);
            let shorter = shorter.unwrap_or(MIN_DATAGRAM_LEN);
            self.assume(now, fits.unwrap_or(shorter));
        } else if self.probe.is_none() && self.probes {
            self.due = Some(now);
        }
        if let Some(fits) = fits {
            self.search.hint(fits);
        }
        true
    }

    /// Records that datagrams of `len` bytes were sent, the last with this sequence number.
    pub fn record_sent(&mut self, len: usize, last_sequence: u64) {
        self.black_hole.record_sent(len, last_sequence, self.in_use);
    }

    /// Handles a report. If no full-length datagram arrives while shorter ones do, the path has a
    /// black hole (RFC 8899 §4.3). If a single one arrives, the others were lost for another
    /// reason.
    pub fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        self.answered = Some(now);
        match self.black_hole.handle_delivery(now, delivery, self.in_use) {
            Finding::Passes => self.prove(now),
            Finding::BlackHole => self.leave_black_hole(now),
            Finding::Undecided => {}
        }
    }

    /// Whether datagrams seem to be lost because of their length, so that their loss is not a sign
    /// of congestion.
    pub fn is_suspect(&self, now: Instant) -> bool {
        if self.black_hole.may_report_longer() {
            return true;
        }
        let is_new = self.proof != Proof::Proven;
        let lasts = |time| is_new || time >= SUSPICION_TIME;
        self.proof == Proof::OnTrial || self.black_hole.missing_for(now).is_some_and(lasts)
    }

    /// Records that the length in use passes. If it did not before, other lengths that failed may
    /// pass too.
    fn record_widening(&mut self) {
        if std::mem::take(&mut self.is_too_narrow) {
            self.search.forget_failures();
        }
    }

    /// Handles the arrival of a datagram of the length in use.
    fn prove(&mut self, now: Instant) {
        self.record_widening();
        if self.proof == Proof::OnTrial {
            self.probe = None;
            self.due = Some(now);
        }
        self.proof = Proof::Proven;
    }

    /// Shortens datagrams, or probes the length in use if it is not above the base.
    fn leave_black_hole(&mut self, now: Instant) {
        let passed_before = self.in_use;
        if passed_before > self.base {
            self.reset(now);
            self.search.exclude(passed_before);
        } else if self.proof == Proof::Proven {
            self.assume(now, passed_before);
            self.proof = Proof::OnTrial;
        }
    }

    /// Starts to probe the next length; without one, waits before searching again.
    fn start_probe(&mut self, now: Instant) -> Option<()> {
        if self.settled_until.take_if(|until| *until <= now).is_some() {
            self.search.forget_failures();
        }
        let next =
            if self.proof == Proof::OnTrial { None } else { self.search.next_len(self.in_use) };
        if next.is_none() && self.proof == Proof::Assumed {
            self.proof = Proof::OnTrial;
        }
        let on_trial = (self.proof == Proof::OnTrial).then_some(self.in_use);
        let Some(len) = next.or(on_trial) else {
            self.due = Some(*self.settled_until.get_or_insert(now + RAISE_TIMER));
            return None;
        };
        self.probe = Some(ProbeInFlight { first_id: self.next_id, len, tries: 1, began: now });
        Some(())
    }
}

/// The length that every IPv4 host accepts (RFC 1122: 576, less headers). Hardly any path carries
/// less, so a failed probe of it counts only if the peer has answered something else meanwhile.
pub const FLOOR_LEN: usize = 508;

/// A length whose probe fails this often does not pass (`MAX_PROBES`).
const MAX_PROBES: u32 = 3;

/// How long to wait for the acknowledgement of a probe (`PROBE_TIMER`, at least a second).
const PROBE_TIMER: Duration = Duration::from_secs(1);

/// The same while the length in use is unproven, since frames may be lost until it is proven.
const PROOF_TIMER: Duration = Duration::from_millis(300);

/// After this time, search again for a wider path (`PMTU_RAISE_TIMER`).
const RAISE_TIMER: Duration = Duration::from_secs(600);

/// After a router's message, others are ignored for this long, so that forged ones cost little.
const ICMP_HOLD_OFF: Duration = Duration::from_secs(10);

/// Losses are attributed to the MTU once reports have shown for this long (two reports) that
/// full-length datagrams are missing.
const SUSPICION_TIME: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
