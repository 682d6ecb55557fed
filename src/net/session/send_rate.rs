//! The sending rate to one peer: congestion control, and the gate that enforces it.

use std::time::{Duration, Instant};

use super::{reports::ReportDelta, send_gate::SendGate};
use crate::net::{
    congestion::{
        delivery_watch::{DeliveryCounts, DeliveryWatch},
        pacer::TrainReport,
        rate::{Feedback, RateController, RateLimits, RateState},
        startup_probe::ProbeResult,
    },
    frame::FrameId,
    units::{Bitrate, DataSize},
    wire::report::Report,
};

/// Controls the sending rate to one peer.
#[derive(Debug)]
pub(super) struct SendRate {
    gate: SendGate,
    /// `None`: the session has no feedback.
    control: Option<RateController>,
    /// Unused without feedback.
    delivery_watch: DeliveryWatch,
    /// The user's limit.
    max_bitrate: Option<Bitrate>,
    /// Whether the peer has reported.
    is_reported: bool,
    /// Whether losses before the last report are attributed to the datagram length.
    losses_due_to_mtu: bool,
}

/// What is known when a report arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportContext {
    pub(super) delta: ReportDelta,
    /// The queueing delay of the fastest probe since the last report.
    pub(super) probed: Option<Duration>,
    pub(super) rtt: Option<Duration>,
    /// Losses are attributed to the datagram length.
    pub(super) losses_due_to_mtu: bool,
}

impl SendRate {
    /// For datagrams of up to `datagram_len` bytes. `max_bitrate`: the user's limit, of UDP
    /// payload. `has_feedback`: the peer sends reports.
    pub(super) fn new(
        now: Instant,
        datagram_len: usize,
        max_bitrate: Option<Bitrate>,
        has_feedback: bool,
    ) -> Self {
        let mut rate = Self {
            gate: SendGate::new(datagram_len),
            control: has_feedback.then(|| RateController::new(now, rate_limits(max_bitrate))),
            delivery_watch: DeliveryWatch::default(),
            max_bitrate,
            is_reported: false,
            losses_due_to_mtu: false,
        };
        rate.apply_limits(now);
        rate
    }

    /// The gate through which everything is sent.
    pub(super) fn gate(&self) -> &SendGate {
        &self.gate
    }

    /// Begins frame `id` of `expected_len` bytes in all, if that is known.
    pub(super) fn begin_frame(&mut self, now: Instant, id: FrameId, expected_len: Option<usize>) {
        self.gate.begin_frame(now, id, expected_len);
    }

    /// Records that `size` of frames, or of answers to NACKs, was sent.
    pub(super) fn record_sent(&mut self, now: Instant, size: DataSize) {
        self.gate.record_sent(now, size);
        if self.control.is_some() {
            self.delivery_watch.record_sent();
        }
    }

