//! Path MTU discovery for datagrams (DPLPMTUD, RFC 8899): how long a datagram may be.
//!
//! Longer datagrams are fewer: a frame of 117 KB is 98 at 1200 bytes, 80 at 1472, 13 at 8972.
//! Probes of the usual lengths are sent with don't-fragment set, and a length is used once the peer
//! acknowledges it. A router's "too big" message shortens datagrams at once to a length that passes
//! almost everywhere, and after that is only a hint for the next probe, since anyone can forge one.
//! A forged one costs two round trips of shorter datagrams, at most once in ten seconds.
//!
//! ```text
//!             acked: longer                              600 s
//!            ┌────────────┐            nothing left     ┌──────┐
//! 1200 ──► searching ─────┴──────────────────────────► settled ┘
//!  │ ▲       ▲   black hole, or a router's error: back to 1200 │
//!  │ │       └─────────────────────────────────────────────────┘
//!  │ └─ acked
//!  └──► 508, then search from there: 1200 is not acked, or reported too long
//!       └──► 200, likewise
//! ```
//!
//! 1200 bytes pass every path that carries IPv6 (RFC 8200 §5) and nearly every other, so they are
//! used before they are confirmed. A tunnel within a tunnel may carry less. If the first probe is
//! not acknowledged, the length in use is probed itself. If that fails too, datagrams of 508 bytes,
//! which nearly every path with IPv4 carries, are used until longer ones are acknowledged. If even
//! they fail while something else is answered, 200 bytes are used, the least with which the protocol
//! works. Failed probes prove nothing about their length while nothing else arrives either.

use std::time::{Duration, Instant};

/// Finds the longest datagram that a path carries. Lengths are in bytes of UDP payload.
#[derive(Clone, Debug)]
pub struct PathMtu {
    /// The longest useful length, given the kind of path and the peer's limit.
    cap: usize,
    usual: [usize; 2],
    /// The length in use: confirmed, or assumed to pass.
    confirmed: usize,
    proof: Proof,
    /// Whether the peer acknowledges probes.
    probes: bool,
    /// When the peer last answered anything.
    answered: Option<Instant>,
    /// The shortest length known not to pass, or the cap plus one.
    too_long: usize,
    /// A router's hint, and the length that passed before it.
    hints: [Option<usize>; 2],
    /// Messages from routers are ignored until then.
    ignore_icmp_until: Option<Instant>,
    /// Until then there is nothing to probe; afterwards the path may have become wider.
    settled_until: Option<Instant>,
    probe: Option<ProbeInFlight>,
    next_id: u32,
    due: Option<Instant>,
    missing: Missing,
    /// Whether not even the shortest datagrams pass.
    is_too_narrow: bool,
    /// The sequence number of the last datagram sent.
    last_sent: u64,
    /// That of the last datagram sent that was longer than the length in use.
    last_longer: Option<u64>,
    /// The highest sequence numbers of the last reports, oldest first.
    reported: [u64; 2],
}

/// A probe to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueProbe {
    /// Identifies the probe in [`PathMtu::handle_ack`].
    pub id: u32,
    /// The length of the whole datagram, in bytes of UDP payload.
    pub datagram_len: usize,
}

/// What a receiver reports about the datagrams since its last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// The highest sequence number that has arrived.
    pub highest_sequence: u64,
    /// The length of the longest datagram that arrived, in bytes of UDP payload; 0 if none did.
    pub longest: usize,
    /// Datagrams that arrived.
    pub received: usize,
    /// Datagrams that were lost.
    pub lost: usize,
}

/// What is known about the length in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It is assumed to pass. The first probe is longer and would prove it too.
    Assumed,
    /// Unproven for a while: the length itself is being probed.
    OnTrial,
    /// A probe of this length or more was acknowledged, such a datagram arrived, or there is
    /// nothing shorter.
    Proven,
}

#[derive(Clone, Copy, Debug)]
struct ProbeInFlight {
    first_id: u32,
    len: usize,
    tries: u32,
    began: Instant,
}

