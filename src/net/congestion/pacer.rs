//! Pacing: a frame leaves as fast as the path takes it, in small groups of datagrams.
//!
//! On a Gbit/s wire, a frame of 117 KB takes a millisecond. Where the path continues at 100 Mbit/s,
//! all but 12 KB of it wait in the queue of that port, and some switches give a port only 64 KB:
//! the tail of every frame would be lost, on a link that is three quarters idle. At [`PACE`] times
//! the average rate, the frame needs about 30 KB of that queue. That is how a stream begins.
//!
//! It also costs latency on every link: the last datagram leaves up to a quarter of the frame
//! interval after the first, 7 ms of 33. So the pace is learned. While frames arrive as fast as
//! they leave, it rises; where they do not, the receiver reports what the path carries
//! ([`PathPace`]). The speed of the interface, if known, bounds the pace. Loopback has no queue to
//! overrun, so the caller does not pace there.
//!
//! The pacer is a token bucket that holds one group. With segmentation offload, the kernel takes a
//! whole group for little more than the price of one datagram. Half a group of tokens is enough to
//! send, so a timer may be late by the time that the other half takes to fill, at no cost.

mod budget;
mod path_pace;

use self::path_pace::{Leaving, PathPace};
pub use self::{budget::SendBudget, path_pace::TrainReport};

use std::time::{Duration, Instant};

use crate::net::{
    frame::FrameId,
    frame_interval::{FrameInterval, Smoothing},
    units::{Bitrate, DataSize},
};

/// Decides how many datagrams may be sent now, and when the next may.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// The pace at first, as a multiple of the average rate.
    pace: f64,
    datagram_len: usize,
    /// Bytes that may be sent as of `updated`; negative after more was sent, by one group at most.
    tokens: f64,
    updated: Instant,
    /// The newest frame.
    frame: Option<FrameBegun>,
    /// Smoothed UDP payload of a frame, in bytes: see [`FrameBegun::sent`].
    smoothed_len: Option<f64>,
    /// Between the starts of two frames.
    interval: FrameInterval,
    path: PathPace,
    /// The speed of our interface, if it is known.
    link_speed: Option<Bitrate>,
}

/// How many datagrams may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// How many may be sent now: no more than are waiting and, if paced, no more than one group.
    pub datagrams: usize,
    /// When more may be sent, if any are waiting and none may be sent now. Always in the future.
    pub next: Option<Instant>,
}

impl Allowance {
    /// The stricter of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let datagrams = self.datagrams.min(other.datagrams);
        let next = if datagrams == 0 { self.next.max(other.next) } else { None };
        Self { datagrams, next }
    }
}

#[derive(Clone, Copy, Debug)]
struct FrameBegun {
    id: FrameId,
    at: Instant,
    expected_len: Option<usize>,
    /// UDP payload sent since the frame began: its chunks, and answers to NACKs.
    sent: DataSize,
    /// When the last of that was sent.
    last_sent: Instant,
}

impl Pacer {
    /// A pacer at [`PACE`] for datagrams of up to `datagram_len` bytes of UDP payload. The first
    /// group may be sent at once.
    pub fn new(now: Instant, datagram_len: usize) -> Self {
        Self::with_pace(now, datagram_len, PACE)
    }

    /// A pacer that begins at `pace` times the average rate, at least 1.
    pub fn with_pace(now: Instant, datagram_len: usize, pace: f64) -> Self {
        Self {
            pace: pace.max(1.0),
            datagram_len: datagram_len.max(1),
            tokens: group_len(datagram_len.max(1)),
            updated: now,
            frame: None,
            smoothed_len: None,
            interval: FrameInterval::with_initial(SMOOTHING, FIRST_INTERVAL),
            path: PathPace::default(),
            link_speed: None,
        }
    }

    /// Sets the maximum datagram length, in bytes of UDP payload.
    pub fn set_datagram_len(&mut self, now: Instant, datagram_len: usize) {
        self.settle(now);
        self.datagram_len = datagram_len.max(1);
        self.tokens = self.tokens.min(self.group_len());
    }

