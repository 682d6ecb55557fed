//! One frame in reassembly: its source chunks in place, and its parity.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::chunk_set::ChunkSet;
use crate::net::{
    frame::{FrameId, ReceivedFrame},
    framing::fec::{Blocks, Incomplete, ParityDecoder},
    pool::{FrameBuf, FramePool},
    time::MediaTime,
    wire::{
        checksum::{CrcCombiner, Hashed},
        nack::{ChunkRun, MAX_NACK_BLOCKS, MissingChunks},
        video::{FRAME_CRC_LEN, VideoHeader},
    },
};

/// A frame in reassembly.
#[derive(Debug)]
pub(super) struct FrameAssembly {
    pub(super) frame: FrameId,
    pub(super) captured: MediaTime,
    pub(super) first_sent: MediaTime,
    pub(super) first_received: Instant,
    pub(super) last_received: Instant,
    /// The number of chunks received.
    arrived: u32,
    /// When the last source chunk arrived before the first NACK, or is estimated to have been due.
    last_unrequested: Instant,
    /// Whether chunks have been requested; later ones may be retransmissions.
    pub(super) is_requested: bool,
    /// The number of chunks recovered from parity.
    recovered: u16,
    pub(super) chunk_len: u16,
    /// Whether it has been returned as partial.
    pub(super) was_reported: bool,
    pub(super) chunks: ChunkSet,
    pub(super) body: FrameBuf,
    /// The parity chunks of `chunks.parity`, in the same order.
    pub(super) parity: FrameBuf,
}

/// The result of adding a chunk.
pub(super) enum Placed {
    Source,
    Parity,
    Duplicate,
    Conflict,
}

impl FrameAssembly {
    pub(super) fn new(
        now: Instant,
        header: &VideoHeader,
        chunks: ChunkSet,
        body: FrameBuf,
    ) -> Self {
        Self {
            frame: header.frame,
            captured: header.captured,
            first_sent: header.sent(),
            first_received: now,
            last_received: now,
            arrived: 0,
            last_unrequested: now,
            is_requested: false,
            recovered: 0,
            chunk_len: header.chunk_len,
            was_reported: false,
            chunks,
            body,
            parity: Vec::new().into(),
        }
    }

    pub(super) fn place(
        &mut self,
        now: Instant,
        header: &VideoHeader,
        payload: &[u8],
        crc: u32,
    ) -> Placed {
        if !self.agrees_with(header, payload) {
            return Placed::Conflict;
        }
        self.chunks.learn(header.extent);
        if !self.chunks.set(header.chunk, crc) {
            return Placed::Duplicate;
        }
        let end = header.offset() + payload.len();
        let known_len = self.chunks.extent.map_or(end, |e| e.body_len as usize);
        if self.body.len() < known_len {
            self.body.resize(known_len);
        }
        self.body.as_mut_slice()[header.offset()..end].copy_from_slice(payload);
        self.first_sent = self.first_sent.min(header.sent());
        if !self.is_requested {
            self.last_unrequested = now;
        }
        Placed::Source
    }

