//! Which datagram length to probe next.

use crate::net::link::LinkInfo;

/// The lengths that are worth a probe, in bytes of UDP payload.
#[derive(Clone, Debug)]
pub(super) struct Search {
    /// The longest useful length, given the kind of path and the peer's limit.
    cap: usize,
    usual: [usize; 2],
    /// The shortest length known not to pass, or the cap plus one.
    too_long: usize,
    /// A limit reported by a router or this host, and the length that passed before the report.
    hints: [Option<usize>; 2],
}

impl Search {
    pub(super) fn new(link: LinkInfo, peer_limit: usize) -> Self {
        let (usual, cap) = (link.usual_datagram_lens, peer_limit.min(link.max_datagram_len()));
        Self { cap, usual, too_long: cap + 1, hints: [None; 2] }
    }

    /// The longest useful length.
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// Discards everything known, after a change of path.
    pub(super) fn reset(&mut self) {
        self.forget_failures();
        self.hints = [None; 2];
    }

    /// Allows lengths that did not pass to be probed again, since the path may have become wider.
    pub(super) fn forget_failures(&mut self) {
        self.too_long = self.cap + 1;
    }

    /// Records that `len` bytes do not pass.
    pub(super) fn exclude(&mut self, len: usize) {
        self.too_long = self.too_long.min(len);
    }

    /// Whether `len` bytes are known not to pass, or are more than is useful.
    pub(super) fn is_excluded(&self, len: usize) -> bool {
        len >= self.too_long
    }

    /// Makes `len` the next length to probe: a limit that a router or this host reported.
    pub(super) fn hint(&mut self, len: usize) {
        self.hints[0] = Some(len);
    }

    /// Makes `len` the length to probe after the reported limit, since it passed before the report.
    pub(super) fn hint_passed(&mut self, len: usize) {
        self.hints[1] = Some(len);
    }

    /// The next length to probe above `in_use`: the reported limit, the length that passed before,
    /// the usual lengths, then bisection. `None` once nothing is left.
    pub(super) fn next_len(&mut self, in_use: usize) -> Option<usize> {
        let range = in_use + 1..self.too_long;
        let mut hints = self.hints.iter_mut().filter_map(Option::take);
        if let Some(hint) = hints.find(|len| range.contains(len)) {
            return Some(hint);
        }
        let usual = SHORT_USUAL.into_iter().chain(self.usual).chain([self.cap]);
        let mut likely = usual.filter(|len| range.contains(len));
        if let Some(len) = likely.next() {
            return Some(len);
        }
        if range.len() < GRANULARITY {
            return None;
        }
        // A path rarely carries more than a usual length. One probe just above it confirms this.
        let is_usual = self.usual.contains(&in_use);
        let middle = usize::midpoint(in_use, self.too_long);
        Some(if is_usual { in_use + GRANULARITY } else { middle })
    }
}

/// MTUs of 576 and 1000 bytes, less the headers of IPv4 and UDP.
const SHORT_USUAL: [usize; 2] = [548, 972];

/// A smaller gain, in bytes, is not worth a probe.
pub(super) const GRANULARITY: usize = 16;