/// What happened since a full-length datagram last arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    /// The sequence number of the first full-length datagram sent since.
    first_sent: Option<u64>,
    /// When a report first showed that it is missing, though a later one has arrived.
    since: Option<Instant>,
    lost: usize,
    received: usize,
    /// The first answer to something else since the last report.
    answered: Option<Instant>,
}

impl PathMtu {
    /// A path to a peer that takes datagrams of up to `peer_limit` bytes and acknowledges probes.
    /// The first probe is due at once.
    pub fn new(now: Instant, is_ipv6: bool, peer_limit: usize) -> Self {
        let usual = if is_ipv6 { USUAL_IPV6 } else { USUAL_IPV4 };
        let cap = peer_limit.min(usual[1]);
        let mut mtu = Self {
            cap,
            usual,
            confirmed: BASE_LEN.min(cap),
            proof: Proof::Assumed,
            probes: true,
            answered: None,
            too_long: cap + 1,
            hints: [None; 2],
            ignore_icmp_until: None,
            settled_until: None,
            probe: None,
            next_id: 0,
            due: None,
            missing: Missing::default(),
            is_too_narrow: false,
            last_sent: 0,
            last_longer: None,
            reported: [0; 2],
        };
        mtu.reset(now);
        mtu
    }

    /// A path to a peer that never answers. Only errors from this host and from routers shorten its
    /// datagrams, for ten minutes.
    pub fn unprobed(now: Instant, is_ipv6: bool, peer_limit: usize) -> Self {
        let mtu = Self::new(now, is_ipv6, peer_limit.min(BASE_LEN));
        Self { probes: false, due: None, ..mtu }
    }

    /// Discards everything known, after a change of path.
    pub fn reset(&mut self, now: Instant) {
        self.too_long = self.cap + 1;
        self.hints = [None; 2];
        self.settled_until = None;
        self.assume(now, BASE_LEN);
    }

    /// Uses datagrams of at most `len` bytes at once, and probes whether they and longer ones pass.
    fn assume(&mut self, now: Instant, len: usize) {
        let before = std::mem::replace(&mut self.confirmed, len.min(self.cap));
        if self.confirmed < before {
            self.last_longer = Some(self.last_sent);
        }
        self.proof = Proof::Assumed;
        self.probe = None;
        self.missing = Missing::default();
        self.settled_until = None;
        self.due = Some(if self.probes { now } else { now + RAISE_TIMER });
    }

    /// Whether not even datagrams of [`MIN_LEN`] bytes seem to pass, though shorter ones do.
    pub fn is_too_narrow(&self) -> bool {
        self.is_too_narrow
    }

