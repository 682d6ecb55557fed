//! Adapts pictures to the path's bitrate: implements `--quality auto`.

use std::time::{Duration, Instant};

use super::quality::{EncodingPlan, FrameSkip, QualityControl, QualityLimits};
use crate::net::{
    congestion::bitrates::PictureBitrates,
    frame_interval::{FrameInterval, Smoothing},
    units::Bitrate,
    wire::control::StreamParams,
};

/// JPEG quality of pictures encoded here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// As high as the path allows, up to [`highest`](Self::highest).
    Auto,
    /// JPEG quality 1 to 100, regardless of the path.
    Fixed(u8),
}

impl Quality {
    /// The highest JPEG quality, also used for the first picture.
    pub fn highest(self) -> u8 {
        match self {
            Self::Auto => HIGHEST_AUTO_QUALITY,
            Self::Fixed(quality) => quality,
        }
    }

    /// The quality without receiver reports: fixed at the highest.
    #[must_use]
    pub fn unreported(self) -> Self {
        Self::Fixed(self.highest())
    }
}

/// Decides how to encode each picture, from the path's bitrate.
#[derive(Debug)]
pub(crate) struct Adaptation {
    rule: Rule,
    rate: PictureRate,
    /// Pictures skipped since the last one encoded.
    skipped: u32,
    skip: FrameSkip,
    /// Whether the source's JPEGs are too large for the path and are encoded again.
    reencodes: bool,
}

#[derive(Debug)]
enum Rule {
    /// A fixed quality chosen by the user.
    Fixed(EncodingPlan),
    Auto(QualityControl),
}

/// What to do with a JPEG from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JpegPlan {
    /// Send it unchanged.
    Pass,
    /// Skip it.
    Skip,
    /// Decode it and encode it again.
    Reencode(EncodingPlan),
}

/// The measured rate of pictures. A camera slows down in the dark, and some sources announce no
/// rate.
#[derive(Debug)]
struct PictureRate(FrameInterval);

/// The stream parameters announced to the peer, and when to announce new ones.
#[derive(Debug)]
pub(crate) struct ParamsAnnouncer {
    told: StreamParams,
    untrue_since: Option<Instant>,
}

impl Adaptation {
    /// For a source with the parameters `stream`, which give no quality if it delivers JPEGs.
    pub(crate) fn new(quality: Quality, stream: &StreamParams) -> Self {
        let highest = stream.quality.map_or(HIGHEST_REENCODED, |_| quality.highest());
        let rule = match quality {
            Quality::Fixed(quality) => {
                Rule::Fixed(EncodingPlan { quality, frame_divisor: 1, size_divisor: 1 })
            }
            Quality::Auto => Rule::Auto(QualityControl::new(QualityLimits {
                min_quality: LOWEST_AUTO_QUALITY,
                max_quality: highest,
                min_millifps: MIN_MILLIFPS,
                max_size_divisor: max_size_divisor(stream.width.min(stream.height)),
            })),
        };
        let rate = PictureRate::new(stream.millifps);
        Self { rule, rate, skipped: u32::MAX, skip: FrameSkip::default(), reencodes: false }
    }

    /// The measured rate, in pictures per 1000 s.
    pub(crate) fn millifps(&self) -> u32 {
        self.rate.millifps()
    }

    /// The plan for the next picture within `bitrates`; `None`: skip it.
    pub(crate) fn plan(
        &mut self,
        captured: Instant,
        bitrates: PictureBitrates,
    ) -> Option<EncodingPlan> {
        self.rate.record(captured);
        self.next_plan(bitrates)
    }

    fn next_plan(&mut self, bitrates: PictureBitrates) -> Option<EncodingPlan> {
        let (bitrate, millifps) = (self.bitrate(bitrates), self.rate.millifps());
        let plan = match &mut self.rule {
            Rule::Fixed(plan) => return self.skip.admit(bitrate, millifps).then_some(*plan),
            Rule::Auto(control) => control.fit(bitrate, millifps),
        };
        self.skipped = self.skipped.saturating_add(1);
        if self.skipped < plan.frame_divisor {
            return None;
        }
        self.skipped = 0;
        Some(plan)
    }

