//! A token bucket.

use std::time::{Duration, Instant};

/// Tokens that accrue at a constant rate, up to a capacity.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    per_second: f64,
    burst: f64,
    left: f64,
    filled: Instant,
}

impl TokenBucket {
    /// `per_second`: tokens added a second. `burst`: the capacity; the bucket starts full.
    pub(super) fn new(now: Instant, per_second: f64, burst: f64) -> Self {
        Self { per_second, burst, left: burst, filled: now }
    }

    /// Changes the rate and the capacity. Both also apply to the time since the tokens were last
    /// counted.
    pub(super) fn set_limits(&mut self, per_second: f64, burst: f64) {
        (self.per_second, self.burst) = (per_second, burst);
    }

    /// The tokens available at `now`.
    pub(super) fn left(&mut self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + elapsed * self.per_second).min(self.burst);
        self.filled = self.filled.max(now);
        self.left
    }

    /// Takes `tokens`. If there are fewer, takes none and returns false.
    pub(super) fn take(&mut self, now: Instant, tokens: f64) -> bool {
        let is_enough = self.left(now) >= tokens;
        if is_enough {
            self.left -= tokens;
        }
        is_enough
    }

    /// When `tokens`, at most the burst, are available.
    pub(super) fn next_at(&self, tokens: f64) -> Instant {
        let missing = (tokens - self.left).max(0.0) / self.per_second;
        // Rounded up, so that they are available then.
        self.filled + Duration::from_secs_f64(missing) + Duration::from_micros(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_refill_at_the_configured_rate() {
        let mut now = crate::clock::now();
        let mut bucket = TokenBucket::new(now, 10.0, 3.0);
        let mut taken = 0;
        while bucket.take(now, 1.0) {
            taken += 1;
        }
        assert_eq!(taken, 3);
        let began = now;
        for _ in 0..20 {
            assert!(!bucket.take(now, 1.0));
            now = bucket.next_at(1.0);
            assert!(bucket.take(now, 1.0));
        }
        assert!(now - began >= Duration::from_millis(1990));
    }
}
