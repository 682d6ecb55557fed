//! Datagram sequence numbers: which came twice, and how many never came.

/// Follows the sequence numbers of one direction of a session.
///
/// The window is that of RFC 6479's anti-replay check: the newest [`WINDOW`] numbers
/// are remembered one by one, anything older is too old to tell.
#[derive(Clone, Debug)]
pub struct SequenceTracker {
    window: [u64; WORDS],
    first: Option<u64>,
    highest: u64,
    received: u64,
}

/// What a sequence number says of its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has not come before.
    Fresh,
    /// It has.
    Duplicate,
    /// It is [`WINDOW`] or more behind the newest.
    TooOld,
}

impl SequenceTracker {
    /// A tracker that has seen nothing.
    pub fn new() -> Self {
        Self { window: [0; WORDS], first: None, highest: 0, received: 0 }
    }

    /// What `sequence` would be; notes nothing.
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

    /// Notes the arrival of `sequence`.
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

    /// The newest number that has come; zero before the first.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// How many different datagrams have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many of those sent between the first and the newest that came have not.
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

/// The word of the window, and the bit in it, that stand for `sequence`.
fn place(sequence: u64) -> (usize, u64) {
    ((sequence / 64 % WORDS as u64) as usize, 1 << (sequence % 64))
}

impl Default for SequenceTracker {
    fn default() -> Self {
        Self::new()
    }
}

const WORDS: usize = 17;

/// How far behind the newest a datagram may come and still be told from a duplicate:
/// ten 720p frames' worth. One word more is kept, since the newest word is partly ahead.
pub const WINDOW: u64 = (WORDS as u64 - 1) * 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn gaps_are_losses_until_they_are_filled() {
        let mut t = SequenceTracker::new();
        for sequence in [10, 11, 14] {
            assert_eq!(t.record(sequence), Arrival::Fresh);
        }
        assert_eq!((t.received(), t.lost()), (3, 2));
        assert_eq!(t.record(12), Arrival::Fresh);
        assert_eq!(t.lost(), 1);
    }

    #[test]
    fn the_first_that_comes_need_not_be_the_first_that_was_sent() {
        let mut t = SequenceTracker::new();
        t.record(5);
        assert_eq!(t.record(3), Arrival::Fresh);
        assert_eq!((t.received(), t.lost()), (2, 1));
    }

    #[test]
    fn what_is_behind_the_window_is_too_old() {
        let mut t = SequenceTracker::new();
        t.record(WINDOW + 5);
        assert_eq!(t.record(6), Arrival::Fresh);
        assert_eq!(t.record(6), Arrival::Duplicate);
        assert_eq!(t.record(5), Arrival::TooOld);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec(-1100_i64..1100, 1..400)) {
            let (mut t, mut seen, mut at, mut highest) = (SequenceTracker::new(), HashSet::new(), 5000_i64, 0);
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
