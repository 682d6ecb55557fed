//! The newest receiver reports, and what they show together.

use std::{collections::VecDeque, time::Duration};

use crate::net::units::DataSize;

/// A receiver's report, and the sender's own probes since the last one. About every 50 ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feedback {
    /// The loss ratio since the last report, 0 to 1. Losses that were repaired count as losses.
    /// Zero while losses are due to datagrams that are too long for the path.
    pub loss_ratio: f64,
    /// The smallest one-way delay of the first datagrams of the frames that began since the last
    /// report, above the smallest of the last 30 to 60 s. Later datagrams of a frame queue behind
    /// the first, so they do not count. `None` if no frame began.
    pub queueing_delay: Option<Duration>,
    /// The queueing delay of the fastest probe since the last report; `None` without probes.
    pub probed_delay: Option<Duration>,
    /// Slope of the frames' one-way delay, in seconds per second; positive while a queue grows.
    pub delay_gradient: f64,
    /// UDP payload that arrived since the last report.
    pub received: DataSize,
    /// The time that the report covers.
    pub interval: Duration,
}

impl Feedback {
    /// The smaller of the frames' and the probes' queueing delays, in seconds; `None` without
    /// either.
    pub(super) fn queue(&self) -> Option<f64> {
        let queues = [self.queueing_delay, self.probed_delay];
        queues.into_iter().flatten().min().map(|q| q.as_secs_f64())
    }
}

/// The newest reports, at most [`REPORTS`].
#[derive(Clone, Debug)]
pub(super) struct Reports(VecDeque<Feedback>);

impl Reports {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(REPORTS))
    }

    /// Appends a report; the oldest is dropped if there are too many.
    pub(super) fn push(&mut self, report: Feedback) {
        if self.0.len() == REPORTS {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn newest(&self) -> impl ExactSizeIterator<Item = &Feedback> + Clone {
        self.0.iter().rev()
    }

    /// The time that the newest report covers.
    pub(super) fn newest_interval(&self) -> Duration {
        self.0.back().map_or(Duration::ZERO, |report| report.interval)
    }

    /// Whether the queue was growing at the newest report.
    pub(super) fn is_queue_growing(&self) -> bool {
        self.0.back().is_some_and(|report| report.delay_gradient > 0.0)
    }

    /// Queues in seconds, newest report first, without the reports that measured none.
    pub(super) fn newest_queues(&self) -> impl Iterator<Item = f64> {
        self.newest().filter_map(Feedback::queue)
    }

    /// Like [`newest_queues`](Self::newest_queues), from frames alone.
    pub(super) fn newest_frame_queues(&self) -> impl Iterator<Item = f64> {
        self.newest().filter_map(|r| r.queueing_delay).map(|q| q.as_secs_f64())
    }

    /// The smallest of the newest [`STANDING_REPORTS`] queues, in seconds; zero if there are fewer.
    pub(super) fn standing_queue(&self) -> f64 {
        let enough = self.newest_queues().count() >= STANDING_REPORTS;
        let least = self.newest_queues().take(STANDING_REPORTS).fold(f64::INFINITY, f64::min);
        if enough { least } else { 0.0 }
    }

    /// Whether each of the newest [`STANDING_REPORTS`] reports includes a probe's delay.
    pub(super) fn are_probed(&self) -> bool {
        let newest = self.newest().take(STANDING_REPORTS);
        newest.filter(|r| r.probed_delay.is_some()).count() == STANDING_REPORTS
    }

    /// The mean loss ratio of the newest `reports` reports.
    pub(super) fn loss_ratio(&self, reports: usize) -> f64 {
        let newest = self.newest().take(reports);
        newest.clone().map(|r| r.loss_ratio).sum::<f64>() / newest.len().max(1) as f64
    }

    /// Bits per second that arrived over the newest `reports` reports; `None` without reports.
    pub(super) fn received_bps(&self, reports: usize) -> Option<f64> {
        bps_of(self.newest().take(reports))
    }

    /// Like [`received_bps`](Self::received_bps), but only over the reports since the last one with
    /// a queue of at most `idle` seconds; `None` if that is the newest. While a queue stands, the
    /// link runs at capacity. Before, it may have been idle: a queue often comes from a sender that
    /// was delayed and then sent everything at once.
    pub(super) fn busy_bps(&self, reports: usize, idle: f64) -> Option<f64> {
        let is_busy = |report: &&Feedback| report.queue().is_none_or(|queue| queue > idle);
        bps_of(self.newest().take(reports).take_while(is_busy))
    }

    /// The received bitrate under loss, in bits per second. If the newest [`DEEP_REPORTS`] reports
    /// all have a loss ratio above `heavy`, only they and the earlier ones of the same unbroken run
    /// count: before, the path may have carried more, or been idle. `None` without reports.
    pub(super) fn lossy_bps(&self, heavy: f64) -> Option<f64> {
        let flooded = self.newest().take_while(|r| r.loss_ratio > heavy);
        if flooded.clone().count() < DEEP_REPORTS {
            return self.received_bps(REPORTS);
        }
        bps_of(flooded)
    }
}

fn bps_of<'a>(reports: impl Iterator<Item = &'a Feedback>) -> Option<f64> {
    let nothing = (DataSize::default(), Duration::ZERO);
    let (size, time) =
        reports.fold(nothing, |(size, time), r| (size + r.received, time + r.interval));
    (!time.is_zero()).then(|| size.bits() / time.as_secs_f64())
}

/// Reports kept: half a second, fifteen frames.
pub(super) const REPORTS: usize = 10;

/// Reports that must all see a queue before it counts as standing; about six frames.
pub(super) const STANDING_REPORTS: usize = 4;

/// From a deep queue, datagrams arrive evenly spaced, so three reports measure the link's capacity.
pub(super) const DEEP_REPORTS: usize = 3;