    /// Sets the speed of our interface, if it is known. It bounds the pace.
    pub fn set_link_speed(&mut self, now: Instant, speed: Option<Bitrate>) {
        self.settle(now);
        self.link_speed = speed;
        self.tokens = self.tokens.min(self.group_len());
    }

    /// Begins frame `id`. `expected_len` is its encoded length in bytes, if that is known.
    pub fn begin_frame(&mut self, now: Instant, id: FrameId, expected_len: Option<usize>) {
        self.settle(now);
        let sent = DataSize::default();
        let begun = FrameBegun { id, at: now, expected_len, sent, last_sent: now };
        self.interval.record(now);
        let Some(last) = self.frame.replace(begun) else { return };
        if last.sent > DataSize::default() {
            let len = last.sent.bytes() as f64;
            let smoothed = self.smoothed_len.get_or_insert(len);
            *smoothed += SMOOTHING.weight * (len - *smoothed);
            if self.was_held(last) {
                self.path.record_held();
            }
        }
    }

    /// Whether the pace held back a frame that was sent: it was longer than one group, and the rest
    /// left at about the pace.
    fn was_held(&self, frame: FrameBegun) -> bool {
        let beyond_group = frame.sent.bytes() as f64 - self.group_len();
        let took = frame.last_sent.saturating_duration_since(frame.at).as_secs_f64();
        beyond_group > 0.0 && beyond_group >= HELD_SHARE * took * self.rate()
    }

    /// Learns the path's pace from a report.
    pub fn handle_report(&mut self, now: Instant, report: TrainReport) {
        self.settle(now);
        let next = self.frame.map_or(FrameId::default(), |frame| frame.id.next());
        let leaving = Leaving {
            rate: Bitrate::from_bytes_per_second(self.rate()),
            initial: Bitrate::from_bytes_per_second(self.pace * self.average()),
            group: DataSize::from_bytes(self.group_len() as u64),
            frame_len: DataSize::from_bytes(self.smoothed_len.unwrap_or(FIRST_LEN) as u64),
        };
        self.path.handle_report(now, report, leaving, next);
    }

    /// How many of `waiting` datagrams may be sent at `now`, and if none, when. Has no side effect.
    pub fn poll(&self, now: Instant, waiting: usize) -> Allowance {
        let tokens = self.tokens_at(now);
        let enough = waiting.min(self.group_datagrams().div_ceil(2));
        let needed = (enough * self.datagram_len) as f64;
        if waiting == 0 {
            return Allowance { datagrams: 0, next: None };
        }
        if tokens + ROUNDING < needed {
            // Relative to the last change, so that further calls return the same time.
            let wait = Duration::from_secs_f64((needed - self.tokens) / self.rate());
            let next = Some((self.updated + wait).max(now) + Duration::from_nanos(1));
            return Allowance { datagrams: 0, next };
        }
        let affordable = ((tokens + ROUNDING) / self.datagram_len as f64) as usize;
        Allowance { datagrams: affordable.min(waiting).min(self.group_datagrams()), next: None }
    }

    /// Records that `size` of UDP payload was sent at `now`, of the frame or in answer to a NACK.
    pub fn record_sent(&mut self, now: Instant, size: DataSize) {
        self.settle(now);
        self.tokens = (self.tokens - size.bytes() as f64).max(-self.group_len());
        if let Some(frame) = &mut self.frame {
            frame.sent += size;
            frame.last_sent = now;
        }
    }

    /// Bytes per second: the learned pace, or the initial one if that is faster and has not overrun
    /// the path's queue. At most the speed of the interface, but always enough to keep up with the
    /// stream.
    fn rate(&self) -> f64 {
        let average = self.average();
        let overrun = self.path.overrun().map_or(f64::INFINITY, Bitrate::bytes_per_second);
        let learned = self.path.pace().map_or(0.0, Bitrate::bytes_per_second);
        let link_speed = self.link_speed.map_or(f64::INFINITY, Bitrate::bytes_per_second);
        let slowest = (self.pace.min(MIN_PACE) * average).max(MIN_RATE.bytes_per_second());
        (self.pace * average).min(overrun).max(learned).min(link_speed).max(slowest)
    }

