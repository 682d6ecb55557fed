//! The controller against a simulated peer with given queues, loss and silence.

use super::{reports::STANDING_REPORTS, *};
use crate::net::units::DataSize;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const LIMITS: RateLimits = RateLimits {
    min: Bitrate::from_kbps(500),
    max: Bitrate::from_mbps(100),
    start: Bitrate::from_mbps(10),
};
const REPORT: Duration = Duration::from_millis(50);
const MS: Duration = Duration::from_millis(1);

struct Peer {
    controller: RateController,
    now: Instant,
    last_queue: Duration,
    /// What probes measured since the last report.
    probed: Option<Duration>,
}

impl Peer {
    fn new() -> Self {
        let now = crate::clock::now();
        let controller = RateController::new(now, LIMITS);
        Self { controller, now, last_queue: Duration::ZERO, probed: None }
    }

    /// One report on a path that delivers everything but a share of `loss`.
    fn report(&mut self, queue: Duration, loss: f64) {
        let sent = self.controller.target().as_f64() * REPORT.as_secs_f64() / 8.0;
        self.report_received(queue, loss, sent * (1.0 - loss));
    }

    fn report_received(&mut self, queue: Duration, loss_ratio: f64, received: f64) {
        self.now += REPORT;
        let change = queue.as_secs_f64() - self.last_queue.as_secs_f64();
        self.last_queue = queue;
        let feedback = Feedback {
            loss_ratio,
            queueing_delay: Some(queue),
            probed_delay: self.probed.take(),
            delay_gradient: change / REPORT.as_secs_f64(),
            received: DataSize::from_bytes(received as u64),
            interval: REPORT,
        };
        self.controller.record_sent(self.now);
        self.controller.handle_feedback(self.now, &feedback);
    }

    fn target(&self) -> f64 {
        self.controller.target().as_f64()
    }
}

#[test]
fn the_rate_grows_to_its_maximum_without_congestion() {
    let mut peer = Peer::new();
    for _ in 0..20 {
        peer.report(Duration::ZERO, 0.0);
    }
    assert_eq!(peer.controller.target(), LIMITS.max);
}

#[test]
fn startup_ends_at_the_first_queue() {
    let mut peer = Peer::new();
    peer.report(Duration::ZERO, 0.0);
    peer.report_received(Duration::ZERO, 0.0, carried(1e7));
    let before = peer.target();
    assert!(before >= 1.2e7, "{before}");
    peer.report_received(10 * MS, 0.0, carried(1e7));
    assert!(
        (peer.target() - before).abs() < 1.0,
        "a queue above half of the limit stops the growth"
    );
    peer.report_received(50 * MS, 0.0, carried(1e7));
    assert_eq!(peer.controller.state(), RateState::Draining);
    assert!(peer.target() < 1e7, "{}", peer.target());
    peer.controller.skip_start(LIMITS.max);
    assert!(peer.target() < 1e7, "the measured rate holds");
}

#[test]
fn an_application_limited_rate_does_not_grow() {
    let mut peer = Peer::new();
    for _ in 0..400 {
        peer.report_received(Duration::ZERO, 0.0, 2e6 * 0.05 / 8.0);
    }
    assert!(peer.target() <= 1e7, "{}", peer.target());
}

#[test]
fn a_soaring_queue_starts_draining_at_the_second_report() {
    let mut peer = Peer::new();
    for _ in 0..20 {
        peer.report(Duration::ZERO, 0.0);
    }
    peer.controller.is_starting = false;
    let before = peer.target();
    peer.report_received(60 * MS, 0.0, 2e6 * 0.05 / 8.0);
    assert!(peer.target() >= before);
    peer.report_received(120 * MS, 0.0, 2e6 * 0.05 / 8.0);
    assert_eq!(peer.controller.state(), RateState::Draining);
    peer.report_received(180 * MS, 0.0, 2e6 * 0.05 / 8.0);
    // 0.15 s above the limit, to drain within 0.4 s.
    assert!(peer.target() < 2e6 * 0.63, "{}", peer.target());
    peer.report_received(Duration::ZERO, 0.0, 1e6 * 0.05 / 8.0);
    assert_eq!(peer.controller.state(), RateState::Growing);
    assert!((peer.target() / (2e6 * HEADROOM) - 1.0).abs() < 0.01, "{}", peer.target());
}