    /// Records that a picture encoded by `plan` gave a frame of `len` bytes.
    pub(crate) fn record(&mut self, plan: EncodingPlan, len: usize) {
        match &mut self.rule {
            Rule::Fixed(_) => self.skip.record_frame(len),
            Rule::Auto(control) => control.record_frame(plan, len),
        }
    }

    /// What to do with the source's next JPEG, of `len` bytes, within `bitrates`.
    pub(crate) fn plan_jpeg(
        &mut self,
        captured: Instant,
        len: usize,
        bitrates: PictureBitrates,
    ) -> JpegPlan {
        self.rate.record(captured);
        self.skip.record_frame(len);
        self.judge_jpegs(bitrates);
        if self.reencodes {
            return self.next_plan(bitrates).map_or(JpegPlan::Skip, JpegPlan::Reencode);
        }
        let admitted = self.skip.admit(self.bitrate(bitrates), self.rate.millifps());
        if admitted { JpegPlan::Pass } else { JpegPlan::Skip }
    }

    /// Decides whether the source's JPEGs are encoded again: once the path is known to carry less,
    /// until it carries them with a margin. While the path's capacity is unknown, some are skipped.
    fn judge_jpegs(&mut self, bitrates: PictureBitrates) {
        let Rule::Auto(control) = &mut self.rule else { return };
        let load = self.skip.load(self.rate.millifps());
        let share = if self.reencodes { PASS_SHARE } else { 1.0 };
        self.reencodes = bitrates.cap().is_some_and(|cap| load > cap * share);
        if self.reencodes && control.is_frame_len_unknown() {
            let plan = EncodingPlan { quality: ASSUMED_QUALITY, ..control.plan() };
            control.record_frame(plan, self.skip.mean_len());
        }
    }

    /// A fixed quality ignores the estimate of a path that has carried everything so far. Once a
    /// path is overrun, pictures are skipped, since those beyond its capacity are lost.
    fn bitrate(&self, bitrates: PictureBitrates) -> Bitrate {
        let bitrate = match self.rule {
            Rule::Fixed(_) => bitrates.cap(),
            Rule::Auto(_) => bitrates.path.or(bitrates.limit),
        };
        bitrate.unwrap_or(Bitrate::MAX)
    }
}

impl PictureRate {
    /// Assumes `millifps` at first.
    fn new(millifps: u32) -> Self {
        let interval = Duration::from_secs(1000) / millifps.max(1);
        Self(FrameInterval::with_initial(SMOOTHING, interval))
    }

    fn record(&mut self, captured: Instant) {
        self.0.record(captured);
    }

    fn millifps(&self) -> u32 {
        let interval = self.0.seconds().unwrap_or(0.0).max(SHORTEST_INTERVAL);
        (1000.0 / interval).round() as u32
    }
}

impl ParamsAnnouncer {
    /// The peer already knows `told`.
    pub(crate) fn new(told: StreamParams) -> Self {
        Self { told, untrue_since: None }
    }

