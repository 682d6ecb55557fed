//! Hashes and parity of a frame, computed once for all its receivers.
//!
//! Each receiver gets a frame's chunks with its own headers, sequence numbers and keys, but their
//! payloads depend only on the frame and the chunk length. So for all receivers with that chunk
//! length, each source chunk is hashed once, and parity chunks are made again only when a receiver
//! needs more of them. Each other chunk length has its own entry.
//!
//! An entry can be rebuilt from its frame at any time, so none has to be released, and evicting one
//! too early costs only time.

use crate::net::{
    frame::{FrameView, OutgoingFrame, Progress},
    framing::fec::{Blocks, ParityEncoder},
    wire::{
        checksum::{CrcCombiner, Hashed},
        video::{Extent, FRAME_CRC_LEN, copy_body},
    },
};

/// Identifies a frame among those of one cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameKey(u64);

/// A frame that goes to any number of receivers.
#[derive(Clone, Debug)]
pub struct SharedFrame {
    /// Its key in the cache.
    pub key: FrameKey,
    /// The frame.
    pub frame: OutgoingFrame,
}

/// The hashes and parity of the frames that are being sent.
#[derive(Debug)]
pub struct ChunkCache {
    entries: Vec<Entry>,
    /// The maximum number of entries.
    capacity: usize,
    next_key: u64,
    /// Counts the look-ups.
    uses: u64,
    /// Created on first use.
    encoder: Option<ParityEncoder>,
}

#[derive(Debug)]
struct Entry {
    key: FrameKey,
    last_use: u64,
    chunks: FrameChunks,
}

/// One frame's chunks of one length.
#[derive(Debug, Default)]
struct FrameChunks {
    chunk_len: u16,
    /// The CRCs of the source chunks hashed so far.
    source_crcs: Vec<u32>,
    /// The CRC of the picture up to the end of these chunks.
    picture_crc: u32,
    /// The parity chunks made so far, concatenated.
    parity: Vec<u8>,
    parity_count: u16,
    crc_combiner: CrcCombiner,
}

/// Access to one frame's chunks of one length. Each call takes the frame's data.
#[derive(Debug)]
pub struct Chunks<'a> {
    chunks: &'a mut FrameChunks,
    encoder: &'a mut Option<ParityEncoder>,
}

impl ChunkCache {
    /// An empty cache for one receiver.
    pub fn new() -> Self {
        Self { entries: Vec::new(), capacity: 1, next_key: 0, uses: 0, encoder: None }
    }

    /// Gives `frame` a key. From now on, the cache keeps one entry per receiver, since each is sent
    /// one frame at a time.
    pub fn share(&mut self, frame: OutgoingFrame, receivers: usize) -> SharedFrame {
        self.capacity = receivers.max(1);
        self.entries.truncate(self.capacity);
        let key = FrameKey(self.next_key);
        self.next_key += 1;
        SharedFrame { key, frame }
    }

    /// The chunks of the frame with this key, of `chunk_len` bytes, which is even and not zero.
    pub fn chunks(&mut self, key: FrameKey, chunk_len: u16) -> Chunks<'_> {
        self.uses += 1;
        let is_it = |entry: &Entry| entry.key == key && entry.chunks.chunk_len == chunk_len;
        let index = self.entries.iter().position(is_it).unwrap_or_else(|| self.add(key, chunk_len));
        let entry = &mut self.entries[index];
        entry.last_use = self.uses;
        Chunks { chunks: &mut entry.chunks, encoder: &mut self.encoder }
    }

    /// The chunks of a cache's only frame, which needs no key.
    #[cfg(any(test, feature = "internals"))]
    pub fn single(&mut self, chunk_len: u16) -> Chunks<'_> {
        self.chunks(FrameKey(0), chunk_len)
    }

    /// Adds an entry, in place of the least recently used one if the cache is full.
    fn add(&mut self, key: FrameKey, chunk_len: u16) -> usize {
        if self.entries.len() < self.capacity {
            self.entries.push(Entry { key, last_use: 0, chunks: FrameChunks::default() });
        }
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.last_use);
        let index = oldest.expect("the capacity is not zero").0;
        let entry = &mut self.entries[index];
        entry.key = key;
        entry.chunks.restart(chunk_len);
        index
    }
}

