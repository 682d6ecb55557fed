//! When statistics are published.

use std::time::{Duration, Instant};

/// Statistics are published at intervals, and also a while after a turn that no other follows.
#[derive(Debug, Default)]
pub(super) struct PublishSchedule {
    published: Option<Instant>,
    /// Whether there has been a turn since.
    is_stale: bool,
    drops_read: Option<Instant>,
}

impl PublishSchedule {
    /// Records a turn, which may have changed the statistics. Returns whether to publish them now.
    pub(super) fn note_turn(&mut self, now: Instant) -> bool {
        self.is_stale = true;
        self.published.is_none_or(|at| now - at >= PUBLISH_INTERVAL)
    }

    /// Records that the statistics are published now. Returns whether to read the kernel's drop
    /// counters.
    pub(super) fn note_published(&mut self, now: Instant) -> bool {
        self.published = Some(now);
        self.is_stale = false;
        let drops_due = self.drops_read.is_none_or(|at| now - at >= DROPS_INTERVAL);
        if drops_due {
            self.drops_read = Some(now);
        }
        drops_due
    }

    /// When to publish changed statistics even if no turn is due. During a stream, turns follow
    /// anyway, so this adds none.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.published.filter(|_| self.is_stale).map(|at| at + PUBLISH_WAIT_LIMIT)
    }
}

/// The minimum interval between publications.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

/// How long changed statistics may stay unpublished when no turn follows.
const PUBLISH_WAIT_LIMIT: Duration = Duration::from_millis(250);

/// The interval of reading the kernel's drop counters, since parsing its tables takes a while.
const DROPS_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_published_at_intervals() {
        let now = crate::clock::now();
        let mut schedule = PublishSchedule::default();
        assert!(schedule.note_turn(now));
        schedule.note_published(now);
        assert!(!schedule.note_turn(now + Duration::from_millis(99)));
        assert!(schedule.note_turn(now + PUBLISH_INTERVAL));
    }

    #[test]
    fn the_last_turn_is_published_even_if_no_other_follows() {
        let now = crate::clock::now();
        let mut schedule = PublishSchedule::default();
        schedule.note_published(now);
        assert_eq!(schedule.poll_timeout(), None, "nothing has changed");
        schedule.note_turn(now + Duration::from_millis(50));
        assert_eq!(schedule.poll_timeout(), Some(now + PUBLISH_WAIT_LIMIT));
        schedule.note_published(now + PUBLISH_WAIT_LIMIT);
        assert_eq!(schedule.poll_timeout(), None);
    }

    #[test]
    fn kernel_drops_are_read_less_often() {
        let now = crate::clock::now();
        let mut schedule = PublishSchedule::default();
        assert!(schedule.note_published(now));
        assert!(!schedule.note_published(now + Duration::from_millis(999)));
        assert!(schedule.note_published(now + DROPS_INTERVAL));
    }
}
