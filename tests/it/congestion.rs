//! `--quality auto` on a model of a path, in virtual time, over narrow and changing links.
//!
//! Each stream encodes a frame of noisy size every 33.3 ms according to its plan and paces it onto
//! a link with a rate, a delay and a queue of limited bytes. While anything arrives, so does
//! feedback every 50 ms. The model's JPEG sizes follow a different curve from the one that the
//! quality control assumes.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use udpchat::{
    net::{
        congestion::{
            pacer::Pacer,
            rate::{Feedback, RateController, RateLimits},
        },
        frame::FrameId,
        units::{Bitrate, DataSize},
    },
    stream::quality::{EncodingPlan, QualityControl, QualityLimits},
};

const MS: Duration = Duration::from_millis(1);
const SEEDS: std::ops::RangeInclusive<u64> = 1..=4;
const DATAGRAM: usize = 1200;
const REPORT: Duration = Duration::from_millis(50);
const FRAME: Duration = Duration::from_micros(33_333);
/// Time to encode and decode a frame.
pub(crate) const CODEC: Duration = Duration::from_millis(4);

const LIMITS: RateLimits = RateLimits {
    min: Bitrate::from_kbps(500),
    max: Bitrate::from_mbps(60),
    start: Bitrate::from_mbps(30),
};
pub(crate) const QUALITY: QualityLimits =
    QualityLimits { min_quality: 10, max_quality: 80, min_millifps: 10_000, max_size_divisor: 4 };

/// A link behind a drop-tail queue.
struct Link {
    rate: f64,
    delay: Duration,
    queue: f64,
    loss: f64,
    busy_until: Instant,
}

impl Link {
    /// When a datagram enqueued at `now` arrives; `None` if the queue is full or the link is down.
    fn pass(&mut self, now: Instant) -> Option<Instant> {
        if self.rate == 0.0 {
            return None;
        }
        let waiting = self.busy_until.saturating_duration_since(now).as_secs_f64();
        if waiting * self.rate / 8.0 > self.queue {
            return None;
        }
        let takes = Duration::from_secs_f64(DATAGRAM as f64 * 8.0 / self.rate);
        self.busy_until = self.busy_until.max(now) + takes;
        Some(self.busy_until + self.delay)
    }
}

#[derive(Clone, Copy)]
struct Arrival {
    sent: Instant,
    at: Instant,
    /// Whether it is the first of its frame that was not lost.
    is_first: bool,
}

struct Frame {
    captured: Instant,
    left: usize,
    has_begun: bool,
    arrived_whole: bool,
    done: Instant,
}

/// The outcome of one frame.
#[derive(Clone, Copy)]
struct Outcome {
    captured: Instant,
    /// From capture to decoded; `None` for an incomplete frame.
    end_to_end: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    target: f64,
    plan: EncodingPlan,
}

struct Stream {
    rate: RateController,
    quality: QualityControl,
    pacer: Pacer,
    next_capture: Instant,
    captured: u32,
    frame: Option<Frame>,
    arrivals: Vec<Arrival>,
    sent: usize,
    lost: usize,
    next_report: Instant,
    least_delay: Duration,
    last_queue: Duration,
    reports: Vec<(Instant, Feedback)>,
    frames: Vec<Outcome>,
    samples: Vec<Sample>,
    received: Vec<(Instant, usize)>,
}

impl Stream {
    fn new(now: Instant, start: Bitrate) -> Self {
        Self {
            rate: RateController::new(now, RateLimits { start, ..LIMITS }),
            quality: QualityControl::new(QUALITY),
            pacer: Pacer::new(now, DATAGRAM),
            next_capture: now,
            captured: 0,
            frame: None,
            arrivals: Vec::new(),
            sent: 0,
            lost: 0,
            next_report: now + REPORT,
            least_delay: Duration::MAX,
            last_queue: Duration::ZERO,
            reports: Vec::new(),
            frames: Vec::new(),
            samples: Vec::new(),
            received: Vec::new(),
        }
    }

    fn step(&mut self, now: Instant, link: &mut Link, rng: &mut Pcg64Mcg) {
        self.receive(now);
        self.rate.handle_timeout(now);
        if now >= self.next_capture {
            self.next_capture += FRAME;
            self.capture(now, rng);
        }
        self.send(now, link, rng);
        if now >= self.next_report {
            self.report(now, link.delay);
        }
    }

    fn capture(&mut self, now: Instant, rng: &mut Pcg64Mcg) {
        let plan = self.quality.fit(self.rate.target(), 30_000);
        self.captured += 1;
        self.samples.push(Sample { at: now, target: self.rate.target().bps() as f64, plan });
        if !self.captured.is_multiple_of(plan.frame_divisor) || self.frame.is_some() {
            return;
        }
        let len = jpeg_len(plan, rng);
        self.quality.record_frame(plan, len);
        self.rate.record_sent(now);
        self.pacer.begin_frame(now, FrameId::default(), Some(len));
        self.frame = Some(Frame {
            captured: now,
            left: len.div_ceil(DATAGRAM),
            has_begun: false,
            arrived_whole: true,
            done: now,
        });
    }

