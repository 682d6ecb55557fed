//! Reassemble: chunks to frames, each whole and verified or not at all.
//!
//! A frame's fate is told once, by name:
//!
//! - *completed*: whole, its CRC right; handed out, and every older frame discarded.
//! - *incomplete*: chunks were missing when its reassembly deadline came, or when a
//!   newer frame was completed before it, whichever was first.
//! - *late*: the missing chunks came after that, too late to be shown.
//! - *damaged*: whole, but its CRC wrong.
//!
//! Frames seen = completed + incomplete + late + damaged + in flight, always.
//!
//! Parity mends a frame as soon as there is enough of it and nothing more is to be expected: its last
//! source chunk has come, which leaves last, or a newer frame has begun, or nothing has
//! come for a millisecond. Without that, most frames that miss nothing would be mended too,
//! since parity overtakes the end.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use self::{
    chunk_set::ChunkSet,
    filling::{Filling, Placed},
};
use crate::net::{
    fec::ParityDecoder,
    frame::{FrameBeginning, FrameId, ReceivedFrame},
    pool::FramePool,
    wire::{checksum::Joiner, nack::MissingChunks, video::VideoHeader},
};

mod chunk_set;
mod filling;
mod torn;

/// Puts the chunks of one session's frames together.
#[derive(Debug)]
pub struct Reassembler {
    deadline: Duration,
    pool: FramePool,
    parity_pool: FramePool,
    decoder: Option<ParityDecoder>,
    spare_sets: Vec<ChunkSet>,
    filling: Vec<Filling>,
    given_up: VecDeque<GivenUp>,
    newest_done: Option<FrameId>,
    newest_seen: Option<FrameId>,
    /// How many frames lie between the first that was seen and the newest, both included.
    span: u64,
    counters: ReassemblyCounters,
    joiner: Joiner,
}

/// What became of frames and chunks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReassemblyCounters {
    /// Frames of which any chunk was taken.
    pub seen: u64,
    /// Frames handed out whole.
    pub completed: u64,
    /// Frames given up with chunks missing.
    pub incomplete: u64,
    /// Frames of which nothing came in time: their numbers are missing between those seen.
    pub unseen: u64,
    /// Frames whose last chunk came after they were given up.
    pub late: u64,
    /// Frames whose CRC was wrong.
    pub damaged: u64,
    /// Chunks put in their place.
    pub chunks: u64,
    /// Chunks that were there already.
    pub duplicate_chunks: u64,
    /// Chunks of frames that were done with.
    pub late_chunks: u64,
    /// Chunks that contradict another chunk of their frame.
    pub conflicting_chunks: u64,
    /// Parity chunks of frames being put together, whether they were of use or not.
    pub parity_chunks: u64,
    /// Of the frames completed, those with chunks made from parity.
    pub repaired: u64,
    /// Chunks made from parity.
    pub repaired_chunks: u64,
}

impl ReassemblyCounters {
    /// The counters of two reassemblers together.
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
            repaired_chunks: self.repaired_chunks + other.repaired_chunks,
        }
    }
}

