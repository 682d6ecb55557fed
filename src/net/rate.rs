//! Congestion control: what the receiver reports, to how much may be sent.
//!
//! The one-way delay tells congestion from bad luck. Loss with flat delay is noise, and parity's
//! business; a queue that grows is congestion, and what grows it is taken away at once. The parts:
//!
//! - The *standing* queue, the smallest delay of several frames, since a frame is a burst
//!   that queues behind itself on any link (LEDBAT filters so, RFC 6817), and of probes at scattered
//!   moments, since another camera's frames may always come just before ours. The limit adapts
//!   to jitter, as in GCC (draft-ietf-rmcat-gcc-02 §5.4; Carlucci et al. 2016).
//! - While a queue stands the link is busy, and what arrives is what it carries: the next target
//!   is that, less what the queue needs to drain (GCC §5.5; `SCReAM`, RFC 8298, counts
//!   what is acknowledged on the same grounds).
//! - From a careful start up quickly, until the first queue.
//! - Up again slowly near the last known limit, faster the longer that limit has proven gone.
//! - The more a stream sends, the less queue it bears. So of two that share a link the
//!   larger gives way, and they meet: NADA's equilibrium (RFC 8698 §4.3) from a threshold.
//! - Loss without delay may still be a switch with a short queue. So it is put to the test: send less,
//!   and see if the loss goes. If it stays, it is the path's own and is left alone. If it goes, the
//!   path is *shallow*: near its limit loss is what tells of congestion.
//! - No reports at all: send the least, so that the path's return is noticed with the first frame.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Within what the target stays, in bits a second of UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Never less: the smallest picture worth sending.
    pub min_bps: u64,
    /// Never more: `--max-bitrate`.
    pub max_bps: u64,
    /// Where it begins.
    pub start_bps: u64,
}

/// What a receiver reports, every 50 ms or so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feedback {
    /// Lost by sent, 0 to 1, since the last report, whether repaired or not.
    pub loss_ratio: f64,
    /// The smallest one-way delay of the first datagrams of the frames that began since the last report,
    /// above the smallest of the last minute or so. Only of the first: the others wait for their
    /// own frame. `None` if no frame began.
    pub queuing_delay: Option<Duration>,
    /// The queue that the fastest of several probes at scattered moments has met, if there were any.
    pub probed_delay: Option<Duration>,
    /// By how much that has changed, in seconds a second; a positive one is a queue that grows.
    pub delay_gradient: f64,
    /// Bytes of UDP payload that arrived since the last report.
    pub received: usize,
    /// The time that the report is about.
    pub interval: Duration,
}

/// What the controller is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateState {
    /// There is room, as far as is known: more and more is sent.
    Growing,
    /// A queue stands on the path: less is sent than it carries.
    Draining,
    /// Loss without delay: less is sent for a second, to see if that changes it.
    Testing,
    /// Nothing comes back: the least is sent.
    Silent,
}

/// Finds how much may be sent to one receiver.
#[derive(Clone, Debug)]
pub struct RateController {
    limits: RateLimits,
    state: RateState,
    target: f64,
    /// Whether nothing has objected yet.
    is_untried: bool,
    /// What the path carried when it was last full.
    link: Option<f64>,
    /// Whether `link` was measured while too much was sent by far, and perhaps not only by us.
    link_is_rough: bool,
    /// Since when the target is clearly above `link`.
    beyond_link: Option<Instant>,
    reports: VecDeque<Feedback>,
    jitter: f64,
    /// Seconds of standing queue that sending less does not change.
    ambient_queue: f64,
    drain: Option<Drain>,
    loss: Loss,
    /// Whether the path was once found to carry less than was sent: a deep queue, or one that
    /// lost datagrams.
    was_overrun: bool,
    /// When a queue last stood on the path.
    congested: Option<Instant>,
    heard: Instant,
    /// When a report last told of a queue, or of none.
    judged: Instant,
    /// When something was sent that should be reported on.
    unanswered: Option<Instant>,
    /// The target before nothing came back.
    before_silence: f64,
}

/// How draining goes.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// When `queue` was looked at.
    at: Instant,
    queue: f64,
    /// The least since.
    least: f64,
    /// The target before.
    target: f64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Loss {
    smoothed: f64,
    /// What lowering the rate does not change.
    ambient: f64,
    suspected: Option<Instant>,
    /// Whether the path loses before it queues, so that bursts do not fit into its queue.
    is_shallow: bool,
    test: Option<LossTest>,
}

