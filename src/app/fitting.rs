//! Adapts pictures to the path's bitrate: implements `--quality auto`.

use std::time::{Duration, Instant};

use crate::{
    cli::Quality,
    net::{
        quality::{EncodingPlan, FrameSkip, PictureBitrates, QualityControl, QualityLimits},
        wire::control::StreamParams,
    },
};

/// Decides how to encode each picture, from the path's bitrate.
#[derive(Debug)]
pub(super) struct Fitting {
    rule: Rule,
    pace: Pace,
    /// Pictures skipped since the last one encoded.
    left_out: u32,
    skip: FrameSkip,
}

#[derive(Debug)]
enum Rule {
    /// A fixed quality chosen by the user.
    Fixed(EncodingPlan),
    Auto(QualityControl),
}

/// The measured rate of pictures. A camera slows down in the dark, and some sources announce no
/// rate.
#[derive(Debug)]
struct Pace {
    last: Option<Instant>,
    /// Smoothed, in seconds.
    interval: f64,
}

/// The stream parameters announced to the peer, and when to announce new ones.
#[derive(Debug)]
pub(super) struct Announcement {
    told: StreamParams,
    untrue_since: Option<Instant>,
}

impl Fitting {
    /// For a source with the parameters `stream`.
    pub(super) fn new(quality: Quality, stream: &StreamParams) -> Self {
        let rule = match quality {
            Quality::Fixed(quality) => {
                Rule::Fixed(EncodingPlan { quality, frame_divisor: 1, size_divisor: 1 })
            }
            Quality::Auto => Rule::Auto(QualityControl::new(QualityLimits {
                min_quality: LOWEST_AUTO_QUALITY,
                max_quality: quality.highest(),
                least_millifps: LEAST_MILLIFPS,
                max_size_divisor: max_size_divisor(stream.width.min(stream.height)),
            })),
        };
        let interval = 1000.0 / f64::from(stream.millifps.max(1));
        let pace = Pace { last: None, interval };
        Self { rule, pace, left_out: u32::MAX, skip: FrameSkip::default() }
    }

    /// The plan for the next picture within `bitrates`; `None`: skip it.
    pub(super) fn plan(
        &mut self,
        captured: Instant,
        bitrates: PictureBitrates,
    ) -> Option<EncodingPlan> {
        self.pace.note(captured);
        let (bitrate, millifps) = (self.bitrate(bitrates), self.pace.millifps());
        let plan = match &mut self.rule {
            Rule::Fixed(plan) => return self.skip.admit(bitrate, millifps).then_some(*plan),
            Rule::Auto(control) => control.fit(bitrate, millifps),
        };
        self.left_out = self.left_out.saturating_add(1);
        if self.left_out < plan.frame_divisor {
            return None;
        }
        self.left_out = 0;
        Some(plan)
    }

    /// Records that a picture encoded by `plan` gave a frame of `len` bytes.
    pub(super) fn record(&mut self, plan: EncodingPlan, len: usize) {
        match &mut self.rule {
            Rule::Fixed(_) => self.skip.record_frame(len),
            Rule::Auto(control) => control.record_frame(plan, len),
        }
    }

    /// Whether to send a passed-through frame of `len` bytes.
    pub(super) fn admits(
        &mut self,
        captured: Instant,
        len: usize,
        bitrates: PictureBitrates,
    ) -> bool {
        self.pace.note(captured);
        self.skip.record_frame(len);
        self.skip.admit(self.bitrate(bitrates), self.pace.millifps())
    }

    /// In bit/s. A fixed quality ignores the estimate of a path that has carried everything so far,
    /// but pictures are skipped rather than queued where they would be lost.
    fn bitrate(&self, PictureBitrates { path, bound, limit }: PictureBitrates) -> u64 {
        let bitrate = match self.rule {
            Rule::Fixed(_) => bound.into_iter().chain(limit).min(),
            Rule::Auto(_) => path.or(limit),
        };
        bitrate.unwrap_or(u64::MAX)
    }
}

impl Pace {
    fn note(&mut self, captured: Instant) {
        if let Some(last) = self.last.replace(captured) {
            let interval = captured.saturating_duration_since(last).as_secs_f64();
            let interval = interval.min(HELD_UP * self.interval.max(SHORTEST_INTERVAL));
            self.interval += PACE_WEIGHT * (interval - self.interval);
        }
    }

    fn millifps(&self) -> u32 {
        (1000.0 / self.interval.max(SHORTEST_INTERVAL)).round() as u32
    }
}

impl Announcement {
    /// The peer already knows `told`.
    pub(super) fn new(told: StreamParams) -> Self {
        Self { told, untrue_since: None }
    }

