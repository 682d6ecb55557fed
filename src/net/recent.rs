//! The largest value of the last seconds, in constant memory.

use std::time::{Duration, Instant};

/// The largest of what was recorded in the last one to two spans: that of the running span and
/// that of the one before it. For the least, record [`std::cmp::Reverse`].
#[derive(Clone, Copy, Debug)]
pub struct Recent<T> {
    span: Duration,
    began: Option<Instant>,
    current: Option<T>,
    previous: Option<T>,
}

impl<T: Ord + Copy> Recent<T> {
    /// Remembers everything for `span`, and nothing for more than two.
    pub fn new(span: Duration) -> Self {
        Self { span, began: None, current: None, previous: None }
    }

    /// Notes a value.
    pub fn record(&mut self, now: Instant, value: T) {
        self.began.get_or_insert(now);
        self.turn(now);
        self.current = self.current.max(Some(value));
    }

    /// The largest value that is remembered.
    pub fn max(&mut self, now: Instant) -> Option<T> {
        self.turn(now);
        self.current.max(self.previous)
    }

    /// Spans follow each other from the first value on, whenever somebody asks.
    fn turn(&mut self, now: Instant) {
        let Some(began) = self.began else { return };
        let age = now.saturating_duration_since(began);
        if age >= self.span {
            let current = self.current.take();
            self.previous = current.filter(|_| age < 2 * self.span);
            let spans = age.as_nanos() / self.span.as_nanos().max(1);
            self.began = Some(began + self.span * u32::try_from(spans).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn values_are_remembered_for_one_to_two_spans() {
        let (t, mut recent) = (crate::clock::now(), Recent::new(2 * S));
        assert_eq!(recent.max(t), None);
        recent.record(t, 7);
        recent.record(t + S, 3);
        assert_eq!(recent.max(t + S), Some(7));
        recent.record(t + 3 * S, 5);
        assert_eq!(recent.max(t + 3 * S), Some(7));
        assert_eq!(recent.max(t + 5 * S), Some(5));
        assert_eq!(recent.max(t + 60 * S), None);
    }

    #[test]
    fn asking_changes_nothing() {
        let t = crate::clock::now();
        let (mut quiet, mut asked) = (Recent::new(S), Recent::new(S));
        for i in 0..200_u32 {
            let at = t + S * i / 7;
            asked.max(at);
            if i % 5 == 0 {
                quiet.record(at, i % 11);
                asked.record(at, i % 11);
                assert_eq!(quiet.max(at), asked.max(at), "{i}");
            }
        }
    }

    #[test]
    fn reversed_it_finds_the_least() {
        let (t, mut recent) = (crate::clock::now(), Recent::new(S));
        for value in [4, -2, 9] {
            recent.record(t, Reverse(value));
        }
        assert_eq!(recent.max(t), Some(Reverse(-2)));
    }
}