#[derive(Clone, Copy, Debug)]
struct LossTest {
    began: Instant,
    loss_before: f64,
    target_before: f64,
}

impl Feedback {
    /// The queue that everything has met, in seconds; `None` if no frame began.
    fn queue(&self) -> Option<f64> {
        let queues = [self.queuing_delay, self.probed_delay];
        queues.into_iter().flatten().min().map(|q| q.as_secs_f64())
    }
}

impl RateController {
    /// A controller that knows nothing of the path yet.
    pub fn new(now: Instant, limits: RateLimits) -> Self {
        let mut controller = Self {
            limits,
            state: RateState::Growing,
            target: 0.0,
            is_untried: true,
            link: None,
            link_is_rough: false,
            beyond_link: None,
            reports: VecDeque::with_capacity(REPORTS),
            jitter: FIRST_JITTER,
            ambient_queue: 0.0,
            drain: None,
            loss: Loss::default(),
            was_overrun: false,
            congested: None,
            heard: now,
            judged: now,
            unanswered: None,
            before_silence: limits.start_bps as f64,
        };
        controller.set_target(limits.start_bps as f64);
        controller
    }

    /// What may be sent, in bits a second of UDP payload: pictures, parity and all headers.
    pub fn target_bps(&self) -> u64 {
        self.target as u64
    }

    /// The most that may be sent, in bits a second, once the path has been overrun, or while that
    /// is being tested; `None` on a path that has taken everything so far, where the target is only
    /// what is known to be safe.
    pub fn bound_bps(&self) -> Option<u64> {
        let is_binding = |test: LossTest| test.loss_before > BINDING_LOSS;
        let binds = self.was_overrun || self.loss.test.is_some_and(is_binding);
        binds.then_some(self.target as u64)
    }

    /// What may leave in all, in bits a second, once the path has been overrun. While a queue drains
    /// that is what the path carries: the target shrinks the next pictures, but a picture that has
    /// begun would only be late.
    pub fn budget_bps(&self) -> Option<u64> {
        let draining = self.link.filter(|_| self.state == RateState::Draining);
        self.bound_bps().map(|bps| bps.max(draining.unwrap_or(0.0) as u64))
    }

    /// Whether to send without bursts: the path's queue is short, or may be.
    pub fn is_shallow(&self) -> bool {
        self.loss.is_shallow || self.loss.test.is_some()
    }

    /// Whether a queue stands on the path at `now`, or did a moment ago: what is lost meanwhile
    /// did not fit into it, and more parity would not fit either.
    pub fn is_congested_at(&self, now: Instant) -> bool {
        self.congested.is_some_and(|at| now.saturating_duration_since(at) < CONGESTION_LOSS_TIME)
    }

    /// What it is doing.
    pub fn state(&self) -> RateState {
        self.state
    }

    /// Begins with `bps` instead, unless it has learned better: there is no link to be overrun.
    pub fn skip_start(&mut self, bps: u64) {
        if self.is_untried {
            self.set_target(self.target.max(bps as f64));
        }
    }

    /// The path has carried `bps` of what was sent to it at first, which was much more.
    pub fn overrun(&mut self, now: Instant, bps: u64) {
        self.is_untried = false;
        self.was_overrun = true;
        self.congested = Some(now);
        self.unanswered = None;
        self.reports.clear();
        self.state = RateState::Growing;
        (self.link, self.link_is_rough) = (Some(bps as f64), true);
        self.loss = Loss::default();
        self.set_target(bps as f64 * HEADROOM);
    }

    /// How often probes should leave, on average, to tell a queue that stands from one that is only
    /// there whenever a frame begins, or to notice that a silent path is back; `None` as long as
    /// frames find no queue.
    pub fn probe_pace(&self) -> Option<Duration> {
        if self.state == RateState::Silent {
            return Some(SILENT_PROBES);
        }
        let frame_queue = self.newest_frame_queues().next()?;
        let is_suspected = frame_queue > SUSPECT_QUEUE * self.queue_limit();
        let pace = (PROBE_BITS / (PROBE_SHARE * self.target)).max(QUICKEST_PROBES);
        is_suspected.then(|| Duration::from_secs_f64(pace))
    }

