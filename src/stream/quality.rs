//! Fits JPEG quality to a bitrate. When quality alone is not enough, frames get smaller, then
//! fewer.
//!
//! Frames shrink before any is skipped: motion at 15 frames per second is harder to follow than
//! pictures of half the size, and each skipped frame adds 33 ms of age.
//!
//! The size of frames is learned from those encoded so far. Only the effect of quality on size is
//! assumed, roughly, and the next frame corrects it. A plan that fits closely is kept, so that the
//! picture does not change with every report.

use std::cmp::Ordering;

use crate::net::units::{BITS_PER_BYTE, Bitrate};

/// The range in which pictures may be adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QualityLimits {
    /// The lowest JPEG quality, 1 to 100.
    pub min_quality: u8,
    /// The highest JPEG quality at full size.
    pub max_quality: u8,
    /// The minimum frame rate, in frames per 1000 s, when the smallest pictures are too large.
    pub min_millifps: u32,
    /// The maximum divisor of width and height, a power of two.
    pub max_size_divisor: u32,
}

/// How frames are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingPlan {
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// One frame in this many is encoded; the others are not sent.
    pub frame_divisor: u32,
    /// Divisor of width and height: 1, 2, 4, …
    pub size_divisor: u32,
}

/// Chooses how frames are encoded.
#[derive(Clone, Debug)]
pub struct QualityControl {
    limits: QualityLimits,
    plan: EncodingPlan,
    /// Estimated bytes of a frame with relative size 1; `None` before the first frame.
    unit: Option<f64>,
    /// The latest plan, and how many frames in a row used it.
    streak: (EncodingPlan, u32),
}

/// Chooses which frames are sent, where their size cannot be changed.
#[derive(Clone, Copy, Debug)]
pub struct FrameSkip {
    smoothed_len: Option<f64>,
    kept: f64,
    credit: f64,
}

impl QualityControl {
    /// Starts at the highest quality, with every frame at full size.
    pub fn new(limits: QualityLimits) -> Self {
        let plan = EncodingPlan { quality: limits.max_quality, frame_divisor: 1, size_divisor: 1 };
        Self { limits, plan, unit: None, streak: (plan, 0) }
    }

    /// The current plan.
    pub fn plan(&self) -> EncodingPlan {
        self.plan
    }

    /// Whether the length of frames is unknown.
    pub fn is_frame_len_unknown(&self) -> bool {
        self.unit.is_none()
    }

    /// Records a frame of `len` bytes, encoded with `plan`; without parity and headers.
    pub fn record_frame(&mut self, plan: EncodingPlan, len: usize) {
        let unit = len as f64 / relative_len(plan);
        self.streak = if self.streak.0 == plan { (plan, self.streak.1 + 1) } else { (plan, 1) };
        let smoothed = self.unit.get_or_insert(unit);
        let weight = LEN_WEIGHT.max(1.0 / f64::from(self.streak.1 + 1));
        *smoothed += weight * (unit - *smoothed);
    }

    /// Fits the plan to `target`, for a source of `millifps` frames per 1000 s. Before the first
    /// frame the plan is a guess.
    pub fn fit(&mut self, target: Bitrate, millifps: u32) -> EncodingPlan {
        let Some(unit) = self.unit else { return self.first_plan(target) };
        let frames = f64::from(millifps.max(1)) / 1000.0;
        let load = |plan: EncodingPlan| {
            unit * relative_len(plan) * BITS_PER_BYTE * frames / f64::from(plan.frame_divisor)
        };
        let target = target.as_f64();
        let used = load(self.plan) / target;
        let is_best = self.plan.quality == self.limits.max_quality && self.is_whole();
        if used <= MAX_LOAD && (used >= MIN_LOAD || is_best) {
            return self.plan;
        }
        let fits = self.steps(millifps).find_map(|step| self.best_quality(step, target, load));
        self.plan = fits.unwrap_or(EncodingPlan {
            quality: self.limits.min_quality,
            frame_divisor: self.largest_divisor(millifps),
            size_divisor: self.limits.max_size_divisor,
        });
        self.plan
    }