    fn send(&mut self, now: Instant, link: &mut Link, rng: &mut Pcg64Mcg) {
        let Some(frame) = &mut self.frame else { return };
        for _ in 0..self.pacer.poll(now, frame.left).datagrams {
            self.pacer.record_sent(now, DataSize::from_len(DATAGRAM));
            frame.left -= 1;
            self.sent += 1;
            if rng.random::<f64>() < link.loss {
                // Random loss: the model assumes that parity recovers the frame.
                self.lost += 1;
            } else if let Some(at) = link.pass(now) {
                self.arrivals.push(Arrival { sent: now, at, is_first: !frame.has_begun });
                frame.has_begun = true;
                frame.done = frame.done.max(at);
            } else {
                frame.arrived_whole = false;
                self.lost += 1;
            }
        }
        if frame.left == 0 {
            let end_to_end = frame.arrived_whole.then(|| frame.done - frame.captured + CODEC);
            self.frames.push(Outcome { captured: frame.captured, end_to_end });
            self.frame = None;
        }
    }

    /// The receiver's report. There is none if nothing has arrived.
    fn report(&mut self, now: Instant, way_back: Duration) {
        self.next_report += REPORT;
        let (arrived, in_flight): (Vec<_>, Vec<_>) =
            self.arrivals.iter().partition(|a| a.at <= now);
        self.arrivals = in_flight;
        if arrived.is_empty() {
            return;
        }
        let delay = arrived.iter().filter(|a| a.is_first).map(|a| a.at - a.sent).min();
        self.least_delay = self.least_delay.min(delay.unwrap_or(Duration::MAX));
        let queue = delay.map(|d| d - self.least_delay);
        let now_queued = queue.unwrap_or(self.last_queue);
        let change = now_queued.as_secs_f64() - self.last_queue.as_secs_f64();
        self.last_queue = now_queued;
        let received = arrived.len() * DATAGRAM;
        self.received.push((now, received));
        let loss_ratio = self.lost as f64 / (arrived.len() + self.lost) as f64;
        self.lost = 0;
        let feedback = Feedback {
            loss_ratio,
            queueing_delay: queue,
            probed_delay: None,
            delay_gradient: change / REPORT.as_secs_f64(),
            received: DataSize::from_len(received),
            interval: REPORT,
        };
        self.reports.push((now + way_back, feedback));
    }

    fn receive(&mut self, now: Instant) {
        while self.reports.first().is_some_and(|r| r.0 <= now) {
            let (_, feedback) = self.reports.remove(0);
            self.rate.handle_feedback(now, &feedback);
        }
    }

    /// The p95 end-to-end time of the shown frames captured in `from..to`, and the shown ratio.
    fn shown(&self, from: Instant, to: Instant) -> (Duration, f64) {
        let sent: Vec<_> =
            self.frames.iter().filter(|f| (from..to).contains(&f.captured)).collect();
        let mut times: Vec<_> = sent.iter().filter_map(|f| f.end_to_end).collect();
        times.sort();
        (times[times.len() * 95 / 100], times.len() as f64 / sent.len() as f64)
    }

    fn over<T>(&self, from: Instant, to: Instant, of: impl Fn(&Sample) -> T) -> Vec<T> {
        self.samples.iter().filter(|s| (from..to).contains(&s.at)).map(of).collect()
    }

    fn goodput(&self, from: Instant, to: Instant) -> f64 {
        let bytes: usize =
            self.received.iter().filter(|r| (from..to).contains(&r.0)).map(|r| r.1).sum();
        bytes as f64 * 8.0 / (to - from).as_secs_f64()
    }
}

/// The length of a 720p frame: about 117 KB at quality 80 and full size, ±10 %.
pub(crate) fn jpeg_len(plan: EncodingPlan, rng: &mut Pcg64Mcg) -> usize {
    let quality = f64::from(plan.quality);
    let scale = if quality < 50.0 { 50.0 / quality } else { 2.0 - quality / 50.0 };
    let pixels = 1.0 / f64::from(plan.size_divisor * plan.size_divisor);
    let noise = 0.9 + 0.2 * rng.random::<f64>();
    (700.0 + 116_000.0 * (scale / 0.4).powf(-0.72) * pixels.powf(0.8) * noise) as usize
}

/// Runs `streams` on one link. Each starts at its time of `begins`, in ms. `rate` gives the link's
/// rate in bit/s by the time since the start.
fn run(
    start: Instant,
    streams: &mut [Stream],
    begins: &[u32],
    seconds: u32,
    seed: u64,
    link: &mut Link,
    rate: impl Fn(Duration) -> f64,
) {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    for ms in 0..seconds * 1000 {
        let now = start + ms * MS;
        link.rate = rate(now - start);
        for (stream, begin) in streams.iter_mut().zip(begins) {
            if ms >= *begin {
                stream.step(now, link, &mut rng);
            }
        }
    }
}

fn link(start: Instant, queue: f64) -> Link {
    Link { rate: 0.0, delay: 2 * MS, queue, loss: 0.0, busy_until: start }
}

