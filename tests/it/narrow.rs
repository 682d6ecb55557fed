//! Narrow links in virtual time: 300 kbit/s to 8 Mbit/s, with a queue of 100 ms unless a test says
//! otherwise. Most cannot carry even the smallest pictures at full frame rate. Other tests cover
//! small path MTUs, which must not be mistaken for narrow links, and the maximum bitrate. Both ends
//! are real endpoints with the program's default settings, apart from those under test.

use std::time::{Duration, Instant};

use udpchat::{
    net::{
        netem::NetemSpec,
        recovery::parity_control::FecMode,
        session::{EndpointConfig, Event, Role},
        units::{Bitrate, DataSize},
    },
    stream::quality::QualityLimits,
};

use crate::{
    repair::{ANN, AutoCamera, BOB, captured, delay, links, percentile},
    sim::{SECOND, Sim},
};

/// The program's limits; `stream::adaptation` gives the reasons.
const LIMITS: QualityLimits =
    QualityLimits { min_quality: 30, max_quality: 80, min_millifps: 1000, max_size_divisor: 4 };

/// A session over a path MTU of 1500 bytes, which the sender has discovered.
fn ethernet() -> Sim {
    let mut sim = Sim::with_links(2, links("delay=2ms"));
    sim.set_mtu(ANN, BOB, ETHERNET_LEN);
    sim.start_receiver(BOB);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let config = sim.config(ANN, role);
    sim.start(ANN, EndpointConfig { fec: FecMode::Auto, max_datagram_len: None, ..config });
    sim.run(SECOND);
    sim
}

/// Replaces the link to the receiver by `spec` and keeps its MTU.
fn narrow_down(sim: &mut Sim, spec: NetemSpec) {
    sim.set_link(ANN, BOB, spec);
    sim.set_mtu(ANN, BOB, ETHERNET_LEN);
}

/// The result of 30 s on a narrow link, and of widening it to 100 Mbit/s after that.
struct Narrow {
    /// The link's rate, in bit/s.
    link: u64,
    /// The sender's total rate on the link, in bit/s of UDP payload.
    sent: f64,
    /// Pictures a second, after the first 3 s.
    shown: f64,
    /// The p95 time from capture to completion.
    age: Duration,
    /// Datagrams lost per second.
    lost: f64,
    /// Time from widening until the capture of the first of 29 pictures that arrive and were
    /// captured within one second; `None` if there are none within 20 s.
    back: Option<Duration>,
}

impl Narrow {
    /// The link is narrow from the start of the camera; all traffic is counted.
    fn run(spec: &str, link: u64, seed: u64) -> Self {
        Self::run_after(Duration::ZERO, Duration::ZERO, spec, link, seed)
    }

    /// The link becomes narrow `wide` after the camera has started. Traffic is counted after a
    /// further time `settle`, in which the sender may adapt.
    fn run_after(wide: Duration, settle: Duration, spec: &str, link: u64, seed: u64) -> Self {
        let mut sim = ethernet();
        let narrow = links(&format!("delay=2ms,rate={link}bit{spec}"));
        if wide.is_zero() {
            narrow_down(&mut sim, narrow);
        }
        let epoch = sim.now;
        AutoCamera::start_within(&mut sim, ANN, seed, LIMITS);
        if !wide.is_zero() {
            sim.run(wide);
            narrow_down(&mut sim, narrow);
        }
        sim.run(settle);
        let (start, before) = (sim.now, sim.sent_bytes(ANN));
        let lost_before = sim.counters(BOB)[0].datagrams_lost;
        sim.run(SECONDS * SECOND);
        let sent = (sim.sent_bytes(ANN) - before) as f64 * 8.0 / f64::from(SECONDS);
        let lost = (sim.counters(BOB)[0].datagrams_lost - lost_before) as f64 / f64::from(SECONDS);
        let settled = start + 3 * SECOND;
        let frames = sim.take_frames(BOB);
        let ages = frames.iter().filter(|f| f.0 >= settled).map(|f| delay(epoch, f));
        let ages: Vec<_> = ages.collect();
        let shown = ages.len() as f64 / f64::from(SECONDS - 3);
        let age = percentile(ages, 95).unwrap_or(Duration::MAX);
        let widened = sim.now;
        sim.set_rate(ANN, BOB, Bitrate::from_mbps(100));
        sim.run(20 * SECOND);
        let times: Vec<Instant> = sim.take_frames(BOB).iter().map(|f| captured(epoch, f)).collect();
        let full = times.windows(29).find(|w| w[28] - w[0] <= SECOND && w[0] >= widened);
        Self { link, sent, shown, age, lost, back: full.map(|w| w[0] - widened) }
    }

    fn line(&self) -> String {
        format!(
            "{} kbit/s: {:.3} of it sent, {:.1} pictures/s, age p95 {:?}, {:.1} lost/s, back after {:?}",
            self.link / 1000,
            self.sent / self.link as f64,
            self.shown,
            self.age,
            self.lost,
            self.back
        )
    }

