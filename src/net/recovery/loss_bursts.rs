//! Gaps in the sequence numbers: measures runs of lost datagrams, and the lateness of reordered
//! ones.
//!
//! A gap opens when a number is skipped. A datagram that fills it later was reordered, and its
//! lateness is the time since the gap opened. What is missing after the reorder grace counts as
//! lost.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::windowed_max::WindowedMax;

/// Tracks the gaps of one direction of a session.
#[derive(Clone, Debug)]
pub struct LossBursts {
    gaps: VecDeque<Gap>,
    highest: Option<u64>,
    largest_burst: u16,
    /// Lateness of reordered datagrams.
    lateness: WindowedMax<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u64,
    end: u64,
    missing: u64,
    opened: Instant,
}

impl LossBursts {
    /// Creates a tracker without arrivals.
    pub fn new() -> Self {
        Self {
            gaps: VecDeque::with_capacity(MAX_GAPS),
            highest: None,
            largest_burst: 0,
            lateness: WindowedMax::new(REMEMBERED),
        }
    }

    /// Records the arrival of a datagram that is not a duplicate.
    pub fn record(&mut self, now: Instant, sequence: u64) {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return;
        };
        if sequence > highest {
            if sequence > highest + 1 {
                self.open(Gap {
                    first: highest + 1,
                    end: sequence,
                    missing: sequence - highest - 1,
                    opened: now,
                });
            }
            self.highest = Some(sequence);
        } else {
            self.fill(now, sequence);
        }
    }

    /// The reorder grace: how long to wait for reordered datagrams before a gap counts as loss. It
    /// is a quarter more than the maximum lateness of the last 2 to 4 s, within [`MIN_GRACE`] and
    /// [`MAX_GRACE`].
    pub fn grace(&mut self, now: Instant) -> Duration {
        (self.lateness.max(now).unwrap_or_default() * 5 / 4).clamp(MIN_GRACE, MAX_GRACE)
    }

    /// The most datagrams lost in one gap, among the gaps that became losses since the last call.
    pub fn take_largest_burst(&mut self, now: Instant) -> u16 {
        self.settle(now);
        std::mem::take(&mut self.largest_burst)
    }

    /// How many missing datagrams may still arrive, since their gaps are younger than the reorder
    /// grace.
    pub fn undecided(&mut self, now: Instant) -> u64 {
        self.settle(now);
        self.gaps.iter().map(|g| g.missing).sum()
    }

    fn open(&mut self, gap: Gap) {
        if self.gaps.len() == MAX_GAPS {
            self.settle_oldest();
        }
        self.gaps.push_back(gap);
    }

    fn fill(&mut self, now: Instant, sequence: u64) {
        let gap = self.gaps.iter_mut().find(|g| (g.first..g.end).contains(&sequence));
        let Some(gap) = gap else { return };
        gap.missing = gap.missing.saturating_sub(1);
        self.lateness.record(now, now.saturating_duration_since(gap.opened));
    }

    fn settle(&mut self, now: Instant) {
        let grace = self.grace(now);
        while self.gaps.front().is_some_and(|g| g.opened + grace <= now) {
            self.settle_oldest();
        }
    }

    fn settle_oldest(&mut self) {
        if let Some(gap) = self.gaps.pop_front() {
            let burst = gap.missing.min(u16::MAX.into()) as u16;
            self.largest_burst = self.largest_burst.max(burst);
        }
    }
}

impl Default for LossBursts {
    fn default() -> Self {
        Self::new()
    }
}

/// The minimum reorder grace, used on a path that does not reorder.
pub const MIN_GRACE: Duration = Duration::from_millis(1);

/// The maximum reorder grace. At 30 frames per second, later datagrams are as good as lost.
pub const MAX_GRACE: Duration = Duration::from_millis(25);

/// How long lateness is kept, at least.
const REMEMBERED: Duration = Duration::from_secs(2);

/// Maximum number of open gaps; beyond it the oldest counts as lost at once.
const MAX_GAPS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_longest_burst_is_reported_once_after_the_grace() {
        let (t, mut bursts) = (crate::clock::now(), LossBursts::new());
        for sequence in [0, 1, 3, 10, 11] {
            bursts.record(t, sequence);
        }
        assert_eq!(bursts.take_largest_burst(t), 0);
        assert_eq!(bursts.take_largest_burst(t + MS), 6);
        assert_eq!(bursts.take_largest_burst(t + 2 * MS), 0);
    }

    #[test]
    fn reordering_is_not_loss_and_extends_the_grace_for_a_while() {
        let (t, mut bursts) = (crate::clock::now(), LossBursts::new());
        bursts.record(t, 5);
        bursts.record(t, 8);
        assert_eq!(bursts.grace(t), MIN_GRACE);
        bursts.record(t + 4 * MS, 7);
        bursts.record(t + 4 * MS, 6);
        assert_eq!(bursts.grace(t + 4 * MS), 5 * MS);
        assert_eq!(bursts.take_largest_burst(t + 10 * MS), 0);
        assert_eq!(bursts.grace(t + 3000 * MS), 5 * MS);
        assert_eq!(bursts.grace(t + 6000 * MS), MIN_GRACE);
    }

    #[test]
    fn recent_gaps_are_undecided_until_the_grace_ends() {
        let (t, mut bursts) = (crate::clock::now(), LossBursts::new());
        for sequence in [0, 4, 2] {
            bursts.record(t, sequence);
        }
        assert_eq!(bursts.undecided(t), 2);
        assert_eq!(bursts.undecided(t + MS), 0);
        assert_eq!(bursts.take_largest_burst(t + MS), 2);
    }

    #[test]
    fn the_grace_is_bounded() {
        let (t, mut bursts) = (crate::clock::now(), LossBursts::new());
        bursts.record(t, 1);
        bursts.record(t, 3);
        bursts.record(t + 500 * MS, 2);
        assert_eq!(bursts.grace(t + 500 * MS), MAX_GRACE);
    }

    #[test]
    fn gaps_are_bounded_and_the_largest_burst_is_kept() {
        let (t, mut bursts) = (crate::clock::now(), LossBursts::new());
        bursts.record(t, 0);
        bursts.record(t, 100);
        for i in 0..1000 {
            bursts.record(t, 102 + 2 * i);
        }
        assert_eq!(bursts.gaps.len(), MAX_GAPS);
        assert_eq!(bursts.take_largest_burst(t), 99);
    }
}
