//! Receiver reports: records arrivals and, while frames arrive, makes a [`Report`] every 50 ms.
//!
//! Clocks that are not synchronized cannot measure one-way delay, but they can measure how it
//! changes. Delay and gradient use only the first datagram of each frame to arrive, since the
//! others queue behind it on any link; what persists from frame to frame is a queue. Jitter uses
//! all chunks. The gradient is the slope of a least-squares line through the smoothed delays of the
//! latest frames, as in WebRTC's trendline estimator. Carlucci et al., "Analysis and design of the
//! Google congestion control for web real-time communication" (`MMSys` 2016), and
//! draft-ietf-rmcat-gcc-02 §5.3 use a Kalman filter instead.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    frame::FrameId,
    time::MediaTime,
    windowed_max::WindowedMax,
    wire::report::{FrameCounts, Report, Train},
};

/// Collects what one receiver reports.
#[derive(Clone, Debug)]
pub struct ReportGenerator {
    zero: Option<Zero>,
    trend: Trend,
    /// The smallest delay of the frames that began since the last report, in µs relative to
    /// [`Zero`].
    least_delay: Option<i64>,
    /// The smallest delay of the frames that began in the last 30 to 60 s, in µs relative to
    /// [`Zero`].
    base_delay: WindowedMax<Reverse<i64>>,
    jitter: Jitter,
    bytes: u64,
    /// The length of the longest datagram since the last report.
    longest: usize,
    newest: Option<FrameId>,
    /// Start of the interval that the next report covers: the last report, or the first chunk.
    interval_start: Option<Instant>,
    has_reported: bool,
    due: Option<Instant>,
    chunks_since: bool,
}

/// The parts of a report that are measured elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The highest sequence number.
    pub highest_sequence: u64,
    /// Distinct datagrams received.
    pub received: u64,
    /// Datagrams lost between the first and the highest sequence number, without those that may
    /// still arrive.
    pub lost: u64,
    /// The most datagrams lost in one gap since the last report.
    pub largest_burst: u16,
    /// Counts of frames by outcome.
    pub frames: FrameCounts,
    /// Datagrams that the kernel dropped because the receive buffer was full. Wraps around.
    pub kernel_drops: u32,
    /// The newest train that ended since the last report.
    pub train: Option<Train>,
}

/// Both clocks at the first chunk. Delays are relative to it.
#[derive(Clone, Copy, Debug)]
struct Zero {
    arrival: Instant,
    sent: MediaTime,
}

impl ReportGenerator {
    /// Creates a generator that has seen no arrivals.
    pub fn new() -> Self {
        Self {
            zero: None,
            trend: Trend::default(),
            least_delay: None,
            base_delay: WindowedMax::new(BASE_DELAY_WINDOW),
            jitter: Jitter::default(),
            bytes: 0,
            longest: 0,
            newest: None,
            interval_start: None,
            has_reported: false,
            due: None,
            chunks_since: false,
        }
    }

    /// Records the arrival of a datagram of `len` bytes.
    pub fn handle_datagram(&mut self, len: usize) {
        self.bytes += len as u64;
        self.longest = self.longest.max(len);
    }

    /// Records a chunk of `frame`, sent at `sent` on the sender's clock, that arrived at `arrived`.
    pub fn handle_chunk(
        &mut self,
        now: Instant,
        arrived: Instant,
        frame: FrameId,
        sent: MediaTime,
    ) {
        let zero = *self.zero.get_or_insert(Zero { arrival: arrived, sent });
        let arrival = arrived.saturating_duration_since(zero.arrival).as_micros() as i64;
        let sent = sent.as_micros() as i64 - zero.sent.as_micros() as i64;
        self.jitter.record(arrival - sent);
        if self.newest.is_none_or(|newest| newest.is_before(frame)) {
            self.newest = Some(frame);
            self.begin_frame(now, arrival, arrival - sent);
        }
        self.chunks_since = true;
        let interval = if self.interval_start.is_none() { FIRST_REPORT } else { REPORT_INTERVAL };
        self.due.get_or_insert(now + interval);
        self.interval_start.get_or_insert(now);
    }