impl Default for ChunkCache {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunks<'_> {
    /// The length and CRC of source chunk `chunk`, all of which is in `data`.
    pub fn source(&mut self, data: &FrameView<'_>, chunk: u16) -> Hashed {
        self.chunks.hash_through(data, chunk);
        let len = self.chunks.source_len(data, chunk);
        Hashed { len, crc: self.chunks.source_crcs[usize::from(chunk)] }
    }

    /// Parity chunk `index`, below `count`, of the complete frame `data`. Makes the first `count`
    /// parity chunks unless they have been made.
    pub fn parity(&mut self, data: &FrameView<'_>, index: u16, count: u16) -> &[u8] {
        if self.chunks.parity_count < count {
            let encoder = self.encoder.get_or_insert_with(ParityEncoder::new);
            self.chunks.make_parity(data, count, encoder);
        }
        let len = usize::from(self.chunks.chunk_len);
        &self.chunks.parity[usize::from(index) * len..][..len]
    }

    /// The CRC-32 of the complete picture `data`.
    pub fn picture_crc(&mut self, data: &FrameView<'_>) -> [u8; FRAME_CRC_LEN] {
        if let Some(source_chunks) = self.chunks.source_chunks(data) {
            self.chunks.hash_through(data, source_chunks - 1);
        }
        self.chunks.picture_crc.to_be_bytes()
    }
}

impl FrameChunks {
    /// Begins another frame in the same memory.
    fn restart(&mut self, chunk_len: u16) {
        self.chunk_len = chunk_len;
        self.source_crcs.clear();
        self.picture_crc = 0;
        self.parity.clear();
        self.parity_count = 0;
    }

    /// The number of source chunks of a complete frame; `None` if it is empty or too large.
    fn source_chunks(&self, data: &FrameView<'_>) -> Option<u16> {
        let extent = Extent::of(data.bytes().len() + FRAME_CRC_LEN, self.chunk_len)?;
        Some(extent.source_chunks)
    }

    /// The length of source chunk `chunk`. The last chunk of a complete frame may be short.
    fn source_len(&self, data: &FrameView<'_>, chunk: u16) -> usize {
        let crc_len = if matches!(data.progress(), Progress::Whole(_)) { FRAME_CRC_LEN } else { 0 };
        let rest = (data.bytes().len() + crc_len)
            .saturating_sub(usize::from(chunk) * usize::from(self.chunk_len));
        rest.min(self.chunk_len.into())
    }

    /// Hashes the source chunks up to `chunk`, except those that have been hashed before.
    fn hash_through(&mut self, data: &FrameView<'_>, chunk: u16) {
        while self.source_crcs.len() <= usize::from(chunk) {
            let next = self.source_crcs.len() as u16;
            let crc = self.hash(data, next);
            self.source_crcs.push(crc);
        }
    }

    /// The CRC of source chunk `chunk`. All chunks before it have been hashed.
    fn hash(&mut self, data: &FrameView<'_>, chunk: u16) -> u32 {
        let (picture, len) = (data.bytes(), self.source_len(data, chunk));
        let at = usize::from(chunk) * usize::from(self.chunk_len);
        let rest = &picture[at.min(picture.len())..];
        let hashed = Hashed::of(&rest[..rest.len().min(len)]);
        self.picture_crc = self.crc_combiner.combine(self.picture_crc, hashed);
        if hashed.len == len {
            return hashed.crc;
        }
        // The picture's CRC follows, or the part of it that is not in the previous chunk.
        let mut end = [0; FRAME_CRC_LEN];
        let end = &mut end[..len - hashed.len];
        copy_body(picture, self.picture_crc.to_be_bytes(), at + hashed.len, end);
        self.crc_combiner.combine(hashed.crc, Hashed::of(end))
    }