    /// Records that a frame of `stream` was made. Returns the parameters to announce if the
    /// announced ones have been wrong for [`ANNOUNCE_AFTER`], so at most once in that time.
    pub(super) fn note(&mut self, now: Instant, stream: StreamParams) -> Option<StreamParams> {
        if !is_news(&self.told, &stream) {
            self.untrue_since = None;
            return None;
        }
        let since = *self.untrue_since.get_or_insert(now);
        if now.saturating_duration_since(since) < ANNOUNCE_AFTER {
            return None;
        }
        (self.told, self.untrue_since) = (stream, None);
        Some(stream)
    }
}

/// Whether `stream` differs enough from `told` to announce it.
fn is_news(told: &StreamParams, stream: &StreamParams) -> bool {
    let quality = |stream: &StreamParams| i32::from(stream.quality.unwrap_or_default());
    let same = StreamParams { quality: told.quality, ..*stream };
    same != *told || (quality(told) - quality(stream)).abs() >= TOLD_QUALITY_STEP
}

/// The largest size divisor for a picture with this shorter side.
fn max_size_divisor(shorter_side: u16) -> u32 {
    let mut divisor = MAX_SIZE_DIVISOR;
    while divisor > 1 && u32::from(shorter_side) / divisor < LEAST_SIDE {
        divisor /= 2;
    }
    divisor
}

/// Below this, blocking and ringing hide facial features; fewer or smaller pictures are better.
const LOWEST_AUTO_QUALITY: u8 = 30;

/// The lowest rate, in frames per 1000 s, used when even the smallest picture exceeds the bitrate.
const LEAST_MILLIFPS: u32 = 1000;

/// 720p becomes 320x180, at which a face can still be recognised.
const MAX_SIZE_DIVISOR: u32 = 4;

/// The smallest shorter side, in pixels. Below it faces cannot be recognised and hardly a byte is
/// saved.
const LEAST_SIDE: u32 = 120;

/// The weight of the newest picture interval, an average over some thirty. A camera's intervals
/// vary by a tenth, and the quality should not follow.
const PACE_WEIGHT: f64 = 0.03;

/// A longer interval is limited to this many smoothed intervals, as the picture was delayed.
/// Otherwise one pause of 0.3 s would let each picture be a quarter larger.
const HELD_UP: f64 = 2.0;
const SHORTEST_INTERVAL: f64 = 1e-4;

/// The peer shows the announced parameters and writes them into a recording's header, so short dips
/// are not announced.
const ANNOUNCE_AFTER: Duration = Duration::from_secs(1);