    /// When [`poll_report`](Self::poll_report) is due; `None` while no frames arrive.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The report due by `now`, if any. There is none unless a chunk has arrived since the last
    /// one. `counts` is called only for a report.
    pub fn poll_report(&mut self, now: Instant, counts: impl FnOnce() -> Counts) -> Option<Report> {
        self.due.filter(|&due| due <= now)?;
        self.due = None;
        if !std::mem::take(&mut self.chunks_since) {
            return None;
        }
        let was_first = !std::mem::replace(&mut self.has_reported, true);
        let interval = if was_first { SECOND_REPORT } else { REPORT_INTERVAL };
        self.due = Some(now + interval);
        let counts = counts();
        let interval = self.interval_start.replace(now).map_or(Duration::ZERO, |r| now - r);
        Some(Report {
            highest_sequence: counts.highest_sequence,
            largest_burst: counts.largest_burst,
            received: counts.received,
            interval,
            lost: counts.lost,
            longest_datagram: std::mem::take(&mut self.longest) as u16,
            received_bytes: self.bytes,
            newest_frame: self.newest.unwrap_or_default(),
            frames: counts.frames,
            kernel_drops: counts.kernel_drops,
            queueing_delay: self.queueing_delay(now),
            delay_gradient: self.trend.gradient(),
            jitter: Duration::from_micros(self.jitter.mean as u64),
            train: counts.train,
        })
    }

    /// The delay of the fastest frame since the last report, above the smallest of the last 30 to
    /// 60 s.
    fn queueing_delay(&mut self, now: Instant) -> Option<Duration> {
        let delay = self.least_delay.take()?;
        let least = self.base_delay.max(now).map_or(delay, |least| least.0);
        Some(Duration::from_micros(delay.saturating_sub(least).max(0) as u64))
    }

    fn begin_frame(&mut self, now: Instant, arrival: i64, delay: i64) {
        self.base_delay.record(now, Reverse(delay));
        self.least_delay = Some(self.least_delay.map_or(delay, |least| least.min(delay)));
        self.trend.record(arrival, delay);
    }
}

/// The slope of the delay over time.
#[derive(Clone, Debug, Default)]
struct Trend {
    /// Arrival and smoothed delay of the latest frames, in µs.
    points: VecDeque<(f64, f64)>,
}

impl Trend {
    fn record(&mut self, arrival: i64, delay: i64) {
        let (arrival, delay) = (arrival as f64, delay as f64);
        let smoothed = match self.points.back() {
            Some((_, last)) => last + (delay - last) * SMOOTHING,
            None => delay,
        };
        if self.points.len() == TREND_FRAMES {
            self.points.pop_front();
        }
        self.points.push_back((arrival, smoothed));
    }

    /// The least-squares slope, in µs per second; 0 if there are too few frames, or if all arrived
    /// at the same time.
    fn gradient(&self) -> i32 {
        if self.points.len() < MIN_TREND_FRAMES {
            return 0;
        }
        let count = self.points.len() as f64;
        let mean_x = self.points.iter().map(|p| p.0).sum::<f64>() / count;
        let mean_y = self.points.iter().map(|p| p.1).sum::<f64>() / count;
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (x, y) in &self.points {
            covariance += (x - mean_x) * (y - mean_y);
            variance += (x - mean_x) * (x - mean_x);
        }
        if variance > 0.0 { (covariance / variance * 1e6) as i32 } else { 0 }
    }
}

/// Interarrival jitter, RFC 3550 §6.4.1, in µs.
#[derive(Clone, Copy, Debug, Default)]
struct Jitter {
    last_transit: Option<i64>,
    mean: f64,
}

impl Jitter {
    fn record(&mut self, transit: i64) {
        if let Some(last) = self.last_transit.replace(transit) {
            self.mean += ((transit - last).abs() as f64 - self.mean) / 16.0;
        }
    }
}

impl Default for ReportGenerator {
    fn default() -> Self {
        Self::new()
    }
}

/// Time between two reports while frames arrive.
pub const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// Time from the first chunk to the first report. It is short, so that the sender soon knows
/// whether the path carries the first frame. On a short path that is before the second frame.
const FIRST_REPORT: Duration = Duration::from_millis(10);

/// Time from the first report to the second, which is due as if the first had not been sent.
const SECOND_REPORT: Duration = Duration::from_millis(40);

/// Frames in the fitted line: two thirds of a second at 30 frames per second.
const TREND_FRAMES: usize = 20;

/// With fewer frames, the slope has no meaning.
const MIN_TREND_FRAMES: usize = 5;

/// The weight of a new frame's delay in the smoothed one.
const SMOOTHING: f64 = 0.5;