    /// The average rate in bytes per second. If the frame is longer than average, its own length
    /// counts as the average.
    fn average(&self) -> f64 {
        let expected = self.frame.and_then(|f| f.expected_len).unwrap_or(0) as f64;
        let sent = self.frame.map_or(0, |f| f.sent.bytes()) as f64;
        let smoothed = self.smoothed_len.unwrap_or(if expected > 0.0 { 0.0 } else { FIRST_LEN });
        let len = smoothed.max(expected).max(sent);
        len / self.interval.seconds().unwrap_or(FIRST_INTERVAL.as_secs_f64())
    }

    fn settle(&mut self, now: Instant) {
        self.tokens = self.tokens_at(now);
        self.updated = self.updated.max(now);
    }

    fn tokens_at(&self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.updated).as_secs_f64() * self.rate();
        (self.tokens + gained).min(self.group_len())
    }

    /// The maximum length of a group. Each group costs a wake-up, so at a fast pace a group is
    /// longer: all that may leave in [`GROUP_TIME`].
    fn group_datagrams(&self) -> usize {
        let slow = group_datagrams(self.datagram_len);
        let fast = self.rate() * GROUP_TIME.as_secs_f64() / self.datagram_len as f64;
        slow.max(fast as usize)
    }

    fn group_len(&self) -> f64 {
        (self.group_datagrams() * self.datagram_len) as f64
    }
}

fn group_datagrams(datagram_len: usize) -> usize {
    (GROUP_LEN / datagram_len).clamp(1, GROUP_DATAGRAMS)
}

fn group_len(datagram_len: usize) -> f64 {
    (group_datagrams(datagram_len) * datagram_len) as f64
}

/// How many times faster than the stream's average a frame leaves at first: within a quarter of its
/// interval.
pub const PACE: f64 = 4.0;

/// The slowest pace, as a multiple of the average rate: a frame whose length is known leaves within
/// four fifths of its interval.
const MIN_PACE: f64 = 1.25;

/// The maximum number of datagrams sent together on a path that is not known to be fast.
pub const GROUP_DATAGRAMS: usize = 16;

/// The maximum bytes sent together on such a path: sixteen Ethernet datagrams, or two jumbo ones. A
/// single datagram may be longer.
pub const GROUP_LEN: usize = GROUP_DATAGRAMS * 1500;

/// The time that a group on a fast path takes at the pace.
const GROUP_TIME: Duration = Duration::from_micros(125);

/// A frame that was sent at this share of the pace or faster was held back by it.
const HELD_SHARE: f64 = 0.6;

/// Shorter intervals are those of several frames at once, longer ones those of a slow source or one
/// that paused. At one frame per second, no frame should take a quarter of a second.
const SMOOTHING: Smoothing = Smoothing {
    min: Duration::from_nanos(1_000_000_000 / 240),
    max: Duration::from_millis(100),
    ..Smoothing::QUICK
};

/// Initial assumption: frames of 64 KB, 30 per second.
const FIRST_LEN: f64 = 65_536.0;
const FIRST_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// Below this rate, a single datagram would take over 10 ms. The [`SendBudget`] limits slower
/// paths.
const MIN_RATE: Bitrate = Bitrate::from_mbps(1);

