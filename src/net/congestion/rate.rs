//! Congestion control: turns receiver reports into a target bitrate.
//!
//! One-way delay tells congestion from random loss. Loss with a flat delay is noise, which parity
//! repairs. A growing queue is congestion, and the target drops at once. The parts:
//!
//! - The *standing* queue is the smallest delay of several frames, since the datagrams of one frame
//!   queue behind each other on any link (LEDBAT filters the same way, RFC 6817), and of probes
//!   sent at scattered moments, since another camera's frames may always arrive just before ours.
//!   Its limit adapts to jitter, as in GCC (draft-ietf-rmcat-gcc-02 §5.4; Carlucci et al. 2016).
//! - While a queue stands, the link is busy, so the arrival rate is what it carries. The next
//!   target is that rate, less what the queue needs to drain (GCC §5.5; `SCReAM`, RFC 8298, uses
//!   acknowledged bytes for the same reason).
//! - The start rate is cautious and rises quickly until the first queue.
//! - After that, growth is slow near the last known limit, and speeds up the longer the limit has
//!   been exceeded without congestion.
//! - The higher a stream's rate, the less queue it tolerates. Of two streams that share a link, the
//!   larger yields, so their rates converge, as at the equilibrium of NADA (RFC 8698 §4.3), but by
//!   means of a threshold.
//! - Loss without delay may still come from a switch with a short queue. The controller tests this
//!   by sending less. Loss that stays belongs to the path and is ignored from then on. If it stops,
//!   the path is *shallow*: near its limit, loss signals congestion.
//! - Without reports, the target is the minimum until the reply to a probe, or the next report,
//!   shows that the path is back.

mod loss;
mod reports;

use std::time::{Duration, Instant};

pub use self::reports::Feedback;
use self::{
    loss::{BINDING_LOSS, LossAction, LossTester, MAX_AMBIENT_LOSS, TEST_SHARE},
    reports::{DEEP_REPORTS, REPORTS, Reports},
};
use crate::net::{
    units::{BITS_PER_BYTE, Bitrate},
    wire::{datagram::Form, probe::PROBE_LEN},
};

/// Range and start of the target, of UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Minimum target: the smallest picture worth sending.
    pub min: Bitrate,
    /// Maximum target (`--max-bitrate`).
    pub max: Bitrate,
    /// Initial target.
    pub start: Bitrate,
}

/// The controller's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateState {
    /// No congestion is known: the target rises.
    Growing,
    /// A queue stands on the path: the target is below what the path carries.
    Draining,
    /// Loss without delay: a lower rate is tried for 1.5 s, to see if the loss stops.
    Testing,
    /// Reports are overdue: the target is the minimum.
    Silent,
}

/// Controls the bitrate sent to one receiver.
#[derive(Clone, Debug)]
pub struct RateController {
    limits: RateLimits,
    state: RateState,
    /// In bits per second, like every rate here that is a floating-point number.
    target: f64,
    /// Whether the start phase continues: no congestion, suspicious loss or silence so far.
    is_starting: bool,
    /// What the path carried when it was last full.
    link: Option<f64>,
    /// Whether `link` is a rough estimate: measured with a deep queue, perhaps amid cross traffic,
    /// or inferred from loss.
    link_is_rough: bool,
    /// Since when `link` has been exceeded or in doubt.
    beyond_link: Option<Instant>,
    reports: Reports,
    jitter: f64,
    /// Seconds of standing queue that persist when less is sent.
    ambient_queue: f64,
    drain: Option<Drain>,
    loss: LossTester,
    /// Whether the path once carried less than was sent, as shown by a deep queue, a queue with
    /// loss, or a loss test.
    was_overrun: bool,
    /// When congestion was last seen.
    congested: Option<Instant>,
    heard: Instant,
    /// When a report last had a queueing delay.
    judged: Instant,
    /// When the first frame since the last report was sent.
    unanswered: Option<Instant>,
    /// The target when reports stopped.
    before_silence: f64,
}

/// A drain in progress. Queues are in seconds.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When `queue` was measured.
    at: Instant,
    queue: f64,
    /// The smallest queue since.
    least: f64,
    /// The target before the drain.
    target: f64,
}