/// Bytes that a link of `bps` carries between two reports.
fn carried(bps: f64) -> f64 {
    bps * REPORT.as_secs_f64() / 8.0
}

/// A peer whose link of 10 Mbit/s was full once, and whose queue has drained.
fn peer_that_knows_its_link() -> Peer {
    let mut peer = Peer::new();
    for queue in [0, 0, 0, 0, 0, 0, 60, 120, 60, 0] {
        peer.report_received(queue * MS, 0.0, carried(1e7));
    }
    assert_eq!(peer.controller.state(), RateState::Growing);
    peer
}

#[test]
fn a_stalled_sender_does_not_change_the_link_estimate() {
    let mut peer = peer_that_knows_its_link();
    for _ in 0..10 {
        peer.report_received(Duration::ZERO, 0.0, carried(0.95e7));
    }
    // Nothing for a moment, then everything at once.
    peer.report_received(Duration::ZERO, 0.0, carried(0.2e7));
    for queue in [50, 60] {
        peer.report_received(queue * MS, 0.0, carried(1e7));
    }
    assert_eq!(peer.controller.state(), RateState::Draining);
    let link = peer.controller.link.expect("it was full");
    assert!((link / 1e7 - 1.0).abs() < 0.01, "{link}");
    assert!(!peer.controller.link_is_rough, "the known rate holds");
}

#[test]
fn the_known_limit_holds_until_the_path_delivers_more() {
    let mut peer = peer_that_knows_its_link();
    for _ in 0..200 {
        peer.report_received(Duration::ZERO, 0.0, carried(0.97e7));
    }
    assert!(peer.target() < 1.35e7, "{}", peer.target());
    for _ in 0..60 {
        peer.report_received(Duration::ZERO, 0.0, carried(1.1e7));
    }
    assert!(peer.target() > 1.4e7, "{}", peer.target());
}

#[test]
fn a_queue_is_ambient_only_after_the_rate_was_lowered() {
    let mut peer = peer_that_knows_its_link();
    for _ in 0..30 {
        peer.report_received(40 * MS, 0.0, carried(1e7));
    }
    assert_eq!(peer.controller.state(), RateState::Draining, "earlier datagrams still arrive");
    for _ in 0..30 {
        peer.report_received(40 * MS, 0.0, carried(peer.target()));
    }
    assert_eq!(peer.controller.state(), RateState::Growing);
    assert!(peer.controller.ambient_queue > 0.03, "{}", peer.controller.ambient_queue);
}

#[test]
fn a_queue_seen_only_by_frames_is_probed_and_is_not_congestion() {
    let mut peer = Peer::new();
    peer.report(Duration::ZERO, 0.0);
    assert_eq!(peer.controller.probe_interval(), None);
    for _ in 0..100 {
        peer.probed = Some(MS);
        peer.report(30 * MS, 0.0);
        assert_eq!(peer.controller.state(), RateState::Growing);
        let interval = peer.controller.probe_interval().expect("suspected");
        let share = PROBE_BITS / interval.as_secs_f64() / peer.target();
        assert!(share <= PROBE_SHARE * 1.01, "{share}");
    }
    for _ in 0..STANDING_REPORTS {
        peer.probed = Some(30 * MS);
        peer.report(30 * MS, 0.0);
    }
    assert_eq!(peer.controller.state(), RateState::Draining);
}

#[test]
fn the_queue_limit_falls_steeply_with_the_rate() {
    let limit_at = |bps: f64| {
        let mut peer = Peer::new();
        peer.controller.set_target(bps);
        peer.controller.jitter = 0.0;
        peer.controller.queue_limit()
    };
    assert!((limit_at(10e6) - QUEUE_LIMIT).abs() < 1e-6);
    assert!(limit_at(7e6) > 2.5 * limit_at(13e6));
    assert!((limit_at(90e6), limit_at(1e6)) == (MIN_QUEUE_LIMIT, MAX_QUEUE_LIMIT));
}

#[test]
fn jitter_is_not_congestion() {
    let mut peer = Peer::new();
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    for i in 0..600 {
        // The minimum over one or two frames, each late by up to 20 ms.
        let mut late = || MS.mul_f64(20.0 * rng.random::<f64>());
        let queue = if i % 3 == 0 { late() } else { late().min(late()) };
        peer.report(queue, 0.0);
        assert_ne!(peer.controller.state(), RateState::Draining, "report {i}");
    }
}