/// The smallest visible difference in quality.
const TOLD_QUALITY_STEP: i32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const STREAM: StreamParams =
        StreamParams { width: 1280, height: 720, millifps: 30_000, quality: Some(80) };
    const INTERVAL: Duration = Duration::from_nanos(33_333_333);

    /// Feeds `count` pictures of 117 kB at quality 80, proportional to the quality and to the area.
    /// Returns the last plan, the number of frames made and their bytes.
    fn feed(fitting: &mut Fitting, path: Option<u64>, count: u32) -> (EncodingPlan, u32, f64) {
        feed_within(fitting, PictureBitrates { path, ..PictureBitrates::default() }, count)
    }

    fn feed_within(
        fitting: &mut Fitting,
        bitrates: PictureBitrates,
        count: u32,
    ) -> (EncodingPlan, u32, f64) {
        let began = clock::now();
        let (mut last, mut made, mut bytes) = (None, 0, 0.0);
        for i in 0..count {
            let Some(plan) = fitting.plan(began + INTERVAL * i, bitrates) else { continue };
            let len = 117e3 * f64::from(plan.quality) / 80.0 / f64::from(plan.size_divisor).powi(2);
            fitting.record(plan, len as usize);
            (last, made, bytes) = (Some(plan), made + 1, bytes + len);
        }
        (last.expect("the first picture is never left out"), made, bytes)
    }

    #[test]
    fn a_fixed_quality_stays_whatever_the_path_bears() {
        let mut fitting = Fitting::new(Quality::Fixed(60), &STREAM);
        let (plan, made, _) = feed(&mut fitting, Some(1000), 90);
        assert_eq!(plan, EncodingPlan { quality: 60, frame_divisor: 1, size_divisor: 1 });
        assert_eq!(made, 90);
        let now = clock::now();
        let narrow = PictureBitrates { path: Some(1000), ..PictureBitrates::default() };
        assert!((0..90).all(|_| fitting.admits(now, 1 << 20, narrow)));
    }

    #[test]
    fn a_fixed_quality_leaves_pictures_out_once_the_path_is_overrun() {
        let overrun = PictureBitrates { bound: Some(7_000_000), ..PictureBitrates::default() };
        let mut fitting = Fitting::new(Quality::Fixed(80), &STREAM);
        let (plan, made, _) = feed_within(&mut fitting, overrun, 300);
        assert_eq!(plan, EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 });
        assert!((74..=77).contains(&made), "{made}");
    }

    #[test]
    fn a_limit_holds_for_a_fixed_quality_too_and_leaves_out_evenly() {
        let bitrates = PictureBitrates { limit: Some(7_000_000), ..PictureBitrates::default() };
        let mut fitting = Fitting::new(Quality::Fixed(80), &STREAM);
        let (plan, made, bytes) = feed_within(&mut fitting, bitrates, 300);
        assert_eq!(plan, EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 });
        assert!((74..=77).contains(&made) && bytes * 8.0 / 10.0 < 7_200_000.0, "{made}: {bytes}");
        let mut fitting = Fitting::new(Quality::Fixed(80), &STREAM);
        let began = clock::now();
        let admits = |&i: &u32| fitting.admits(began + INTERVAL * i, 117_000, bitrates);
        assert!((74..=77).contains(&(0..300).filter(admits).count()));
    }

    #[test]
    fn without_a_bitrate_auto_is_the_highest_quality_and_becomes_it_again() {
        let best = EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 };
        let mut fitting = Fitting::new(Quality::Auto, &STREAM);
        assert_eq!(feed(&mut fitting, None, 90).0, best);
        let (narrow, made, _) = feed(&mut fitting, Some(250_000), 300);
        assert!(narrow.quality < 80 && made < 300, "{narrow:?}");
        assert_eq!(feed(&mut fitting, None, 90).0, best);
    }

    #[test]
    fn auto_keeps_to_what_the_path_bears_and_leaves_out_evenly() {
        for (bps, divisor) in [(20_000_000, 1), (8_000_000, 1), (600_000, 2), (250_000, 4)] {
            let mut fitting = Fitting::new(Quality::Auto, &STREAM);
            feed(&mut fitting, Some(bps), 300);
            let (plan, made, bytes) = feed(&mut fitting, Some(bps), 300);
            assert_eq!((plan.frame_divisor, made), (divisor, 300 / divisor), "{plan:?} at {bps}");
            assert!(bytes * 8.0 / 10.0 <= bps as f64 * 1.03, "{plan:?} makes {bytes} at {bps}");
            assert!(plan.quality >= LOWEST_AUTO_QUALITY);
        }
    }

    #[test]
    fn the_rate_is_that_of_the_pictures_and_not_what_was_said() {
        let mut fitting = Fitting::new(Quality::Auto, &STREAM);
        let began = clock::now();
        (0..300).for_each(|i| fitting.pace.note(began + 4 * INTERVAL * i));
        assert!(fitting.pace.millifps().abs_diff(7_500) < 20, "{}", fitting.pace.millifps());
        fitting.pace.note(began + Duration::from_secs(9999));
        assert!(fitting.pace.millifps() > 7_200, "a pause is one interval of many");
        (0..300).for_each(|_| fitting.pace.note(began));
        assert!(fitting.pace.millifps() < 10_000_001, "clocks may stand still");
    }

    #[test]
    fn small_pictures_are_not_made_smaller() {
        let sizes = [(1080, 4), (480, 4), (479, 2), (240, 2), (239, 1), (16, 1), (0, 1)];
        for (side, divisor) in sizes {
            assert_eq!(max_size_divisor(side), divisor, "{side}");
        }
    }

    #[test]
    fn what_is_passed_through_is_skipped_to_fit() {
        let mut fitting = Fitting::new(Quality::Auto, &STREAM);
        let began = clock::now();
        let mut admitted = |path| {
            let bitrates = PictureBitrates { path, ..PictureBitrates::default() };
            (0..300).filter(|&i| fitting.admits(began + INTERVAL * i, 116_667, bitrates)).count()
        };
        assert_eq!(admitted(None), 300);
        assert!((145..155).contains(&admitted(Some(14_000_000))));
    }

    #[test]
    fn the_peer_is_told_of_what_lasts_and_not_of_every_dip() {
        let ms = Duration::from_millis;
        let now = clock::now();
        let mut announcement = Announcement::new(STREAM);
        let worse = StreamParams { quality: Some(50), ..STREAM };
        let near = StreamParams { quality: Some(77), ..STREAM };
        let small = StreamParams { width: 640, height: 360, ..worse };
        assert_eq!(announcement.note(now, worse), None);
        assert_eq!(announcement.note(now + ms(999), worse), None);
        assert_eq!(announcement.note(now + ms(999), near), None, "true enough again");
        assert_eq!(announcement.note(now + ms(2000), worse), None);
        assert_eq!(announcement.note(now + ms(2500), small), None);
        assert_eq!(announcement.note(now + ms(3000), small), Some(small), "untrue for a second");
        assert_eq!(announcement.note(now + ms(9000), small), None, "and told once");
        assert_eq!(announcement.note(now + ms(9000), STREAM), None);
        assert_eq!(announcement.note(now + ms(9999), STREAM), None);
        assert_eq!(announcement.note(now + ms(10_000), STREAM), Some(STREAM));
    }
}