    /// Asserts that the sender exceeds the link by at most 5 %, that at least `shown` pictures a
    /// second arrive with a p95 age of at most 500 ms, and that the full rate is back within 15 s.
    #[track_caller]
    fn assert(&self, shown: f64) {
        let line = self.line();
        assert!(self.sent <= 1.05 * self.link as f64, "{line}");
        assert!(self.shown >= shown && self.age <= SECOND / 2, "{line}");
        assert!(self.back.is_some_and(|back| back <= 15 * SECOND), "{line}");
    }
}

#[test]
fn a_300_kbit_link_carries_two_pictures_a_second() {
    (1..=3).for_each(|seed| Narrow::run("", 300_000, seed).assert(2.0));
}

#[test]
fn a_500_kbit_link_carries_four_pictures_a_second() {
    (1..=3).for_each(|seed| Narrow::run("", 500_000, seed).assert(4.0));
}

#[test]
fn a_1_mbit_link_carries_eight_pictures_a_second() {
    (1..=3).for_each(|seed| Narrow::run("", 1_000_000, seed).assert(8.0));
}

#[test]
fn a_2_mbit_link_carries_twelve_pictures_a_second() {
    (1..=3).for_each(|seed| Narrow::run("", 2_000_000, seed).assert(12.0));
}

#[test]
fn random_loss_on_a_narrow_link_gets_parity_within_the_budget() {
    for seed in 1..=3 {
        let row = Narrow::run(",loss=3%", 1_000_000, seed);
        assert!(row.sent <= 1.05 * row.link as f64, "{}", row.line());
        assert!(row.shown >= 8.0 && row.age <= SECOND / 2, "{}", row.line());
    }
}

/// Queues of a few datagrams: congestion shows as loss without delay, and bursts do not fit. The
/// first frame alone takes more than a second at 300 kbit/s.
#[test]
fn links_with_a_short_queue_are_not_flooded() {
    for (link, queue, shown) in [
        (300_000, 60, 2.0),
        (300_000, 80, 2.0),
        (1_000_000, 10, 8.0),
        (1_000_000, 20, 8.0),
        (2_000_000, 10, 12.0),
        (8_000_000, 5, 15.0),
    ] {
        for seed in 1..=2 {
            let spec = format!(",queue={queue}ms");
            Narrow::run_after(Duration::ZERO, SECOND, &spec, link, seed).assert(shown);
        }
    }
}

/// The sender is at its highest rate, 28 Mbit/s, when the link becomes narrow. The overload ends
/// within 1 s.
#[test]
fn links_that_narrow_in_midstream_are_not_flooded() {
    for (link, queue, shown) in [
        (300_000, 80, 2.0),
        (500_000, 50, 4.0),
        (500_000, 100, 4.0),
        (1_000_000, 10, 8.0),
        (1_000_000, 20, 8.0),
        (1_000_000, 100, 8.0),
        (2_000_000, 5, 12.0),
        (2_000_000, 16, 12.0),
        (2_000_000, 100, 12.0),
        (8_000_000, 5, 15.0),
    ] {
        for wide in [5, 8] {
            let spec = format!(",queue={queue}ms");
            Narrow::run_after(wide * SECOND, SECOND, &spec, link, wide.into()).assert(shown);
        }
    }
}

/// Path MTU discovery takes a few seconds. Until it ends, the loss of datagrams says nothing about
/// the link's rate.
#[test]
fn a_narrow_link_with_a_short_queue_and_a_small_mtu_carries_pictures() {
    for (queue, mtu) in [(20, 800), (10, 800), (100, 800), (20, 560), (20, 1000)] {
        for seed in 1..=2 {
            let mut sim = ethernet();
            sim.set_link(ANN, BOB, links(&format!("delay=2ms,rate=1mbit,queue={queue}ms")));
            sim.set_mtu(ANN, BOB, mtu);
            AutoCamera::start_within(&mut sim, ANN, seed, LIMITS);
            sim.run(5 * SECOND);
            sim.take_frames(BOB);
            let before = sim.sent_bytes(ANN);
            sim.run(10 * SECOND);
            let sent = (sim.sent_bytes(ANN) - before) as f64 * 8.0 / 10.0;
            let shown = sim.take_frames(BOB).len();
            let row = format!("{mtu} bytes, {queue} ms: {sent:.0} bits a second, {shown} pictures");
            assert!(sent <= 1.05e6 && shown >= 50, "{row}");
        }
    }
}

/// Counts the pictures of `frame_len` bytes that reach `BOB` from 3 s to 8 s after the path's limit
/// becomes `mtu` bytes of UDP payload, at the start or in midstream.
fn shown_by_length(spec: &str, mtu: usize, frame_len: usize, is_midstream: bool) -> usize {
    let mut sim = Sim::with_links(2, links(spec));
    sim.set_mtu(ANN, BOB, if is_midstream { ETHERNET_LEN } else { mtu });
    sim.start_receiver(BOB);
    let role = Role::Send { targets: vec![sim.target(BOB)], control: true };
    let config = sim.config(ANN, role);
    sim.start(ANN, EndpointConfig { fec: FecMode::Auto, max_datagram_len: None, ..config });
    sim.start_video(ANN, frame_len);
    if is_midstream {
        sim.run(5 * SECOND);
        sim.set_mtu(ANN, BOB, mtu);
    }
    sim.run(3 * SECOND);
    sim.take_frames(BOB);
    sim.run(5 * SECOND);
    sim.take_frames(BOB).len()
}

