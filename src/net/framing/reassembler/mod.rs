//! Reassembles chunks into frames, each complete and verified or not delivered.
//!
//! Each frame is counted once, under one outcome:
//!
//! - *completed*: complete with a correct CRC; delivered, and every older frame is discarded.
//! - *incomplete*: chunks were missing at its reassembly deadline, when a newer frame was
//!   completed, or when a newer frame needed its slot, whichever came first.
//! - *late*: the missing chunks arrived after that, too late to be shown.
//! - *damaged*: complete, but with a wrong CRC.
//!
//! Frames seen = completed + incomplete + late + damaged + in flight, always.
//!
//! A frame with enough parity is recovered once no more of its chunks need be awaited: its last
//! source chunk, which is sent last, has arrived, or a newer frame has begun, or chunks were
//! requested, or none has arrived for a millisecond or twice the mean gap, whichever is longer.
//! Parity overtakes the end of its frame, so without this rule most frames without losses would be
//! recovered too.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use self::{
    chunk_set::ChunkSet,
    frame_assembly::{FrameAssembly, Placed},
};
use super::fec::ParityDecoder;
use crate::net::{
    frame::{FrameId, FramePrefix, ReceivedFrame},
    pool::FramePool,
    wire::{checksum::CrcCombiner, nack::MissingChunks, video::VideoHeader},
};

mod chunk_set;
mod frame_assembly;
mod partial;

/// Reassembles the frames of one session.
#[derive(Debug)]
pub struct Reassembler {
    deadline: Duration,
    pool: FramePool,
    parity_pool: FramePool,
    decoder: Option<ParityDecoder>,
    spare_sets: Vec<ChunkSet>,
    assemblies: Vec<FrameAssembly>,
    given_up: VecDeque<GivenUp>,
    newest_done: Option<FrameId>,
    newest_seen: Option<FrameId>,
    /// The number of frame ids from the first frame seen to the newest, inclusive.
    span: u64,
    counters: ReassemblyCounters,
    crc_combiner: CrcCombiner,
}

/// Counters of frames and chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReassemblyCounters {
    /// Frames of which any chunk was accepted.
    pub seen: u64,
    /// Frames delivered.
    pub completed: u64,
    /// Frames given up with chunks missing.
    pub incomplete: u64,
    /// Frames of which no chunk arrived in time: the gaps in the ids of the frames seen.
    pub unseen: u64,
    /// Frames whose last missing chunk arrived after they were given up.
    pub late: u64,
    /// Frames with a wrong CRC.
    pub damaged: u64,
    /// Source chunks stored.
    pub chunks: u64,
    /// Chunks received more than once, and further chunks of the frame completed last.
    pub duplicate_chunks: u64,
    /// Chunks of frames given up, older than a completed frame, or too old for a slot.
    pub late_chunks: u64,
    /// Chunks that contradict another chunk of their frame.
    pub conflicting_chunks: u64,
    /// Parity chunks of frames in reassembly, whether needed or not.
    pub parity_chunks: u64,
    /// Completed frames with chunks recovered from parity.
    pub repaired: u64,
    /// Chunks recovered from parity.
    pub recovered_chunks: u64,
}

impl ReassemblyCounters {
    /// The sums of the counters of two reassemblers.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            seen: self.seen + other.seen,
            completed: self.completed + other.completed,
            incomplete: self.incomplete + other.incomplete,
            unseen: self.unseen + other.unseen,
            late: self.late + other.late,
            damaged: self.damaged + other.damaged,
            chunks: self.chunks + other.chunks,
            duplicate_chunks: self.duplicate_chunks + other.duplicate_chunks,
            late_chunks: self.late_chunks + other.late_chunks,
            conflicting_chunks: self.conflicting_chunks + other.conflicting_chunks,
            parity_chunks: self.parity_chunks + other.parity_chunks,
            repaired: self.repaired + other.repaired,
            recovered_chunks: self.recovered_chunks + other.recovered_chunks,
        }
    }
}