    /// A frame has left at `now`, so a report should come.
    pub fn record_sent(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now.max(self.heard));
    }

    /// A probe has come back, so the path is there again, though nobody has reported yet.
    pub fn handle_echo(&mut self, now: Instant) {
        if self.state == RateState::Silent {
            (self.heard, self.unanswered) = (now, None);
            self.resume();
        }
    }

    /// What was lost just now says nothing of the rate: datagrams are too long for the path.
    pub fn disregard_losses(&mut self) {
        self.reports.clear();
        let loss = Loss { ambient: self.loss.ambient, ..Loss::default() };
        if let Some(test) = std::mem::replace(&mut self.loss, loss).test {
            self.state = RateState::Growing;
            self.set_target(test.target_before);
        }
    }

    /// Takes a report.
    pub fn handle_feedback(&mut self, now: Instant, feedback: &Feedback) {
        let since = |then| now.saturating_duration_since(then).min(MAX_STEP).as_secs_f64();
        let elapsed = since(self.heard);
        (self.heard, self.unanswered) = (now, None);
        if self.state == RateState::Silent {
            return self.resume();
        }
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back(*feedback);
        if !self.is_congested_at(now) {
            let excess = feedback.loss_ratio - self.loss.smoothed;
            self.loss.smoothed += (elapsed / LOSS_TIME) * excess;
        }
        let begins = (2..REPORTS).contains(&self.reports.len());
        // A path that takes only short datagrams loses as much, and queues nothing.
        let is_queued = self.newest_queues().next().is_some_and(|q| q > self.queue_limit());
        let overflows = is_queued && self.loss_ratio(REPORTS) > OVERRUN_START_LOSS;
        if self.is_untried && begins && overflows {
            return self.overrun(now, self.received_bps(REPORTS) as u64);
        }
        if feedback.queue().is_none() {
            if self.state != RateState::Draining && !self.is_congested_at(now) {
                self.judge_loss(now);
            }
            return;
        }
        // Of few frames few reports tell of a queue; the target grows over the time between those.
        let elapsed = since(std::mem::replace(&mut self.judged, now));
        if self.is_congested() {
            self.drain(now);
        } else if self.state == RateState::Draining {
            self.finish_draining();
        } else {
            self.learn_delays();
            self.judge_loss(now);
            if self.state == RateState::Growing && self.loss.suspected.is_none() {
                self.grow(now, elapsed);
            }
        }
    }

    /// Lowers the target when reports are overdue. Calls that come early change nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.before_silence = self.loss.test.map_or(self.target, |t| t.target_before);
            self.state = RateState::Silent;
            self.is_untried = false;
            self.set_target(0.0);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let since = self.unanswered.filter(|_| self.state != RateState::Silent)?;
        Some(since + SILENCE)
    }

    /// The path is back. What it carries now is unknown: half of what it did.
    fn resume(&mut self) {
        self.reports.clear();
        self.loss = Loss { ambient: self.loss.ambient, ..Loss::default() };
        self.drain = None;
        self.state = RateState::Growing;
        self.beyond_link = None;
        self.set_target(self.before_silence / 2.0);
    }

    fn is_congested(&self) -> bool {
        let limit = self.queue_limit();
        let mut queues = self.newest_queues();
        let (last, before) = (queues.next().unwrap_or(0.0), queues.next().unwrap_or(0.0));
        let soars = last > 2.0 * limit && before > limit;
        // At the start a queue is more likely to be our own than to be chance.
        let alarms = self.is_untried && last > START_ALARM * limit;
        (soars || alarms) && self.is_rising() || self.standing_queue() > limit
    }

    fn is_rising(&self) -> bool {
        self.reports.back().is_some_and(|r| r.delay_gradient > 0.0)
    }

    /// The queue that the last reports all saw, in seconds; zero before there are enough.
    fn standing_queue(&self) -> f64 {
        let enough = self.newest_queues().count() >= STANDING_REPORTS;
        let least = self.newest_queues().take(STANDING_REPORTS).fold(f64::INFINITY, f64::min);
        if enough { least } else { 0.0 }
    }

    /// Seconds of queue, from the newest report that saw any frame begin to the oldest.
    fn newest_queues(&self) -> impl Iterator<Item = f64> {
        self.reports.iter().rev().filter_map(Feedback::queue)
    }

    /// From the newest report to the oldest, what frames alone have seen.
    fn newest_frame_queues(&self) -> impl Iterator<Item = f64> {
        self.reports.iter().rev().filter_map(|r| r.queuing_delay).map(|q| q.as_secs_f64())
    }

    /// How much standing queue is congestion, in seconds.
    fn queue_limit(&self) -> f64 {
        let share = (QUEUE_LIMIT_BPS / self.target).powf(LIMIT_EXPONENT);
        // On a narrow link one datagram of somebody else's is no queue.
        let datagrams = DATAGRAMS_AHEAD * DATAGRAM_BITS / self.target;
        (QUEUE_LIMIT * share).clamp(LEAST_QUEUE_LIMIT, MOST_QUEUE_LIMIT).max(datagrams)
            + self.jitter_weight() * self.jitter
            + self.ambient_queue
    }

    /// The least delay of many probes hides more jitter than that of a few frames.
    fn jitter_weight(&self) -> f64 {
        let newest = self.reports.iter().rev().take(STANDING_REPORTS);
        let probed = newest.filter(|r| r.probed_delay.is_some()).count();
        if probed == STANDING_REPORTS { PROBED_JITTER_WEIGHT } else { FRAME_JITTER_WEIGHT }
    }

    /// Sends less than the path carries, by as much as empties its queue within [`DRAIN_TIME`].
    fn drain(&mut self, now: Instant) {
        self.is_untried = false;
        self.congested = Some(now);
        let queue = self.newest_queues().next().unwrap_or(0.0);
        self.was_overrun |= queue > OVERRUN_QUEUE || self.loss_ratio(DEEP_REPORTS) > OVERRUN_LOSS;
        self.loss.is_shallow &= queue <= OVERRUN_QUEUE;
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
        let target = self.loss.test.take().map_or(self.target, |t| t.target_before);
        self.state = RateState::Draining;
        self.beyond_link = None;
        let drain = self.drain.get_or_insert(Drain { at: now, queue, least: queue, target });
        drain.least = drain.least.min(queue);
        let drain = *drain;
        if now.saturating_duration_since(drain.at) >= DRAIN_PATIENCE {
            let stays = drain.least > STAYED * drain.queue && drain.least <= MAX_AMBIENT_QUEUE;
            if stays && self.received_bps(REPORTS) < self.target * IN_EFFECT {
                return self.accept_queue(drain);
            }
            self.drain = Some(Drain { at: now, queue, least: queue, ..drain });
        }
        let excess = (queue - self.queue_limit()).max(0.0);
        let share = (1.0 - excess / DRAIN_TIME).clamp(LEAST_SHARE, HEADROOM);
        self.set_target(self.target.min(self.link.unwrap_or(self.target) * share));
    }

    /// Sending less changes nothing, so the queue is somebody else's, who would only take what
    /// is left to them.
    fn accept_queue(&mut self, drain: Drain) {
        self.ambient_queue = drain.least;
        self.drain = None;
        self.state = RateState::Growing;
        self.link = Some(drain.target);
        self.set_target(drain.target * HEADROOM);
    }

    fn finish_draining(&mut self) {
        let queue = self.newest_queues().next().unwrap_or(0.0);
        if queue < self.ambient_queue + (self.queue_limit() - self.ambient_queue) / 2.0 {
            self.drain = None;
            self.state = RateState::Growing;
            self.set_target(self.link.unwrap_or(self.target) * HEADROOM);
        }
    }

    fn grow(&mut self, now: Instant, elapsed: f64) {
        if self.is_untried {
            return self.start();
        }
        let near = (NEAR_GROWTH_BPS / self.target).clamp(LEAST_NEAR_GROWTH, MOST_NEAR_GROWTH);
        let near = if self.link_is_rough { MOST_NEAR_GROWTH } else { near };
        // Between one and two of the smallest pictures a second there is nothing to send.
        let received = self.received_bps(REPORTS).max(STEPLESS * self.limits.min_bps as f64);
        let free = FREE_GROWTH.max(FREE_GROWTH_BPS / self.target).min(MOST_FREE_GROWTH);
        let objected = |at| now.saturating_duration_since(at) < ROUGH_TIME;
        let is_doubtful = self.link_is_rough && !self.congested.is_some_and(objected);
        let (pace, unsent) = match self.link {
            Some(link) if self.target.min(received) > link * BEYOND => {
                (self.proven_growth(now, near, free), FREE_UNSENT)
            }
            Some(link) if self.target > link * NEAR && is_doubtful => {
                (self.proven_growth(now, near, free), NEAR_UNSENT)
            }
            Some(link) if self.target > link * NEAR => (near, NEAR_UNSENT),
            _ => (free, FREE_UNSENT),
        };
        // What is not really sent says nothing of the path.
        let justified = unsent * received;
        self.set_target((self.target * (1.0 + pace * elapsed)).min(justified.max(self.target)));
    }

    /// The growth beyond the last known limit, faster the longer it has proven gone.
    fn proven_growth(&mut self, now: Instant, near: f64, free: f64) -> f64 {
        let since = *self.beyond_link.get_or_insert(now);
        let proven = now.saturating_duration_since(since).as_secs_f64();
        self.loss.is_shallow &= proven < SHALLOW_MEMORY;
        (near + PROVEN_GROWTH * proven).min(free)
    }

    /// Up quickly with each report, as long as what is sent arrives and makes no queue: a wide link is
    /// known within half a second, and a narrow one has a short queue by then.
    fn start(&mut self) {
        let queue = self.newest_queues().next().unwrap_or(0.0);
        if queue < self.queue_limit() / 2.0 {
            let arrives = START_UNSENT * self.received_bps(DEEP_REPORTS);
            let interval = self.reports.back().map_or(0.0, |r| r.interval.as_secs_f64());
            let growth = START_GROWTH.powf((interval / START_STEP).min(1.0));
            self.set_target((self.target * growth).min(arrives.max(self.target)));
        }
    }

    fn learn_delays(&mut self) {
        self.ambient_queue = self.ambient_queue.min(self.standing_queue());
        let (last, before) = {
            let mut queues = self.newest_frame_queues();
            (queues.next(), queues.next())
        };
        if let (Some(last), Some(before)) = (last, before) {
            let step = (last - before).abs().min(MAX_JITTER);
            self.jitter += JITTER_WEIGHT * (step - self.jitter);
        }
    }

    /// Loss while the delay is flat.
    fn judge_loss(&mut self, now: Instant) {
        if let Some(test) = self.loss.test {
            return self.judge_test(now, test);
        }
        let excess = self.loss.smoothed - self.loss.ambient;
        let shallow = self.link.filter(|_| self.loss.is_shallow).map(|link| link * HEADROOM);
        // On a narrow link one lost datagram is no pattern.
        let least = (SHALLOW_DATAGRAMS * DATAGRAM_BITS / self.target).max(SHALLOW_LOSS);
        if let Some(safe) = shallow.filter(|&safe| self.target > safe && excess > least) {
            self.congested = Some(now);
            self.loss.smoothed = self.loss.ambient;
            self.beyond_link = None;
            return self.set_target(safe);
        }
        if excess < SUSPECT_LOSS {
            self.loss.suspected = None;
            self.loss.ambient += AMBIENT_WEIGHT * excess.min(0.0);
            return;
        }
        let since = *self.loss.suspected.get_or_insert(now);
        if excess > GRAVE_LOSS || now.saturating_duration_since(since) > SUSPICION_TIME {
            // The smoothed ratio lags at the start of a flood.
            let loss_before = self.loss.smoothed.max(self.loss_ratio(REPORTS));
            let target_before = self.target;
            self.is_untried = false;
            self.loss.test = Some(LossTest { began: now, loss_before, target_before });
            self.state = RateState::Testing;
            self.set_target(self.target.min(self.lossy_bps()) * TEST_SHARE);
        }
    }

    fn judge_test(&mut self, now: Instant, test: LossTest) {
        if self.loss_ratio(DEEP_REPORTS) > MOST_AMBIENT_LOSS {
            self.set_target(self.target.min(self.lossy_bps() * TEST_SHARE));
        }
        if now.saturating_duration_since(test.began) < TEST_TIME {
            return;
        }
        self.loss.test = None;
        self.loss.suspected = None;
        self.state = RateState::Growing;
        let stays = self.loss.smoothed > test.loss_before * 0.6;
        if stays && self.loss.smoothed < MOST_AMBIENT_LOSS {
            self.loss.ambient = self.loss.smoothed;
            self.set_target(test.target_before);
        } else {
            (self.link, self.link_is_rough) = (Some(self.target / TEST_SHARE), true);
            self.beyond_link = None;
            (self.was_overrun, self.loss.is_shallow) = (true, true);
        }
    }

    /// The mean loss ratio of the last so many reports.
    fn loss_ratio(&self, reports: usize) -> f64 {
        let newest = self.reports.iter().rev().take(reports);
        newest.clone().map(|r| r.loss_ratio).sum::<f64>() / newest.len().max(1) as f64
    }

    /// What arrived, in bits a second, over the last so many reports.
    fn received_bps(&self, reports: usize) -> f64 {
        self.bps_of(self.reports.iter().rev().take(reports))
    }

    /// The same over those of them between which a queue has stood: as long as there is one, the link
    /// carries what it can. Before that, it may have idled: what makes a queue is often a
    /// sender that was held up, and then sends all at once.
    fn link_bps(&self, reports: usize) -> f64 {
        let busy = self.queue_limit() / 2.0;
        let is_busy = |report: &&Feedback| report.queue().is_none_or(|queue| queue > busy);
        self.bps_of(self.reports.iter().rev().take(reports).take_while(is_busy))
    }

    /// What arrives while much is lost, in bits a second: in a flood since it began, as the path may have
    /// carried more before, or had nothing to carry.
    fn lossy_bps(&self) -> f64 {
        let newest = self.reports.iter().rev();
        let flooded = newest.take_while(|r| r.loss_ratio > BINDING_LOSS);
        if flooded.clone().count() < DEEP_REPORTS {
            return self.received_bps(REPORTS);
        }
        self.bps_of(flooded)
    }

    fn bps_of<'a>(&self, reports: impl Iterator<Item = &'a Feedback>) -> f64 {
        let (bytes, time) = reports
            .fold((0, Duration::ZERO), |(bytes, time), r| (bytes + r.received, time + r.interval));
        if time.is_zero() { self.target } else { bytes as f64 * 8.0 / time.as_secs_f64() }
    }

    fn set_target(&mut self, bps: f64) {
        let (least, most) = (self.limits.min_bps as f64, self.limits.max_bps as f64);
        self.target = bps.min(most).max(least);
    }
}