    /// Records that a frame was sent completely.
    pub(super) fn record_frame(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.record_sent(now);
        }
    }

    /// Records that `size` other than video was sent: a probe, a report, a NACK.
    pub(super) fn record_other(&mut self, now: Instant, size: DataSize) {
        self.gate.record_other(now, size);
    }

    /// Applies the current limits of the user and the path to everything that is sent.
    fn apply_limits(&mut self, now: Instant) {
        let path = self.control.as_ref().and_then(RateController::budget);
        let is_even = self.control.as_ref().is_some_and(RateController::is_shallow);
        self.gate.set_limit(now, path.into_iter().chain(self.max_bitrate).min(), is_even);
    }

    /// Sets the maximum datagram length, in bytes of UDP payload.
    pub(super) fn set_datagram_len(&mut self, now: Instant, len: usize) {
        if self.losses_due_to_mtu {
            // The datagrams sent so far do not tell what the path can carry.
            self.gate.probe_again();
            if let Some(control) = &mut self.control {
                control.discard_losses();
            }
        }
        self.gate.set_datagram_len(now, len);
    }

    /// Turns pacing on or off.
    pub(super) fn set_paced(&mut self, now: Instant, paced: bool) {
        let is_new = self.control.is_some() && !self.is_reported;
        self.gate.set_paced(now, paced, is_new);
        if let Some(control) = self.control.as_mut().filter(|_| !paced) {
            control.skip_start(UNPACED_BITRATE);
        }
    }

    /// Sets the speed of our interface, if it is known. It bounds the pace.
    pub(super) fn set_link_speed(&mut self, now: Instant, speed: Option<Bitrate>) {
        self.gate.set_link_speed(now, speed);
    }

    /// The target bitrate; `None` without feedback.
    pub(super) fn target(&self) -> Option<Bitrate> {
        self.control.as_ref().map(RateController::target)
    }

    /// The target as a hard limit, once the path has been overrun or while heavy loss is tested.
    /// `None` otherwise.
    pub(super) fn bound(&self) -> Option<Bitrate> {
        self.control.as_ref().and_then(RateController::bound)
    }

    /// The user's limit.
    pub(super) fn max_bitrate(&self) -> Option<Bitrate> {
        self.max_bitrate
    }

    /// Whether the peer's reports are overdue.
    pub(super) fn is_unreported(&self) -> bool {
        self.control.as_ref().is_some_and(|control| control.state() == RateState::Silent)
    }

    /// Whether the peer's reports are not overdue, and do not show that next to nothing arrives.
    /// True without feedback.
    pub(super) fn is_reached(&self) -> bool {
        !self.is_unreported() && !self.delivery_watch.is_starved()
    }

    /// The mean interval between clock probes, while a queue is suspected or reports are overdue.
    /// `None`: the usual interval.
    pub(super) fn probe_interval(&self) -> Option<Duration> {
        self.control.as_ref()?.probe_interval()
    }

    /// Handles the reply to one of our probes.
    pub(super) fn handle_probe_reply(&mut self, now: Instant) {
        if let Some(control) = &mut self.control {
            control.handle_probe_reply(now);
            self.delivery_watch.handle_probe_reply(now);
            self.apply_limits(now);
        }
    }

    /// Handles a report. Returns whether the path is congested, or was a moment ago.
    pub(super) fn handle_report(
        &mut self,
        now: Instant,
        report: &Report,
        seen: &ReportContext,
    ) -> bool {
        self.is_reported = true;
        let was_suspect = std::mem::replace(&mut self.losses_due_to_mtu, seen.losses_due_to_mtu);
        let Some(control) = &mut self.control else { return false };
        let feedback = feedback(report, seen);
        let target = control.target();
        if seen.losses_due_to_mtu && !was_suspect {
            control.discard_losses();
        }
        control.handle_feedback(now, &feedback);
        if !seen.losses_due_to_mtu {
            let (train, lost) = (report.train, seen.delta.lost);
            let largest_burst = report.largest_burst;
            self.gate.handle_train(now, TrainReport { train, lost, largest_burst });
        }
        self.gate.handle_report(now, feedback.received, feedback.interval, target);
        if control.bound().is_some() {
            self.gate.end_probe();
        }
        let is_congested = control.is_congested_at(now);
        self.apply_limits(now);
        self.handle_delivery(now, report);
        is_congested
    }

    fn handle_delivery(&mut self, now: Instant, report: &Report) {
        let was_starved = self.delivery_watch.is_starved();
        let (received, lost) = (report.received, report.lost);
        let delivery = DeliveryCounts { received, lost, frames: report.frames.completed };
        self.delivery_watch.handle_report(now, delivery);
        self.end_starvation(now, was_starved);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let was_starved = self.delivery_watch.is_starved();
        self.delivery_watch.handle_timeout(now);
        self.end_starvation(now, was_starved);
        let Some(control) = &mut self.control else { return };
        control.handle_timeout(now);
        match self.gate.judge(now) {
            Some(ProbeResult::Capacity(capacity)) if !self.losses_due_to_mtu => {
                control.overrun(now, capacity);
                self.gate.end_probe();
            }
            Some(ProbeResult::Unclear) if !self.losses_due_to_mtu => self.gate.probe_again(),
            Some(_) => self.gate.end_probe(),
            None => {}
        }
        // While reports are overdue, frames must flow to find the path again.
        if control.state() == RateState::Silent {
            self.gate.end_probe();
        }
        self.apply_limits(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let control = self.control.as_ref().and_then(RateController::poll_timeout);
        let due = [control, self.gate.poll_timeout(), self.delivery_watch.poll_timeout()];
        due.into_iter().flatten().min()
    }

    /// Restarts rate control when a path that passed next to nothing delivers again: the losses
    /// before that say nothing about its capacity.
    fn end_starvation(&mut self, now: Instant, was_starved: bool) {
        if !was_starved || self.delivery_watch.is_starved() {
            return;
        }
        let Some(control) = &mut self.control else { return };
        *control = RateController::new(now, rate_limits(self.max_bitrate));
        if !self.gate.is_paced() {
            control.skip_start(UNPACED_BITRATE);
        }
        self.gate.probe_again();
        self.apply_limits(now);
    }
}

