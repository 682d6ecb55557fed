//! The pace of a path, learned from reports.
//!
//! A report counts if it describes a frame sent at the present pace. While frames arrive as fast as
//! they leave, and the pace holds them back, each such report raises it; near the last known limit
//! at most one in each [`NEAR_INTERVAL`] does. The step is so small that at most [`MAX_EXCESS`] of
//! the next frame queues on a path that can take no more, except that it is never below
//! [`NEAR_STEP`]. Where the delay grows within the frames, the path is the limit, and the receiver
//! has measured what it carries: sending at that rate queues nothing, and a frame arrives no later.
//!
//! Growth in one report may be an accident: a thread that was descheduled, another stream's frame.
//! So two reports in a row must show it, unless datagrams were lost too; the faster measurement is
//! adopted. Losses in a burst, without growth, are those of a path that drops instead of queueing:
//! they halve a learned pace.
//!
//! Jitter and other traffic make the delay grow, too. Lowering the pace below the initial one
//! because of them would only make frames arrive later. So the pace is at least the initial one,
//! unless two reports in a row show that a queue overflows: growth, and losses in a burst.

use std::time::{Duration, Instant};

use crate::net::{
    frame::FrameId,
    units::{Bitrate, DataSize},
    wire::report::Train,
};

/// The parts of a report from which the pace is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainReport {
    /// The newest train that ended since the last report.
    pub train: Option<Train>,
    /// Datagrams lost since the last report.
    pub lost: u64,
    /// The most of them in one gap.
    pub largest_burst: u16,
}

/// How frames leave at present.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) rate: Bitrate,
    /// The rate on a path of which nothing is known.
    pub(super) initial: Bitrate,
    /// What may leave at once. It queues at the slowest hop of any path, and a path that carries
    /// `rate` forwards it within the time that it takes at `rate`.
    pub(super) group: DataSize,
    pub(super) frame_len: DataSize,
}

/// The pace of one path, learned from reports.
#[derive(Clone, Debug, Default)]
pub(super) struct PathPace {
    /// `None`: nothing is known.
    pace: Option<Bitrate>,
    /// What the path carried when it was last the limit, or half the pace that lost a burst. `None`
    /// once a pace of [`BEYOND`] times that was taken.
    limit: Option<Bitrate>,
    /// Whether a frame was held back by the pace since it last changed.
    was_held: bool,
    /// The first frame sent at this pace.
    since: Option<FrameId>,
    /// When the pace last changed.
    changed: Option<Instant>,
    /// What the path carries according to the last report, if that showed growth that the next one
    /// must confirm.
    suspected: Option<Bitrate>,
    /// See [`overrun`](Self::overrun).
    overrun: Option<Bitrate>,
    /// Whether the last report showed that a queue overflowed.
    has_overflowed: bool,
}

impl PathPace {
    pub(super) fn pace(&self) -> Option<Bitrate> {
        self.pace
    }

    /// What the path carried when its queue overflowed, if that is below the initial pace. `None`
    /// once the pace has risen to the initial one.
    pub(super) fn overrun(&self) -> Option<Bitrate> {
        self.overrun
    }

    /// Records that a frame was held back by the pace.
    pub(super) fn record_held(&mut self) {
        self.was_held = true;
    }

    /// Handles a report. The next frame to begin is `next`.
    pub(super) fn handle_report(
        &mut self,
        now: Instant,
        report: TrainReport,
        leaving: Leaving,
        next: FrameId,
    ) {
        let Some(train) = report.train else { return };
        if self.since.is_some_and(|since| train.frame.is_before(since)) {
            return;
        }
        let suspected = self.suspected.take();
        let growth = train.growth.saturating_sub(leaving.group / leaving.rate);
        let overflows = growth > GROWTH_LIMIT && report.largest_burst >= OVERFLOW_BURST;
        let overflowed = std::mem::replace(&mut self.has_overflowed, overflows);
        if growth > GROWTH_LIMIT {
            let carried = train.size / train.span;
            if overflows && overflowed && carried < leaving.initial {
                self.overrun = Some(carried);
            }
            match suspected {
                _ if report.lost > 0 => self.limit_to(now, carried, next),
                Some(before) => self.limit_to(now, carried.max(before), next),
                None => self.suspected = Some(carried),
            }
        } else if report.largest_burst >= TAIL_BURST && self.pace.is_some() {
            self.limit_to(now, leaving.rate / 2.0, next);
        } else if growth < GROWTH_LIMIT / 2 && self.was_held {
            self.rise(now, leaving, next);
        }
    }