impl Reassembler {
    /// A reassembler that gives a frame up `deadline` after its first chunk.
    pub fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            pool: FramePool::new(),
            parity_pool: FramePool::new(),
            decoder: None,
            spare_sets: Vec::with_capacity(SLOTS + GIVEN_UP_KEPT),
            filling: Vec::with_capacity(SLOTS),
            given_up: VecDeque::with_capacity(GIVEN_UP_KEPT + 1),
            newest_done: None,
            newest_seen: None,
            span: 0,
            counters: ReassemblyCounters::default(),
            joiner: Joiner::default(),
        }
    }

    /// Takes one chunk, whose bytes have the CRC-32 `payload_crc`; returns the frame that it
    /// completes.
    ///
    /// The frame's CRC is made of those of its chunks, so `payload_crc` has to be that of
    /// `payload` as it is handed in here, hashed after anything that may have changed it.
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
                self.filling[index].place_parity(header, parity, payload, &self.parity_pool)
            }
            None => self.filling[index].place(header, payload, payload_crc),
        };
        match placed {
            Placed::Source => self.counters.chunks += 1,
            Placed::Parity => self.counters.parity_chunks += 1,
            Placed::Duplicate => self.counters.duplicate_chunks += 1,
            Placed::Conflict => self.counters.conflicting_chunks += 1,
        }
        self.filling[index].last_received = now;
        if self.filling[index].is_complete() {
            return self.complete(now, index);
        }
        let ended = self.newest_mendable(|f, newest| f.has_last_chunk() || f.frame != newest)?;
        self.mend(now, ended)
    }

    /// Gives up what is due by `now`; returns a frame that was mended since nothing more of it has come.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<ReceivedFrame> {
        let quiet = self.newest_mendable(|f, _| f.last_received + REPAIR_WAIT <= now);
        let mended = quiet.and_then(|index| self.mend(now, index));
        while let Some(index) = self.filling.iter().position(|f| self.deadline_of(f) <= now) {
            let filling = self.filling.swap_remove(index);
            self.note_done(filling.frame);
            self.give_up(now, filling);
        }
        while self.given_up.front().is_some_and(|g| g.forget_at <= now) {
            self.forget_oldest();
        }
        mended
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let filling = self.filling.iter().map(|f| self.deadline_of(f));
        let mending = self.filling.iter().filter(|f| f.chunks.are_enough());
        let mending = mending.map(|f| f.last_received + REPAIR_WAIT);
        filling.chain(mending).chain(self.given_up.front().map(|g| g.forget_at)).min()
    }

    /// What `frame` misses, beyond the parity that is there, as it is asked for; empty if it can be
    /// mended already, `None` if it is not being put together.
    pub fn missing(&self, frame: FrameId) -> Option<MissingChunks> {
        self.filling.iter().find(|f| f.frame == frame).map(Filling::missing)
    }

    /// What became of frames and chunks so far.
    pub fn counters(&self) -> ReassemblyCounters {
        let unseen = self.span.saturating_sub(self.counters.seen);
        ReassemblyCounters { unseen, ..self.counters }
    }

    /// The beginning of the newest frame that is being put together.
    pub fn newest_beginning(&self) -> Option<FrameBeginning<'_>> {
        let newest = self.filling.iter().max_by(|a, b| a.frame.serial_cmp(b.frame))?;
        Some(FrameBeginning { id: newest.frame, bytes: newest.beginning() })
    }

    /// Frames whose fate is not told yet.
    pub fn in_flight(&self) -> usize {
        self.filling.len() + self.given_up.len()
    }

    /// Bytes that the frames being put together occupy, with their parity; at most `SLOTS` ×
    /// ([`crate::net::wire::video::MAX_BODY_LEN`] and two thirds of it, or 1 MiB if that is more).
    pub fn memory(&self) -> usize {
        self.filling.iter().map(|f| f.body.capacity() + f.parity.capacity()).sum()
    }

    fn deadline_of(&self, filling: &Filling) -> Instant {
        filling.first_received + self.deadline
    }

    /// The newest frame that parity can mend, of those that `may(frame, newest begun)`.
    fn newest_mendable(&self, may: impl Fn(&Filling, FrameId) -> bool) -> Option<usize> {
        let newest = self.newest_seen?;
        let mendable = |f: &Filling| f.chunks.are_enough() && may(f, newest);
        let all = self.filling.iter().enumerate().filter(|(_, f)| mendable(f));
        all.max_by(|(_, a), (_, b)| a.frame.serial_cmp(b.frame)).map(|(index, _)| index)
    }

    /// Completes a frame from its parity, of which there is enough.
    fn mend(&mut self, now: Instant, index: usize) -> Option<ReceivedFrame> {
        let decoder = self.decoder.get_or_insert_default();
        let repaired = self.filling[index].mend(decoder);
        let frame = self.complete(now, index)?;
        self.counters.repaired += 1;
        self.counters.repaired_chunks += u64::from(repaired);
        Some(ReceivedFrame { repaired_chunks: repaired, ..frame })
    }

    fn is_done(&self, frame: FrameId) -> bool {
        self.newest_done.is_some_and(|done| !done.is_before(frame))
    }

    fn note_done(&mut self, frame: FrameId) {
        if !self.is_done(frame) {
            self.newest_done = Some(frame);
        }
    }

    /// The slot of the header's frame: the one it has, a free one, or the oldest frame's.
    fn slot_for(&mut self, now: Instant, header: &VideoHeader) -> Option<usize> {
        if let Some(index) = self.filling.iter().position(|f| f.frame == header.frame) {
            return Some(index);
        }
        if self.filling.len() == SLOTS {
            let oldest = self.oldest();
            if header.frame.is_before(self.filling[oldest].frame) {
                return None;
            }
            let filling = self.filling.swap_remove(oldest);
            self.note_done(filling.frame);
            self.give_up(now, filling);
        }
        self.note_seen(header.frame);
        let chunks = self.spare_sets.pop().unwrap_or_default();
        let body = self.pool.take(header.extent.map_or(0, |e| e.body_len as usize));
        self.filling.push(Filling::new(now, header, chunks, body));
        Some(self.filling.len() - 1)
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
        (1..self.filling.len()).fold(0, |oldest, i| {
            if self.filling[i].frame.is_before(self.filling[oldest].frame) { i } else { oldest }
        })
    }

    fn complete(&mut self, now: Instant, index: usize) -> Option<ReceivedFrame> {
        let filling = self.filling.swap_remove(index);
        self.note_done(filling.frame);
        while let Some(older) = self.filling.iter().position(|f| f.frame.is_before(filling.frame)) {
            let older = self.filling.swap_remove(older);
            self.give_up(now, older);
        }
        let (frame, chunks) = filling.into_frame(now, &mut self.joiner);
        self.spare(chunks);
        match frame {
            Some(_) => self.counters.completed += 1,
            None => self.counters.damaged += 1,
        }
        frame
    }

    /// Frees the frame's bytes, but keeps count of its chunks, to tell late from incomplete.
    fn give_up(&mut self, now: Instant, filling: Filling) {
        let forget_at = now + self.deadline;
        self.given_up.push_back(GivenUp {
            frame: filling.frame,
            chunks: filling.chunks,
            forget_at,
        });
        if self.given_up.len() > GIVEN_UP_KEPT {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(given_up) = self.given_up.pop_front() {
            self.counters.incomplete += 1;
            self.spare(given_up.chunks);
        }
    }

    fn spare(&mut self, mut chunks: ChunkSet) {
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
        if chunks.all_there() || chunks.are_enough() {
            self.counters.late += 1;
            if let Some(given_up) = self.given_up.remove(index) {
                self.spare(given_up.chunks);
            }
        }
    }
}