    /// Records that a frame of `stream` was made. Returns the parameters to announce if the
    /// announced ones have been wrong for [`ANNOUNCE_AFTER`], so at most once in that time.
    pub(crate) fn note(&mut self, now: Instant, stream: StreamParams) -> Option<StreamParams> {
        if !is_significant(&self.told, &stream) {
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
fn is_significant(told: &StreamParams, stream: &StreamParams) -> bool {
    let quality = |stream: &StreamParams| i32::from(stream.quality.unwrap_or_default());
    let same = StreamParams { quality: told.quality, ..*stream };
    same != *told || (quality(told) - quality(stream)).abs() >= TOLD_QUALITY_STEP
}

/// The largest size divisor for a picture with this shorter side.
fn max_size_divisor(shorter_side: u16) -> u32 {
    let mut divisor = MAX_SIZE_DIVISOR;
    while divisor > 1 && u32::from(shorter_side) / divisor < MIN_SIDE {
        divisor /= 2;
    }
    divisor
}

/// At this quality, a JPEG of a face is hard to tell from the original.
const HIGHEST_AUTO_QUALITY: u8 = 80;

/// Below this, blocking and ringing hide facial features; fewer or smaller pictures are better.
const LOWEST_AUTO_QUALITY: u8 = 30;

/// The lowest rate, in frames per 1000 s, used when even the smallest picture exceeds the bitrate.
const MIN_MILLIFPS: u32 = 1000;

/// 720p becomes 320x180, at which a face can still be recognized.
const MAX_SIZE_DIVISOR: u32 = 4;

/// The highest quality of JPEGs that are encoded again. Most cameras use a lower one, so the
/// bitrate can rise to that of the camera's own JPEGs, which proves that the path carries them.
const HIGHEST_REENCODED: u8 = 95;

/// The quality that is assumed of a source's JPEGs until one has been encoded again.
const ASSUMED_QUALITY: u8 = 80;

/// JPEGs are passed through again when they take less than this share of what the path carries.
const PASS_SHARE: f64 = 0.75;

/// The smallest shorter side, in pixels. Below it faces cannot be recognized and hardly a byte is
/// saved.
const MIN_SIDE: u32 = 120;

/// An average over some thirty pictures. A camera's intervals vary by a tenth, and the quality
/// should not follow; without `max_ratio`, one pause of 0.3 s would let each picture be a quarter
/// larger.
const SMOOTHING: Smoothing =
    Smoothing { weight: 0.03, min: Duration::ZERO, max: Duration::MAX, max_ratio: 2.0 };

/// In seconds. A shorter mean interval counts as this, so that the rate is bounded.
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

    fn kbps(kbps: u32) -> Bitrate {
        Bitrate::from_kbps(kbps.into())
    }

    /// Feeds `count` pictures of 117 KB at quality 80; their length is proportional to the quality
    /// and to the area. Returns the last plan, the number of frames made and their bytes.
    fn feed(
        adaptation: &mut Adaptation,
        path: Option<Bitrate>,
        count: u32,
    ) -> (EncodingPlan, u32, f64) {
        feed_within(adaptation, PictureBitrates { path, ..PictureBitrates::default() }, count)
    }

    fn feed_within(
        adaptation: &mut Adaptation,
        bitrates: PictureBitrates,
        count: u32,
    ) -> (EncodingPlan, u32, f64) {
        let began = clock::now();
        let (mut last, mut made, mut bytes) = (None, 0, 0.0);
        for i in 0..count {
            let Some(plan) = adaptation.plan(began + INTERVAL * i, bitrates) else { continue };
            let len = 117e3 * f64::from(plan.quality) / 80.0 / f64::from(plan.size_divisor).powi(2);
            adaptation.record(plan, len as usize);
            (last, made, bytes) = (Some(plan), made + 1, bytes + len);
        }
        (last.expect("the first picture is never skipped"), made, bytes)
    }

    #[test]
    fn a_fixed_quality_ignores_the_path_bitrate() {
        let mut adaptation = Adaptation::new(Quality::Fixed(60), &STREAM);
        let (plan, made, _) = feed(&mut adaptation, Some(kbps(1)), 90);
        assert_eq!(plan, EncodingPlan { quality: 60, frame_divisor: 1, size_divisor: 1 });
        assert_eq!(made, 90);
        let now = clock::now();
        let narrow = PictureBitrates { path: Some(kbps(1)), ..PictureBitrates::default() };
        assert!((0..90).all(|_| adaptation.plan_jpeg(now, 1 << 20, narrow) == JpegPlan::Pass));
    }

    #[test]
    fn a_fixed_quality_skips_pictures_once_the_path_is_overrun() {
        let overrun = PictureBitrates { bound: Some(kbps(7000)), ..PictureBitrates::default() };
        let mut adaptation = Adaptation::new(Quality::Fixed(80), &STREAM);
        let (plan, made, _) = feed_within(&mut adaptation, overrun, 300);
        assert_eq!(plan, EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 });
        assert!((74..=77).contains(&made), "{made}");
    }

    #[test]
    fn a_bitrate_limit_skips_pictures_at_a_fixed_quality() {
        let bitrates = PictureBitrates { limit: Some(kbps(7000)), ..PictureBitrates::default() };
        let mut adaptation = Adaptation::new(Quality::Fixed(80), &STREAM);
        let (plan, made, bytes) = feed_within(&mut adaptation, bitrates, 300);
        assert_eq!(plan, EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 });
        assert!((74..=77).contains(&made) && bytes * 8.0 / 10.0 < 7_200_000.0, "{made}: {bytes}");
        let mut adaptation = Adaptation::new(Quality::Fixed(80), &STREAM);
        let began = clock::now();
        let mut plan = |i| adaptation.plan_jpeg(began + INTERVAL * i, 117_000, bitrates);
        let passed = (0..300).filter(|&i| plan(i) == JpegPlan::Pass).count();
        assert!((74..=77).contains(&passed), "{passed}");
    }