#[test]
fn persistent_loss_is_tested_once_and_then_tolerated() {
    let mut peer = Peer::new();
    let (mut tests, mut last) = (0, RateState::Growing);
    for _ in 0..600 {
        peer.report(Duration::ZERO, 0.15);
        tests +=
            u32::from(peer.controller.state() == RateState::Testing && last != RateState::Testing);
        last = peer.controller.state();
    }
    assert_eq!(tests, 1);
    assert!(peer.target() > 5e7, "{}", peer.target());
}

#[test]
fn small_loss_is_tolerated_without_a_test() {
    let mut peer = Peer::new();
    for _ in 0..400 {
        peer.report(Duration::ZERO, 0.05);
        assert_eq!(peer.controller.state(), RateState::Growing);
    }
}

#[test]
fn a_short_queue_is_detected_by_its_loss() {
    let mut peer = Peer::new();
    let link = 6e6;
    for i in 0..600 {
        let target = peer.target();
        let passed = target.min(link);
        peer.report_received(2 * MS, 1.0 - passed / target, passed * 0.05 / 8.0);
        assert!(i < 30 || peer.target() < link * 1.2, "{} at {i}", peer.target());
    }
}

#[test]
fn an_overrun_lowers_the_rate_to_the_link_capacity() {
    let mut peer = Peer::new();
    for _ in 0..40 {
        peer.report(Duration::ZERO, 0.0);
    }
    assert!(peer.target() > 9e7, "{}", peer.target());
    for i in 0..100 {
        let passed = peer.target().min(2e6);
        peer.report_received(Duration::ZERO, 1.0 - passed / peer.target(), carried(passed));
        assert!(i < 5 || peer.target() < 2.4e6, "{} at {i}", peer.target());
    }
}

#[test]
fn loss_above_half_is_never_ambient() {
    let mut peer = Peer::new();
    // Even at the minimum rate, four of five datagrams are lost.
    for _ in 0..200 {
        peer.report(Duration::ZERO, 0.8);
    }
    assert!(peer.controller.loss.ambient() < 0.01, "{}", peer.controller.loss.ambient());
    assert!(peer.target() <= 2.0 * LIMITS.min.as_f64(), "{}", peer.target());
}

#[test]
fn discarding_losses_ends_the_loss_test() {
    let mut peer = Peer::new();
    while peer.controller.state() != RateState::Testing {
        peer.report(Duration::ZERO, 0.4);
    }
    assert!(peer.target() < 0.6e7, "{}", peer.target());
    peer.controller.discard_losses();
    assert_eq!(peer.controller.state(), RateState::Growing);
    assert!(peer.target() >= 1e7, "{}", peer.target());
    assert_eq!(peer.controller.bound(), None);
}

#[test]
fn a_limit_measured_during_overrun_is_soon_exceeded() {
    let mut peer = Peer::new();
    peer.controller.overrun(peer.now, Bitrate::from_mbps(1));
    // The link carries ten times as much; what is sent stays a little below the target.
    for _ in 0..300 {
        peer.report_received(Duration::ZERO, 0.0, carried(0.95 * peer.target()));
    }
    assert!(peer.target() > 5e6, "{}", peer.target());
}

#[test]
fn silence_lowers_the_rate_to_the_minimum_until_a_report() {
    let mut peer = Peer::new();
    peer.report(Duration::ZERO, 0.0);
    assert_eq!(peer.controller.poll_timeout(), None, "everything sent has been reported");
    let before = peer.target();
    peer.controller.record_sent(peer.now);
    peer.controller.handle_timeout(peer.now + SILENCE.saturating_sub(MS));
    assert!(peer.target() >= before, "an early call changes nothing");
    assert_eq!(peer.controller.poll_timeout(), Some(peer.now + SILENCE));
    peer.controller.handle_timeout(peer.now + SILENCE);
    assert_eq!(peer.controller.target(), LIMITS.min);
    assert_eq!(peer.controller.poll_timeout(), None);
    peer.now += Duration::from_secs(10);
    peer.report(Duration::ZERO, 0.9);
    assert!((peer.target() / before - 0.5).abs() < 0.01);
}