    /// The maximum length of datagrams to send now, in bytes of UDP payload.
    pub fn max_datagram_len(&self) -> usize {
        self.confirmed
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
            // A longer probe failed to prove the length in use soon, so that length is probed next.
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
                self.too_long = self.too_long.min(failed.len);
            }
            Proof::Proven | Proof::OnTrial => {}
        }
        if failed.len > self.confirmed || self.proof != Proof::OnTrial {
            return;
        }
        if self.confirmed > FLOOR_LEN {
            self.assume(now, FLOOR_LEN);
        } else if is_answered && self.confirmed > MIN_LEN {
            self.assume(now, MIN_LEN);
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
            self.confirmed = self.confirmed.max(datagram_len);
            self.proof = Proof::Proven;
            self.is_too_narrow = false;
            self.missing = Missing::default();
            self.due = Some(now);
        }
    }

    /// Records that the peer answered something of any length, so datagrams arrive there.
    ///
    /// If no report arrives meanwhile, no chunk reaches the peer: all of them may be too long.
    pub fn handle_answer(&mut self, now: Instant) {
        self.answered = Some(now);
        if self.missing.first_sent.is_some() {
            let since = *self.missing.answered.get_or_insert(now);
            if now.saturating_duration_since(since) >= UNREPORTED_TIME {
                self.missing.answered = None;
                self.enter_black_hole(now);
            }
        }
    }

    /// Handles a router's message that only datagrams of up to `len` bytes of UDP payload pass
    /// (RFC 8899 §4.6). If that is less than the length in use, it is believed at once, since
    /// frames are lost until then; later, the router's length and the previous one are probed. If
    /// it is more, it is probed in turn.
    pub fn handle_too_big(&mut self, now: Instant, len: usize) {
        let is_ignored = self.ignore_icmp_until.is_some_and(|until| now < until);
        if len < MIN_LEN || len >= self.too_long || is_ignored {
            return;
        }
        self.hints[0] = Some(len);
        if len < self.confirmed {
            self.hints[1] = Some(self.confirmed);
            self.ignore_icmp_until = Some(now + ICMP_HOLD_OFF);
            self.assume(now, len.min(BASE_LEN));
        }
    }

    /// Handles the refusal of this host to send a datagram of `len` bytes, which is certain. `fits`
    /// is the interface's limit, if known. Returns false if there is nothing shorter to send.
    pub fn handle_refused(&mut self, now: Instant, len: usize, fits: Option<usize>) -> bool {
        if len <= MIN_LEN || fits.is_some_and(|fits| fits < MIN_LEN) {
            return false;
        }
        self.too_long = self.too_long.min(len);
        self.probe.take_if(|p| p.len >= len);
        let fits = fits.filter(|fits| (MIN_LEN..len).contains(fits));
        if len <= self.confirmed {
            let shorter = [BASE_LEN, FLOOR_LEN].into_iter().find(|&shorter| shorter < len);
            let shorter = shorter.unwrap_or(MIN_LEN);
            self.assume(now, fits.unwrap_or(shorter));
        } else if self.probe.is_none() && self.probes {
            self.due = Some(now);
        }
        if fits.is_some() {
            self.hints[0] = fits;
        }
        true
    }

    /// Records that datagrams of `len` bytes were sent, the last with this sequence number.
    pub fn record_sent(&mut self, len: usize, last_sequence: u64) {
        self.last_sent = last_sequence;
        if len > self.confirmed {
            // The rest of a frame that began before the length in use was shortened.
            self.last_longer = Some(last_sequence);
        } else if self.is_full(len) {
            self.missing.first_sent.get_or_insert(last_sequence);
        }
    }

    /// Handles a report. If no full-length datagram arrives while shorter ones do, the path has a
    /// black hole (RFC 8899 §4.3). If a single one arrives, the others were lost for another
    /// reason.
    pub fn handle_delivery(&mut self, now: Instant, delivery: Delivery) {
        self.answered = Some(now);
        self.missing.answered = None;
        self.reported = [self.reported[1], delivery.highest_sequence];
        if self.is_full(delivery.longest) {
            return self.prove(now);
        }
        let missing = &mut self.missing;
        if missing.first_sent.is_none_or(|first| delivery.highest_sequence <= first) {
            return;
        }
        let since = *missing.since.get_or_insert(now);
        missing.lost += delivery.lost;
        missing.received += delivery.received;
        let lasts = now.saturating_duration_since(since) >= BLACK_HOLE_TIME;
        let is_lossy = missing.lost >= BLACK_HOLE_LOSSES && missing.received > 0;
        if lasts && is_lossy {
            self.enter_black_hole(now);
        }
    }

    /// Whether datagrams seem to be lost because of their length, so that their loss is not a sign
    /// of congestion.
    pub fn is_suspect(&self, now: Instant) -> bool {
        // A loss is reported once a later datagram has arrived and the reorder grace has passed, so
        // the report may be the next but one.
        if self.last_longer.is_some_and(|longer| self.reported[0] <= longer) {
            return true;
        }
        let is_new = self.proof != Proof::Proven;
        let lasts = |since| is_new || now.saturating_duration_since(since) >= SUSPICION_TIME;
        self.proof == Proof::OnTrial
            || self.confirmed > FLOOR_LEN && self.missing.since.is_some_and(lasts)
    }

    /// Whether `len` counts as full length. It may be one byte below the length in use, since
    /// chunks have even lengths.
    fn is_full(&self, len: usize) -> bool {
        len + 1 >= self.confirmed
    }

    /// Handles the arrival of a datagram of the length in use.
    fn prove(&mut self, now: Instant) {
        self.missing = Missing::default();
        self.is_too_narrow = false;
        if self.proof == Proof::OnTrial {
            self.probe = None;
            self.due = Some(now);
        }
        self.proof = Proof::Proven;
    }

    fn enter_black_hole(&mut self, now: Instant) {
        let passed_before = self.confirmed;
        if passed_before > BASE_LEN {
            self.reset(now);
            self.too_long = self.too_long.min(passed_before);
        } else if self.proof == Proof::Proven && passed_before > FLOOR_LEN {
            self.assume(now, passed_before);
            self.proof = Proof::OnTrial;
        }
    }

    /// Starts to probe the next length; without one, waits before searching again.
    fn start_probe(&mut self, now: Instant) -> Option<()> {
        if self.settled_until.take_if(|until| *until <= now).is_some() {
            self.too_long = self.cap + 1;
        }
        let next = if self.proof == Proof::OnTrial { None } else { self.next_len() };
        if next.is_none() && self.proof == Proof::Assumed {
            self.proof = Proof::OnTrial;
        }
        let on_trial = (self.proof == Proof::OnTrial).then_some(self.confirmed);
        let Some(len) = next.or(on_trial) else {
            self.due = Some(*self.settled_until.get_or_insert(now + RAISE_TIMER));
            return None;
        };
        self.probe = Some(ProbeInFlight { first_id: self.next_id, len, tries: 1, began: now });
        Some(())
    }

    /// The next length to probe: the router's hint, the length that passed before, the usual
    /// lengths, then bisection.
    fn next_len(&mut self) -> Option<usize> {
        let range = self.confirmed + 1..self.too_long;
        let mut hints = self.hints.iter_mut().filter_map(Option::take);
        if let Some(hint) = hints.find(|len| range.contains(len)) {
            return Some(hint);
        }
        let usual = SHORT_USUAL.into_iter().chain(self.usual).chain([self.cap]);
        let mut likely = usual.filter(|len| range.contains(len));
        if let Some(len) = likely.next() {
            return Some(len);
        }
        if range.len() < GRANULARITY {
            return None;
        }
        // Above a usual length there is rarely more: one probe just above it checks.
        let is_usual = self.usual.contains(&self.confirmed);
        let middle = usize::midpoint(self.confirmed, self.too_long);
        Some(if is_usual { self.confirmed + GRANULARITY } else { middle })
    }
}