    fn make_parity(&mut self, data: &FrameView<'_>, count: u16, encoder: &mut ParityEncoder) {
        let Some(source_chunks) = self.source_chunks(data) else { return };
        self.hash_through(data, source_chunks - 1);
        let (picture, crc) = (data.bytes(), self.picture_crc.to_be_bytes());
        let len = usize::from(self.chunk_len);
        let source =
            |chunk, bytes: &mut [u8]| copy_body(picture, crc, usize::from(chunk) * len, bytes);
        let blocks = Blocks::of(source_chunks);
        encoder.encode(blocks, self.chunk_len, 0..count, source, &mut self.parity);
        self.parity_count = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::frame::FrameBytes;

    fn frame(len: usize) -> OutgoingFrame {
        let bytes: Vec<u8> = (0..len).map(|i| ((i * i) >> 3) as u8).collect();
        OutgoingFrame { data: bytes.into(), captured: crate::clock::now() }
    }

    fn body(frame: &OutgoingFrame) -> Vec<u8> {
        let data = frame.data.view();
        [data.bytes(), &crc32fast::hash(data.bytes()).to_be_bytes()].concat()
    }

    #[test]
    fn each_source_chunk_is_hashed_as_it_is_sent() {
        for len in 1..60 {
            let mut cache = ChunkCache::new();
            let shared = cache.share(frame(len), 1);
            let (body, data) = (body(&shared.frame), shared.frame.data.view());
            for order in [[0, 1], [1, 0]] {
                let mut chunks = cache.chunks(shared.key, 10);
                let all: Vec<&[u8]> = body.chunks(10).collect();
                let picked = order.map(|i| i * (all.len() - 1));
                for chunk in picked {
                    assert_eq!(chunks.source(&data, chunk as u16), Hashed::of(all[chunk]), "{len}");
                }
                let crc = crc32fast::hash(data.bytes()).to_be_bytes();
                assert_eq!(chunks.picture_crc(&data), crc);
            }
        }
    }

    #[test]
    fn a_growing_frame_is_hashed_as_it_grows() {
        let data = FrameBytes::growing(0);
        let mut cache = ChunkCache::new();
        let growing = OutgoingFrame { data: data.clone(), captured: crate::clock::now() };
        let key = cache.share(growing, 1).key;
        data.append(&[7; 25]);
        let first = cache.chunks(key, 10).source(&data.view(), 1);
        assert_eq!(first, Hashed::of(&[7; 10]));
        data.finish();
        let end = [&[7; 5][..], &crc32fast::hash(&[7; 25]).to_be_bytes()].concat();
        assert_eq!(cache.chunks(key, 10).source(&data.view(), 2), Hashed::of(&end));
    }

    /// Parity chunks do not depend on how many are made, so receivers may want different numbers.
    #[test]
    fn receivers_share_parity_chunks_whatever_their_number() {
        let mut cache = ChunkCache::new();
        let shared = cache.share(frame(200), 2);
        let data = shared.frame.data.view();
        let few = cache.chunks(shared.key, 10).parity(&data, 1, 2).to_vec();
        let many = cache.chunks(shared.key, 10).parity(&data, 1, 9).to_vec();
        let made = cache.entries[0].chunks.parity.clone();
        let again = cache.chunks(shared.key, 10).parity(&data, 1, 2).to_vec();
        assert!(few == many && many == again);
        assert!(
            made.len() == 90 && cache.entries[0].chunks.parity == made,
            "kept for a smaller count"
        );
    }

    #[test]
    fn each_chunk_length_has_an_entry_and_the_oldest_one_is_replaced() {
        let mut cache = ChunkCache::new();
        let frames: Vec<_> = (0..3).map(|_| cache.share(frame(40), 2)).collect();
        let data = frames[0].frame.data.view();
        for (frame, chunk_len) in [(0, 10), (0, 20), (0, 10), (1, 20), (2, 20)] {
            cache.chunks(frames[frame].key, chunk_len).source(&data, 0);
        }
        let kept = cache.entries.iter().map(|entry| (entry.key.0, entry.chunks.chunk_len));
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 20), (2, 20)]);
        let expected = Hashed::of(&body(&frames[0].frame)[10..20]);
        assert_eq!(cache.chunks(frames[0].key, 10).source(&data, 1), expected, "made again");
        cache.share(frame(1), 1);
        assert_eq!(cache.entries.len(), 1, "a receiver has left");
    }
}