/// No report for so long, though frames leave: the path is gone. Six reports.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Reports remembered: half a second, fifteen frames.
const REPORTS: usize = 10;

/// A queue that stands for so many reports is no accident; some six frames.
const STANDING_REPORTS: usize = 4;

/// Behind a deep queue arrivals are even, and three reports say what the link carries now.
const DEEP_REPORTS: usize = 3;

/// Growth is never computed over more than this: two pictures a second still grow.
const MAX_STEP: Duration = Duration::from_millis(500);

/// Seconds of standing queue at [`QUEUE_LIMIT_BPS`] that are congestion. It falls with this power of the
/// target: twice the rate bears 0.35 of the queue, which is what makes two streams meet within 20 s; the
/// root left them apart. Never less than what two clocks drift apart in a minute.
const QUEUE_LIMIT: f64 = 0.010;
const QUEUE_LIMIT_BPS: f64 = 10e6;
const LIMIT_EXPONENT: f64 = 1.5;
const LEAST_QUEUE_LIMIT: f64 = 0.005;
const MOST_QUEUE_LIMIT: f64 = 0.025;

/// A queue of fewer full datagrams than this is not congestion.
const DATAGRAMS_AHEAD: f64 = 1.5;
const DATAGRAM_BITS: f64 = 1200.0 * 8.0;