impl RateController {
    /// Creates a controller without knowledge of the path.
    pub fn new(now: Instant, limits: RateLimits) -> Self {
        let mut controller = Self {
            limits,
            state: RateState::Growing,
            target: 0.0,
            is_starting: true,
            link: None,
            link_is_rough: false,
            beyond_link: None,
            reports: Reports::new(),
            jitter: FIRST_JITTER,
            ambient_queue: 0.0,
            drain: None,
            loss: LossTester::default(),
            was_overrun: false,
            congested: None,
            heard: now,
            judged: now,
            unanswered: None,
            before_silence: limits.start.as_f64(),
        };
        controller.set_target(limits.start.as_f64());
        controller
    }

    /// The target, of UDP payload: pictures, parity and all headers.
    pub fn target(&self) -> Bitrate {
        Bitrate::from_f64(self.target)
    }

    /// The target as a hard limit: once the path has been overrun, or during a test of heavy loss.
    /// `None` on a path that has carried everything so far, where the target is only a rate known
    /// to be safe.
    pub fn bound(&self) -> Option<Bitrate> {
        let binds = self.was_overrun || self.loss.tests_heavy_loss();
        binds.then(|| self.target())
    }

    /// The limit for all traffic; `None` when [`bound`](Self::bound) is. While a queue drains it is
    /// the path's capacity: the target makes the next pictures smaller, but holding back a picture
    /// in flight would only delay it.
    pub fn budget(&self) -> Option<Bitrate> {
        let draining = self.link.filter(|_| self.state == RateState::Draining);
        self.bound().map(|bound| bound.max(Bitrate::from_f64(draining.unwrap_or(0.0))))
    }

    /// Whether to send without bursts, because the path's queue is or may be short.
    pub fn is_shallow(&self) -> bool {
        self.loss.is_shallow() || self.loss.target_before_test().is_some()
    }

    /// Whether, at `now` or within the 500 ms before, a queue stood on the path or a shallow path
    /// overflowed. Losses then are overflow, and more parity would overflow too.
    pub fn is_congested_at(&self, now: Instant) -> bool {
        self.congested.is_some_and(|at| now.saturating_duration_since(at) < CONGESTION_LOSS_TIME)
    }

    /// The controller's state.
    pub fn state(&self) -> RateState {
        self.state
    }

    /// Raises the target to at least `rate` during the start phase, for a path without a link to
    /// overrun.
    pub fn skip_start(&mut self, rate: Bitrate) {
        if self.is_starting {
            self.set_target(self.target.max(rate.as_f64()));
        }
    }

    /// Records that more was sent than the path carries, which is `capacity`.
    pub fn overrun(&mut self, now: Instant, capacity: Bitrate) {
        let capacity = capacity.as_f64();
        self.is_starting = false;
        self.was_overrun = true;
        self.congested = Some(now);
        self.unanswered = None;
        self.reports.clear();
        self.state = RateState::Growing;
        (self.link, self.link_is_rough) = (Some(capacity), true);
        self.loss = LossTester::default();
        self.set_target(capacity * HEADROOM);
    }

    /// The mean interval between probes, which tell a standing queue from one that exists only when
    /// frames begin, or detect that a silent path is back. `None` while frames meet no queue.
    pub fn probe_interval(&self) -> Option<Duration> {
        if self.state == RateState::Silent {
            return Some(SILENT_PROBES);
        }
        let frame_queue = self.reports.newest_frame_queues().next()?;
        let is_suspected = frame_queue > SUSPECT_QUEUE * self.queue_limit();
        let interval = (PROBE_BITS / (PROBE_SHARE * self.target)).max(QUICKEST_PROBES);
        is_suspected.then(|| Duration::from_secs_f64(interval))
    }