    /// Adopts what the path carries.
    fn limit_to(&mut self, now: Instant, carried: Bitrate, next: FrameId) {
        self.limit = Some(carried);
        self.set(now, carried, next);
    }

    fn rise(&mut self, now: Instant, leaving: Leaving, next: FrameId) {
        let rate = leaving.rate;
        let is_recent = |at| now.saturating_duration_since(at) < NEAR_INTERVAL;
        let is_near = |limit: Bitrate| rate >= limit * NEAR && rate < limit * BEYOND;
        let step = if self.limit.is_some_and(is_near) {
            if self.changed.is_some_and(is_recent) {
                return;
            }
            NEAR_STEP
        } else {
            self.limit = self.limit.filter(|&limit| rate < limit * BEYOND);
            step(leaving.frame_len)
        };
        self.overrun = self.overrun.filter(|_| rate < leaving.initial);
        self.set(now, (rate * step).min(MAX_PACE), next);
    }

    fn set(&mut self, now: Instant, pace: Bitrate, next: FrameId) {
        self.pace = Some(pace);
        self.was_held = false;
        self.since = Some(next);
        self.changed = Some(now);
    }
}

/// The factor by which the pace of the next frames may rise: from [`NEAR_STEP`] to 2.
fn step(frame_len: DataSize) -> f64 {
    let share = MAX_EXCESS.bits() / frame_len.bits().max(1.0);
    (1.0 / (1.0 - share.min(0.5))).max(NEAR_STEP)
}

/// More growth of the delay within a frame than this, beyond that within a group, is a queue. At
/// 100 Mbit/s it is 2.5 KB, at 1 Gbit/s 25 KB.
const GROWTH_LIMIT: Duration = Duration::from_micros(200);

/// How much of a frame of up to 756 KB may queue because of one step: about half of what a switch
/// with little memory gives a port. For longer frames, [`NEAR_STEP`] is more.
const MAX_EXCESS: DataSize = DataSize::from_bytes(36_000);

/// The smallest step. Around the known limit, every step is this factor.
const NEAR_STEP: f64 = 1.05;

/// The minimum time between a change of the pace and a step around the known limit.
const NEAR_INTERVAL: Duration = Duration::from_millis(500);

/// "Around" the limit, as shares of it.
const NEAR: f64 = 0.9;
const BEYOND: f64 = 1.25;

/// This many losses in a row are those of a full queue rather than noise.
const TAIL_BURST: u16 = 8;

/// With growth, this many losses in a row are those of a full queue. At a random loss of 5 %, one
/// frame in eighty has them.
const OVERFLOW_BURST: u16 = 3;

/// At this pace a group is 312 KB long, so that almost every frame leaves at once.
const MAX_PACE: Bitrate = Bitrate::from_mbps(20_000);

#[cfg(test)]
mod tests {
    use super::*;

    const MBPS: Bitrate = Bitrate::from_mbps(1);
    const FRAME: DataSize = DataSize::from_bytes(120_000);
    const INTERVAL: Duration = Duration::from_micros(33_333);

    fn leaving(rate: Bitrate) -> Leaving {
        Leaving { rate, initial: START / 2.0, group: DataSize::default(), frame_len: FRAME }
    }

    /// Frames of 120 KB at 30 a second over a path that carries `capacity`, with a queue of
    /// `queue`; every frame is reported before the next begins.
    struct Path {
        now: Instant,
        frame: FrameId,
        capacity: Bitrate,
        queue: DataSize,
        pace: PathPace,
        /// The most that has queued, and what has not found room.
        deepest: DataSize,
        lost: DataSize,
    }

    impl Path {
        fn new(mbps: f64, queue: DataSize) -> Self {
            let (now, frame) = (crate::clock::now(), FrameId::default());
            let (pace, deepest, lost) = Default::default();
            Self { now, frame, capacity: MBPS * mbps, queue, pace, deepest, lost }
        }

        fn rate(&self) -> Bitrate {
            self.pace.pace().unwrap_or(START).max(START)
        }