/// Bytes of UDP payload that are assumed to pass any path (`BASE_PLPMTU`).
pub const BASE_LEN: usize = 1200;

/// The length that every IPv4 host accepts (RFC 1122: 576, less headers). Hardly any path carries
/// less, so without an answer to anything it is not doubted.
pub const FLOOR_LEN: usize = 508;

/// The shortest maximum datagram length, in bytes of UDP payload. A frame of 8 MiB in shorter ones
/// has too many chunks, and the headers take a quarter of this already. Reports take 100 bytes.
pub const MIN_LEN: usize = 200;

/// MTUs of 576 and 1000 bytes, less the headers of IPv4 and UDP.
const SHORT_USUAL: [usize; 2] = [548, 972];

/// Ethernet and jumbo Ethernet, less the headers of IP and UDP.
const USUAL_IPV4: [usize; 2] = [1472, 8972];
const USUAL_IPV6: [usize; 2] = [1452, 8952];

/// A smaller gain, in bytes, is not worth a probe.
const GRANULARITY: usize = 16;

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

/// Without a full-length datagram for this long (two reports) after a report without one, losses
/// are attributed to the MTU.
const SUSPICION_TIME: Duration = Duration::from_millis(50);

/// This many datagrams lost, and no full-length one received, for this long, is a black hole. A
/// burst of loss takes short ones too.
const BLACK_HOLE_LOSSES: usize = 32;
const BLACK_HOLE_TIME: Duration = Duration::from_millis(150);