impl Reassembler {
    /// A reassembler that gives a frame up when no chunk of it has arrived for `deadline`.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            pool: FramePool::new(),
            parity_pool: FramePool::new(),
            decoder: None,
            spare_sets: Vec::with_capacity(SLOTS + GIVEN_UP_KEPT),
            assemblies: Vec::with_capacity(SLOTS),
            given_up: VecDeque::with_capacity(GIVEN_UP_KEPT + 1),
            newest_done: None,
            newest_seen: None,
            span: 0,
            counters: ReassemblyCounters::default(),
            crc_combiner: CrcCombiner::default(),
        }
    }

    /// Handles one chunk, whose payload has the CRC-32 `payload_crc`. Returns the frame it
    /// completes.
    ///
    /// The frame's CRC is computed from those of its chunks, so `payload_crc` must be that of
    /// `payload` as passed here, computed after any possible change to it.
    pub fn handle_chunk(
        &mut self,
        now: Instant,
        header: &VideoHeader,
        payload: &[u8],
        payload_crc: u32,
    ) -> Option<ReceivedFrame> {
        if self.is_done(header.frame) {
            self.handle_late_chunk(header);
            return None;
        }
        let Some(index) = self.slot_for(now, header) else {
            self.counters.late_chunks += 1;
            return None;
        };
        let placed = match header.parity_index() {
            Some(parity) => {
                self.decoder.get_or_insert_default();
                self.assemblies[index].place_parity(header, parity, payload, &self.parity_pool)
            }
            None => self.assemblies[index].place(now, header, payload, payload_crc),
        };
        match placed {
            Placed::Source => self.counters.chunks += 1,
            Placed::Parity => self.counters.parity_chunks += 1,
            Placed::Duplicate => self.counters.duplicate_chunks += 1,
            Placed::Conflict => self.counters.conflicting_chunks += 1,
        }
        self.assemblies[index].note_arrival(now);
        if self.assemblies[index].is_complete() {
            return self.complete(now, index);
        }
        let ended = self.newest_recoverable(|f, newest| {
            f.has_last_chunk() || f.frame != newest || f.is_requested
        })?;
        self.recover(now, ended)
    }

    /// Gives up the frames due by `now`. Returns a frame recovered from parity because none of its
    /// chunks has arrived for a while.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ReceivedFrame> {
        let quiet = self.newest_recoverable(|f, _| f.quiet_at() <= now);
        let recovered = quiet.and_then(|index| self.recover(now, index));
        while let Some(index) = self.assemblies.iter().position(|f| self.deadline_of(f) <= now) {
            let assembly = self.assemblies.swap_remove(index);
            self.note_done(assembly.frame);
            self.give_up(now, assembly);
        }
        while self.given_up.front().is_some_and(|g| g.forget_at <= now) {
            self.forget_oldest();
        }
        recovered
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let assembly = self.assemblies.iter().map(|f| self.deadline_of(f));
        let recovering = self.assemblies.iter().filter(|f| f.chunks.is_recoverable());
        let recovering = recovering.map(FrameAssembly::quiet_at);
        assembly.chain(recovering).chain(self.given_up.front().map(|g| g.forget_at)).min()
    }

    /// The chunks that `frame` lacks, beyond the parity received, in the form of a NACK; empty if
    /// parity suffices, `None` if the frame is not in reassembly.
    pub fn missing(&self, frame: FrameId) -> Option<MissingChunks> {
        self.assemblies.iter().find(|f| f.frame == frame).map(FrameAssembly::missing)
    }

    /// Records that the missing chunks of `frame` were requested.
    pub fn note_requested(&mut self, frame: FrameId) {
        if let Some(assembly) = self.assemblies.iter_mut().find(|f| f.frame == frame) {
            assembly.note_requested();
        }
    }

    /// Counters of frames and chunks.
    pub fn counters(&self) -> ReassemblyCounters {
        let unseen = self.span.saturating_sub(self.counters.seen);
        ReassemblyCounters { unseen, ..self.counters }
    }

    /// The contiguous prefix of the newest frame in reassembly.
    pub fn newest_prefix(&self) -> Option<FramePrefix<'_>> {
        let newest = self.assemblies.iter().max_by(|a, b| a.frame.serial_cmp(b.frame))?;
        Some(FramePrefix { id: newest.frame, bytes: newest.prefix() })
    }

    /// Frames whose outcome is undecided.
    #[cfg(any(test, feature = "internals"))]
    pub fn in_flight(&self) -> usize {
        self.assemblies.len() + self.given_up.len()
    }

    /// Bytes allocated to the frames in reassembly and their parity. Each of the `SLOTS` takes at most
    /// [`crate::net::wire::video::MAX_BODY_LEN`] for the body, and two thirds of that for parity.
    #[cfg(any(test, feature = "internals"))]
    pub fn memory(&self) -> usize {
        self.assemblies.iter().map(|f| f.body.capacity() + f.parity.capacity()).sum()
    }

    /// The reassembly deadline. A frame that keeps arriving over a slow link is kept for longer.
    fn deadline_of(&self, assembly: &FrameAssembly) -> Instant {
        let longest = assembly.first_received + LONGEST_ASSEMBLY;
        (assembly.last_received + self.deadline).min(longest)
    }

    /// The newest frame that has enough parity and satisfies `may(frame, newest frame seen)`.
    fn newest_recoverable(&self, may: impl Fn(&FrameAssembly, FrameId) -> bool) -> Option<usize> {
        let newest = self.newest_seen?;
        let recoverable = |f: &FrameAssembly| f.chunks.is_recoverable() && may(f, newest);
        let all = self.assemblies.iter().enumerate().filter(|(_, f)| recoverable(f));
        all.max_by(|(_, a), (_, b)| a.frame.serial_cmp(b.frame)).map(|(index, _)| index)
    }

    /// Completes a frame that has enough parity.
    fn recover(&mut self, now: Instant, index: usize) -> Option<ReceivedFrame> {
        let decoder = self.decoder.get_or_insert_default();
        let recovered = self.assemblies[index].recover(decoder);
        let frame = self.complete(now, index)?;
        self.counters.repaired += 1;
        self.counters.recovered_chunks += u64::from(recovered);
        Some(frame)
    }

    fn is_done(&self, frame: FrameId) -> bool {
        self.newest_done.is_some_and(|done| !done.is_before(frame))
    }

    fn note_done(&mut self, frame: FrameId) {
        if !self.is_done(frame) {
            self.newest_done = Some(frame);
        }
    }

    /// The slot of the header's frame: its current one, a free one, or that of the oldest frame.
    fn slot_for(&mut self, now: Instant, header: &VideoHeader) -> Option<usize> {
        if let Some(index) = self.assemblies.iter().position(|f| f.frame == header.frame) {
            return Some(index);
        }
        if self.assemblies.len() == SLOTS {
            let oldest = self.oldest();
            if header.frame.is_before(self.assemblies[oldest].frame) {
                return None;
            }
            let assembly = self.assemblies.swap_remove(oldest);
            self.note_done(assembly.frame);
            self.give_up(now, assembly);
        }
        self.note_seen(header.frame);
        let chunks = self.spare_sets.pop().unwrap_or_default();
        let body = self.pool.take(header.extent.map_or(0, |e| e.body_len as usize));
        self.assemblies.push(FrameAssembly::new(now, header, chunks, body));
        Some(self.assemblies.len() - 1)
    }

    fn note_seen(&mut self, frame: FrameId) {
        self.counters.seen += 1;
        match self.newest_seen {
            None => self.span = 1,
            Some(newest) if newest.is_before(frame) => self.span += newest.distance_to(frame),
            Some(_) => return,
        }
        self.newest_seen = Some(frame);
    }

    fn oldest(&self) -> usize {
        (1..self.assemblies.len()).fold(0, |oldest, i| {
            if self.assemblies[i].frame.is_before(self.assemblies[oldest].frame) {
                i
            } else {
                oldest
            }
        })
    }

    fn complete(&mut self, now: Instant, index: usize) -> Option<ReceivedFrame> {
        let assembly = self.assemblies.swap_remove(index);
        self.note_done(assembly.frame);
        while let Some(older) =
            self.assemblies.iter().position(|f| f.frame.is_before(assembly.frame))
        {
            let older = self.assemblies.swap_remove(older);
            self.give_up(now, older);
        }
        let (frame, chunks) = assembly.into_frame(now, &mut self.crc_combiner);
        self.recycle(chunks);
        match frame {
            Some(_) => self.counters.completed += 1,
            None => self.counters.damaged += 1,
        }
        frame
    }

    /// Frees the frame's bytes but keeps its chunk set, to tell late from incomplete.
    fn give_up(&mut self, now: Instant, assembly: FrameAssembly) {
        let forget_at = now + self.deadline;
        self.given_up.push_back(GivenUp {
            frame: assembly.frame,
            chunks: assembly.chunks,
            forget_at,
        });
        if self.given_up.len() > GIVEN_UP_KEPT {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(given_up) = self.given_up.pop_front() {
            self.counters.incomplete += 1;
            self.recycle(given_up.chunks);
        }
    }

    fn recycle(&mut self, mut chunks: ChunkSet) {
        chunks.clear();
        if self.spare_sets.len() < self.spare_sets.capacity() {
            self.spare_sets.push(chunks);
        }
    }

    fn handle_late_chunk(&mut self, header: &VideoHeader) {
        let Some(index) = self.given_up.iter().position(|g| g.frame == header.frame) else {
            if self.newest_done == Some(header.frame) {
                self.counters.duplicate_chunks += 1;
            } else {
                self.counters.late_chunks += 1;
            }
            return;
        };
        self.counters.late_chunks += 1;
        let chunks = &mut self.given_up[index].chunks;
        chunks.learn(header.extent);
        match header.parity_index() {
            Some(parity) => _ = chunks.set_parity(parity),
            None => _ = chunks.set(header.chunk, 0),
        }
        if chunks.is_complete() || chunks.is_recoverable() {
            self.counters.late += 1;
            if let Some(given_up) = self.given_up.remove(index) {
                self.recycle(given_up.chunks);
            }
        }
    }
}

/// A frame given up, kept in case its missing chunks still arrive.
#[derive(Debug)]
struct GivenUp {
    frame: FrameId,
    chunks: ChunkSet,
    forget_at: Instant,
}

/// The maximum number of frames in reassembly. Two are usual (the end of one, the start of the
/// next); more occur only when the network reorders across frames. With the largest frame this
/// bounds the memory at 32 MiB for source chunks and 22 MiB for parity, and two spare buffers of
/// each.
const SLOTS: usize = 4;

/// How long a receiver waits for a frame that keeps arriving without a pause of one deadline. A
/// picture of 125 KB crosses a link of 500 kbit/s in this time; later it is not live video.
pub const LONGEST_ASSEMBLY: Duration = Duration::from_secs(2);

/// The maximum number of given-up frames that are kept; the oldest beyond it counts as incomplete.
const GIVEN_UP_KEPT: usize = 8;

#[cfg(test)]
mod tests;