    /// The plan for the first picture, whose size is unknown.
    fn first_plan(&self, target: Bitrate) -> EncodingPlan {
        let QualityLimits { min_quality, max_quality, .. } = self.limits;
        let careful = FIRST_QUALITY.clamp(min_quality, max_quality);
        EncodingPlan {
            quality: if target < CAREFUL_BITRATE { careful } else { max_quality },
            ..self.plan
        }
    }

    fn is_whole(&self) -> bool {
        (self.plan.frame_divisor, self.plan.size_divisor) == (1, 1)
    }

    /// Divisors of size and frame rate: full size, then smaller frames, then fewer of the smallest.
    fn steps(&self, millifps: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (smallest, fewest) =
            (self.limits.max_size_divisor.max(1), self.largest_divisor(millifps));
        let sizes = std::iter::successors(Some(1_u32), |s| s.checked_mul(2));
        let whole_rate = sizes.take_while(move |&size| size <= smallest).map(|size| (size, 1));
        whole_rate.chain((2..=fewest).map(move |divisor| (smallest, divisor)))
    }

    /// The largest frame divisor that keeps the minimum rate, for a source of `millifps`.
    fn largest_divisor(&self, millifps: u32) -> u32 {
        (millifps / self.limits.min_millifps.max(1)).clamp(1, MAX_DIVISOR)
    }

    /// The best quality that fits at a step. Steps up from the plan in use must leave a margin.
    fn best_quality(
        &self,
        (size_divisor, frame_divisor): (u32, u32),
        target: f64,
        load: impl Fn(EncodingPlan) -> f64,
    ) -> Option<EncodingPlan> {
        let in_use = (self.plan.size_divisor, self.plan.frame_divisor);
        let step = (size_divisor, frame_divisor);
        let is_fine = frame_divisor > 1 && in_use.1 > 1;
        let share = |quality| match step.cmp(&in_use) {
            Ordering::Less if is_fine => FINE_STEP_UP,
            Ordering::Less => STEP_UP,
            Ordering::Equal if quality > self.plan.quality => QUALITY_UP,
            _ => 1.0,
        };
        let QualityLimits { min_quality, max_quality, .. } = self.limits;
        let most = if size_divisor > 1 { max_quality.max(SMALL_QUALITY) } else { max_quality };
        let plans = (min_quality..=most).rev().map(|quality| EncodingPlan {
            quality,
            frame_divisor,
            size_divisor,
        });
        plans.into_iter().find(|&plan| load(plan) <= target * share(plan.quality))
    }
}

impl Default for FrameSkip {
    /// The first frame is sent, since a source may have no other.
    fn default() -> Self {
        Self { smoothed_len: None, kept: 0.0, credit: 1.0 }
    }
}

impl FrameSkip {
    /// Records a frame of `len` bytes, without parity and headers.
    pub fn record_frame(&mut self, len: usize) {
        let smoothed = self.smoothed_len.get_or_insert(len as f64);
        *smoothed += LEN_WEIGHT * (len as f64 - *smoothed);
    }

    /// Whether to send the next frame of a source of `millifps` frames per 1000 s within `target`,
    /// if it is as long as recent ones. Skipped frames are spread evenly.
    pub fn admit(&mut self, target: Bitrate, millifps: u32) -> bool {
        self.kept = (target.as_f64() / self.load_bps(millifps).max(1.0)).min(1.0);
        self.credit = (self.credit + self.kept).min(1.0 + self.kept);
        let admitted = self.credit >= 1.0 - f64::EPSILON;
        self.credit -= if admitted { 1.0 } else { 0.0 };
        admitted
    }

    /// The smoothed length of a frame, in bytes; 0 before the first.
    pub fn mean_len(&self) -> usize {
        self.smoothed_len.unwrap_or_default() as usize
    }

    /// The bitrate of all frames of a source of `millifps` frames per 1000 s.
    pub fn load(&self, millifps: u32) -> Bitrate {
        Bitrate::from_f64(self.load_bps(millifps))
    }