/// A standing queue of so many seconds, or one that loses this share, shows that the path carries no
/// more: from then on the target is a hard limit.
const OVERRUN_QUEUE: f64 = 0.06;
const OVERRUN_LOSS: f64 = 0.02;

/// At the start so much loss behind a queue is a narrow link's, before the queue is known to grow.
const OVERRUN_START_LOSS: f64 = 0.3;

/// How long after a standing queue losses still count as its own.
const CONGESTION_LOSS_TIME: Duration = Duration::from_millis(500);

/// Ten probes a second on a silent path: frames, of which few are sent then, would notice its
/// return late.
const SILENT_PROBES: Duration = Duration::from_millis(100);

/// How many times the jitter a queue must stand above the limit: where only a few frames tell of it, and
/// where many probes do.
const FRAME_JITTER_WEIGHT: f64 = 2.0;
const PROBED_JITTER_WEIGHT: f64 = 0.5;

/// Probes go out once frames find this share of the limit; each has so many bits of UDP payload, they are
/// this share of what is sent at most, and so many seconds apart at least.
const SUSPECT_QUEUE: f64 = 0.3;
const PROBE_BITS: f64 = 320.0;
const PROBE_SHARE: f64 = 0.008;
const QUICKEST_PROBES: f64 = 0.006;