/// The minimum time for which the smallest delay is kept; the maximum is twice that. In 30 s, two
/// clocks with errors of 20 ppm drift up to 1.2 ms apart. A queue that stands for longer than the
/// delay is kept counts as part of the path.
const BASE_DELAY_WINDOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Reports on frames of four chunks, 1 ms apart, every 33 ms; `delay(i)` is frame i's one-way
    /// delay in µs.
    fn reports(frames: u32, delay: impl Fn(u32) -> i64) -> Vec<(Instant, Report)> {
        let start = crate::clock::now();
        let (mut feedback, mut reports) = (ReportGenerator::new(), Vec::new());
        for i in 0..frames {
            for chunk in 0..4 {
                let sent = u64::from(i) * 33_000 + chunk * 1000;
                let at = start + Duration::from_micros((sent as i64 + delay(i)) as u64);
                while let Some(due) = feedback.poll_timeout().filter(|&due| due <= at) {
                    let counts = Counts { received: u64::from(i) * 4, ..Counts::default() };
                    reports.extend(feedback.poll_report(due, || counts).map(|r| (due, r)));
                }
                feedback.handle_datagram(1200);
                feedback.handle_chunk(at, at, FrameId(i), MediaTime::from_micros(1_000_000 + sent));
            }
        }
        reports
    }

    #[test]
    fn reports_are_sent_every_50_ms_while_frames_arrive() {
        let reports = reports(30, |_| 700);
        assert_eq!(reports.len(), 20);
        assert_eq!(reports[0].1.interval, FIRST_REPORT);
        assert_eq!(reports[1].1.interval, SECOND_REPORT);
        for pair in reports[1..].windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, REPORT_INTERVAL);
            assert_eq!(pair[1].1.interval, REPORT_INTERVAL);
            assert!(pair[1].1.received_bytes > pair[0].1.received_bytes);
        }
        assert_eq!(reports[19].1.newest_frame, FrameId(28));
        assert_eq!(reports[19].1.jitter, Duration::ZERO);
    }

    #[test]
    fn no_reports_are_sent_without_frames() {
        let (t, mut feedback) = (crate::clock::now(), ReportGenerator::new());
        assert_eq!(feedback.poll_timeout(), None);
        feedback.handle_chunk(t, t, FrameId(3), MediaTime::default());
        assert_eq!(feedback.poll_report(t, || unreachable!("not due")), None);
        assert!(feedback.poll_report(t + 10 * MS, Counts::default).is_some());
        assert_eq!(feedback.poll_report(t + 50 * MS, Counts::default), None);
        assert_eq!(feedback.poll_timeout(), None);
        feedback.handle_chunk(t + 900 * MS, t + 900 * MS, FrameId(4), MediaTime::default());
        assert_eq!(feedback.poll_timeout(), Some(t + 950 * MS));
    }

    #[test]
    fn a_constant_delay_has_no_gradient_despite_clock_offset() {
        for (_, report) in reports(60, |_| 123_456) {
            assert_eq!(report.delay_gradient, 0);
            assert!(report.queueing_delay.is_none_or(|d| d.is_zero()));
        }
    }

    #[test]
    fn a_growing_queue_yields_its_gradient_and_delay() {
        // 500 µs more with each frame of 33 ms: 15,152 µs per second of sending. Arrivals are 33.5
        // ms apart, so 14,925 µs per second of arrival time.
        let all = reports(60, |i| 2000 + i64::from(i) * 500);
        let (_, last) = all.last().unwrap();
        assert!((14_000..15_500).contains(&last.delay_gradient), "{}", last.delay_gradient);
        let queue = last.queueing_delay.unwrap();
        assert!((25 * MS..30 * MS).contains(&queue), "{queue:?}");
        let falling = reports(60, |i| 40_000 - i64::from(i) * 500);
        assert!(falling.last().unwrap().1.delay_gradient < -14_000);
    }

    #[test]
    fn delay_noise_of_2_ms_yields_a_small_gradient() {
        let noise = |i: u32| 5000 + i64::from(i.wrapping_mul(2_654_435_761) >> 16) % 2000;
        for (_, report) in reports(300, noise).iter().skip(20) {
            assert!(report.delay_gradient.abs() < 4000, "{}", report.delay_gradient);
            assert!(report.queueing_delay.is_none_or(|d| d <= 2 * MS));
        }
    }

    #[test]
    fn self_queueing_within_a_frame_is_not_queueing_delay() {
        // Each chunk is 10 ms later than the one before, as on a slow link, but each frame finds
        // the queue empty.
        let start = crate::clock::now();
        let mut feedback = ReportGenerator::new();
        for i in 0..40_u64 {
            for chunk in 0..4 {
                let sent = Duration::from_millis(i * 50);
                let at = start + sent + Duration::from_millis(5 + chunk * 10);
                let sent = MediaTime::from_micros(sent.as_micros() as u64);
                feedback.handle_chunk(at, at, FrameId(i as u32), sent);
            }
        }
        let report = feedback.poll_report(start + 2100 * MS, Counts::default).unwrap();
        assert_eq!((report.queueing_delay, report.delay_gradient), (Some(Duration::ZERO), 0));
    }

    #[test]
    fn jitter_follows_the_mean_transit_difference() {
        let all = reports(300, |i| if i % 2 == 0 { 1000 } else { 5000 });
        let jitter = all.last().unwrap().1.jitter;
        assert!((600..1600).contains(&jitter.as_micros()), "{jitter:?}");
    }
}
