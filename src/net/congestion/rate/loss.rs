//! Distinguishes a path's own loss from the overflow of a short queue, while the delay is flat.
//!
//! If loss becomes suspicious, the controller sends less for a while. Loss that stays belongs to
//! the path: it becomes *ambient* and is ignored. If it stops, the path is *shallow*: it loses
//! before it queues.

use std::time::{Duration, Instant};

use crate::net::units::BITS_PER_BYTE;

/// The loss of one path, and the test of its cause.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LossTester {
    smoothed: f64,
    /// Loss that a lower rate does not change.
    ambient: f64,
    suspected: Option<Instant>,
    /// Whether the path loses before it queues, so that bursts overflow its queue.
    is_shallow: bool,
    test: Option<Test>,
}

/// A test in progress.
#[derive(Clone, Copy, Debug)]
struct Test {
    began: Instant,
    loss_before: f64,
    target_before: f64,
}

/// What the controller must do about loss. Rates are in bits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LossAction {
    /// Return to the rate `safe`: the path is shallow, and the loss is its overflow.
    Avoid { safe: f64 },
    /// Send less, until another action ends the test.
    Test,
    /// The test has ended and the loss stays: return to the rate before it.
    Ignore { target_before: f64 },
    /// The test has ended and the loss was overflow: the present rate is near the limit.
    Respect,
}

impl LossTester {
    /// Whether the path loses before it queues.
    pub(super) fn is_shallow(&self) -> bool {
        self.is_shallow
    }

    /// Records that the path is not shallow, or is no longer.
    pub(super) fn forget_shallow(&mut self) {
        self.is_shallow = false;
    }

    /// Whether the loss is suspicious. Stays true during a test.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspected.is_some()
    }

    /// Loss that a lower rate does not change.
    #[cfg(test)]
    pub(super) fn ambient(&self) -> f64 {
        self.ambient
    }

    /// The target before the test in progress, if there is one.
    pub(super) fn target_before_test(&self) -> Option<f64> {
        self.test.map(|test| test.target_before)
    }

    /// Whether a test of heavy loss is in progress.
    pub(super) fn tests_heavy_loss(&self) -> bool {
        self.test.is_some_and(|test| test.loss_before > BINDING_LOSS)
    }

    /// Ends a test in progress without a result. Returns the target before it.
    pub(super) fn cancel_test(&mut self) -> Option<f64> {
        self.test.take().map(|test| test.target_before)
    }

    /// Forgets everything but the ambient loss. Returns the target before a test in progress.
    pub(super) fn restart(&mut self) -> Option<f64> {
        let before = std::mem::replace(self, Self { ambient: self.ambient, ..Self::default() });
        before.target_before_test()
    }

    /// Records the loss ratio of a report, `elapsed` seconds after the previous one.
    pub(super) fn record(&mut self, loss_ratio: f64, elapsed: f64) {
        self.smoothed += (elapsed / LOSS_TIME) * (loss_ratio - self.smoothed);
    }

    /// Judges the loss at the rate `target`. `limit` is the rate at which the path is full, less
    /// some headroom, if it is known. `newest_loss` is the ratio over the last half second.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        target: f64,
        limit: Option<f64>,
        newest_loss: f64,
    ) -> Option<LossAction> {
        if let Some(test) = self.test {
            return self.judge_test(now, test);
        }
        let excess = self.smoothed - self.ambient;
        // On a narrow link, one lost datagram is not a pattern.
        let least = (SHALLOW_LOST_BPS / target).max(SHALLOW_LOSS);
        let overrun = limit.filter(|&safe| self.is_shallow && target > safe && excess > least);
        if let Some(safe) = overrun {
            self.smoothed = self.ambient;
            return Some(LossAction::Avoid { safe });
        }
        if excess < SUSPECT_LOSS {
            self.suspected = None;
            self.ambient += AMBIENT_WEIGHT * excess.min(0.0);
            return None;
        }
        let since = *self.suspected.get_or_insert(now);
        if excess <= GRAVE_LOSS && now.saturating_duration_since(since) <= SUSPICION_TIME {
            return None;
        }
        // The smoothed ratio lags when heavy loss begins.
        let loss_before = self.smoothed.max(newest_loss);
        self.test = Some(Test { began: now, loss_before, target_before: target });
        Some(LossAction::Test)
    }

    fn judge_test(&mut self, now: Instant, test: Test) -> Option<LossAction> {
        if now.saturating_duration_since(test.began) < TEST_TIME {
            return None;
        }
        self.test = None;
        self.suspected = None;
        let stays = self.smoothed > test.loss_before * STAYED;
        if stays && self.smoothed < MAX_AMBIENT_LOSS {
            self.ambient = self.smoothed;
            Some(LossAction::Ignore { target_before: test.target_before })
        } else {
            self.is_shallow = true;
            Some(LossAction::Respect)
        }
    }
}

/// Seconds over which loss is averaged.
const LOSS_TIME: f64 = 1.0;

/// How far loss must exceed the path's own to be tested: by [`SUSPECT_LOSS`] for longer than
/// [`SUSPICION_TIME`], or by more than [`GRAVE_LOSS`] at any time.
const SUSPECT_LOSS: f64 = 0.06;
const GRAVE_LOSS: f64 = 0.12;
const SUSPICION_TIME: Duration = Duration::from_secs(2);

/// Near the limit of a shallow path, loss above the path's own counts as congestion if it exceeds
/// both this ratio and this many bits per second (2.5 datagrams of 1200 bytes a second).
const SHALLOW_LOSS: f64 = 0.03;
const SHALLOW_LOST_BPS: f64 = 2.5 * 1200.0 * BITS_PER_BYTE;

/// The weight, per report, with which the path's own loss follows a lower measurement.
const AMBIENT_WEIGHT: f64 = 0.01;

/// Above this loss ratio, a test makes the target a hard limit, even if frames are skipped.
pub(super) const BINDING_LOSS: f64 = 0.2;

/// The path's own loss is never above this ratio; beyond it, a test must lower the rate further.
pub(super) const MAX_AMBIENT_LOSS: f64 = 0.5;

/// A loss test sends this share of what arrives, for this long.
pub(super) const TEST_SHARE: f64 = 0.9;
const TEST_TIME: Duration = Duration::from_millis(1500);

/// Loss has stayed if more than this share of the loss before the test remains.
const STAYED: f64 = 0.6;