/// The mean of `values`, and the smallest and the largest as shares of it.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    (mean, least / mean, most / mean)
}

#[test]
fn a_link_narrows_from_100_to_10_mbit_and_widens_again() {
    for (queue, loss) in [(125e3, 0.0), (1e6, 0.0), (60e3, 0.0), (125e3, 0.02)] {
        for seed in SEEDS {
            narrows(queue, loss, seed);
        }
    }
}

/// 10 s at 100 Mbit/s, 30 s at 10 Mbit/s, 30 s at 100 Mbit/s.
fn narrows(queue: f64, loss: f64, seed: u64) {
    let start = udpchat::clock::now();
    let at = |s: u32| start + s * 1000 * MS;
    let mut streams = [Stream::new(start, LIMITS.start)];
    let mut link = Link { loss, ..link(start, queue) };
    let narrow = Duration::from_secs(10)..Duration::from_secs(40);
    run(start, &mut streams, &[0], 70, seed, &mut link, |t| {
        if narrow.contains(&t) { 10e6 } else { 100e6 }
    });
    let stream = &streams[0];
    let row = format!("queue {queue} bytes, loss {loss}, seed {seed}");

    let (p95, shown) = stream.shown(at(12), at(40));
    assert!(p95 <= 80 * MS && shown >= 0.95, "{row}: p95 {p95:?}, {shown} shown");
    assert!(stream.goodput(at(12), at(40)) > 0.93 * 10e6, "{row}: the link is used");
    let (_, least, most) = spread(&stream.over(at(15), at(40), |s| s.target));
    assert!(least > 0.9 && most < 1.12, "{row}: target {least} to {most} of its mean");
    let (_, least, most) = spread(&stream.over(at(15), at(40), |s| f64::from(s.plan.quality)));
    assert!(least > 0.85 && most < 1.2, "{row}: quality {least} to {most} of its mean");
    let steps = stream.over(at(12), at(40), |s| (s.plan.frame_divisor, s.plan.size_divisor));
    assert!(steps.iter().all(|&s| s == (1, 1)), "{row}: quality was enough");

    let former = spread(&stream.over(at(5), at(10), |s| f64::from(s.plan.quality))).0;
    let is_good = |s: &&Sample| s.at >= at(40) && f64::from(s.plan.quality) >= 0.8 * former;
    let back = stream.samples.iter().find(is_good).map(|s| s.at - at(40));
    assert!(back.is_some_and(|b| b <= 15_000 * MS), "{row}: back after {back:?}");
}

#[test]
fn two_streams_share_20_mbit_fairly() {
    for seed in SEEDS {
        // Both start at once, or the second starts later at a high or a low rate.
        for (begins, rate) in [(0, 30), (10_000, 30), (10_000, 2)] {
            let start = udpchat::clock::now();
            let at = |s: u32| start + s * 1000 * MS;
            let second = Stream::new(start, Bitrate::from_mbps(rate));
            let mut streams = [Stream::new(start, LIMITS.start), second];
            let mut link = link(start, 250e3);
            run(start, &mut streams, &[0, begins], 70, seed, &mut link, |_| 20e6);
            let from = if begins == 0 { 10 } else { 40 };
            let [one, two] = [&streams[0], &streams[1]].map(|s| s.goodput(at(from), at(70)));
            let row = format!("second after {begins} ms with {rate} Mbit/s, seed {seed}");
            let share = one / (one + two);
            assert!((0.35..=0.65).contains(&share), "{row}: {share}");
            assert!(one + two > 0.93 * 20e6, "{row}: the link is used");
            for stream in &streams {
                let (p95, shown) = stream.shown(at(from), at(70));
                assert!(p95 <= 80 * MS && shown >= 0.95, "{row}: p95 {p95:?}, {shown} shown");
            }
        }
    }
}

#[test]
fn the_picture_returns_within_300_ms_after_a_10_s_blackout() {
    for seed in SEEDS {
        let start = udpchat::clock::now();
        let at = |s: u32| start + s * 1000 * MS;
        let mut streams = [Stream::new(start, LIMITS.start)];
        let mut link = link(start, 250e3);
        let dark = Duration::from_secs(10)..Duration::from_secs(20);
        run(start, &mut streams, &[0], 40, seed, &mut link, |t| {
            if dark.contains(&t) { 0.0 } else { 20e6 }
        });
        let stream = &streams[0];
        let is_back = |f: &&Outcome| f.captured >= at(19) && f.end_to_end.is_some();
        let back = stream.frames.iter().find(is_back).unwrap();
        let after = back.captured + back.end_to_end.unwrap() - at(20);
        assert!(after <= 300 * MS, "seed {seed}: {after:?}");
        let (p95, shown) = stream.shown(at(20), at(25));
        assert!(p95 <= 80 * MS && shown >= 0.95, "seed {seed}: p95 {p95:?}, {shown} shown");
        let former = spread(&stream.over(at(5), at(10), |s| s.target)).0;
        let again = stream.over(at(25), at(40), |s| s.target / former);
        assert!(again.iter().all(|&share| share > 0.8), "seed {seed}: {:?}", spread(&again));
    }
}