/// The share of the link that is used after its queue is gone. With frames that vary by a tenth
/// the queue stays within a few ms; a lower share would only make the sawtooth deeper.
const HEADROOM: f64 = 0.97;

/// In how many seconds a queue should drain, and the share of the link that is used at least.
const DRAIN_TIME: f64 = 0.4;
const LEAST_SHARE: f64 = 0.3;

/// A queue that stays for so long above this share of what it was is not ours; unless it is longer than
/// the last, in seconds: then no latency is left to be saved by sending.
const DRAIN_PATIENCE: Duration = Duration::from_millis(600);
const STAYED: f64 = 0.7;
const MAX_AMBIENT_QUEUE: f64 = 0.05;

/// A link that is measured within this share of what it was known to carry is known well.
const AGREES: f64 = 0.05;

/// Less is really sent when no more than this share of the target arrives.
const IN_EFFECT: f64 = 1.05;

/// Below this share of the last known limit growth is free; where more arrives than the other the limit is
/// gone.
const NEAR: f64 = 0.9;
const BEYOND: f64 = 1.02;

/// A limit that is known roughly is doubted when nothing has objected to it for so long.
const ROUGH_TIME: Duration = Duration::from_secs(3);

/// Growth near the limit: so many bits a second each second, the same for all who share it, since that
/// is what evens them out (Chiu and Jain 1989); but within these shares of the target, and at the
/// most of them while the limit is known roughly.
const NEAR_GROWTH_BPS: f64 = 100e3;
const LEAST_NEAR_GROWTH: f64 = 0.005;
const MOST_NEAR_GROWTH: f64 = 0.04;