    #[test]
    fn auto_returns_to_the_highest_quality_without_a_bitrate() {
        let best = EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 };
        let mut adaptation = Adaptation::new(Quality::Auto, &STREAM);
        assert_eq!(feed(&mut adaptation, None, 90).0, best);
        let (narrow, made, _) = feed(&mut adaptation, Some(kbps(250)), 300);
        assert!(narrow.quality < 80 && made < 300, "{narrow:?}");
        assert_eq!(feed(&mut adaptation, None, 90).0, best);
    }

    #[test]
    fn auto_stays_within_the_path_bitrate() {
        for (rate, divisor) in [(20_000, 1), (8000, 1), (600, 2), (250, 4)] {
            let (path, most) = (Some(kbps(rate)), f64::from(rate) * 1030.0);
            let mut adaptation = Adaptation::new(Quality::Auto, &STREAM);
            feed(&mut adaptation, path, 300);
            let (plan, made, bytes) = feed(&mut adaptation, path, 300);
            assert_eq!((plan.frame_divisor, made), (divisor, 300 / divisor), "{plan:?} at {rate}");
            assert!(bytes * 8.0 / 10.0 <= most, "{plan:?} makes {bytes} at {rate}");
            assert!(plan.quality >= LOWEST_AUTO_QUALITY);
        }
    }

    #[test]
    fn the_frame_rate_is_measured_from_the_pictures() {
        let mut adaptation = Adaptation::new(Quality::Auto, &STREAM);
        let began = clock::now();
        (0..300).for_each(|i| adaptation.rate.record(began + 4 * INTERVAL * i));
        assert!(adaptation.rate.millifps().abs_diff(7_500) < 20, "{}", adaptation.rate.millifps());
        adaptation.rate.record(began + Duration::from_secs(9999));
        assert!(adaptation.rate.millifps() > 7_200, "a pause is one interval of many");
        (0..300).for_each(|_| adaptation.rate.record(began));
        assert!(adaptation.rate.millifps() < 10_000_001, "clocks may stand still");
    }

    #[test]
    fn small_pictures_are_not_scaled_down() {
        let sizes = [(1080, 4), (480, 4), (479, 2), (240, 2), (239, 1), (16, 1), (0, 1)];
        for (side, divisor) in sizes {
            assert_eq!(max_size_divisor(side), divisor, "{side}");
        }
    }

    /// A camera whose JPEGs have an unknown quality.
    const CAMERA: StreamParams = StreamParams { quality: None, ..STREAM };

    /// Feeds `count` JPEGs of 117 KB, those of [`feed`]. Returns how many were passed and encoded
    /// again, the last plan and the bytes sent.
    fn feed_jpegs(
        adaptation: &mut Adaptation,
        bitrates: PictureBitrates,
        count: u32,
    ) -> (u32, u32, Option<EncodingPlan>, f64) {
        let began = clock::now();
        let (mut passed, mut encoded, mut last, mut bytes) = (0, 0, None, 0.0);
        for i in 0..count {
            match adaptation.plan_jpeg(began + INTERVAL * i, 117_000, bitrates) {
                JpegPlan::Pass => (passed, bytes) = (passed + 1, bytes + 117e3),
                JpegPlan::Skip => {}
                JpegPlan::Reencode(plan) => {
                    let (quality, divisor) = (f64::from(plan.quality), plan.size_divisor);
                    let len = 117e3 * quality / 80.0 / f64::from(divisor).powi(2);
                    adaptation.record(plan, len as usize);
                    (encoded, last, bytes) = (encoded + 1, Some(plan), bytes + len);
                }
            }
        }
        (passed, encoded, last, bytes)
    }

    /// A photograph on standard input may be the only picture.
    #[test]
    fn the_first_jpeg_is_sent_however_large_it_is() {
        let start = PictureBitrates { path: Some(kbps(9500)), ..PictureBitrates::default() };
        let limited = PictureBitrates { limit: Some(kbps(9500)), ..PictureBitrates::default() };
        for (quality, bitrates) in [(Quality::Auto, start), (Quality::Fixed(80), limited)] {
            let mut adaptation = Adaptation::new(quality, &STREAM);
            let first = adaptation.plan_jpeg(clock::now(), 1 << 20, bitrates);
            assert_eq!(first, JpegPlan::Pass, "{quality:?}");
        }
    }

    #[test]
    fn jpegs_are_skipped_while_the_capacity_is_unknown() {
        let mut adaptation = Adaptation::new(Quality::Auto, &CAMERA);
        let unlimited = feed_jpegs(&mut adaptation, PictureBitrates::default(), 300);
        assert_eq!((unlimited.0, unlimited.1), (300, 0));
        let rising = PictureBitrates { path: Some(kbps(14_000)), ..PictureBitrates::default() };
        let (passed, encoded, ..) = feed_jpegs(&mut adaptation, rising, 300);
        assert!((145..155).contains(&passed) && encoded == 0, "{passed}, {encoded}");
    }

    #[test]
    fn jpegs_too_large_for_the_path_are_reencoded() {
        for (rate, divisor) in [(8000, 1), (500, 2), (250, 4)] {
            let (path, most) = (Some(kbps(rate)), f64::from(rate) * 1030.0);
            for bitrates in [
                PictureBitrates { path, bound: path, limit: None },
                PictureBitrates { path, bound: None, limit: path },
            ] {
                let mut adaptation = Adaptation::new(Quality::Auto, &CAMERA);
                feed_jpegs(&mut adaptation, bitrates, 300);
                let (passed, encoded, last, bytes) = feed_jpegs(&mut adaptation, bitrates, 300);
                assert_eq!((passed, encoded), (0, 300 / divisor), "{last:?} at {rate}");
                assert!(bytes * 8.0 / 10.0 <= most, "{last:?}: {bytes} at {rate}");
            }
        }
    }

    #[test]
    fn jpegs_are_passed_through_again_when_the_path_carries_them() {
        let bound = |rate| PictureBitrates { path: rate, bound: rate, limit: None };
        let mut adaptation = Adaptation::new(Quality::Auto, &CAMERA);
        feed_jpegs(&mut adaptation, bound(Some(kbps(8000))), 300);
        // The camera's JPEGs take 28 Mbit/s. The bound only rises that far if the pictures encoded
        // again come close to it.
        let (passed, _, last, bytes) = feed_jpegs(&mut adaptation, bound(Some(kbps(32_000))), 300);
        assert!(passed == 0 && bytes * 8.0 / 10.0 > 25e6, "{last:?}: {bytes}");
        assert_eq!(feed_jpegs(&mut adaptation, bound(Some(kbps(40_000))), 300).0, 300);
        assert_eq!(feed_jpegs(&mut adaptation, bound(Some(kbps(30_000))), 300).0, 300);
    }

    #[test]
    fn a_fixed_quality_never_reencodes_jpegs() {
        let overrun = PictureBitrates { bound: Some(kbps(500)), ..PictureBitrates::default() };
        let mut adaptation = Adaptation::new(Quality::Fixed(80), &CAMERA);
        let (passed, encoded, ..) = feed_jpegs(&mut adaptation, overrun, 300);
        assert!((4..=7).contains(&passed) && encoded == 0, "{passed}, {encoded}");
    }

    #[test]
    fn only_lasting_stream_changes_are_announced() {
        let ms = Duration::from_millis;
        let now = clock::now();
        let mut announcer = ParamsAnnouncer::new(STREAM);
        let worse = StreamParams { quality: Some(50), ..STREAM };
        let near = StreamParams { quality: Some(77), ..STREAM };
        let small = StreamParams { width: 640, height: 360, ..worse };
        assert_eq!(announcer.note(now, worse), None);
        assert_eq!(announcer.note(now + ms(999), worse), None);
        assert_eq!(announcer.note(now + ms(999), near), None, "within tolerance again");
        assert_eq!(announcer.note(now + ms(2000), worse), None);
        assert_eq!(announcer.note(now + ms(2500), small), None);
        assert_eq!(announcer.note(now + ms(3000), small), Some(small), "wrong for a second");
        assert_eq!(announcer.note(now + ms(9000), small), None, "announced once");
        assert_eq!(announcer.note(now + ms(9000), STREAM), None);
        assert_eq!(announcer.note(now + ms(9999), STREAM), None);
        assert_eq!(announcer.note(now + ms(10_000), STREAM), Some(STREAM));
    }
}