/// Tolerance for floating-point rounding, in bytes.
const ROUNDING: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::wire::report::Train;
    use proptest::prelude::*;

    const LEN: usize = 1200;
    const INTERVAL: Duration = Duration::from_micros(33_333);
    const MS: Duration = Duration::from_millis(1);

    /// Sends a frame of `datagrams`, with each wake-up `late`. Returns the time and the number of
    /// datagrams of each group.
    fn send_frame(
        pacer: &mut Pacer,
        start: Instant,
        mut datagrams: usize,
        late: Duration,
    ) -> Vec<(Duration, usize)> {
        pacer.begin_frame(start, FrameId::default(), Some(datagrams * LEN));
        let (mut now, mut groups) = (start, Vec::new());
        while datagrams > 0 {
            let allowance = pacer.poll(now, datagrams);
            if let Some(next) = allowance.next {
                assert!(next > now && allowance.datagrams == 0);
                now = next + late;
                continue;
            }
            assert!((1..=GROUP_DATAGRAMS).contains(&allowance.datagrams));
            pacer.record_sent(now, DataSize::from_len(allowance.datagrams * LEN));
            datagrams -= allowance.datagrams;
            groups.push((now - start, allowance.datagrams));
        }
        groups
    }

    #[test]
    fn a_frame_of_98_datagrams_is_sent_within_a_quarter_interval() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..60 {
            let groups = send_frame(&mut pacer, now, 98, Duration::ZERO);
            assert_eq!(groups[0], (Duration::ZERO, 16));
            let last = groups.last().unwrap().0;
            // The first group leaves at once; the other 82 of 98 datagrams are spread over their
            // share of a quarter of the interval.
            let expected = INTERVAL.mul_f64(82.0 / 98.0 / PACE);
            assert!(last.abs_diff(expected) < MS / 4, "{last:?}, not {expected:?}");
            now += INTERVAL;
        }
    }

    #[test]
    fn late_timers_do_not_lower_the_pacing_rate() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for late in [Duration::from_micros(100), Duration::from_micros(600)] {
            let groups = send_frame(&mut pacer, now, 98, late);
            let last = groups.last().unwrap().0;
            assert!(last < INTERVAL / 4 + late, "{last:?} when {late:?} late");
            now += INTERVAL;
        }
    }

    #[test]
    fn idle_time_earns_at_most_one_group() {
        let start = crate::clock::now();
        let mut pacer = Pacer::new(start, LEN);
        let now = start + 60_000 * MS;
        assert_eq!(pacer.poll(now, 98), Allowance { datagrams: 16, next: None });
        pacer.record_sent(now, DataSize::from_len(16 * LEN));
        let allowance = pacer.poll(now, 98);
        assert_eq!(allowance.datagrams, 0);
        assert!(pacer.poll(allowance.next.unwrap(), 98).datagrams >= 8);
    }

    #[test]
    fn the_last_datagrams_wait_only_for_their_own_credit() {
        let now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        pacer.record_sent(now, DataSize::from_len(16 * LEN));
        let (one, many) = (pacer.poll(now, 1).next.unwrap(), pacer.poll(now, 98).next.unwrap());
        assert!((many - now).abs_diff((one - now) * 8) < MS / 100);
        assert_eq!(pacer.poll(now, 0), Allowance { datagrams: 0, next: None });
    }

    #[test]
    fn a_frame_above_average_size_is_paced_faster() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..30 {
            send_frame(&mut pacer, now, 20, Duration::ZERO);
            now += INTERVAL;
        }
        let groups = send_frame(&mut pacer, now, 200, Duration::ZERO);
        assert!(groups.last().unwrap().0 < INTERVAL / 4 + MS / 4);
    }

    /// Reports to `pacer` twice that the path carried its frame at `rate` and lost the tail.
    fn report_overrun(pacer: &mut Pacer, now: Instant, rate: Bitrate) {
        let (size, growth) = (DataSize::from_len(98 * LEN), 5 * MS);
        for frame in [0, 1].map(FrameId) {
            let train = Some(Train { frame, growth, size, span: size / rate });
            pacer.handle_report(now, TrainReport { train, lost: 20, largest_burst: 20 });
        }
    }

    fn last_departure(pacer: &mut Pacer, now: Instant) -> Duration {
        send_frame(pacer, now, 98, Duration::ZERO).last().expect("a group").0
    }

    #[test]
    fn a_path_whose_queue_the_initial_pace_overruns_is_sent_what_it_carries() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..30 {
            assert!(last_departure(&mut pacer, now) < INTERVAL / 4);
            now += INTERVAL;
        }
        // The stream has 28 Mbit/s on average, and begins at 113.
        let carried = Bitrate::from_mbps(60);
        report_overrun(&mut pacer, now, carried);
        let expected = DataSize::from_len(82 * LEN) / carried;
        let took = last_departure(&mut pacer, now);
        assert!(took.abs_diff(expected) < MS / 4, "{took:?}, not {expected:?}");
    }

    #[test]
    fn a_frame_always_leaves_within_its_interval() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..30 {
            last_departure(&mut pacer, now);
            now += INTERVAL;
        }
        report_overrun(&mut pacer, now, Bitrate::from_mbps(1));
        assert!(last_departure(&mut pacer, now) < INTERVAL.mul_f64(0.8));
    }

    #[test]
    fn the_speed_of_the_interface_bounds_the_pace() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        let speed = Bitrate::from_mbps(100);
        pacer.set_link_speed(now, Some(speed));
        for _ in 0..30 {
            let took = last_departure(&mut pacer, now);
            assert!(took + MS / 4 > DataSize::from_len(82 * LEN) / speed, "{took:?}");
            now += INTERVAL;
        }
    }

    #[test]
    fn a_slow_stream_is_not_slowed_further() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..30 {
            send_frame(&mut pacer, now, 98, Duration::ZERO);
            now += 1000 * MS;
        }
        let groups = send_frame(&mut pacer, now, 98, Duration::ZERO);
        assert!(groups.last().unwrap().0 <= 25 * MS);
    }

    #[test]
    fn jumbo_datagrams_shrink_the_group() {
        let now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        pacer.set_datagram_len(now, 8972);
        assert_eq!(pacer.poll(now, 98).datagrams, 2);
        pacer.set_datagram_len(now, 65_507);
        assert_eq!(pacer.poll(now + INTERVAL, 98).datagrams, 1);
    }

    /// Maximum queue in bytes at a next hop of `rate` bytes per second, fed by one frame.
    fn deepest_queue(groups: &[(Duration, usize)], rate: f64) -> f64 {
        let (mut queued, mut last, mut deepest) = (0.0_f64, Duration::ZERO, 0.0_f64);
        for &(at, datagrams) in groups {
            queued = (queued - at.saturating_sub(last).as_secs_f64() * rate).max(0.0);
            queued += (datagrams * LEN) as f64;
            (last, deepest) = (at, deepest.max(queued));
        }
        deepest
    }

    #[test]
    fn pacing_fits_a_100_mbit_switch_port_with_a_64_kb_queue() {
        let mut now = crate::clock::now();
        let mut pacer = Pacer::new(now, LEN);
        for _ in 0..10 {
            let groups = send_frame(&mut pacer, now, 98, 300 * MS / 1000);
            let queued = deepest_queue(&groups, 12.5e6);
            assert!(queued < 36_000.0, "{queued} bytes");
            now += INTERVAL;
        }
        assert!(deepest_queue(&[(Duration::ZERO, 98)], 12.5e6) > 100_000.0, "as one burst");
    }

    proptest! {
        #[test]
        fn polling_is_idempotent_and_every_wait_ends(
            steps in proptest::collection::vec((0_u64..5000, 0_usize..120, any::<bool>()), 1..200),
        ) {
            let mut now = crate::clock::now();
            let mut pacer = Pacer::new(now, LEN);
            for (us, waiting, begins) in steps {
                now += Duration::from_micros(us);
                if begins {
                    pacer.begin_frame(now, FrameId::default(), Some(waiting * LEN));
                }
                let asked = pacer.poll(now, waiting);
                prop_assert_eq!(asked, pacer.poll(now, waiting), "polling changes nothing");
                prop_assert!(asked.next.is_none_or(|at| at > now));
                prop_assert_eq!(asked.datagrams == 0 && waiting > 0, asked.next.is_some());
                if let Some(next) = asked.next {
                    prop_assert!(pacer.poll(next, waiting).datagrams > 0);
                }
                if asked.datagrams > 0 {
                    pacer.record_sent(now, DataSize::from_len(asked.datagrams * LEN));
                }
            }
        }
    }
}