    /// Records that a frame was sent at `now`, so that a report is expected.
    pub fn record_sent(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now.max(self.heard));
    }

    /// Handles a probe's reply: a silent path is back, even before the next report.
    pub fn handle_probe_reply(&mut self, now: Instant) {
        if self.state == RateState::Silent {
            (self.heard, self.unanswered) = (now, None);
            self.resume();
        }
    }

    /// Discards recent losses: their cause is datagrams too long for the path, not the rate.
    pub fn discard_losses(&mut self) {
        self.reports.clear();
        if let Some(target_before) = self.loss.restart() {
            self.state = RateState::Growing;
            self.set_target(target_before);
        }
    }

    /// Handles a report.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &Feedback) {
        let since = |then| now.saturating_duration_since(then).min(MAX_STEP).as_secs_f64();
        let elapsed = since(self.heard);
        (self.heard, self.unanswered) = (now, None);
        if self.state == RateState::Silent {
            return self.resume();
        }
        self.reports.push(*feedback);
        if !self.is_congested_at(now) {
            self.loss.record(feedback.loss_ratio, elapsed);
        }
        let begins = (2..REPORTS).contains(&self.reports.len());
        // Without a queue, such loss may be that of datagrams too long for the path.
        let is_queued = self.reports.newest_queues().next().is_some_and(|q| q > self.queue_limit());
        let overflows = is_queued && self.reports.loss_ratio(REPORTS) > OVERRUN_START_LOSS;
        if self.is_starting && begins && overflows {
            return self.overrun(now, Bitrate::from_f64(self.received_bps(REPORTS)));
        }
        if feedback.queue().is_none() {
            if self.state != RateState::Draining && !self.is_congested_at(now) {
                self.judge_loss(now);
            }
            return;
        }
        // A report without a new frame or probe has no delay; growth covers the time since the last
        // report that had one.
        let elapsed = since(std::mem::replace(&mut self.judged, now));
        if self.is_congested() {
            self.drain(now);
        } else if self.state == RateState::Draining {
            self.finish_draining();
        } else {
            self.learn_delays();
            self.judge_loss(now);
            if self.state == RateState::Growing && !self.loss.is_suspected() {
                self.grow(now, elapsed);
            }
        }
    }

    /// Lowers the target when reports are overdue. An early call has no effect.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.before_silence = self.loss.target_before_test().unwrap_or(self.target);
            self.state = RateState::Silent;
            self.is_starting = false;
            self.set_target(0.0);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.unanswered.filter(|_| self.state != RateState::Silent)?;
        Some(since + SILENCE)
    }

    /// Leaves silence with half the previous target, since the present capacity is unknown.
    fn resume(&mut self) {
        self.reports.clear();
        self.loss.restart();
        self.drain = None;
        self.state = RateState::Growing;
        self.beyond_link = None;
        self.set_target(self.before_silence / 2.0);
    }

    fn is_congested(&self) -> bool {
        let limit = self.queue_limit();
        let mut queues = self.reports.newest_queues();
        let (last, before) = (queues.next().unwrap_or(0.0), queues.next().unwrap_or(0.0));
        let soars = last > 2.0 * limit && before > limit;
        // During the start phase, a queue is more likely our own than chance.
        let alarms = self.is_starting && last > START_ALARM * limit;
        (soars || alarms) && self.reports.is_queue_growing()
            || self.reports.standing_queue() > limit
    }

    /// The standing queue that counts as congestion, in seconds.
    fn queue_limit(&self) -> f64 {
        let share = (QUEUE_LIMIT_BPS / self.target).powf(LIMIT_EXPONENT);
        // On a narrow link, one datagram of cross traffic is not congestion.
        let datagrams = DATAGRAMS_AHEAD * DATAGRAM_BITS / self.target;
        (QUEUE_LIMIT * share).clamp(MIN_QUEUE_LIMIT, MAX_QUEUE_LIMIT).max(datagrams)
            + self.jitter_weight() * self.jitter
            + self.ambient_queue
    }

    /// The minimum over many probes contains less jitter than that over a few frames.
    fn jitter_weight(&self) -> f64 {
        if self.reports.are_probed() { PROBED_JITTER_WEIGHT } else { FRAME_JITTER_WEIGHT }
    }

    /// Sends less than the path carries, so that its queue empties within [`DRAIN_TIME`].
    fn drain(&mut self, now: Instant) {
        self.is_starting = false;
        self.congested = Some(now);
        let queue = self.reports.newest_queues().next().unwrap_or(0.0);
        self.was_overrun |=
            queue > OVERRUN_QUEUE || self.reports.loss_ratio(DEEP_REPORTS) > OVERRUN_LOSS;
        if queue > OVERRUN_QUEUE {
            self.loss.forget_shallow();
        }
        let is_deep = queue > 2.0 * self.queue_limit();
        if is_deep {
            let link = self.link_bps(DEEP_REPORTS);
            let agrees = self.link.is_some_and(|known| (link / known - 1.0).abs() < AGREES);
            let was_rough = self.state == RateState::Draining && self.link_is_rough;
            (self.link, self.link_is_rough) = (Some(link), was_rough || !agrees);
        } else if self.state != RateState::Draining {
            self.link = Some(self.link_bps(REPORTS).min(self.target));
            self.link_is_rough = false;
        }
        let target = self.loss.cancel_test().unwrap_or(self.target);
        self.state = RateState::Draining;
        self.beyond_link = None;
        let drain = self.drain.get_or_insert(Drain { at: now, queue, least: queue, target });
        drain.least = drain.least.min(queue);
        let drain = *drain;
        if now.saturating_duration_since(drain.at) >= DRAIN_TIMEOUT {
            let stays = drain.least > STAYED * drain.queue && drain.least <= MAX_AMBIENT_QUEUE;
            if stays && self.received_bps(REPORTS) < self.target * IN_EFFECT {
                return self.accept_queue(drain);
            }
            self.drain = Some(Drain { at: now, queue, least: queue, ..drain });
        }
        let excess = (queue - self.queue_limit()).max(0.0);
        let share = (1.0 - excess / DRAIN_TIME).clamp(MIN_SHARE, HEADROOM);
        self.set_target(self.target.min(self.link.unwrap_or(self.target) * share));
    }

    /// Accepts a queue that persists when less is sent: it is cross traffic's, which would take
    /// whatever rate this stream gave up.
    fn accept_queue(&mut self, drain: Drain) {
        self.ambient_queue = drain.least;
        self.drain = None;
        self.state = RateState::Growing;
        self.link = Some(drain.target);
        self.set_target(drain.target * HEADROOM);
    }

    fn finish_draining(&mut self) {
        let queue = self.reports.newest_queues().next().unwrap_or(0.0);
        if queue < self.ambient_queue + (self.queue_limit() - self.ambient_queue) / 2.0 {
            self.drain = None;
            self.state = RateState::Growing;
            self.set_target(self.link.unwrap_or(self.target) * HEADROOM);
        }
    }

    fn grow(&mut self, now: Instant, elapsed: f64) {
        if self.is_starting {
            return self.start();
        }
        let near = (NEAR_GROWTH_BPS / self.target).clamp(MIN_NEAR_GROWTH, MAX_NEAR_GROWTH);
        let near = if self.link_is_rough { MAX_NEAR_GROWTH } else { near };
        // Near the minimum, frame rates are coarse, so less than the target may be sent.
        let received = self.received_bps(REPORTS).max(STEPLESS * self.limits.min.as_f64());
        let free = FREE_GROWTH.max(FREE_GROWTH_BPS / self.target).min(MAX_FREE_GROWTH);
        let was_congested = |at| now.saturating_duration_since(at) < ROUGH_TIME;
        let is_doubtful = self.link_is_rough && !self.congested.is_some_and(was_congested);
        let (pace, unsent) = match self.link {
            Some(link) if self.target.min(received) > link * BEYOND_LIMIT => {
                (self.proven_growth(now, near, free), FREE_UNSENT)
            }
            Some(link) if self.target > link * NEAR_LIMIT && is_doubtful => {
                (self.proven_growth(now, near, free), DOUBTFUL_UNSENT)
            }
            Some(link) if self.target > link * NEAR_LIMIT => (near, NEAR_UNSENT),
            _ => (free, FREE_UNSENT),
        };
        // A rate that is not actually sent proves nothing about the path.
        let justified = unsent * received;
        self.set_target((self.target * (1.0 + pace * elapsed)).min(justified.max(self.target)));
    }

    /// Growth beyond the last known limit, faster the longer it has been exceeded.
    fn proven_growth(&mut self, now: Instant, near: f64, free: f64) -> f64 {
        let since = *self.beyond_link.get_or_insert(now);
        let proven = now.saturating_duration_since(since).as_secs_f64();
        if proven >= SHALLOW_MEMORY {
            self.loss.forget_shallow();
        }
        (near + PROVEN_GROWTH * proven).min(free)
    }

    /// Start phase: rises quickly with each report while what is sent arrives and builds no queue.
    /// A wide link is known within half a second; a narrow one has only a short queue by then.
    fn start(&mut self) {
        let queue = self.reports.newest_queues().next().unwrap_or(0.0);
        if queue < self.queue_limit() / 2.0 {
            let arrives = START_UNSENT * self.received_bps(DEEP_REPORTS);
            let interval = self.reports.newest_interval().as_secs_f64();
            let growth = START_GROWTH.powf((interval / START_STEP).min(1.0));
            self.set_target((self.target * growth).min(arrives.max(self.target)));
        }
    }

    fn learn_delays(&mut self) {
        self.ambient_queue = self.ambient_queue.min(self.reports.standing_queue());
        let (last, before) = {
            let mut queues = self.reports.newest_frame_queues();
            (queues.next(), queues.next())
        };
        if let (Some(last), Some(before)) = (last, before) {
            let step = (last - before).abs().min(MAX_JITTER);
            self.jitter += JITTER_WEIGHT * (step - self.jitter);
        }
    }

    /// Handles loss while the delay is flat.
    fn judge_loss(&mut self, now: Instant) {
        let is_testing = self.loss.target_before_test().is_some();
        if is_testing && self.reports.loss_ratio(DEEP_REPORTS) > MAX_AMBIENT_LOSS {
            self.set_target(self.target.min(self.lossy_bps() * TEST_SHARE));
        }
        let safe = self.link.map(|link| link * HEADROOM);
        match self.loss.judge(now, self.target, safe, self.reports.loss_ratio(REPORTS)) {
            None => {}
            Some(LossAction::Avoid { safe }) => {
                self.congested = Some(now);
                self.beyond_link = None;
                self.set_target(safe);
            }
            Some(LossAction::Test) => {
                self.is_starting = false;
                self.state = RateState::Testing;
                self.set_target(self.target.min(self.lossy_bps()) * TEST_SHARE);
            }
            Some(LossAction::Ignore { target_before }) => {
                self.state = RateState::Growing;
                self.set_target(target_before);
            }
            Some(LossAction::Respect) => {
                self.state = RateState::Growing;
                (self.link, self.link_is_rough) = (Some(self.target / TEST_SHARE), true);
                self.beyond_link = None;
                self.was_overrun = true;
            }
        }
    }

    /// Bits per second that arrived over the newest `reports` reports.
    fn received_bps(&self, reports: usize) -> f64 {
        self.reports.received_bps(reports).unwrap_or(self.target)
    }

    /// Like [`received_bps`](Self::received_bps), but over the reports since the last one without a
    /// queue.
    fn link_bps(&self, reports: usize) -> f64 {
        self.reports.busy_bps(reports, self.queue_limit() / 2.0).unwrap_or(self.target)
    }

    /// Bits per second that arrive under loss.
    fn lossy_bps(&self) -> f64 {
        self.reports.lossy_bps(BINDING_LOSS).unwrap_or(self.target)
    }

    fn set_target(&mut self, bps: f64) {
        let (least, most) = (self.limits.min.as_f64(), self.limits.max.as_f64());
        self.target = bps.min(most).max(least);
    }
}