/// What is added to the growth for each second beyond the limit; growth at most.
const PROVEN_GROWTH: f64 = 0.1;
const FREE_GROWTH: f64 = 0.25;

/// A narrow path grows faster for its width: by so many bits a second each second, within this share.
const FREE_GROWTH_BPS: f64 = 600e3;
const MOST_FREE_GROWTH: f64 = 0.5;

/// At the start: how many times the target it is after each report of so many seconds, and what arrives at
/// most; and how many times the limit a queue must be that ends it at once.
const START_STEP: f64 = 0.05;
const START_GROWTH: f64 = 1.5;
const START_UNSENT: f64 = 1.3;
const START_ALARM: f64 = 1.5;

/// How many times what arrives the target may grow to: so long as nothing is known of a limit, and near it,
/// where what is sent is a tenth less at most, by the steps of quality and the frames of half a second.
const FREE_UNSENT: f64 = 1.5;
const NEAR_UNSENT: f64 = 1.1;

/// Up to so many times the least target, growth does not depend on what is sent.
const STEPLESS: f64 = 2.0;

/// The largest step in seconds from report to report that is taken for jitter, and how much it weighs.
const MAX_JITTER: f64 = 0.010;
const JITTER_WEIGHT: f64 = 0.05;

/// Seconds of jitter that are assumed until some were seen.
const FIRST_JITTER: f64 = 0.005;

/// Seconds over which loss is averaged.
const LOSS_TIME: f64 = 1.0;

/// Loss above the path's own that is suspicious if it lasts, and that is so at once.
const SUSPECT_LOSS: f64 = 0.06;
const GRAVE_LOSS: f64 = 0.12;
const SUSPICION_TIME: Duration = Duration::from_secs(2);

/// Loss above the path's own that is congestion where a shallow path is near its limit: this share, and
/// so many full datagrams a second.
const SHALLOW_LOSS: f64 = 0.03;
const SHALLOW_DATAGRAMS: f64 = 2.5;

/// A path that carries more than its known limit for this long, in seconds, is no longer shallow.
const SHALLOW_MEMORY: f64 = 5.0;

/// How fast the path's own loss is forgotten, a report.
const AMBIENT_WEIGHT: f64 = 0.01;

/// Above this loss ratio the test binds: the target is a hard limit, even if pictures are left out.
const BINDING_LOSS: f64 = 0.2;

/// More loss than this is never the path's own: the test has not sent little enough.
const MOST_AMBIENT_LOSS: f64 = 0.5;

/// The test of loss: the share of what arrives that is sent, and for how long.
const TEST_SHARE: f64 = 0.9;
const TEST_TIME: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests;