/// Answers to probes for this long without a report are a black hole too. Reports come every 50 ms
/// while any chunk arrives.
const UNREPORTED_TIME: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(20);

    /// A path that passes up to `limit` bytes and loses the probes whose numbers are in `lost`.
    struct Path {
        mtu: PathMtu,
        now: Instant,
        limit: usize,
        lost: Vec<usize>,
        probes: Vec<usize>,
        sequence: u64,
        /// Nothing passes.
        is_cut: bool,
    }

    impl Path {
        fn new(limit: usize) -> Self {
            let now = crate::clock::now();
            let mtu = PathMtu::new(now, false, 65_507);
            let (lost, probes) = (Vec::new(), Vec::new());
            Self { mtu, now, limit, lost, probes, sequence: 0, is_cut: false }
        }

        /// Follows the timers for `time`; returns the maximum datagram length at its end.
        fn run(&mut self, time: Duration) -> usize {
            let end = self.now + time;
            while self.mtu.poll_timeout().is_some_and(|due| due <= end) {
                self.now = self.now.max(self.mtu.poll_timeout().unwrap());
                if let Some(probe) = self.mtu.poll_probe(self.now) {
                    let passes = !self.is_cut && !self.lost.contains(&self.probes.len());
                    self.probes.push(probe.datagram_len);
                    if passes && probe.datagram_len <= self.limit {
                        self.now += RTT;
                        self.mtu.handle_ack(self.now, probe.id, probe.datagram_len);
                    }
                }
                if !self.is_cut {
                    self.mtu.handle_answer(self.now);
                }
                assert!(self.mtu.poll_timeout().is_none_or(|due| due >= self.now));
                assert!(self.mtu.max_datagram_len() <= self.limit.max(BASE_LEN));
            }
            self.now = end;
            self.mtu.max_datagram_len()
        }

        /// One report every 50 ms. `received` datagrams arrive, the longest of `longest` bytes, and
        /// `lost` do not.
        fn deliver(&mut self, reports: u32, longest: usize, received: usize, lost: usize) {
            for _ in 0..reports {
                self.now += 50 * MS;
                self.mtu.record_sent(self.mtu.max_datagram_len(), self.sequence);
                self.sequence += (received + lost) as u64;
                let highest_sequence = self.sequence - 1;
                let delivery = Delivery { highest_sequence, longest, received, lost };
                self.mtu.handle_delivery(self.now, delivery);
            }
        }
    }

    #[test]
    fn the_ethernet_mtu_is_found_in_one_round_trip() {
        let mut path = Path::new(1472);
        assert_eq!(path.mtu.max_datagram_len(), 1200);
        assert_eq!(path.run(RTT + MS), 1472);
        assert_eq!(path.run(60_000 * MS), 1472);
        assert_eq!(
            path.probes,
            [1472, 8972, 8972, 8972, 1488, 1488, 1488],
            "and little else tried"
        );
    }

    #[test]
    fn the_jumbo_mtu_is_found_in_two_round_trips() {
        let mut path = Path::new(8972);
        assert_eq!(path.run(3 * RTT), 8972);
        path.run(599_000 * MS);
        assert_eq!(path.probes, [1472, 8972]);
    }

    #[test]
    fn every_limit_is_found_to_within_16_bytes() {
        for limit in (508..9000).step_by(37) {
            let mut path = Path::new(limit);
            let found = path.run(120_000 * MS);
            let reach = limit.min(8972);
            // Just above Ethernet it is not worthwhile.
            let is_close = reach - found < GRANULARITY || (1472..1488).contains(&reach);
            assert!(is_close, "{found} of {limit}: {:?}", path.probes);
        }
    }

    #[test]
    fn the_peers_limit_caps_the_datagram_length() {
        let now = crate::clock::now();
        for (limit, first) in
            [(508, Some(508)), (1200, Some(1200)), (1400, Some(1400)), (4000, Some(1452))]
        {
            let mut mtu = PathMtu::new(now, true, limit);
            assert_eq!(mtu.max_datagram_len(), limit.min(1200));
            assert_eq!(mtu.poll_probe(now).map(|p| p.datagram_len), first);
        }
    }

    #[test]
    fn two_lost_probes_only_delay_discovery() {
        let mut path = Path::new(1472);
        path.lost = vec![0, 1];
        assert_eq!(path.run(2100 * MS), 1472);
    }

    #[test]
    fn acks_for_unknown_probes_are_ignored() {
        let mut path = Path::new(1472);
        let probe = path.mtu.poll_probe(path.now).unwrap();
        assert_eq!(path.mtu.poll_probe(path.now + 299 * MS), None, "early calls do nothing");
        for (id, len) in [(probe.id + 1, 1472), (probe.id.wrapping_sub(1), 1472), (probe.id, 8972)]
        {
            path.mtu.handle_ack(path.now, id, len);
            assert_eq!(path.mtu.max_datagram_len(), 1200);
        }
        path.mtu.handle_ack(path.now, probe.id, 1472);
        assert_eq!(path.mtu.max_datagram_len(), 1472);
    }

    #[test]
    fn a_true_icmp_mtu_is_used_once_probed() {
        let mut path = Path::new(1420);
        path.mtu.poll_probe(path.now);
        path.probes.push(1472);
        path.mtu.handle_too_big(path.now, 1420);
        path.run(3100 * MS);
        assert_eq!(path.probes[..3], [1472, 1200, 1420]);
        assert_eq!(path.mtu.max_datagram_len(), 1420);
    }

    #[test]
    fn repeated_false_icmp_mtus_cost_two_round_trips() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        let probes = path.probes.len();
        for nonsense in [0, 68, 199, 1488, 9000, 65_535] {
            path.mtu.handle_too_big(path.now, nonsense);
            assert_eq!(path.run(MS), 1472, "{nonsense}");
        }
        assert_eq!(path.probes.len(), probes, "nonsense is not probed");
        path.mtu.handle_too_big(path.now, 1300);
        assert_eq!(path.mtu.max_datagram_len(), 1200);
        assert_eq!(path.run(2 * RTT), 1472);
        for _ in 0..1000 {
            path.mtu.handle_too_big(path.now, 1300);
            assert_eq!(path.run(MS), 1472);
        }
        assert_eq!(path.probes[probes..][..2], [1300, 1472]);
    }

    #[test]
    fn a_false_icmp_mtu_is_refuted_at_an_unusual_mtu_too() {
        let mut path = Path::new(1420);
        let found = path.run(60_000 * MS);
        path.mtu.handle_too_big(path.now, 1200);
        assert_eq!(path.run(RTT), found);
    }

    #[test]
    fn a_lower_icmp_mtu_takes_effect_at_once() {
        let mut path = Path::new(8972);
        path.run(1000 * MS);
        path.limit = 1420;
        path.mtu.handle_too_big(path.now, 1420);
        assert_eq!(path.mtu.max_datagram_len(), 1200);
        assert_eq!(path.run(RTT), 1420);
        assert_eq!(path.run(60_000 * MS), 1420, "lengths that passed before no longer pass");
    }

    #[test]
    fn a_black_hole_restarts_the_search_from_the_base() {
        let mut path = Path::new(8972);
        path.run(1000 * MS);
        path.limit = 1472;
        path.deliver(3, 900, 4, 20);
        assert_eq!(path.mtu.max_datagram_len(), 8972, "not yet certain");
        path.deliver(1, 900, 4, 20);
        assert_eq!(path.mtu.max_datagram_len(), 1200);
        assert_eq!(path.run(60_000 * MS), 1472);
    }

    #[test]
    fn unanswered_full_datagrams_reveal_a_black_hole() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        path.limit = 548;
        path.mtu.record_sent(1472, 9);
        for _ in 0..20 {
            path.mtu.handle_answer(path.now);
            path.run(100 * MS);
        }
        assert!(path.mtu.max_datagram_len() <= 548, "{:?}", path.probes);
    }

    #[test]
    fn answers_between_reports_are_not_a_black_hole() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        for _ in 0..100 {
            path.mtu.record_sent(1472, path.sequence + 4);
            path.mtu.handle_answer(path.now);
            path.deliver(1, 1472, 4, 0);
        }
        assert_eq!(path.mtu.max_datagram_len(), 1472);
    }

    #[test]
    fn a_blackout_or_loss_burst_is_not_a_black_hole() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        path.deliver(40, 0, 0, 100);
        path.deliver(1, 1472, 6, 100);
        path.deliver(3, 900, 5, 100);
        assert_eq!(path.mtu.max_datagram_len(), 1472);
    }

    #[test]
    fn an_overrun_link_is_not_a_black_hole() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        for _ in 0..100 {
            path.deliver(1, 1472, 3, 97);
            path.deliver(1, 900, 2, 98);
            assert!(!path.mtu.is_suspect(path.now));
        }
        assert_eq!(path.mtu.max_datagram_len(), 1472);
    }

    #[test]
    fn losses_of_short_datagrams_are_not_a_black_hole() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        for reports in 0..100 {
            let (highest_sequence, longest) = (reports * 10, 800);
            let delivery = Delivery { highest_sequence, longest, received: 5, lost: 5 };
            path.mtu.record_sent(800, highest_sequence);
            path.now += 50 * MS;
            path.mtu.handle_delivery(path.now, delivery);
            assert!(!path.mtu.is_suspect(path.now));
        }
        assert_eq!(path.mtu.max_datagram_len(), 1472);
    }

    #[test]
    fn delivery_at_a_suspect_length_confirms_it() {
        let mut path = Path::new(1200);
        path.run(60_000 * MS);
        path.deliver(4, 900, 4, 20);
        assert!(path.mtu.is_suspect(path.now));
        path.lost = (path.probes.len()..path.probes.len() + 10).collect();
        path.deliver(1, 1200, 4, 20);
        assert_eq!(path.run(60_000 * MS), 1200, "probes that are lost change nothing");
        assert!(!path.mtu.is_suspect(path.now));
    }

    #[test]
    fn a_wider_path_is_found_after_the_raise_timer() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        path.limit = 8972;
        assert_eq!(path.run(500_000 * MS), 1472);
        assert_eq!(path.run(100_000 * MS), 8972);
    }

    #[test]
    fn locally_refused_lengths_are_not_retried() {
        let mut path = Path::new(1472);
        path.run(RTT + MS);
        assert_eq!(path.probes, [1472, 8972]);
        assert!(path.mtu.handle_refused(path.now, 8972, None));
        assert_eq!(path.mtu.poll_probe(path.now).unwrap().datagram_len, 1488);
        assert!(path.mtu.handle_refused(path.now, 1472, None));
        assert_eq!(path.mtu.max_datagram_len(), 1200);
        assert!(path.mtu.poll_probe(path.now).unwrap().datagram_len < 1472);
    }

    #[test]
    fn a_path_mtu_below_the_base_is_found_within_1500_ms() {
        for limit in [1172, 972, 548] {
            let mut path = Path::new(limit);
            assert!(path.run(1400 * MS) <= limit, "{limit}: {:?}", path.probes);
            let found = path.run(60_000 * MS);
            assert!(limit - found < GRANULARITY, "{found} of {limit}: {:?}", path.probes);
        }
    }

    #[test]
    fn a_path_mtu_below_the_floor_is_found_within_three_seconds() {
        for limit in [507, 400, 260, MIN_LEN] {
            let mut path = Path::new(limit);
            assert!(path.run(3000 * MS) <= limit, "{limit}: {:?}", path.probes);
            let found = path.run(60_000 * MS);
            assert!(limit - found < GRANULARITY, "{found} of {limit}: {:?}", path.probes);
            assert!(!path.mtu.is_too_narrow());
        }
    }

    #[test]
    fn a_path_is_reported_too_narrow_until_it_widens() {
        let mut path = Path::new(MIN_LEN - 1);
        let mut answered = || {
            path.mtu.handle_answer(path.now);
            path.run(100 * MS);
            path.mtu.is_too_narrow()
        };
        assert!(!(0..25).any(|_| answered()), "not before all lengths have failed");
        assert!((0..25).any(|_| answered()));
        path.limit = 400;
        path.run(1000 * MS);
        assert!(!path.mtu.is_too_narrow());
        let mut path = Path::new(MIN_LEN - 1);
        path.is_cut = true;
        path.run(60_000 * MS);
        assert!(!path.mtu.is_too_narrow(), "nothing is answered");
    }

    #[test]
    fn a_path_that_narrows_below_the_base_is_detected() {
        let mut path = Path::new(1200);
        path.run(60_000 * MS);
        path.limit = 972;
        path.deliver(4, 900, 4, 20);
        assert_eq!(path.mtu.max_datagram_len(), 1200, "it may be the link's rate");
        assert!(path.run(1400 * MS) <= 972);
        let mut path = Path::new(1200);
        path.run(60_000 * MS);
        path.deliver(4, 900, 4, 20);
        assert_eq!(path.run(60_000 * MS), 1200);
    }

    #[test]
    fn the_mtu_is_found_within_a_second_after_an_initial_blackout() {
        let mut path = Path::new(1472);
        path.is_cut = true;
        assert_eq!(path.run(1900 * MS), FLOOR_LEN, "shorter ones are tried");
        path.run(60_000 * MS);
        path.is_cut = false;
        assert_eq!(path.run(1000 * MS + RTT), 1472);
    }

    #[test]
    fn probes_lost_in_a_blackout_are_retried() {
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        path.limit = 8972;
        path.is_cut = true;
        path.run(600_000 * MS);
        path.is_cut = false;
        assert_eq!(path.run(2000 * MS), 8972);
    }

    #[test]
    fn the_interface_mtu_is_used_at_once() {
        let mut path = Path::new(972);
        path.mtu.poll_probe(path.now);
        assert!(path.mtu.handle_refused(path.now, 1200, Some(972)));
        assert_eq!(path.mtu.max_datagram_len(), 972);
        assert!(path.mtu.handle_refused(path.now, 1200, Some(972)), "the rest of the batch");
        assert_eq!(path.mtu.max_datagram_len(), 972);
        let mut path = Path::new(972);
        assert!(path.mtu.handle_refused(path.now, 1200, None));
        assert_eq!(path.mtu.max_datagram_len(), FLOOR_LEN);
        assert!(972 - path.run(60_000 * MS) < GRANULARITY);
        assert!(!path.mtu.handle_refused(path.now, MIN_LEN, None), "there is nothing shorter");
        assert!(!path.mtu.handle_refused(path.now, 1200, Some(MIN_LEN - 1)));
    }

    #[test]
    fn icmp_may_report_an_mtu_below_the_base() {
        let mut path = Path::new(972);
        path.mtu.poll_probe(path.now);
        path.mtu.handle_too_big(path.now, 972);
        assert_eq!(path.mtu.max_datagram_len(), 972);
        assert_eq!(path.run(60_000 * MS), 972);
        let mut path = Path::new(1472);
        path.run(60_000 * MS);
        path.mtu.handle_too_big(path.now, 508);
        assert_eq!(path.run(2 * RTT), 1472, "but a lie is refuted as soon");
    }

    #[test]
    fn without_acks_a_reported_mtu_expires() {
        let now = crate::clock::now();
        let mut mtu = PathMtu::unprobed(now, false, BASE_LEN);
        assert_eq!((mtu.max_datagram_len(), mtu.poll_timeout()), (1200, None));
        mtu.handle_too_big(now, 972);
        assert!(mtu.handle_refused(now, 972, Some(548)));
        assert_eq!(mtu.max_datagram_len(), 548);
        assert_eq!(mtu.poll_probe(now), None);
        let later = mtu.poll_timeout().unwrap();
        assert_eq!(mtu.poll_probe(later), None);
        assert_eq!((mtu.max_datagram_len(), mtu.poll_timeout()), (1200, None));
    }
}