/// Without a report for this long while frames are sent, the path counts as lost. Six reports.
pub const SILENCE: Duration = Duration::from_millis(300);

/// The longest time that one growth step covers: at two pictures per second, the target still
/// grows.
const MAX_STEP: Duration = Duration::from_millis(500);

/// The standing queue that is congestion at [`QUEUE_LIMIT_BPS`], in seconds. It falls with this
/// power of the target: at twice the rate, 0.35 of the queue is tolerated, so that two streams
/// converge within 20 s. With the square root they did not. The minimum exceeds the drift of two
/// clocks in a minute.
const QUEUE_LIMIT: f64 = 0.010;
const QUEUE_LIMIT_BPS: f64 = 10e6;
const LIMIT_EXPONENT: f64 = 1.5;
const MIN_QUEUE_LIMIT: f64 = 0.005;
const MAX_QUEUE_LIMIT: f64 = 0.025;

/// A queue shorter than this many full datagrams is not congestion.
const DATAGRAMS_AHEAD: f64 = 1.5;
const DATAGRAM_BITS: f64 = 1200.0 * BITS_PER_BYTE;

/// A queue of this many seconds, or one with this loss ratio, shows that the path carries no more.
/// From then on the target is a hard limit.
const OVERRUN_QUEUE: f64 = 0.06;
const OVERRUN_LOSS: f64 = 0.02;

