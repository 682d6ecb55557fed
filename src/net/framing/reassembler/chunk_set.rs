//! The set of a frame's chunks that have been received.

use crate::net::{framing::fec::Blocks, wire::video::Extent};

/// A frame's received source chunks with their CRCs, and its received parity chunks.
#[derive(Debug, Default)]
pub(super) struct ChunkSet {
    pub(super) extent: Option<Extent>,
    /// Derived from the extent.
    blocks: Option<Blocks>,
    bits: Vec<u64>,
    pub(super) crcs: Vec<u32>,
    count: usize,
    pub(super) parity: Vec<u16>,
    parity_bits: Vec<u64>,
    /// Once the extent is known: how many chunks of either kind have been received for each block.
    /// Recounting at each chunk would take milliseconds in the largest frames.
    received_in_block: Vec<u16>,
    /// How many blocks have received fewer chunks than they have source chunks.
    short_blocks: usize,
}

impl ChunkSet {
    pub(super) fn learn(&mut self, extent: Option<Extent>) {
        let (None, Some(extent)) = (self.extent, extent) else { return };
        self.extent = Some(extent);
        let blocks = Blocks::of(extent.source_chunks);
        self.blocks = Some(blocks);
        self.received_in_block.resize(blocks.count().into(), 0);
        self.short_blocks = self.received_in_block.len();
        for word in 0..self.bits.len() {
            let mut left = self.bits[word];
            while left != 0 {
                self.count_in(blocks, (word * 64) as u16 + left.trailing_zeros() as u16);
                left &= left - 1;
            }
        }
    }

    /// Counts a received chunk of either kind.
    fn count_in(&mut self, blocks: Blocks, index: u16) {
        let (block, _) = blocks.place(index);
        let received_in_block = &mut self.received_in_block[usize::from(block)];
        *received_in_block += 1;
        self.short_blocks -= usize::from(*received_in_block == blocks.source_in(block));
    }

    /// Marks source chunk `chunk`, whose CRC is `crc`. Returns false if it was already marked.
    pub(super) fn set(&mut self, chunk: u16, crc: u32) -> bool {
        let (word, bit) = (usize::from(chunk / 64), 1 << (chunk % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
            self.crcs.resize(self.bits.len() * 64, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        if new {
            self.count += 1;
            self.crcs[usize::from(chunk)] = crc;
            if let Some(blocks) = self.blocks() {
                self.count_in(blocks, chunk);
            }
        }
        new
    }

    /// Marks a parity chunk. Returns false if it was already marked, or if it cannot be: the extent
    /// is unknown, or `index` is not below the parity capacity.
    pub(super) fn set_parity(&mut self, index: u16) -> bool {
        let Some(blocks) = self.blocks().filter(|b| index < b.parity_capacity()) else {
            return false;
        };
        let (word, bit) = (usize::from(index / 64), 1 << (index % 64));
        if self.parity_bits.len() <= word {
            self.parity_bits.resize(word + 1, 0);
        }
        let new = self.parity_bits[word] & bit == 0;
        if new {
            self.parity_bits[word] |= bit;
            self.parity.push(index);
            self.count_in(blocks, index);
        }
        new
    }

    pub(super) fn has(&self, chunk: u16) -> bool {
        let word = self.bits.get(usize::from(chunk / 64));
        word.is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// The highest source chunk received, or 0.
    pub(super) fn highest(&self) -> u16 {
        let word = self.bits.iter().rposition(|&word| word != 0).unwrap_or(0);
        let bits = self.bits.get(word).filter(|&&w| w != 0).map_or(0, |w| 63 - w.leading_zeros());
        (word * 64) as u16 + bits as u16
    }

    pub(super) fn blocks(&self) -> Option<Blocks> {
        self.blocks
    }

    /// Whether source chunks are missing and parity suffices in every block.
    pub(super) fn is_recoverable(&self) -> bool {
        let Some(extent) = self.extent else { return false };
        self.count < usize::from(extent.source_chunks) && self.short_blocks == 0
    }

    /// How many more chunks of either kind `block` needs.
    pub(super) fn needed(&self, blocks: Blocks, block: u16) -> u16 {
        let received_in_block =
            self.received_in_block.get(usize::from(block)).copied().unwrap_or(0);
        blocks.source_in(block).saturating_sub(received_in_block)
    }

    /// The number of source chunks before the first missing one.
    pub(super) fn leading(&self) -> usize {
        let full = self.bits.iter().take_while(|&&word| word == u64::MAX).count();
        full * 64 + self.bits.get(full).map_or(0, |word| word.trailing_ones() as usize)
    }

    /// Clears the set for reuse.
    pub(super) fn clear(&mut self) {
        self.bits.clear();
        self.crcs.clear();
        self.parity.clear();
        self.parity_bits.clear();
        self.received_in_block.clear();
        (self.extent, self.blocks, self.count, self.short_blocks) = (None, None, 0, 0);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.extent.is_some_and(|e| self.count == usize::from(e.source_chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How many more chunks `block` needs, counted from scratch.
    fn counted(set: &ChunkSet, blocks: Blocks, block: u16) -> u16 {
        let sources = 0..blocks.source_in(block);
        let missing = sources.filter(|&nth| !set.has(blocks.index(block, nth))).count();
        let parity = set.parity.iter().filter(|&&index| blocks.place(index).0 == block).count();
        missing.saturating_sub(parity) as u16
    }

    proptest! {
        #[test]
        fn incremental_counts_match_a_full_recount(
            source_chunks in 1_u16..900,
            told_at in 0_usize..1200,
            arrivals in prop::collection::vec((any::<bool>(), any::<u16>()), 1200),
        ) {
            let blocks = Blocks::of(source_chunks);
            let extent = Extent { body_len: 1, source_chunks, parity_chunks: 1 };
            let mut set = ChunkSet::default();
            for _ in 0..2 {
                for (nth, &(is_parity, index)) in arrivals.iter().enumerate() {
                    set.learn((nth >= told_at).then_some(extent));
                    if is_parity {
                        set.set_parity(index % blocks.parity_capacity());
                    } else {
                        set.set(index % source_chunks, 0);
                    }
                    if nth % 50 == 0 && set.extent.is_some() {
                        let needs: Vec<_> = (0..blocks.count()).map(|b| counted(&set, blocks, b)).collect();
                        let kept: Vec<_> = (0..blocks.count()).map(|b| set.needed(blocks, b)).collect();
                        prop_assert_eq!(&needs, &kept);
                        let enough = !set.is_complete() && needs.iter().all(|&needed| needed == 0);
                        prop_assert_eq!(set.is_recoverable(), enough);
                    }
                }
                set.clear();
            }
        }
    }
}
