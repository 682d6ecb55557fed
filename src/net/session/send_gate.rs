//! When the datagrams to one receiver may leave.
//!
//! Three limits apply. While the path's capacity is unknown, the startup probe holds back frames
//! and answers to NACKs once enough has been sent. The send budget is a hard limit on the rate of
//! everything that is sent. The pacer spreads a frame over a part of the frame interval; over
//! loopback, frames are neither paced nor probed for capacity.

use std::time::{Duration, Instant};

use crate::net::{
    congestion::{
        pacer::{Allowance, Pacer, SendBudget, TrainReport},
        startup_probe::{ProbeResult, StartupProbe},
    },
    frame::FrameId,
    units::{Bitrate, DataSize},
};

/// Decides how much may leave now, and when the next may.
#[derive(Debug)]
pub(super) struct SendGate {
    datagram_len: usize,
    /// `None`: frames are not paced.
    pacer: Option<Pacer>,
    /// `None` until the user or the path sets a limit.
    budget: Option<SendBudget>,
    /// Present while the path's capacity is unknown.
    startup_probe: Option<StartupProbe>,
}

impl SendGate {
    /// An open gate for datagrams of up to `datagram_len` bytes of UDP payload.
    pub(super) fn new(datagram_len: usize) -> Self {
        Self { datagram_len, pacer: None, budget: None, startup_probe: None }
    }

    /// Turns pacing on or off, and discards what is known of the path's pace. `is_new`: the path's
    /// capacity is unknown, so it is probed if frames are paced.
    pub(super) fn set_paced(&mut self, now: Instant, paced: bool, is_new: bool) {
        self.pacer = paced.then(|| Pacer::new(now, self.datagram_len));
        self.startup_probe = (paced && is_new).then(StartupProbe::default);
    }

    /// Sets the speed of our interface, if it is known. It bounds the pace.
    pub(super) fn set_link_speed(&mut self, now: Instant, speed: Option<Bitrate>) {
        if let Some(pacer) = &mut self.pacer {
            pacer.set_link_speed(now, speed);
        }
    }

    /// Whether frames are paced.
    pub(super) fn is_paced(&self) -> bool {
        self.pacer.is_some()
    }

    /// Restarts the startup probe, since the path's capacity is unknown again. Without pacing,
    /// there is none.
    pub(super) fn probe_again(&mut self) {
        self.startup_probe = self.is_paced().then(StartupProbe::default);
    }

    /// Ends the startup probe: the path's capacity is known, or frames must flow to find the path.
    pub(super) fn end_probe(&mut self) {
        self.startup_probe = None;
    }

    /// Sets the limit on everything that is sent. `is_even` forbids bursts.
    pub(super) fn set_limit(&mut self, now: Instant, limit: Option<Bitrate>, is_even: bool) {
        let Some(limit) = limit else {
            self.budget = None;
            return;
        };
        let len = self.datagram_len;
        let budget = self.budget.get_or_insert_with(|| SendBudget::new(now, limit, len));
        budget.set_limits(now, limit, is_even);
    }

    /// Sets the maximum datagram length, in bytes of UDP payload.
    pub(super) fn set_datagram_len(&mut self, now: Instant, len: usize) {
        self.datagram_len = len;
        if let Some(pacer) = &mut self.pacer {
            pacer.set_datagram_len(now, len);
        }
        if let Some(budget) = &mut self.budget {
            budget.set_datagram_len(len);
        }
    }

    /// Begins frame `id` of `expected_len` bytes in all, if that is known.
    pub(super) fn begin_frame(&mut self, now: Instant, id: FrameId, expected_len: Option<usize>) {
        if let Some(pacer) = &mut self.pacer {
            pacer.begin_frame(now, id, expected_len);
        }
    }

    /// Handles what a report shows of the path's pace.
    pub(super) fn handle_train(&mut self, now: Instant, report: TrainReport) {
        if let Some(pacer) = &mut self.pacer {
            pacer.handle_report(now, report);
        }
    }

    /// Whether a frame, or the answer to a NACK, may begin now.
    pub(super) fn may_begin(&self) -> bool {
        self.startup_probe.as_ref().is_none_or(StartupProbe::has_room)
    }

    /// How many of a frame's `waiting` datagrams may leave at `now`.
    pub(super) fn frame(&self, now: Instant, waiting: usize) -> Allowance {
        let free = Allowance { datagrams: waiting, next: None };
        let paced = self.pacer.as_ref().map_or(free, |pacer| pacer.poll(now, waiting));
        self.budget.as_ref().map_or(paced, |budget| paced.and(budget.poll(now, waiting)))
    }

    /// How many of `waiting` datagrams of answers to NACKs may leave at `now`. They are not paced.
    pub(super) fn answers(&self, now: Instant, waiting: usize) -> Allowance {
        let free = Allowance { datagrams: waiting, next: None };
        self.budget.as_ref().map_or(free, |budget| budget.poll(now, waiting))
    }

    /// Records that `size` of frames or answers was sent.
    pub(super) fn record_sent(&mut self, now: Instant, size: DataSize) {
        if let Some(pacer) = &mut self.pacer {
            pacer.record_sent(now, size);
        }
        self.record_other(now, size);
        if let Some(probe) = &mut self.startup_probe {
            probe.record_sent(now, size);
        }
    }

    /// Records that `size` other than video was sent: a probe, a report, a NACK.
    pub(super) fn record_other(&mut self, now: Instant, size: DataSize) {
        if let Some(budget) = &mut self.budget {
            budget.record_sent(now, size);
        }
    }

    /// Handles a report that `received` more arrived within `interval`, while `target` is the
    /// target bitrate. Ends the startup probe if that shows that the path carries what is sent.
    pub(super) fn handle_report(
        &mut self,
        now: Instant,
        received: DataSize,
        interval: Duration,
        target: Bitrate,
    ) {
        let probe = self.startup_probe.as_mut();
        if probe.is_some_and(|probe| probe.handle_report(now, received, interval, target)) {
            self.startup_probe = None;
        }
    }

    /// The startup probe's verdict on a path that has fallen behind, or for which no report comes.
    pub(super) fn judge(&self, now: Instant) -> Option<ProbeResult> {
        self.startup_probe.as_ref()?.judge(now)
    }

    /// When [`judge`](Self::judge) returns a verdict.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.startup_probe.as_ref()?.poll_timeout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_of_the_three_decides() {
        let (now, mut gate) = (crate::clock::now(), SendGate::new(1200));
        assert_eq!(gate.frame(now, 1000), Allowance { datagrams: 1000, next: None });
        gate.set_paced(now, true, true);
        assert_eq!(gate.frame(now, 1000).datagrams, 16, "one group");
        gate.set_limit(now, Some(Bitrate::from_kbps(100)), true);
        assert_eq!(gate.frame(now, 1000).datagrams, 1);
        assert_eq!(gate.answers(now, 1000).datagrams, 1);
        assert!(gate.may_begin());
        gate.record_sent(now, DataSize::from_len(100_000));
        assert!(!gate.may_begin(), "nothing is reported yet");
        assert!(gate.frame(now, 1).next.is_some_and(|next| next > now));
        gate.end_probe();
        gate.set_limit(now, None, false);
        gate.set_paced(now, false, false);
        assert!(gate.may_begin());
        assert_eq!(gate.frame(now, 1000).datagrams, 1000);
    }
}