/// During the start phase, a queue with this loss ratio means a narrow link, before the growth of
/// the queue is known.
const OVERRUN_START_LOSS: f64 = 0.3;

/// How long after a standing queue its losses count as overflow.
const CONGESTION_LOSS_TIME: Duration = Duration::from_millis(500);

/// Ten probes per second on a silent path. The few frames that are sent then would detect its
/// return late.
const SILENT_PROBES: Duration = Duration::from_millis(100);

/// How many times the jitter is added to the queue limit: with frames alone, and with many probes.
const FRAME_JITTER_WEIGHT: f64 = 2.0;
const PROBED_JITTER_WEIGHT: f64 = 0.5;

/// Probes start when frames see this share of the limit. Each has this many bits of UDP payload if
/// it is sealed; together they take at most this share of the target, at least this many seconds
/// apart.
const SUSPECT_QUEUE: f64 = 0.3;
const PROBE_BITS: f64 = (Form::Sealed.overhead() + PROBE_LEN) as f64 * BITS_PER_BYTE;
const PROBE_SHARE: f64 = 0.0104;
const QUICKEST_PROBES: f64 = 0.006;

/// The share of the link used after its queue has drained. With frame sizes that vary by a tenth,
/// the queue stays within a few ms; a lower share would only deepen the sawtooth.
const HEADROOM: f64 = 0.97;

