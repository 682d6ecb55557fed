//! Path MTU discovery on simulated paths, which lose datagrams, narrow and widen.

use std::net::SocketAddr;

use super::{search::GRANULARITY, *};
use crate::net::link::{PeerAddr, UDP_BASE_LEN as BASE_LEN};

const MS: Duration = Duration::from_millis(1);
const RTT: Duration = Duration::from_millis(20);

/// The link of a UDP path over IPv4 or IPv6.
fn link(is_ipv6: bool) -> LinkInfo {
    let addr = if is_ipv6 { "[2001:db8::1]:7722" } else { "192.0.2.7:7722" };
    PeerAddr::from(addr.parse::<SocketAddr>().unwrap()).link()
}

/// A path that passes up to `limit` bytes and loses the probes whose numbers are in `lost`.
struct Path {
    mtu: PathMtu,
    now: Instant,
    limit: usize,
    lost: Vec<usize>,
    probes: Vec<usize>,
    sequence: u64,
    /// Whether nothing passes.
    is_cut: bool,
}

impl Path {
    fn new(limit: usize) -> Self {
        let now = crate::clock::now();
        let mtu = PathMtu::new(now, link(false), 65_507);
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
    assert_eq!(path.probes, [1472, 8972, 8972, 8972, 1488, 1488, 1488], "few others");
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
        assert!(reach - found < GRANULARITY, "{found} of {limit}: {:?}", path.probes);
    }
}

#[test]
fn the_peers_limit_caps_the_datagram_length() {
    let now = crate::clock::now();
    for (limit, first) in
        [(508, Some(508)), (1200, Some(1200)), (1400, Some(1400)), (4000, Some(1452))]
    {
        let mut mtu = PathMtu::new(now, link(true), limit);
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
    for (id, len) in [(probe.id + 1, 1472), (probe.id.wrapping_sub(1), 1472), (probe.id, 8972)] {
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
    for limit in [507, 400, 260, MIN_DATAGRAM_LEN] {
        let mut path = Path::new(limit);
        assert!(path.run(3000 * MS) <= limit, "{limit}: {:?}", path.probes);
        let found = path.run(60_000 * MS);
        assert!(limit - found < GRANULARITY, "{found} of {limit}: {:?}", path.probes);
        assert!(!path.mtu.is_too_narrow());
    }
}

#[test]
fn a_path_is_reported_too_narrow_until_it_widens() {
    let mut path = Path::new(MIN_DATAGRAM_LEN - 1);
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
    let found = path.run(30_000 * MS);
    assert!(400 - found < GRANULARITY, "{found} of 400: {:?}", path.probes);
    let mut path = Path::new(MIN_DATAGRAM_LEN - 1);
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
fn a_path_that_narrows_below_the_floor_is_detected() {
    for (before, after) in [(508, 400), (508, MIN_DATAGRAM_LEN), (400, 260), (972, 300)] {
        let mut path = Path::new(before);
        let found = path.run(60_000 * MS);
        path.limit = after;
        path.deliver(4, MIN_DATAGRAM_LEN - 2, 4, 20);
        assert!(path.mtu.is_suspect(path.now));
        assert!(path.run(2500 * MS) <= after, "{found} to {after}: {:?}", path.probes);
        assert!(!path.mtu.is_too_narrow());
    }
    let mut path = Path::new(MIN_DATAGRAM_LEN);
    path.run(60_000 * MS);
    path.limit = MIN_DATAGRAM_LEN - 1;
    path.deliver(4, MIN_DATAGRAM_LEN - 2, 4, 20);
    path.run(2500 * MS);
    assert!(path.mtu.is_too_narrow());
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
    assert!(!path.mtu.handle_refused(path.now, MIN_DATAGRAM_LEN, None), "there is nothing shorter");
    assert!(!path.mtu.handle_refused(path.now, 1200, Some(MIN_DATAGRAM_LEN - 1)));
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
    assert_eq!(path.run(2 * RTT), 1472, "a false one is refuted as quickly");
}

#[test]
fn without_acks_a_reported_mtu_expires() {
    let now = crate::clock::now();
    let mut mtu = PathMtu::unprobed(now, link(false), BASE_LEN);
    assert_eq!((mtu.max_datagram_len(), mtu.poll_timeout()), (1200, None));
    mtu.handle_too_big(now, 972);
    assert!(mtu.handle_refused(now, 972, Some(548)));
    assert_eq!(mtu.max_datagram_len(), 548);
    assert_eq!(mtu.poll_probe(now), None);
    let later = mtu.poll_timeout().unwrap();
    assert_eq!(mtu.poll_probe(later), None);
    assert_eq!((mtu.max_datagram_len(), mtu.poll_timeout()), (1200, None));
}