    /// Records that a chunk arrived at `now`.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        self.last_received = now;
        self.arrived += 1;
    }

    /// When the sender is assumed to have finished this frame, if no chunk arrives before then. A
    /// slow link spaces chunks out, so only a gap longer than the earlier gaps counts as silence.
    pub(super) fn quiet_at(&self) -> Instant {
        let took = self.last_received.saturating_duration_since(self.first_received);
        let mean_gap = took / self.arrived.saturating_sub(1).max(1);
        self.last_received + REPAIR_WAIT.max(mean_gap * QUIET_GAPS)
    }

    /// Stores a parity chunk, unless there is enough parity already.
    pub(super) fn place_parity(
        &mut self,
        header: &VideoHeader,
        index: u16,
        payload: &[u8],
        pool: &FramePool,
    ) -> Placed {
        if !self.agrees_with(header, &[]) {
            return Placed::Conflict;
        }
        self.chunks.learn(header.extent);
        let Some(blocks) = self.chunks.blocks().filter(|b| index < b.parity_capacity()) else {
            return Placed::Conflict;
        };
        if self.chunks.is_recoverable() {
            return Placed::Parity;
        }
        let at = self.chunks.parity.len() * payload.len();
        if !self.chunks.set_parity(index) {
            return Placed::Duplicate;
        }
        if at == 0 {
            let made = header.extent.map_or(1, |e| e.parity_chunks.min(blocks.parity_capacity()));
            self.parity = pool.take(usize::from(made) * payload.len());
        }
        if self.parity.len() < at + payload.len() {
            self.parity.resize(at + payload.len());
        }
        self.parity.as_mut_slice()[at..at + payload.len()].copy_from_slice(payload);
        self.first_sent = self.first_sent.min(header.sent());
        Placed::Parity
    }

    /// Recovers all missing chunks. The parity must be sufficient. Returns how many were recovered.
    pub(super) fn recover(&mut self, decoder: &mut ParityDecoder) -> u16 {
        let (Some(extent), Some(blocks)) = (self.chunks.extent, self.chunks.blocks()) else {
            return 0;
        };
        if self.body.len() < extent.body_len as usize {
            self.body.resize(extent.body_len as usize);
        }
        let (len, chunks) = (usize::from(self.chunk_len), &self.chunks);
        let body = self.body.as_mut_slice();
        let mut incomplete = Incomplete { blocks, chunk_len: self.chunk_len, body };
        for block in 0..blocks.count() {
            let parity = chunks.parity.iter().zip(self.parity.chunks_exact(len));
            let parity = parity.map(|(&index, bytes)| (blocks.place(index), bytes));
            let parity = parity.filter(|((of, _), _)| *of == block);
            let parity = parity.map(|((_, nth), bytes)| (nth, bytes));
            let recovered = decoder.recover(&mut incomplete, block, |i| chunks.has(i), parity);
            assert!(recovered.is_some(), "the caller checks that every block has enough chunks");
        }
        for (chunk, bytes) in (0..extent.source_chunks).zip(self.body.chunks(len)) {
            if !self.chunks.has(chunk) {
                self.chunks.set(chunk, Hashed::of(bytes).crc);
                self.recovered += 1;
            }
        }
        self.recovered
    }

    pub(super) fn has_last_chunk(&self) -> bool {
        self.chunks.extent.is_some_and(|e| self.chunks.has(e.source_chunks - 1))
    }

    /// Records that chunks were requested. If the end is missing, its due time is extrapolated from
    /// the pace of the chunks received.
    pub(super) fn note_requested(&mut self) {
        if let (Some(extent), false) =
            (self.chunks.extent, self.is_requested || self.has_last_chunk())
        {
            let took = self.last_unrequested.saturating_duration_since(self.first_received);
            let sent_so_far = u32::from(self.chunks.highest()) + 1;
            self.last_unrequested =
                self.first_received + took * extent.source_chunks.into() / sent_so_far;
        }
        self.is_requested = true;
    }

    pub(super) fn missing(&self) -> MissingChunks {
        let mut missing = MissingChunks::of(self.frame);
        let Some(extent) = self.chunks.extent else {
            let highest = self.chunks.highest();
            for chunk in (0..highest).filter(|&chunk| !self.chunks.has(chunk)) {
                missing.push_chunk(chunk);
            }
            // Everything after the highest chunk received.
            if let Some(first) = highest.checked_add(1) {
                missing.push_run(ChunkRun { first, count: u16::MAX - highest });
            }
            return missing;
        };
        if self.chunks.is_recoverable() {
            return missing;
        }
        let blocks = Blocks::of(extent.source_chunks);
        if usize::from(blocks.count()) <= MAX_NACK_BLOCKS {
            for block in 0..blocks.count() {
                missing.push_block(self.chunks.needed(blocks, block));
            }
        }
        for chunk in (0..extent.source_chunks).filter(|&chunk| !self.chunks.has(chunk)) {
            if !missing.push_chunk(chunk) {
                break;
            }
        }
        missing
    }

    fn agrees_with(&self, header: &VideoHeader, payload: &[u8]) -> bool {
        let same_frame = header.captured == self.captured && header.chunk_len == self.chunk_len;
        let same_extent = match (self.chunks.extent, header.extent) {
            (Some(known), Some(told)) => {
                known.body_len == told.body_len && known.source_chunks == told.source_chunks
            }
            (Some(known), None) => header.offset() + payload.len() <= known.body_len as usize,
            (None, Some(told)) => self.body.len() <= told.body_len as usize,
            (None, None) => true,
        };
        same_frame && same_extent
    }

    pub(super) fn is_complete(&self) -> bool {
        self.chunks.is_complete()
    }

    /// The contiguous prefix of the picture.
    pub(super) fn prefix(&self) -> &[u8] {
        let there = self.chunks.leading() * usize::from(self.chunk_len);
        &self.body[..there.min(self.picture_len())]
    }

    /// The byte ranges of the picture that have been received, in order, with gaps between them.
    pub(super) fn present(&self) -> Vec<Range<usize>> {
        let (chunk_len, end) = (usize::from(self.chunk_len), self.picture_len());
        let mut present: Vec<Range<usize>> = Vec::new();
        for chunk in (0..=self.chunks.highest()).filter(|&chunk| self.chunks.has(chunk)) {
            let start = usize::from(chunk) * chunk_len;
            let there = start..(start + chunk_len).min(end);
            match present.last_mut() {
                Some(last) if last.end == start => last.end = there.end,
                // The last chunk may hold nothing but CRC bytes.
                _ if there.is_empty() => {}
                _ => present.push(there),
            }
        }
        present
    }

    /// The picture's length in bytes, as far as known.
    fn picture_len(&self) -> usize {
        match self.chunks.extent {
            Some(extent) => extent.body_len as usize - FRAME_CRC_LEN,
            None => self.body.len(),
        }
    }

    /// Whether the CRC at the end of the frame body matches the data before it.
    ///
    /// It does not read the data again: the body's CRC, combined from those of the chunks, must be
    /// that of data with the stated CRC, followed by that CRC. Different CRCs stay different when
    /// the same bytes are appended.
    fn crc_matches(&self, crc_combiner: &mut CrcCombiner) -> bool {
        self.body.last_chunk::<FRAME_CRC_LEN>().is_some_and(|crc| {
            crc_combiner.combine(u32::from_be_bytes(*crc), Hashed::of(crc))
                == self.body_crc(crc_combiner)
        })
    }

    /// The CRC of the complete body.
    fn body_crc(&self, crc_combiner: &mut CrcCombiner) -> u32 {
        let lens = self.body.chunks(usize::from(self.chunk_len)).map(<[u8]>::len);
        let chunks = lens.zip(&self.chunks.crcs).map(|(len, &crc)| Hashed { len, crc });
        chunks.fold(0, |crc, chunk| crc_combiner.combine(crc, chunk))
    }

    /// The frame if its CRC is correct, and the chunk set for reuse.
    pub(super) fn into_frame(
        mut self,
        now: Instant,
        crc_combiner: &mut CrcCombiner,
    ) -> (Option<ReceivedFrame>, ChunkSet) {
        let crc_matches = self.crc_matches(crc_combiner);
        let is_repaired = self.is_requested || self.recovered > 0;
        self.body.resize(self.body.len().saturating_sub(FRAME_CRC_LEN));
        let frame = ReceivedFrame {
            id: self.frame,
            data: self.body,
            captured: self.captured,
            first_sent: self.first_sent,
            first_received: self.first_received,
            completed: now,
            recovered_chunks: self.recovered,
            repair_delay: is_repaired.then(|| now.saturating_duration_since(self.last_unrequested)),
        };
        (crc_matches.then_some(frame), self.chunks)
    }
}

/// How long a frame with enough parity must receive no chunk before it is recovered. Only frames
/// whose last chunk is lost, that no other frame follows, and for which no NACK was sent wait this
/// long.
pub(super) const REPAIR_WAIT: Duration = Duration::from_millis(1);

/// The same, in mean gaps between the frame's chunks; the longer of the two applies.
const QUIET_GAPS: u32 = 2;
