//! A windowed maximum in constant memory.

use std::time::{Duration, Instant};

/// The largest value recorded in the last one to two spans: the maximum of the current span and
/// that of the one before. For the minimum, record [`std::cmp::Reverse`].
#[derive(Clone, Copy, Debug)]
pub struct WindowedMax<T> {
    span: Duration,
    began: Option<Instant>,
    current: Option<T>,
    previous: Option<T>,
}

impl<T: Ord + Copy> WindowedMax<T> {
    /// Keeps each value for at least one `span`, and less than two spans.
    pub fn new(span: Duration) -> Self {
        Self { span, began: None, current: None, previous: None }
    }

    /// Records a value.
    pub fn record(&mut self, now: Instant, value: T) {
        self.advance(now);
        self.current = self.current.max(Some(value));
    }

    /// The largest value kept. Has no side effect.
    pub fn max(&self, now: Instant) -> Option<T> {
        match self.spans_since(self.began?, now) {
            0 => self.current.max(self.previous),
            1 => self.current,
            _ => None,
        }
    }

    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = self.spans_since(began, now);
        if passed > 0 {
            let current = self.current.take();
            self.previous = current.filter(|_| passed == 1);
            self.began = Some(began + self.span * passed);
        }
    }

    fn spans_since(&self, began: Instant, now: Instant) -> u32 {
        let age = now.saturating_duration_since(began);
        (age.as_nanos() / self.span.as_nanos().max(1)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn the_maximum_is_remembered_for_one_to_two_spans() {
        let (t, mut window) = (crate::clock::now(), WindowedMax::new(2 * S));
        assert_eq!(window.max(t), None);
        window.record(t, 7);
        window.record(t + S, 3);
        assert_eq!(window.max(t + S), Some(7));
        window.record(t + 3 * S, 5);
        assert_eq!(window.max(t + 3 * S), Some(7));
        assert_eq!(window.max(t + 5 * S), Some(5));
        assert_eq!(window.max(t + 60 * S), None);
    }

    #[test]
    fn reversed_values_yield_the_minimum() {
        let (t, mut window) = (crate::clock::now(), WindowedMax::new(S));
        for value in [4, -2, 9] {
            window.record(t, Reverse(value));
        }
        assert_eq!(window.max(t), Some(Reverse(-2)));
    }
}
