//! Datagram sequence numbers: detects duplicates and counts losses.

/// Tracks the sequence numbers of one direction of a session.
///
/// The window is that of RFC 6479's anti-replay check: each of the newest [`WINDOW`] numbers is
/// tracked, and anything older is [`Arrival::TooOld`].
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    window: [u64; WORDS],
    first: Option<u64>,
    highest: u64,
    received: u64,
}

/// The result of checking a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has not arrived before.
    Fresh,
    /// It has arrived before.
    Duplicate,
    /// It is [`WINDOW`] or more behind the newest.
    TooOld,
}

impl ReplayWindow {
    /// Creates a tracker without arrivals.
    pub fn new() -> Self {
        Self { window: [0; WORDS], first: None, highest: 0, received: 0 }
    }

    /// Checks `sequence` without recording it.
    pub fn judge(&self, sequence: u64) -> Arrival {
        if self.first.is_none() || sequence > self.highest {
            return Arrival::Fresh;
        }
        if self.highest - sequence >= WINDOW {
            return Arrival::TooOld;
        }
        let (word, bit) = place(sequence);
        if self.window[word] & bit == 0 { Arrival::Fresh } else { Arrival::Duplicate }
    }

    /// Checks and records the arrival of `sequence`.
    pub fn record(&mut self, sequence: u64) -> Arrival {
        let arrival = self.judge(sequence);
        if arrival != Arrival::Fresh {
            return arrival;
        }
        if self.first.is_none() {
            self.highest = sequence;
        }
        if sequence > self.highest {
            self.advance(sequence);
        }
        let (word, bit) = place(sequence);
        self.window[word] |= bit;
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        self.received += 1;
        Arrival::Fresh
    }

    /// The highest number that has arrived; zero before the first.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// The number of distinct datagrams that have arrived.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The number of datagrams missing between the lowest and the highest that arrived.
    pub fn lost(&self) -> u64 {
        self.first.map_or(0, |first| self.highest - first + 1 - self.received)
    }

    fn advance(&mut self, to: u64) {
        let (from_word, to_word) = (self.highest / 64, to / 64);
        for word in (from_word + 1..=to_word).take(WORDS) {
            self.window[word as usize % WORDS] = 0;
        }
        self.highest = to;
    }
}

/// The word of the window and the bit in it for `sequence`.
fn place(sequence: u64) -> (usize, u64) {
    ((sequence / 64 % WORDS as u64) as usize, 1 << (sequence % 64))
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

const WORDS: usize = 17;

/// The number of newest sequence numbers tracked, about ten 720p frames. The array has one more
/// word, since the newest word is only partly in use.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn gaps_count_as_lost_until_filled() {
        let mut t = ReplayWindow::new();
        for sequence in [10, 11, 14] {
            assert_eq!(t.record(sequence), Arrival::Fresh);
        }
        assert_eq!((t.received(), t.lost()), (3, 2));
        assert_eq!(t.record(12), Arrival::Fresh);
        assert_eq!(t.lost(), 1);
    }

    #[test]
    fn the_first_datagram_may_arrive_out_of_order() {
        let mut t = ReplayWindow::new();
        t.record(5);
        assert_eq!(t.record(3), Arrival::Fresh);
        assert_eq!((t.received(), t.lost()), (2, 1));
    }

    #[test]
    fn sequence_numbers_behind_the_window_are_too_old() {
        let mut t = ReplayWindow::new();
        t.record(WINDOW + 5);
        assert_eq!(t.record(6), Arrival::Fresh);
        assert_eq!(t.record(6), Arrival::Duplicate);
        assert_eq!(t.record(5), Arrival::TooOld);
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(steps in prop::collection::vec(-1100_i64..1100, 1..400)) {
            let (mut t, mut seen, mut at, mut highest) = (ReplayWindow::new(), HashSet::new(), 5000_i64, 0);
            for step in steps {
                at = (at + step).max(0);
                let sequence = at as u64;
                let expected = if !seen.is_empty() && highest >= sequence + WINDOW {
                    Arrival::TooOld
                } else if seen.insert(sequence) {
                    Arrival::Fresh
                } else {
                    Arrival::Duplicate
                };
                highest = highest.max(sequence);
                prop_assert_eq!(t.record(sequence), expected);
            }
        }
    }
}
