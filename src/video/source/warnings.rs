//! Rate-limited warnings about damaged pictures.

use std::time::{Duration, Instant};

use crate::clock;

/// Logs at most one warning a second.
#[derive(Debug, Default)]
pub(super) struct RateLimitedWarnings {
    last: Option<Instant>,
}

impl RateLimitedWarnings {
    pub(super) fn warn(&mut self, warning: impl FnOnce() -> String) {
        if self.is_due(clock::now()) {
            log::warn!("{}", warning());
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_limited_to_one_per_second() {
        let (mut warnings, now) = (RateLimitedWarnings::default(), clock::now());
        let due = [0, 1, 999, 1000, 1500, 2000, 9000]
            .map(|after_ms| warnings.is_due(now + Duration::from_millis(after_ms)));
        assert_eq!(due, [true, false, false, true, false, true, true]);
    }
}