/// A frame given up, remembered in case its last chunks still come.
#[derive(Debug)]
struct GivenUp {
    frame: FrameId,
    chunks: ChunkSet,
    forget_at: Instant,
}

/// Frames put together at once. Two are usual (the end of one, the start of the next);
/// more only when the network reorders across frames. With the largest frame this bounds
/// the memory at 32 MiB for source chunks and 22 MiB for parity, and two spare buffers of each.
const SLOTS: usize = 4;

/// How long nothing may come of a frame that parity can mend before it is mended. Only
/// frames whose last chunk is lost, and which no other follows, wait for it.
const REPAIR_WAIT: Duration = Duration::from_millis(1);

/// Frames remembered after they were given up; beyond it the oldest counts as incomplete.
const GIVEN_UP_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        fec::{Blocks, ParityEncoder},
        frame::FrameBytes,
        packetizer::{Next, Packetizer},
        time::MediaTime,
        wire::{checksum::Hashed, nack::ChunkRun, video::Extent},
    };
    use proptest::prelude::*;

    pub(super) const DEADLINE: Duration = Duration::from_millis(100);

    /// What the parity of a small frame may take: 16 of the largest chunks.
    const MIN_PARITY_BOUND: usize = 16 << 16;

    pub(super) fn data(id: u32, len: usize) -> Vec<u8> {
        (0..len).map(|i| (i as u32).wrapping_mul(31).wrapping_add(id) as u8).collect()
    }

    pub(super) fn chunks(id: u32, len: usize, chunk_len: u16) -> Vec<Vec<u8>> {
        let captured = MediaTime::from_micros(u64::from(id) * 1000);
        let mut packetizer = Packetizer::new(FrameId(id), captured, chunk_len);
        let (mut all, mut joiner) = (Vec::new(), Joiner::default());
        let data = FrameBytes::from(data(id, len));
        let data = data.view();
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            let mut body = vec![0; chunk.body_len()];
            packetizer.emit(&data, chunk, Duration::ZERO, &mut body, &mut joiner);
            all.push(body);
        }
        all
    }

    pub(super) fn handle(r: &mut Reassembler, now: Instant, body: &[u8]) -> Option<ReceivedFrame> {
        let (header, payload) = VideoHeader::parse(body).unwrap();
        let frame = r.handle_chunk(now, &header, payload, Hashed::of(payload).crc);
        assert_conserved(r);
        frame
    }

    fn assert_conserved(r: &Reassembler) {
        let c = r.counters();
        assert_eq!(
            c.seen,
            c.completed + c.incomplete + c.late + c.damaged + r.in_flight() as u64,
            "{c:?}"
        );
    }

    #[test]
    fn the_newest_frame_s_beginning_grows_up_to_the_first_gap() {
        let mut r = Reassembler::new(DEADLINE);
        let (now, chunks, data) = (crate::clock::now(), chunks(7, 705, 10), data(7, 705));
        assert_eq!(r.newest_beginning(), None);
        let mut beginning = |i: usize| {
            handle(&mut r, now, &chunks[i]);
            let beginning = r.newest_beginning().expect("is filling");
            assert_eq!(beginning.bytes, &data[..beginning.bytes.len()]);
            beginning.bytes.len()
        };
        assert_eq!(beginning(1), 0);
        assert_eq!(beginning(0), 20);
        for i in 2..69 {
            assert_eq!(beginning(i), 10 * (i + 1));
        }
        assert_eq!(beginning(70), 690, "its tail, without the gap");
    }

    #[test]
    fn chunks_in_any_order_make_the_exact_frame() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let mut bodies = chunks(1, 95, 10);
        bodies.reverse();
        let last = bodies.pop().unwrap();
        for body in &bodies {
            assert_eq!(handle(&mut r, now, body), None);
        }
        let later = now + Duration::from_millis(3);
        let frame = handle(&mut r, later, &last).unwrap();
        assert_eq!(frame.data[..], data(1, 95));
        assert_eq!((frame.first_received, frame.completed), (now, later));
        assert_eq!(r.memory(), 0);
    }

    #[test]
    fn a_completed_frame_discards_every_older_one() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let old = chunks(1, 95, 10);
        for body in &old[..9] {
            handle(&mut r, now, body);
        }
        for body in &chunks(2, 15, 10) {
            handle(&mut r, now, body);
        }
        assert_eq!(r.counters().completed, 1);
        assert_eq!(r.memory(), 0, "the older frame's bytes are freed");
        assert_eq!(handle(&mut r, now, &old[9]), None, "it is never shown");
        assert_eq!(r.counters().late, 1);
    }

    #[test]
    fn an_incomplete_frame_is_given_up_at_its_deadline() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        handle(&mut r, now, &chunks(1, 95, 10)[3]);
        assert_eq!(r.poll_timeout(), Some(now + DEADLINE));
        r.handle_timeout(now + DEADLINE.saturating_sub(Duration::from_nanos(1)));
        assert_ne!(r.memory(), 0);
        r.handle_timeout(now + DEADLINE);
        assert_eq!(r.memory(), 0);
        r.handle_timeout(now + 2 * DEADLINE);
        assert_eq!(r.counters().incomplete, 1);
        assert_eq!(r.poll_timeout(), None);
        assert_conserved(&r);
    }

    #[test]
    fn duplicates_are_counted_and_change_nothing() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = chunks(1, 95, 10);
        let mut frames = 0;
        for body in bodies.iter().chain(&bodies) {
            frames += usize::from(handle(&mut r, now, body).is_some());
            if frames == 0 {
                assert_eq!(handle(&mut r, now, body), None);
            }
        }
        assert_eq!(frames, 1);
        assert_eq!(r.counters().duplicate_chunks, 9 + 10);
    }

    #[test]
    fn a_wrong_frame_crc_is_damage() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let mut bodies = chunks(1, 25, 10);
        *bodies[1].last_mut().unwrap() ^= 1;
        for body in &bodies {
            assert_eq!(handle(&mut r, now, body), None);
        }
        assert_eq!(r.counters().damaged, 1);
    }

    #[test]
    fn contradicting_chunks_are_dropped_and_the_frame_survives() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = chunks(1, 25, 10);
        handle(&mut r, now, &bodies[0]);
        handle(&mut r, now, &chunks(1, 45, 10)[1]);
        handle(&mut r, now, &chunks(1, 25, 12)[1]);
        assert_eq!(r.counters().conflicting_chunks, 2);
        handle(&mut r, now, &bodies[1]);
        assert_eq!(handle(&mut r, now, &bodies[2]).unwrap().data[..], data(1, 25));
    }

    #[test]
    fn frames_that_never_came_are_told_from_the_gaps() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        for id in [u32::MAX, 2, 3, 7] {
            for body in &chunks(id, 25, 10) {
                handle(&mut r, now, body);
            }
        }
        assert_eq!((r.counters().seen, r.counters().unseen), (4, 2 + 3));
    }

    #[test]
    fn ids_wrap_around() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        for id in [u32::MAX - 1, u32::MAX, 0, 1] {
            let frames: Vec<_> =
                chunks(id, 25, 10).iter().filter_map(|b| handle(&mut r, now, b)).collect();
            assert_eq!(frames[0].id, FrameId(id));
        }
    }

    #[test]
    fn a_frame_whose_end_is_told_last_is_put_together() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = chunks(1, 95, 10);
        let mut frame = None;
        for (i, body) in bodies.iter().enumerate() {
            let (mut header, payload) = VideoHeader::parse(body).unwrap();
            if i + 1 < bodies.len() {
                header.extent = None;
            }
            frame = frame.or(r.handle_chunk(now, &header, payload, Hashed::of(payload).crc));
        }
        assert_eq!(frame.unwrap().data[..], data(1, 95));
    }

    #[test]
    fn memory_stays_within_the_slots_whatever_is_claimed() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let extent = Extent::of(crate::net::wire::video::MAX_BODY_LEN, 1160);
        for id in 0..100 {
            let header = VideoHeader {
                frame: FrameId(id),
                captured: MediaTime::default(),
                age: Duration::ZERO,
                extent,
                chunk_len: 1160,
                chunk: 7,
            };
            r.handle_chunk(now, &header, &[0; 1160], Hashed::of(&[0; 1160]).crc);
            assert!(r.memory() <= SLOTS * crate::net::wire::video::MAX_BODY_LEN);
            assert_conserved(&r);
        }
    }

    /// A frame's chunks by their index: the source chunks, then `parity` parity chunks.
    fn protected(id: u32, len: usize, chunk_len: u16, parity: u16) -> Vec<Vec<u8>> {
        let captured = MediaTime::from_micros(u64::from(id) * 1000);
        let mut packetizer = Packetizer::new(FrameId(id), captured, chunk_len);
        let (mut all, mut joiner) = (Vec::new(), Joiner::default());
        let data = FrameBytes::from(data(id, len));
        let data = data.view();
        let mut encoder = ParityEncoder::new();
        packetizer.protect(&data, parity, &mut encoder, &mut joiner, Vec::new());
        while let Next::Chunk(chunk) = packetizer.next(&data) {
            let mut body = vec![0; chunk.body_len()];
            packetizer.emit(&data, chunk, Duration::ZERO, &mut body, &mut joiner);
            all.push(body);
        }
        all.sort_by_key(|body| VideoHeader::parse(body).unwrap().0.chunk);
        all
    }

    /// Hands over all chunks but those of `lost`, in the order of their index, the last source
    /// chunk last; what is completed.
    fn handle_all_but(
        r: &mut Reassembler,
        now: Instant,
        bodies: &[Vec<u8>],
        lost: &[usize],
    ) -> Option<ReceivedFrame> {
        let source =
            usize::from(VideoHeader::parse(&bodies[0]).unwrap().0.extent.unwrap().source_chunks);
        let order = (0..source - 1).chain(source..bodies.len()).chain([source - 1]);
        let arrive = order.filter(|i| !lost.contains(i));
        arrive.fold(None, |frame, i| frame.or(handle(r, now, &bodies[i])))
    }

    #[test]
    fn parity_mends_a_frame_when_its_last_chunk_comes() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = protected(1, 95, 10, 3);
        let frame = handle_all_but(&mut r, now, &bodies, &[0, 4, 5]).unwrap();
        assert_eq!(frame.data[..], data(1, 95));
        assert_eq!((frame.repaired_chunks, r.memory()), (3, 0));
        let c = r.counters();
        assert_eq!((c.completed, c.repaired, c.repaired_chunks, c.parity_chunks), (1, 1, 3, 3));
        assert_eq!(handle(&mut r, now, &bodies[4]), None);
        assert_eq!(r.counters().duplicate_chunks, 1);
    }

    #[test]
    fn a_frame_that_misses_nothing_is_not_mended() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let frame = handle_all_but(&mut r, now, &protected(1, 95, 10, 3), &[]).unwrap();
        assert_eq!((frame.repaired_chunks, r.counters().repaired), (0, 0));
    }

    #[test]
    fn a_lost_end_is_mended_by_silence_or_by_the_next_frame() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        assert_eq!(handle_all_but(&mut r, now, &protected(1, 95, 10, 1), &[9]), None);
        assert_eq!(r.poll_timeout(), Some(now + REPAIR_WAIT));
        let frame = r.handle_timeout(now + REPAIR_WAIT).unwrap();
        assert_eq!((&frame.data[..], frame.repaired_chunks), (&data(1, 95)[..], 1));
        assert_eq!(handle_all_but(&mut r, now, &protected(2, 95, 10, 1), &[9]), None);
        let frame = handle(&mut r, now, &chunks(3, 95, 10)[0]).unwrap();
        assert_eq!((frame.id, &frame.data[..]), (FrameId(2), &data(2, 95)[..]));
        assert_eq!((r.counters().repaired, r.in_flight()), (2, 1));
    }

    #[test]
    fn one_loss_more_than_parity_is_asked_for_and_an_answer_mends_it() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = protected(1, 95, 10, 4);
        assert_eq!(handle_all_but(&mut r, now, &bodies, &[2, 3, 7, 12, 13]), None);
        let missing = r.missing(FrameId(1)).unwrap();
        assert_eq!(missing.needed(), [1]);
        let runs = [ChunkRun { first: 2, count: 2 }, ChunkRun { first: 7, count: 1 }];
        assert_eq!(missing.runs(), runs);
        assert_eq!(r.missing(FrameId(2)), None);
        let frame = handle(&mut r, now, &bodies[13]).unwrap();
        assert_eq!((&frame.data[..], frame.repaired_chunks), (&data(1, 95)[..], 3));
    }

    #[test]
    fn what_is_missing_of_a_frame_without_an_extent_has_an_open_end() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        for i in [0, 3, 64] {
            let bodies = chunks(1, 705, 10);
            let (header, payload) = VideoHeader::parse(&bodies[i]).unwrap();
            let header = VideoHeader { extent: None, ..header };
            r.handle_chunk(now, &header, payload, Hashed::of(payload).crc);
        }
        let missing = r.missing(FrameId(1)).unwrap();
        let run = |first, count| ChunkRun { first, count };
        assert_eq!(missing.runs(), [run(1, 2), run(4, 60), run(65, u16::MAX - 64)]);
        assert!(missing.needed().is_empty());
    }

    #[test]
    fn each_block_needs_parity_of_its_own() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = protected(1, 3990, 10, 6);
        // Chunks 1 and 4 are of block 1; parity chunks 400 and 403 are of block 0.
        assert_eq!(handle_all_but(&mut r, now, &bodies, &[1, 4, 5, 401, 402, 404, 405]), None);
        assert_eq!(r.missing(FrameId(1)).unwrap().needed(), [0, 2, 1]);
        for i in [404, 405] {
            assert_eq!(handle(&mut r, now, &bodies[i]), None);
        }
        let frame = handle(&mut r, now, &bodies[401]).unwrap();
        assert_eq!((&frame.data[..], frame.repaired_chunks), (&data(1, 3990)[..], 3));
    }

    #[test]
    fn wrong_parity_is_damage_and_nothing_else() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let mut bodies = protected(1, 95, 10, 1);
        *bodies[10].last_mut().unwrap() ^= 1;
        assert_eq!(handle_all_but(&mut r, now, &bodies, &[3]), None);
        assert_eq!((r.counters().damaged, r.counters().repaired), (1, 0));
    }

    #[test]
    fn parity_that_comes_late_tells_late_from_incomplete() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        let bodies = protected(1, 95, 10, 1);
        assert_eq!(handle_all_but(&mut r, now, &bodies, &[3, 10]), None);
        r.handle_timeout(now + DEADLINE);
        assert_eq!(handle(&mut r, now + DEADLINE, &bodies[10]), None);
        assert_eq!((r.counters().late, r.in_flight()), (1, 0));
    }

    #[test]
    fn parity_memory_stays_within_its_bound_whatever_is_claimed() {
        let now = crate::clock::now();
        let mut r = Reassembler::new(DEADLINE);
        for (id, chunk_len, body_len) in
            [(0, 60_000, 7 << 20), (1, 1160, 7 << 20), (2, 65_000, 100), (3, 60_000, 49 * 60_000)]
        {
            let extent =
                Extent { parity_chunks: 30_000, ..Extent::of(body_len, chunk_len).unwrap() };
            let payload = vec![0; chunk_len.into()];
            for chunk in extent.source_chunks..extent.source_chunks + 30_000 {
                let header = VideoHeader {
                    frame: FrameId(id),
                    captured: MediaTime::default(),
                    age: Duration::ZERO,
                    extent: Some(extent),
                    chunk_len,
                    chunk,
                };
                if chunk % 2 == 0 || Blocks::of(extent.source_chunks).count() > 1 {
                    r.handle_chunk(now, &header, &payload, 0);
                }
            }
            let parity = r.filling.iter().map(|f| f.parity.capacity());
            let bounds = r.filling.iter().map(|f| {
                (f.chunks.extent.unwrap().body_len as usize * 2 / 3).max(MIN_PARITY_BOUND)
            });
            for (is, bound) in parity.zip(bounds) {
                assert!(is <= bound, "frame {id}: {is} of {bound}");
            }
        }
        assert!(r.counters().conflicting_chunks > 0);
        assert_conserved(&r);
    }

    proptest! {
        /// Any losses, any parity, any order: the exact frame as soon as it can be, or none.
        #[test]
        fn parity_makes_the_exact_frame_or_none(
            len in 1_usize..3000,
            parity in 0_u16..16,
            lost in prop::collection::btree_set(0_usize..320, 0..20),
            order in any::<u64>(),
        ) {
            let mut now = crate::clock::now();
            let mut r = Reassembler::new(DEADLINE);
            let bodies = protected(1, len, 10, parity);
            let source = usize::from(VideoHeader::parse(&bodies[0]).unwrap().0.extent.unwrap().source_chunks);
            let mut arriving: Vec<usize> = (0..bodies.len()).filter(|i| !lost.contains(i)).collect();
            arriving.sort_by_key(|&i| (i as u64).wrapping_mul(order | 1).rotate_left(17));
            let mut frames = Vec::new();
            for &i in &arriving {
                frames.extend(handle(&mut r, now, &bodies[i]));
                now += Duration::from_micros(100);
                frames.extend(r.handle_timeout(now));
            }
            frames.extend(r.handle_timeout(now + REPAIR_WAIT));
            prop_assert!(r.poll_timeout().is_none_or(|t| t > now + REPAIR_WAIT));
            let blocks = Blocks::of(source as u16);
            let is_enough = (0..blocks.count()).all(|block| {
                let of_block = |i: usize, from| blocks.place((i - from) as u16).0 == block;
                let sources = arriving.iter().filter(|&&i| i < source && of_block(i, 0)).count();
                let parity = arriving.iter().filter(|&&i| i >= source && of_block(i, source)).count();
                sources + parity >= usize::from(blocks.source_in(block))
            });
            prop_assert_eq!(frames.len(), usize::from(is_enough));
            for frame in frames {
                prop_assert_eq!(&frame.data[..], &data(1, len));
            }
            assert_conserved(&r);
        }

        /// Any frames, any chunk length, any order, loss and duplication: the exact frame or none.
        #[test]
        fn exact_or_not_at_all(
            lens in prop::collection::vec(1_usize..400, 1..6),
            chunk_half in 1_u16..40,
            start in any::<u32>(),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..40), 0..300),
        ) {
            let mut now = crate::clock::now();
            let mut r = Reassembler::new(DEADLINE);
            let ids = (0..lens.len() as u32).map(|i| start.wrapping_add(i));
            let all: Vec<Vec<u8>> = ids
                .zip(&lens)
                .flat_map(|(id, &len)| chunks(id, len, chunk_half * 2))
                .collect();
            let mut newest: Option<FrameId> = None;
            for (pick, wait) in picks {
                now += Duration::from_millis(wait);
                r.handle_timeout(now);
                let body = &all[pick.index(all.len())];
                if let Some(frame) = handle(&mut r, now, body) {
                    let i = frame.id.0.wrapping_sub(start);
                    prop_assert_eq!(&frame.data[..], &data(frame.id.0, lens[i as usize]));
                    prop_assert!(newest.is_none_or(|n| n.is_before(frame.id)), "never backwards");
                    newest = Some(frame.id);
                }
                prop_assert!(r.poll_timeout().is_none_or(|t| t > now));
            }
        }
    }
}
