//! Converts a timeout to a deadline.

use std::time::{Duration, Instant};

use crate::clock;

/// `timeout` from now. A timeout too long for the clock counts as a year.
pub(super) fn deadline(timeout: Duration) -> Instant {
    let now = clock::now();
    now.checked_add(timeout).unwrap_or_else(|| now + YEAR)
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timeout_has_a_deadline() {
        let now = clock::now();
        assert!(deadline(Duration::ZERO) < now + YEAR / 2);
        assert!(deadline(Duration::MAX) >= now + YEAR);
    }
}