        fn send(&mut self, frames: u32) {
            for _ in 0..frames {
                let (rate, frame) = (self.rate(), self.frame);
                let share = (1.0 - self.capacity.mbps() / rate.mbps()).max(0.0);
                let excess = DataSize::from_bytes((FRAME.bytes() as f64 * share) as u64);
                let lost = excess.saturating_sub(self.queue);
                let queued = excess.saturating_sub(lost);
                self.deepest = self.deepest.max(queued);
                self.lost += lost;
                let growth = queued / self.capacity;
                let span = FRAME / rate.min(self.capacity);
                let train = Train { frame, growth, size: self.capacity.min(rate) * span, span };
                let lost = lost.bytes().div_ceil(1200);
                let report = TrainReport { train: Some(train), lost, largest_burst: lost as u16 };
                self.frame = frame.next();
                self.now += INTERVAL;
                self.pace.record_held();
                self.pace.handle_report(self.now, report, leaving(rate), self.frame);
            }
        }
    }

    const START: Bitrate = Bitrate::from_mbps(115);
    const PORT: DataSize = DataSize::from_bytes(64_000);

    #[test]
    fn a_gigabit_path_is_found_within_half_a_second() {
        let mut path = Path::new(1000.0, PORT);
        path.send(15);
        assert!(path.rate() > MBPS * 900.0, "{}", path.rate());
        path.send(600);
        assert_eq!(path.lost, DataSize::default());
        assert!((900.0..1400.0).contains(&path.rate().mbps()), "{}", path.rate());
    }

    #[test]
    fn a_slow_port_with_a_short_queue_loses_nothing() {
        for mbps in [116.0, 150.0, 300.0, 500.0] {
            let mut path = Path::new(mbps, PORT);
            path.send(900);
            assert_eq!(path.lost, DataSize::default(), "at {mbps} Mbit/s");
            assert!(path.deepest <= MAX_EXCESS, "{:?} at {mbps} Mbit/s", path.deepest);
            let rate = path.rate();
            assert!(
                rate >= MBPS * mbps * 0.99 && rate < MBPS * mbps * 1.2,
                "{rate} at {mbps} Mbit/s"
            );
        }
    }

    #[test]
    fn a_path_that_becomes_slow_is_followed_at_once_and_one_that_recovers_within_seconds() {
        let mut path = Path::new(1000.0, PORT);
        path.send(60);
        path.capacity = MBPS * 150.0;
        path.send(1);
        assert!(path.lost > DataSize::default());
        path.lost = DataSize::default();
        path.send(90);
        assert_eq!(path.lost, DataSize::default());
        path.capacity = MBPS * 1000.0;
        path.send(150);
        assert!(path.rate() > MBPS * 900.0, "{}", path.rate());
        assert_eq!(path.lost, DataSize::default());
    }

    #[test]
    fn one_report_of_growth_without_loss_changes_nothing() {
        let mut path = Path::new(10_000.0, PORT);
        path.send(10);
        let before = path.rate();
        let growth = Duration::from_millis(4);
        let span = Duration::from_millis(5);
        let report = |frame| TrainReport {
            train: Some(Train { frame, growth, size: FRAME, span }),
            ..TrainReport::default()
        };
        path.pace.handle_report(path.now, report(path.frame), leaving(before), path.frame.next());
        assert_eq!(path.rate(), before);
        path.frame = path.frame.next();
        path.pace.handle_report(path.now, report(path.frame), leaving(before), path.frame.next());
        assert_eq!(path.rate(), FRAME / span, "two agree");
    }

    #[test]
    fn frames_that_left_before_the_last_change_prove_nothing() {
        let mut path = Path::new(10_000.0, PORT);
        path.send(10);
        let before = path.rate();
        let train = Train {
            frame: FrameId(5),
            growth: Duration::ZERO,
            size: FRAME,
            span: Duration::from_millis(5),
        };
        path.pace.record_held();
        let report = TrainReport { train: Some(train), ..TrainReport::default() };
        path.pace.handle_report(path.now, report, leaving(before), path.frame);
        assert_eq!(path.rate(), before);
    }

    #[test]
    fn a_pace_that_holds_nothing_back_does_not_rise() {
        let mut pace = PathPace::default();
        let train = Train {
            frame: FrameId(1),
            growth: Duration::ZERO,
            size: FRAME,
            span: Duration::from_millis(9),
        };
        let report = TrainReport { train: Some(train), ..TrainReport::default() };
        pace.handle_report(crate::clock::now(), report, leaving(START), FrameId(2));
        assert_eq!(pace.pace(), None);
    }

    #[test]
    fn a_burst_of_losses_without_a_queue_halves_the_pace() {
        let mut path = Path::new(150.0, DataSize::default());
        path.send(3);
        assert!(path.lost > DataSize::default());
        path.lost = DataSize::default();
        path.send(12);
        let lost = path.lost.bytes();
        assert!(lost < FRAME.bytes(), "{lost} bytes");
    }
}