/// The loss of long datagrams says nothing about the rate that the path carries.
#[test]
fn a_small_path_mtu_is_not_mistaken_for_a_narrow_link() {
    let mut failed = Vec::new();
    for spec in ["delay=1ms", "delay=2ms,jitter=5ms", "delay=20ms,jitter=20ms"] {
        for mtu in [548, 972] {
            for frame_len in [20_000, 50_000, 117_000] {
                for is_midstream in [false, true] {
                    let shown = shown_by_length(spec, mtu, frame_len, is_midstream);
                    if shown < 147 {
                        failed.push((spec, mtu, frame_len, is_midstream, shown));
                    }
                }
            }
        }
    }
    assert!(failed.is_empty(), "of 150 pictures: {failed:#?}");
}

/// The rate at which `ANN` sends pictures of 20 KB under a maximum bitrate of `limit`.
fn sent_within(limit: Bitrate, control: bool, links: NetemSpec) -> Bitrate {
    let mut sim = Sim::with_links(2, links);
    sim.start_receiver(BOB);
    let role = Role::Send { targets: vec![sim.target(BOB)], control };
    let fec = if control { FecMode::Auto } else { FecMode::Percent(25) };
    let config = EndpointConfig { max_bitrate: Some(limit), fec, ..sim.config(ANN, role) };
    sim.start(ANN, config);
    sim.run(SECOND);
    let before = sim.sent_bytes(ANN);
    sim.start_video(ANN, 20_000);
    sim.run(10 * SECOND);
    assert!(sim.take_frames(BOB).len() >= 5, "pictures still arrive");
    DataSize::from_bytes(sim.sent_bytes(ANN) - before) / (10 * SECOND)
}

#[test]
fn the_bitrate_limit_covers_every_byte_sent() {
    for limit in [200, 1000, 5000].map(Bitrate::from_kbps) {
        for control in [true, false] {
            for spec in ["delay=2ms", "delay=2ms,loss=5%", "delay=20ms,loss=2%,burst=10"] {
                let sent = sent_within(limit, control, links(spec));
                // The token bucket's burst and one datagram may exceed the limit.
                assert!(sent <= limit * 1.01, "{sent} of {limit} with {control}, {spec}");
            }
        }
    }
}

#[test]
fn fixed_quality_pictures_do_not_flood_a_narrow_link() {
    let mut sim = ethernet();
    narrow_down(&mut sim, links("delay=2ms,rate=1mbit"));
    let (start, before) = (sim.now, sim.sent_bytes(ANN));
    // 46 KB each: 11 Mbit/s.
    sim.start_video(ANN, 46_000);
    sim.run(20 * SECOND);
    let sent = (sim.sent_bytes(ANN) - before) as f64 * 8.0 / 20.0;
    assert!(sent <= 1.05e6, "{sent} bits a second");
    let settled = sim.take_frames(BOB).iter().filter(|f| f.0 > start + 5 * SECOND).count();
    assert!(settled >= 20, "{settled} pictures in 15 s");
}

#[test]
fn pictures_too_slow_for_the_link_are_reported_once() {
    let mut sim = ethernet();
    narrow_down(&mut sim, links("delay=2ms,rate=500kbit"));
    let before = sim.sent_bytes(ANN);
    // 250 KB each: 4 s on this link.
    sim.start_video(ANN, 250_000);
    sim.run(90 * SECOND);
    let sent = (sim.sent_bytes(ANN) - before) as f64 * 8.0 / 90.0;
    // This camera skips no picture, so the budget is always used up.
    assert!(sent <= 1.1 * 500e3, "{sent} bits a second");
    assert_eq!(sim.take_frames(BOB).len(), 0, "none can arrive in time");
    let events = sim.take_events(ANN);
    let told: Vec<_> = events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::PicturesTooSlow { takes, .. } => Some(*takes),
            _ => None,
        })
        .collect();
    let [takes] = told[..] else { panic!("{told:?}") };
    assert!(takes >= 3 * SECOND && takes <= 8 * SECOND, "{takes:?}");
    sim.set_rate(ANN, BOB, Bitrate::from_mbps(100));
    sim.run(30 * SECOND);
    let arrived = sim.take_frames(BOB).len();
    assert!(arrived >= 60, "{arrived} pictures in 30 s on a wide link");
}

/// The most UDP payload that an Ethernet frame carries over IPv4, in bytes.
const ETHERNET_LEN: usize = 1472;

/// How long traffic is counted.
const SECONDS: u32 = 30;