    fn load_bps(&self, millifps: u32) -> f64 {
        let len = self.smoothed_len.unwrap_or_default();
        len * BITS_PER_BYTE * f64::from(millifps.max(1)) / 1000.0
    }

    /// The share of frames skipped at present, 0 to 1.
    #[cfg(any(test, feature = "internals"))]
    pub fn skipped(&self) -> f64 {
        1.0 - self.kept
    }
}

/// Approximate size of a frame with `plan`, relative to quality 50 at full size.
fn relative_len(plan: EncodingPlan) -> f64 {
    let quality = f64::from(plan.quality.clamp(1, 100));
    // Coarseness of the JPEG library's quantization tables (ITU-T T.81 annex K, scaled).
    let scale = if quality < 50.0 { 50.0 / quality } else { (100.0 - quality) / 50.0 };
    let pixels = f64::from(plan.size_divisor.max(1)).powf(-SIZE_EXPONENT);
    ((scale + FINEST) / (1.0 + FINEST)).powf(-QUALITY_EXPONENT) * pixels
}

/// Quality of the first picture, whose size is unknown, when the target is below
/// `CAREFUL_BITRATE`. It takes a third of the bytes of quality 80.
const FIRST_QUALITY: u8 = 35;
const CAREFUL_BITRATE: Bitrate = Bitrate::from_mbps(50);

/// Maximum frame divisor: it leaves some frames of a source of 1000 frames per second or more.
const MAX_DIVISOR: u32 = 1000;

/// How size falls with coarser tables.
const QUALITY_EXPONENT: f64 = 0.65;
/// Added to the coarseness of the tables, which is 0 at quality 100.
const FINEST: f64 = 0.03;

/// A quarter of the pixels takes a third of the bytes, since it has more detail per pixel.
const SIZE_EXPONENT: f64 = 1.6;

/// Weight of the newest frame in the estimated size: about seven frames. The first frames with a
/// new plan weigh more, from a half downwards, as the estimate comes from another plan.
const LEN_WEIGHT: f64 = 0.1;

/// The plan is kept while it takes between these shares of the target.
const MAX_LOAD: f64 = 1.02;
const MIN_LOAD: f64 = 0.94;

/// A better quality must fit in this share of the target. Small steps up find a link's limit
/// without overshooting, which would cost a larger step down.
const QUALITY_UP: f64 = 0.98;

/// The highest quality of scaled-down pictures. At quality 80 a picture takes a third of the bytes
/// of the next size. The rate controller learns only from what is sent, so it would never find room
/// for the next size.
const SMALL_QUALITY: u8 = 90;

/// Larger or more frames must fit in this share of the target, so that the picture does not flicker
/// between two steps.
const STEP_UP: f64 = 0.75;