/// The range and start of the target bitrate, for the user's limit.
fn rate_limits(max_bitrate: Option<Bitrate>) -> RateLimits {
    RateLimits {
        min: MIN_BITRATE,
        max: max_bitrate.unwrap_or(MAX_BITRATE).max(MIN_BITRATE),
        start: max_bitrate.unwrap_or(START_BITRATE).clamp(MIN_BITRATE, START_BITRATE),
    }
}

/// The input of congestion control.
fn feedback(report: &Report, seen: &ReportContext) -> Feedback {
    let ReportDelta { received, lost, size } = seen.delta;
    let loss_ratio = lost as f64 / (received + lost).max(1) as f64;
    Feedback {
        loss_ratio: if seen.losses_due_to_mtu { 0.0 } else { loss_ratio },
        queueing_delay: report.queueing_delay,
        probed_delay: seen.probed,
        delay_gradient: f64::from(report.delay_gradient) / 1e6,
        received: size,
        interval: report.interval,
    }
}

/// A small picture at the lowest quality once or twice a second, and reports.
const MIN_BITRATE: Bitrate = Bitrate::from_kbps(100);

/// High enough not to limit pictures.
const MAX_BITRATE: Bitrate = Bitrate::from_mbps(1000);

/// The assumed capacity of a path before the first report. Over 100 Mbit/s, a stream of 28 Mbit/s
/// reaches its best quality after 0.37 s; a link of 10 Mbit/s is not overrun before the first
/// reports.
const START_BITRATE: Bitrate = Bitrate::from_mbps(10);

/// The same for loopback.
const UNPACED_BITRATE: Bitrate = Bitrate::from_mbps(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whether the capacity is probed once the datagram length changes, after losses that are, or
    /// are not, attributed to the length.
    fn probes_after_losses(losses_due_to_mtu: bool) -> bool {
        let mut now = crate::clock::now();
        let mut rate = SendRate::new(now, 1200, None, true);
        rate.set_paced(now, true);
        let mut report = Report { interval: 50 * MS, ..Report::default() };
        for _ in 0..40 {
            now += 50 * MS;
            rate.record_sent(now, DataSize::from_len(120_000));
            rate.record_frame(now);
            let size = DataSize::from_bytes(80_400);
            let delta = ReportDelta { received: 67, lost: 33, size };
            report.received += delta.received;
            report.lost += delta.lost;
            report.received_bytes += size.bytes();
            report.frames.completed += 1;
            let seen = ReportContext { delta, probed: None, rtt: Some(10 * MS), losses_due_to_mtu };
            rate.handle_report(now, &report, &seen);
            rate.handle_timeout(now);
        }
        rate.record_sent(now, DataSize::from_len(120_000));
        assert!(rate.gate().may_begin(), "the capacity is known");
        rate.set_datagram_len(now, 1000);
        rate.record_sent(now, DataSize::from_len(120_000));
        !rate.gate().may_begin()
    }

    #[test]
    fn the_capacity_is_probed_again_after_losses_due_to_the_datagram_length() {
        assert!(probes_after_losses(true));
        assert!(!probes_after_losses(false));
    }

    #[test]
    fn without_feedback_only_the_users_limit_applies() {
        let now = crate::clock::now();
        let mut rate = SendRate::new(now, 1200, Some(Bitrate::from_mbps(1)), false);
        assert_eq!((rate.target(), rate.bound()), (None, None));
        assert_eq!(rate.max_bitrate(), Some(Bitrate::from_mbps(1)));
        rate.record_sent(now, DataSize::from_len(1_000_000));
        assert!(rate.is_reached() && !rate.is_unreported());
        assert!(rate.gate().frame(now, 1).next.is_some_and(|next| next > now));
        rate.handle_timeout(now + 9000 * MS);
        assert!(rate.is_reached());
    }
}
