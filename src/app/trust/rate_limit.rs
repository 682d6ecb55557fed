//! Rate limits for messages and questions about strangers.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A sliding-window rate limit over one minute, per key and overall.
#[derive(Debug)]
pub(super) struct RateLimit<K> {
    each: usize,
    all: usize,
    taken: VecDeque<(K, Instant)>,
}

impl<K: PartialEq> RateLimit<K> {
    /// Allows `each` a minute for one key and `all` for all keys together.
    pub(super) fn per_minute(each: usize, all: usize) -> Self {
        Self { each, all, taken: VecDeque::new() }
    }

    /// Counts one for `key` if both limits allow it; else returns false.
    pub(super) fn take(&mut self, now: Instant, key: K) -> bool {
        while self.taken.front().is_some_and(|(_, at)| now.duration_since(*at) >= MINUTE) {
            self.taken.pop_front();
        }
        let of_key = self.taken.iter().filter(|(other, _)| *other == key).count();
        let has_left = of_key < self.each && self.taken.len() < self.all;
        if has_left {
            self.taken.push_back((key, now));
        }
        has_left
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_and_the_total_are_limited_per_minute() {
        let now = crate::clock::now();
        let mut rate_limit = RateLimit::per_minute(2, 3);
        assert_eq!(["a", "a", "a"].map(|key| rate_limit.take(now, key)), [true, true, false]);
        assert_eq!(["b", "c"].map(|key| rate_limit.take(now, key)), [true, false]);
        assert!(!rate_limit.take(now + MINUTE / 2, "c"));
        assert!(rate_limit.take(now + MINUTE, "a"));
    }
}
