//! Which chunks of a frame have come.

use crate::net::{fec::Blocks, wire::video::Extent};

/// Which source chunks of a frame have come, the CRC of each, and which parity chunks.
#[derive(Debug, Default)]
pub(super) struct ChunkSet {
    pub(super) extent: Option<Extent>,
    bits: Vec<u64>,
    pub(super) crcs: Vec<u32>,
    count: usize,
    pub(super) parity: Vec<u16>,
}

impl ChunkSet {
    pub(super) fn learn(&mut self, extent: Option<Extent>) {
        self.extent = self.extent.or(extent);
    }

    /// Marks `chunk`, whose bytes have the CRC `crc`; false if it was marked already.
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
        }
        new
    }

    /// Marks a parity chunk; false if it was marked already, or cannot be.
    pub(super) fn set_parity(&mut self, index: u16) -> bool {
        let capacity = self.blocks().map_or(0, Blocks::parity_capacity);
        let new = index < capacity && !self.parity.contains(&index);
        if new {
            self.parity.push(index);
        }
        new
    }

    pub(super) fn has(&self, chunk: u16) -> bool {
        let word = self.bits.get(usize::from(chunk / 64));
        word.is_some_and(|word| word >> (chunk % 64) & 1 == 1)
    }

    /// The highest source chunk that has come, or 0.
    pub(super) fn highest(&self) -> u16 {
        let word = self.bits.iter().rposition(|&word| word != 0).unwrap_or(0);
        let bits = self.bits.get(word).filter(|&&w| w != 0).map_or(0, |w| 63 - w.leading_zeros());
        (word * 64) as u16 + bits as u16
    }

    pub(super) fn blocks(&self) -> Option<Blocks> {
        self.extent.map(|e| Blocks::of(e.source_chunks))
    }

    /// Whether source chunks are missing, and parity makes up for them in every block.
    pub(super) fn are_enough(&self) -> bool {
        let Some(extent) = self.extent else { return false };
        let source_chunks = usize::from(extent.source_chunks);
        let could_be =
            self.count < source_chunks && self.count + self.parity.len() >= source_chunks;
        could_be && {
            let blocks = Blocks::of(extent.source_chunks);
            blocks.count() == 1 || (0..blocks.count()).all(|b| self.needed(blocks, b) == 0)
        }
    }

    /// How many chunks more `block` needs, of whichever sort.
    pub(super) fn needed(&self, blocks: Blocks, block: u16) -> u16 {
        let sources = 0..blocks.source_in(block);
        let missing = sources.filter(|&nth| !self.has(blocks.index(block, nth))).count();
        let parity = self.parity.iter().filter(|&&index| blocks.place(index).0 == block).count();
        missing.saturating_sub(parity) as u16
    }

    /// How many chunks there are before the first that is missing.
    pub(super) fn leading(&self) -> usize {
        let full = self.bits.iter().take_while(|&&word| word == u64::MAX).count();
        full * 64 + self.bits.get(full).map_or(0, |word| word.trailing_ones() as usize)
    }

    /// Makes it the set of another frame.
    pub(super) fn clear(&mut self) {
        self.bits.clear();
        self.crcs.clear();
        self.parity.clear();
        (self.extent, self.count) = (None, 0);
    }

    pub(super) fn all_there(&self) -> bool {
        self.extent.is_some_and(|e| self.count == usize::from(e.source_chunks))
    }
}