/// The time in which a queue should drain, in seconds, and the minimum share of the link used.
const DRAIN_TIME: f64 = 0.4;
const MIN_SHARE: f64 = 0.3;

/// A queue that stays for this long above this share of its size belongs to other traffic. A queue
/// above the maximum, in seconds, is never accepted: its delay costs more than a lower rate.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(600);
const STAYED: f64 = 0.7;
const MAX_AMBIENT_QUEUE: f64 = 0.05;

/// Two measurements of the link within this share of each other make it well known.
const AGREES: f64 = 0.05;

/// A lower rate is in effect once no more than this multiple of the target arrives.
const IN_EFFECT: f64 = 1.05;

/// Below this share of the last known limit, growth is free. When more than the second multiple is
/// targeted and arrives, the limit no longer holds.
const NEAR_LIMIT: f64 = 0.9;
const BEYOND_LIMIT: f64 = 1.02;

/// A roughly known limit is doubted after this long without congestion.
const ROUGH_TIME: Duration = Duration::from_secs(3);

/// Growth near the limit, in bits per second each second. It is equal for all streams on the link,
/// which makes their rates converge (Chiu and Jain 1989). It stays within these shares of the
/// target, and is the maximum while the limit is known roughly.
const NEAR_GROWTH_BPS: f64 = 100e3;
const MIN_NEAR_GROWTH: f64 = 0.005;
const MAX_NEAR_GROWTH: f64 = 0.04;

/// Growth added for each second beyond the limit, and maximum growth, as shares per second.
const PROVEN_GROWTH: f64 = 0.1;
const FREE_GROWTH: f64 = 0.25;

/// On a narrow path, growth is a larger share: this many bits per second each second, up to this
/// share.
const FREE_GROWTH_BPS: f64 = 600e3;
const MAX_FREE_GROWTH: f64 = 0.5;

/// Start phase: for each report of this many seconds, the target grows by this factor, up to this
/// multiple of what arrives. A rising queue of this multiple of the limit ends the phase at once.
const START_STEP: f64 = 0.05;
const START_GROWTH: f64 = 1.5;
const START_UNSENT: f64 = 1.3;
const START_ALARM: f64 = 1.5;

/// The target grows to at most this multiple of what arrives: while no limit is near; near one that
/// is in doubt; and near one that is known, where quality steps and the frames within half a second
/// make at most a tenth of difference. At three frames a second they make more: with 1.1 for a
/// limit in doubt, a target of 220 kbit/s, of which 183 were sent, never grew again.
const FREE_UNSENT: f64 = 1.5;
const DOUBTFUL_UNSENT: f64 = 1.35;
const NEAR_UNSENT: f64 = 1.1;

/// Up to this multiple of the minimum target, growth does not depend on what arrives.
const STEPLESS: f64 = 2.0;

/// Largest change between reports that counts as jitter, in seconds, and the weight of a change.
const MAX_JITTER: f64 = 0.010;
const JITTER_WEIGHT: f64 = 0.05;

/// Jitter assumed at first, in seconds.
const FIRST_JITTER: f64 = 0.005;

/// A path that exceeds its known limit for this many seconds is no longer shallow.
const SHALLOW_MEMORY: f64 = 5.0;

#[cfg(test)]
mod tests;