/// The same between two low frame rates of the smallest pictures. That step is not visible, and
/// staying at the lower rate means larger pictures, which arrive later.
const FINE_STEP_UP: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QualityLimits = QualityLimits {
        min_quality: 20,
        max_quality: 80,
        min_millifps: 10_000,
        max_size_divisor: 2,
    };
    const FPS: u32 = 30_000;

    /// The model's size of a frame that takes `full` bytes at the highest quality.
    fn len(plan: EncodingPlan, full: f64) -> usize {
        let best = EncodingPlan { quality: 80, frame_divisor: 1, size_divisor: 1 };
        (full * relative_len(plan) / relative_len(best)) as usize
    }

    /// Ten seconds of frames at `bps`; returns the last plan and its bitrate.
    fn settle(control: &mut QualityControl, bps: u64, full: f64) -> (EncodingPlan, f64) {
        for _ in 0..300 {
            let plan = control.fit(Bitrate::from_bps(bps), FPS);
            control.record_frame(plan, len(plan, full));
        }
        let plan = control.plan();
        (plan, len(plan, full) as f64 * 8.0 * 30.0 / f64::from(plan.frame_divisor))
    }

    #[test]
    fn quality_falls_first_then_size_then_frames() {
        let mut control = QualityControl::new(LIMITS);
        assert_eq!(control.fit(Bitrate::MAX, FPS), control.plan(), "no frame size is known yet");
        let careful = EncodingPlan { quality: FIRST_QUALITY, ..control.plan() };
        assert_eq!(control.fit(Bitrate::from_bps(1), FPS), careful);
        let mut last = (0, 0);
        for bps in [40_000_000, 20_000_000, 9_000_000, 4_000_000, 2_500_000, 1_500_000, 1_100_000] {
            let (plan, used) = settle(&mut control, bps, 117e3);
            assert!(used <= bps as f64 * MAX_LOAD, "{plan:?} takes {used} of {bps}");
            let step = (plan.size_divisor, plan.frame_divisor);
            assert!(step >= last, "{step:?} after {last:?}");
            assert!(step == (1, 1) || plan.quality < 60, "{plan:?} at {bps}");
            last = step;
        }
        assert_eq!(last.0, 2);
        assert!(last.1 > 1);
        let (plan, _) = settle(&mut control, 40_000_000, 117e3);
        assert_eq!(plan, QualityControl::new(LIMITS).plan(), "and all the way back");
    }

    #[test]
    fn an_unreachable_target_yields_the_lowest_plan() {
        let (plan, _) = settle(&mut QualityControl::new(LIMITS), 10_000, 117e3);
        assert_eq!(plan, EncodingPlan { quality: 20, frame_divisor: 3, size_divisor: 2 });
    }

    #[test]
    fn small_target_changes_keep_the_plan() {
        let mut control = QualityControl::new(LIMITS);
        let (plan, used) = settle(&mut control, 10_000_000, 117e3);
        for i in 0..100 {
            let target = used * if i % 2 == 0 { 0.99 } else { 1.05 };
            assert_eq!(control.fit(Bitrate::from_f64(target), FPS), plan);
        }
    }

    #[test]
    fn the_size_model_adapts_within_a_few_frames() {
        // Flat areas and sharp edges take almost the same bytes at any quality.
        let flat = |plan| (50e3 * (len(plan, 1e5) as f64 / 1e5).powf(0.6)) as usize;
        let mut control = QualityControl::new(LIMITS);
        for (bps, frames) in [(20_000_000, 60), (9_000_000, 8)] {
            for _ in 0..frames {
                let plan = control.fit(Bitrate::from_bps(bps), FPS);
                control.record_frame(plan, flat(plan));
            }
        }
        let used = flat(control.fit(Bitrate::from_mbps(9), FPS)) as f64 * 8.0 * 30.0;
        assert!(used <= 9e6 * MAX_LOAD, "{:?} takes {used}", control.plan());
    }

    #[test]
    fn a_busier_picture_gets_a_lower_quality() {
        let mut control = QualityControl::new(LIMITS);
        let (calm, _) = settle(&mut control, 10_000_000, 80e3);
        let (busy, used) = settle(&mut control, 10_000_000, 117e3);
        assert!(busy.quality < calm.quality && used <= 1.02e7, "{busy:?} {used}");
    }

    #[test]
    fn passed_through_frames_are_skipped_evenly() {
        for (bps, share) in [(40_000_000, 1.0), (14_000_000, 0.5), (9_333_333, 1.0 / 3.0)] {
            let mut skip = FrameSkip::default();
            let mut admit = || {
                skip.record_frame(116_667);
                skip.admit(Bitrate::from_bps(bps), FPS)
            };
            let sent: Vec<bool> = (0..300).map(|_| admit()).collect();
            let kept = sent.iter().filter(|&&s| s).count();
            assert!((kept as f64 / 300.0 - share).abs() < 0.02, "{kept} at {bps}");
            assert!((1.0 - skip.skipped() - share).abs() < 0.01);
            let longest = sent.split(|&s| s).map(<[bool]>::len).max().unwrap();
            assert!(longest <= (1.0 / share) as usize, "{longest} skipped in a row at {bps}");
        }
    }
}
